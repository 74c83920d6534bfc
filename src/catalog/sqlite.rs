//! How a SQLite catalog is opened: by the server that owns it, which brings its tables up to date,
//! or by a command beside that server, which takes it as it is.
//!
//! What is wrong with the file is said at once and with its path: a pool would try again until it
//! times out.

use std::fs::{self, File};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use sqlx::any::{AnyConnectOptions, AnyPoolOptions, AnyRow};
use sqlx::migrate::Migrator;
use sqlx::{AnyConnection, AssertSqlSafe, ConnectOptions, Connection, Executor, Row};

use super::place::Place;
use super::pool::{Engine, Pool};
use super::reads::Reads;
use super::{Catalog, During, Error};
use crate::model::Timestamp;

/// How a file can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    ReadWrite,
    /// On a file system that takes no writes. What is not in the file itself but in its log is seen
    /// only if the log's index is there too.
    ReadOnly,
    /// The same without a log: SQLite need not look for one, whose index it could not make.
    Immutable,
}

impl Catalog {
    /// Opens the catalog in `file` for the server that owns it: creates it where it is missing, for
    /// its owner alone, and brings its tables up to date. **Must be called by the holder of the
    /// state directory's lock**: a server of an earlier version that runs on the same catalog would
    /// not know the new tables.
    ///
    /// # Errors
    ///
    /// [`Error::Unusable`] if it is damaged, can't be written or comes from a later version;
    /// [`Error::Migrate`]; [`Error::Full`]; [`Error::Backend`].
    pub async fn own_sqlite(file: &Path, now: Timestamp) -> Result<Self, Error> {
        // SQLite would make it for all to read; what it makes beside it has the same mode.
        let created =
            File::options().create(true).truncate(false).write(true).mode(0o600).open(file);
        created.map_err(|source| {
            unusable(file, format!("can't be written: {source}{}", belongs_to(file)))
        })?;
        let catalog = Self::connect(file, Mode::ReadWrite).await?;
        catalog.refuse_later_version(&SQLITE_MIGRATIONS).await?;
        let migrated = SQLITE_MIGRATIONS.run(catalog.pool.connections()).await;
        migrated.map_err(|source| Error::Migrate(Box::new(source)))?;
        catalog.note_version(now).await?;
        Ok(catalog)
    }

    /// Opens the catalog in `file` as it is, for a command that may run beside a server; only to
    /// read on a file system that takes no writes.
    ///
    /// # Errors
    ///
    /// [`Error::Unusable`] if it is missing, damaged, or has other tables than this version's;
    /// [`Error::Backend`].
    pub async fn open_sqlite(file: &Path) -> Result<Self, Error> {
        let length = fs::metadata(file)
            .map_err(|source| unusable(file, format!("can't be read: {source}")))?
            .len();
        if length == 0 {
            return Err(unusable(file, "is empty: restore it from a backup"));
        }
        let catalog = Self::connect(file, mode_of(file)).await?;
        catalog.refuse_later_version(&SQLITE_MIGRATIONS).await?;
        catalog.refuse_earlier_version(&SQLITE_MIGRATIONS).await?;
        Ok(catalog)
    }

    /// Lengths in bytes of the database and of its write-ahead log; 0 for a file that is not there,
    /// and for a database on a server.
    pub fn file_sizes(&self) -> [u64; 2] {
        let size = |path: &Path| fs::metadata(path).map_or(0, |metadata| metadata.len());
        match &self.place {
            Place::File(file) => [size(file), size(&beside(file, "-wal"))],
            Place::Server(_) => [0, 0],
        }
    }

    /// Reads the whole file for damage; returns what is wrong, a line each. A server looks after its
    /// pages itself.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`].
    pub async fn find_damage(&self) -> Result<Vec<String>, Error> {
        const OP: &str = "check the catalog";
        if let Place::Server(_) = self.place {
            return Ok(Vec::new());
        }
        let rows = sqlx::query("PRAGMA quick_check(20)").fetch_all(&self.pool).await.during(OP)?;
        let lines = rows.iter().map(|row| row.try_get::<String, _>(0).during(OP));
        Ok(lines.collect::<Result<Vec<_>, _>>()?.into_iter().filter(|line| line != "ok").collect())
    }

    /// At most `limit` rows of a table in the order in which SQLite numbers them, from the one after
    /// `after`, with that number as `row_number`.
    pub(super) async fn numbered_rows(
        &self,
        table: &str,
        columns: &str,
        after: i64,
        limit: i64,
    ) -> Result<Vec<AnyRow>, Error> {
        let sql = format!(
            "SELECT rowid AS row_number, {columns} FROM {table} WHERE rowid > $1 ORDER BY rowid LIMIT $2"
        );
        let query = sqlx::query(AssertSqlSafe(sql)).bind(after).bind(limit);
        query.fetch_all(&self.pool).await.during("read rows of the catalog")
    }

    async fn connect(file: &Path, mode: Mode) -> Result<Self, Error> {
        sqlx::any::install_default_drivers();
        let url = url(file, mode).ok_or_else(|| unusable(file, "has a path that is not UTF-8"))?;
        let options: AnyConnectOptions = url.parse().during("open the catalog")?;
        let options = options.disable_statement_logging();
        let settings = if mode == Mode::ReadWrite { SETTINGS } else { READ_ONLY_SETTINGS };
        probe(&options, settings).await.map_err(|error| unusable(file, explain(file, &error)))?;
        let pool = AnyPoolOptions::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .test_before_acquire(false) // a file does not go away as a server does
            .after_release(|connection, _| {
                Box::pin(async move {
                    // When the disk is full, SQLite may end a transaction itself. Rolling it back
                    // fails then, and sqlx takes the connection to be in that transaction for ever:
                    // what is committed there next is not.
                    connection.execute("SELECT 1").await?; // after the rollback, which was only started
                    Ok(!connection.is_in_transaction())
                })
            })
            .after_connect(move |connection, _| {
                Box::pin(async move { connection.execute(settings).await.map(drop) })
            })
            .connect_with(options.clone())
            .await
            .during("open the catalog")?;
        let pool = Pool::new(pool, Engine::Sqlite);
        let reads = Arc::new(Reads::new(&pool, options, Some(READ_ONLY_SETTINGS)));
        let (journal, numbers, offset) = (Arc::default(), Arc::default(), Arc::default());
        let place = Place::File(file.into());
        Ok(Self { pool, reads, place, journal, numbers, offset })
    }
}

/// Connects once, without a pool, and reads the list of tables.
async fn probe(options: &AnyConnectOptions, settings: &'static str) -> Result<(), sqlx::Error> {
    let mut connection = AnyConnection::connect_with(options).await?;
    connection.execute(settings).await?;
    connection.execute("SELECT COUNT(*) FROM sqlite_master").await?;
    connection.close().await
}

fn mode_of(file: &Path) -> Mode {
    let folder = file.parent().unwrap_or(Path::new("."));
    let is_writable = |path: &Path| rustix::fs::access(path, rustix::fs::Access::WRITE_OK).is_ok();
    if is_writable(file) && is_writable(folder) {
        return Mode::ReadWrite;
    }
    let is_logged = fs::metadata(beside(file, "-wal")).is_ok_and(|log| log.len() > 0);
    if is_logged { Mode::ReadOnly } else { Mode::Immutable }
}

fn beside(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// A file's URL; none if its path is not UTF-8, which the driver can't open.
fn url(file: &Path, mode: Mode) -> Option<String> {
    let path = std::path::absolute(file).ok()?;
    let path = percent_encode(path.to_str()?.as_bytes(), &ENCODED);
    let parameters = match mode {
        Mode::ReadWrite => "mode=rw",
        Mode::ReadOnly => "mode=ro",
        Mode::Immutable => "mode=ro&immutable=true",
    };
    Some(format!("sqlite://{path}?{parameters}"))
}

/// What SQLite says, in words that say what to do.
fn explain(file: &Path, error: &sqlx::Error) -> String {
    let code = error.as_database_error().and_then(|error| error.code()).unwrap_or_default();
    let primary = code.parse::<u32>().map_or(0, |code| code & 0xff);
    match primary {
        SQLITE_CORRUPT | SQLITE_NOTADB => {
            format!("is damaged or no SQLite database ({error}): restore it from a backup")
        }
        SQLITE_READONLY | SQLITE_CANTOPEN | SQLITE_PERM => {
            format!("can't be used: {error}{}", belongs_to(file))
        }
        _ => format!("can't be opened: {error}"),
    }
}

/// Whose it is, for a file that this process may not write.
fn belongs_to(file: &Path) -> String {
    use std::os::unix::fs::MetadataExt;
    let uid = rustix::process::geteuid().as_raw();
    [file.to_owned(), beside(file, "-wal"), beside(file, "-shm")]
        .iter()
        .find_map(|path| {
            let owner = fs::metadata(path).ok()?.uid();
            (owner != uid).then(|| {
                format!("; {} belongs to user {owner}, and this runs as {uid}", path.display())
            })
        })
        .unwrap_or_default()
}

fn unusable(file: &Path, fault: impl Into<String>) -> Error {
    Error::Unusable { catalog: file.display().to_string(), fault: fault.into() }
}

/// The tables of a catalog in SQLite.
pub(super) static SQLITE_MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");

const SQLITE_PERM: u32 = 3;
const SQLITE_READONLY: u32 = 8;
const SQLITE_CORRUPT: u32 = 11;
const SQLITE_CANTOPEN: u32 = 14;
const SQLITE_NOTADB: u32 = 26;

const CONNECTIONS: u32 = 4;
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(30);

/// FULL: a commit has reached the disk when it returns, which publication relies on.
const SETTINGS: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; \
     PRAGMA busy_timeout = 20000; PRAGMA cache_size = -1024; PRAGMA journal_size_limit = 16777216;";
const READ_ONLY_SETTINGS: &str =
    "PRAGMA query_only = ON; PRAGMA busy_timeout = 20000; PRAGMA cache_size = -1024;";

/// Everything but what a path is full of.
const ENCODED: AsciiSet =
    NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.').remove(b'~');
