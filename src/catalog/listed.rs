//! How much the roles that list images may list: a metadata file that no client would read must
//! never be signed.

use sqlx::{Any, Transaction};

use super::journal::{EntryChange, NumberedChange};
use super::{Catalog, During, Error, column, number, parsed};
use crate::model::{RoleName, TargetEntry};

/// [`TargetEntry::listed_bytes`] of a row, in SQL. All of it is ASCII, so that characters are
/// bytes.
macro_rules! listed_bytes {
    () => {
        "LENGTH(path) + COALESCE(LENGTH(custom), 0) + 160"
    };
}

/// Asks how much a role lists of what lies in a folder.
macro_rules! folder_query {
    ($role:expr, $folder:expr) => {
        sqlx::query(concat!(
            "SELECT COALESCE(SUM(",
            listed_bytes!(),
            "), 0) AS listed FROM targets WHERE role = $1 AND path >= $2 AND path < $3"
        ))
        .bind($role.as_str())
        .bind($folder.prefix.as_str())
        .bind(after_folder(&$folder.prefix))
    };
}

/// How much may be listed, in bytes as [`TargetEntry::listed_bytes`] counts them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListingBound {
    /// By one role.
    pub role_bytes: u64,
    /// By one role, of what lies in a folder.
    pub folder: Option<FolderBound>,
}

/// The share of a folder whose uploaders are bound to it: they must not be able to take all there
/// is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FolderBound {
    /// The folder, with a slash at its end.
    pub prefix: String,
    /// In bytes.
    pub bytes: u64,
}

impl Catalog {
    /// What happened to a role's entries after its change number `after` and up to `last`, in order;
    /// nothing unless all of it is known.
    pub fn entry_changes(
        &self,
        role: &RoleName,
        after: u64,
        last: u64,
    ) -> Option<Vec<EntryChange>> {
        self.journal.between(role, after, last)
    }

    /// Checks whether roles have room for entries of so many bytes. What is found may be taken by
    /// somebody else until
    /// [`Catalog::insert_images`], which checks again.
    ///
    /// # Errors
    ///
    /// [`Error::RoleFull`], [`Error::Backend`].
    pub async fn check_room(
        &self,
        entries: &[(RoleName, u64)],
        bound: &ListingBound,
    ) -> Result<(), Error> {
        const OP: &str = "look for room in a role";
        let mut connection = self.pool.begin_to_read().await.during(OP)?;
        for (role, bytes) in entries {
            let row =
                sqlx::query("SELECT listed_bytes FROM roles WHERE name = $1").bind(role.as_str());
            let row = row.fetch_optional(&mut *connection).await.during(OP)?;
            let listed = row.map_or(Ok(0), |row| number(&row, "listed_bytes", OP))?;
            // Two entries of one image can be in one role; that one is then a few bytes fuller than
            // it looks.
            bound.check_role(role, listed + bytes)?;
            if let Some(folder) = &bound.folder {
                let row = folder_query!(role, folder).fetch_one(&mut *connection).await;
                let listed = number(&row.during(OP)?, "listed", OP)?;
                folder.check(role, listed + bytes)?;
            }
        }
        Ok(())
    }

    /// The most that any role lists, in bytes.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`].
    pub async fn largest_listing(&self) -> Result<u64, Error> {
        const OP: &str = "look for the largest role";
        let row = sqlx::query("SELECT COALESCE(MAX(listed_bytes), 0) AS listed FROM roles")
            .fetch_one(&self.pool);
        number(&row.await.during(OP)?, "listed", OP)
    }
}

impl ListingBound {
    fn check_role(&self, role: &RoleName, listed: u64) -> Result<(), Error> {
        match listed > self.role_bytes {
            true => Err(Error::RoleFull { role: role.clone(), folder: None }),
            false => Ok(()),
        }
    }
}

impl FolderBound {
    fn check(&self, role: &RoleName, listed: u64) -> Result<(), Error> {
        match listed > self.bytes {
            true => Err(Error::RoleFull { role: role.clone(), folder: Some(self.prefix.clone()) }),
            false => Ok(()),
        }
    }
}

/// The first text after all that begin with a folder, whose last character is ASCII; empty if it is.
pub(super) fn after_folder(folder: &str) -> String {
    let mut end = folder.to_owned();
    let last = end.pop().and_then(|last| char::from_u32(u32::from(last) + 1));
    end.extend(last);
    end
}

/// Marks a role as changed by a new entry, unless it has no room for it: an entry that the
/// transaction has inserted. Returns the change, if there is such a role.
pub(super) async fn add_entry(
    transaction: &mut Transaction<'_, Any>,
    role: &RoleName,
    entry: &TargetEntry,
    bound: &ListingBound,
) -> Result<Option<NumberedChange>, Error> {
    const OP: &str = "mark a role as changed";
    let row = sqlx::query(
        "UPDATE roles SET changes = changes + 1, listed_bytes = listed_bytes + $1 WHERE name = $2 RETURNING changes, listed_bytes",
    );
    let row = row
        .bind(column(entry.listed_bytes()))
        .bind(role.as_str())
        .fetch_optional(&mut **transaction)
        .await;
    let Some(row) = row.during(OP)? else { return Ok(None) };
    bound.check_role(role, number(&row, "listed_bytes", OP)?)?;
    let change_number = number(&row, "changes", OP)?;
    if let Some(folder) = &bound.folder {
        let row = folder_query!(role, folder).fetch_one(&mut **transaction).await.during(OP)?;
        folder.check(role, number(&row, "listed", OP)?)?;
    }
    let (role, change) = (role.clone(), EntryChange::Added(entry.clone()));
    Ok(Some(NumberedChange { role, number: change_number, change }))
}

/// Whether a role may list a target: no supplier alone speaks for it, or this one does. Delegations
/// may have changed since the role was chosen.
pub(super) async fn may_list(
    transaction: &mut Transaction<'_, Any>,
    role: &RoleName,
    target: &str,
) -> Result<bool, Error> {
    const OP: &str = "look who may list a target";
    let row = sqlx::query(
        "SELECT COUNT(*) AS others FROM suppliers WHERE removed_at IS NULL AND terminating = 1 AND role <> $1 \
         AND SUBSTR($2, 1, LENGTH(folder)) = folder",
    );
    let row = row.bind(role.as_str()).bind(target).fetch_one(&mut **transaction).await;
    Ok(number(&row.during(OP)?, "others", OP)? == 0)
}

/// Takes an entry out of the role that lists it, and marks that as changed. Returns the change, if
/// there was one.
pub(super) async fn remove_entry(
    transaction: &mut Transaction<'_, Any>,
    path: &str,
) -> Result<Option<NumberedChange>, Error> {
    const OP: &str = "remove a target";
    let row = sqlx::query(concat!(
        "DELETE FROM targets WHERE path = $1 RETURNING role, ",
        listed_bytes!(),
        " AS listed"
    ));
    let row = row.bind(path).fetch_optional(&mut **transaction).await.during(OP)?;
    let Some(row) = row else { return Ok(None) };
    let role: RoleName = parsed(&row, "role", OP)?;
    let updated = sqlx::query(
        "UPDATE roles SET changes = changes + 1, listed_bytes = listed_bytes - $1 WHERE name = $2 RETURNING changes",
    )
    .bind(column(number(&row, "listed", OP)?))
    .bind(role.as_str())
    .fetch_optional(&mut **transaction)
    .await
    .during(OP)?;
    let Some(updated) = updated else { return Ok(None) };
    let (number, change) = (number(&updated, "changes", OP)?, EntryChange::Removed(path.into()));
    Ok(Some(NumberedChange { role, number, change }))
}
