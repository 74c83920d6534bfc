//! What one server at a time does, by its name: whoever has taken it does it, until it lets go or
//! its lease ends.

use sqlx::Row;

use super::holder::Held;
use super::{Catalog, During, Error, Holder, column, number};
use crate::model::Timestamp;

impl Catalog {
    /// Takes what nobody else holds, in a new run, whose number is the one before and 1; none if
    /// somebody does. Who could not let go takes it again at once.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] or [`Error::Backend`].
    pub async fn take_lease(&self, name: &str, taker: Holder<'_>) -> Result<Option<u64>, Error> {
        const OP: &str = "take a lease";
        let (now, latest) = self.while_held(Held::Turn, taker.now);
        let row = sqlx::query(
            "INSERT INTO leases (name, owner, run, lease_until) VALUES ($1, $2, 1, $3) \
             ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, run = leases.run + 1, \
             lease_until = excluded.lease_until \
             WHERE leases.lease_until <= $4 OR leases.lease_until > $5 OR leases.owner = excluded.owner RETURNING run",
        )
        .bind(name)
        .bind(taker.owner)
        .bind(self.leased_until(taker.lease_until))
        .bind(now)
        .bind(latest);
        let row = row.fetch_optional(&self.pool).await.during(OP)?;
        row.map(|row| number(&row, "run", OP)).transpose()
    }

    /// Who holds something, if anybody does.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`].
    pub async fn find_lease_holder(
        &self,
        name: &str,
        now: Timestamp,
    ) -> Result<Option<String>, Error> {
        const OP: &str = "look at a lease";
        let row = sqlx::query(
            "SELECT owner FROM leases WHERE name = $1 AND lease_until > $2 AND lease_until <= $3",
        );
        let (now, latest) = self.while_held(Held::Turn, now);
        let row = row.bind(name).bind(now).bind(latest);
        let row = row.fetch_optional(&self.pool).await.during(OP)?;
        row.map(|row| row.try_get("owner").during(OP)).transpose()
    }

    /// Who holds anything whose name begins with `prefix`, in the order of their ids. Here a lease
    /// that ends too far ahead counts: what is not done beside others is not done then either.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`].
    pub async fn list_lease_holders(
        &self,
        prefix: &str,
        now: Timestamp,
    ) -> Result<Vec<String>, Error> {
        const OP: &str = "list who holds leases";
        let rows = sqlx::query(
            "SELECT owner FROM leases WHERE name LIKE $1 AND lease_until > $2 ORDER BY owner",
        );
        let rows = rows.bind(format!("{prefix}%")).bind(self.leased_until(now));
        let rows = rows.fetch_all(&self.pool).await.during(OP)?;
        rows.iter().map(|row| row.try_get("owner").during(OP)).collect()
    }

    /// Keeps what a run holds for longer; returns whether it was still its own.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] or [`Error::Backend`].
    pub async fn keep_lease(
        &self,
        name: &str,
        run: u64,
        lease_until: Timestamp,
    ) -> Result<bool, Error> {
        let kept = sqlx::query("UPDATE leases SET lease_until = $1 WHERE name = $2 AND run = $3");
        let kept = kept.bind(self.leased_until(lease_until)).bind(name).bind(column(run));
        Ok(kept.execute(&self.pool).await.during("keep a lease")?.rows_affected() > 0)
    }

    /// Lets go of what a run holds.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] or [`Error::Backend`].
    pub async fn end_lease(&self, name: &str, run: u64) -> Result<(), Error> {
        let ended = sqlx::query("UPDATE leases SET lease_until = 0 WHERE name = $1 AND run = $2");
        let ended = ended.bind(name).bind(column(run)).execute(&self.pool).await;
        ended.map(drop).during("let go of a lease")
    }

    /// Ends all leases that a server had before it was started again: nobody else runs under its
    /// id.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] or [`Error::Backend`].
    pub async fn release_leases(&self, owner: &str) -> Result<(), Error> {
        let released =
            sqlx::query("UPDATE leases SET lease_until = 0 WHERE owner = $1").bind(owner);
        released.execute(&self.pool).await.map(drop).during("let go of leases")
    }
}
