//! Which versions of the program have used a catalog: tables of a later one may mean other things
//! under the same names, and those of an earlier one are not there yet.

use std::collections::HashSet;

use sqlx::migrate::Migrator;
use sqlx::{AnyConnection, Row};

use super::{Catalog, During, Error, number, text};
use crate::model::{RoleName, Timestamp};

/// The newest migration of the oldest version that can serve beside this one. What it writes has to
/// be what this one reads, and the other way round: **must** be raised to a migration that takes
/// something away, or gives it another meaning. Versions before this number know of no turns to
/// publish, and have the catalog to themselves.
const OLDEST: i64 = 23;
/// The name in the table `installation` of what is noted of that.
pub(super) const OLDEST_VERSION: &str = "oldest_version";

impl Catalog {
    /// # Errors
    ///
    /// [`Error::Unusable`] if a migration was run that is newer than all of `known`;
    /// [`Error::Backend`].
    pub(super) async fn refuse_later_version(&self, known: &Migrator) -> Result<(), Error> {
        let newest = newest(known);
        let applied = self.applied_migration().await?;
        if applied <= newest
            || self.oldest_for(applied).await?.is_some_and(|oldest| oldest <= newest)
        {
            return Ok(());
        }
        let version = self.latest_version().await?;
        let version = version.map_or_else(
            || "a later version".to_owned(),
            |version| format!("version {version} or newer"),
        );
        let fault = format!(
            "is from {version}, and this is {}: install that version, or restore the backup that was made before the \
             upgrade",
            env!("CARGO_PKG_VERSION")
        );
        Err(Error::Unusable { catalog: self.name(), fault })
    }

    /// # Errors
    ///
    /// [`Error::Unusable`] if one of `known` was not run, wherever in their order it is;
    /// [`Error::Backend`].
    pub(super) async fn refuse_earlier_version(&self, known: &Migrator) -> Result<(), Error> {
        let Some(missing) = self.missing_migration(known).await? else { return Ok(()) };
        let fault = format!(
            "is from an earlier version (migration {missing} was not run): `motorcade serve` of this version brings it \
             up to date when it starts; until then use the version that serves it"
        );
        Err(Error::Unusable { catalog: self.name(), fault })
    }

    /// Leaves word of which versions can still use the tables that this one has just brought up to
    /// date.
    pub(super) async fn note_oldest(
        known: &Migrator,
        connection: &mut AnyConnection,
    ) -> Result<(), Error> {
        let noted = sqlx::query(
            "INSERT INTO installation (name, value) VALUES ($1, $2) \
             ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        );
        let noted = noted.bind(OLDEST_VERSION).bind(format!("{OLDEST} {}", newest(known)));
        let noted = noted.execute(connection).await;
        noted.map(drop).during("note which versions can use the catalog")
    }

    /// The newest migration of the oldest version that can use the tables as they are after
    /// `applied`, if whoever has run that has said so.
    async fn oldest_for(&self, applied: i64) -> Result<Option<i64>, Error> {
        let noted = self.find_installed(OLDEST_VERSION).await?;
        let number = |text: &str| text.parse::<i64>().ok();
        let read = |noted: String| {
            let (oldest, after) = noted.split_once(' ')?;
            (number(after)? == applied).then(|| number(oldest))?
        };
        Ok(noted.and_then(read))
    }

    /// Leaves word of this version for those before it.
    pub(super) async fn note_version(&self, now: Timestamp) -> Result<(), Error> {
        let insert = sqlx::query(
            "INSERT INTO program_versions (version, first_used_at) VALUES ($1, $2) ON CONFLICT (version) DO NOTHING",
        );
        let inserted = insert
            .bind(env!("CARGO_PKG_VERSION"))
            .bind(now.as_millisecond())
            .execute(&self.pool)
            .await;
        inserted.map(drop).during("note the version that uses the catalog")
    }

    /// Number of the last migration that was run; 0 if none was.
    async fn applied_migration(&self) -> Result<i64, Error> {
        const OP: &str = "look for migrations of the catalog";
        if !self.has_table("_sqlx_migrations").await? {
            return Ok(0);
        }
        let row = sqlx::query("SELECT COALESCE(MAX(version), 0) AS version FROM _sqlx_migrations");
        let row = row.fetch_one(&self.pool).await.during(OP)?;
        Ok(i64::try_from(number(&row, "version", OP)?).unwrap_or(i64::MAX))
    }

    async fn missing_migration(&self, known: &Migrator) -> Result<Option<i64>, Error> {
        const OP: &str = "look for migrations of the catalog";
        let mut applied = HashSet::new();
        if self.has_table("_sqlx_migrations").await? {
            let rows = sqlx::query("SELECT version FROM _sqlx_migrations");
            for row in rows.fetch_all(&self.pool).await.during(OP)? {
                applied.insert(row.try_get::<i64, _>("version").during(OP)?);
            }
        }
        Ok(known.iter().map(|migration| migration.version).find(|it| !applied.contains(it)))
    }

    async fn latest_version(&self) -> Result<Option<String>, Error> {
        const OP: &str = "look for the version of the catalog";
        if !self.has_table("program_versions").await? {
            return Ok(None);
        }
        let row = sqlx::query(
            "SELECT version FROM program_versions ORDER BY first_used_at DESC, version DESC LIMIT 1",
        );
        let row = row.fetch_optional(&self.pool).await.during(OP)?;
        row.map(|row| text(&row, "version", OP)).transpose()
    }

    /// Whether anything was published from this catalog, of whatever version it is.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`].
    pub async fn has_published(&self) -> Result<bool, Error> {
        const OP: &str = "look whether anything was published";
        if !self.has_table("roles").await? {
            return Ok(false);
        }
        // What of it there is in every version.
        let row = sqlx::query("SELECT COUNT(*) AS n FROM roles WHERE name = $1 AND version > 0");
        let row = row.bind(RoleName::Timestamp.as_str()).fetch_one(&self.pool).await;
        Ok(number(&row.during(OP)?, "n", OP)? > 0)
    }

    async fn has_table(&self, name: &str) -> Result<bool, Error> {
        let row = sqlx::query(self.place.find_table()).bind(name);
        let row = row.fetch_optional(&self.pool).await.during("look for a table of the catalog")?;
        Ok(row.is_some())
    }
}

fn newest(known: &Migrator) -> i64 {
    known.iter().map(|migration| migration.version).max().unwrap_or(0)
}
