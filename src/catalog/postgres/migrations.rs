//! The tables of a catalog in PostgreSQL.

use sqlx::migrate::{Migration, Migrator};
use sqlx::{AnyConnection, AssertSqlSafe, Executor, SqlSafeStr};

use super::explain;
use crate::catalog::sqlite::SQLITE_MIGRATIONS;
use crate::catalog::{Catalog, During, Error, number};

impl Catalog {
    /// Brings the tables up to date, all in one transaction: whoever comes at the same time waits,
    /// and finds nothing left to do.
    pub(super) async fn migrate_postgres(&self) -> Result<(), Error> {
        const OP: &str = "bring the catalog up to date";
        self.is_empty().await?;
        let known = known();
        self.refuse_later_version(&known).await?;
        if self.refuse_earlier_version(&known).await.is_ok() {
            return Ok(());
        }
        let begun = self.pool.begin_to_migrate().await;
        let mut transaction = begun.during(OP)?;
        self.run(&known, &mut transaction).await?;
        transaction.commit().await.during(OP)
    }

    async fn run(&self, known: &Migrator, connection: &mut AnyConnection) -> Result<(), Error> {
        let unusable =
            |error: &sqlx::Error| Error::Unusable { catalog: self.name(), fault: explain(error) };
        let is_refused = |error: &sqlx::Error| {
            error
                .as_database_error()
                .and_then(|error| error.code())
                .is_some_and(|code| code == "42501")
        };
        known.run_direct(None, connection, false).await.map_err(|error| match error {
            sqlx::migrate::MigrateError::Execute(error)
            | sqlx::migrate::MigrateError::ExecuteMigration(error, _)
                if is_refused(&error) =>
            {
                unusable(&error)
            }
            error => Error::Migrate(Box::new(error)),
        })?;
        connection.execute(COMPARE_BYTES).await.during("order the catalog's texts")?;
        Self::note_oldest(known, connection).await
    }

    /// Whether the database has no tables yet.
    ///
    /// # Errors
    ///
    /// [`Error::Unusable`] if it has others than a catalog's: names such as `jobs` could be
    /// anybody's. [`Error::Backend`].
    pub(super) async fn is_empty(&self) -> Result<bool, Error> {
        const OP: &str = "look at the tables of the database";
        let row = sqlx::query(
            "SELECT COUNT(*) AS n, COUNT(CASE WHEN tablename IN ('_sqlx_migrations', 'installation', 'program_versions') \
             THEN 1 END) AS ours FROM pg_tables WHERE schemaname = current_schema()",
        );
        let row = row.fetch_one(&self.pool).await.during(OP)?;
        let (all, ours) = (number(&row, "n", OP)?, number(&row, "ours", OP)?);
        if all == 0 || ours == 3 {
            return Ok(all == 0);
        }
        let fault = "holds tables of something else: give the catalog a database of its own".into();
        Err(Error::Unusable { catalog: self.name(), fault })
    }
}

/// All migrations: the first ones in one file, those after it as SQLite has them unless there is a
/// file of the same number.
pub(super) fn known() -> Migrator {
    let own = sqlx::migrate!("migrations/postgres");
    let first = own.iter().map(|migration| migration.version).min().unwrap_or(0);
    let is_shared = |migration: &&Migration| {
        migration.version > first && !own.version_exists(migration.version)
    };
    let shared = SQLITE_MIGRATIONS.iter().filter(is_shared).map(|migration| {
        let sql = AssertSqlSafe(migration.sql.as_str().replace(" BLOB", " BYTEA")).into_sql_str();
        let description = migration.description.clone();
        Migration::new(migration.version, description, migration.migration_type, sql, false)
    });
    let mut all = Migrator::with_migrations(own.iter().cloned().chain(shared).collect());
    all.set_locking(false); // its lock is the session's, and ours is held
    all
}

/// Compares texts by their bytes, as SQLite does, whatever the database's own order is.
const COMPARE_BYTES: &str = r#"DO $$
DECLARE
    texts RECORD;
BEGIN
    FOR texts IN
        SELECT table_name, column_name FROM information_schema.columns
        WHERE table_schema = current_schema() AND data_type = 'text' AND collation_name IS DISTINCT FROM 'C'
          AND table_name <> '_sqlx_migrations'
    LOOP
        EXECUTE format('ALTER TABLE %I ALTER COLUMN %I TYPE TEXT COLLATE "C"', texts.table_name, texts.column_name);
    END LOOP;
END $$"#;
