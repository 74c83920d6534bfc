//! The catalog: what the server knows, in a SQL database. SQL lives here and nowhere else.
//!
//! Each statement runs on SQLite and on PostgreSQL alike: `$1` placeholders, `BIGINT` and `TEXT`
//! columns, `ON CONFLICT` and `RETURNING`, times as milliseconds. A transaction starts with a
//! statement that writes, so that SQLite takes its write lock at once and none has to be tried
//! again.

mod audit;
mod backup;
mod clock;
#[cfg(test)]
mod conformance;
mod counts;
mod director;
mod ecu_column;
mod ecu_keys;
mod ecus;
mod ended_uploads;
mod escrow;
mod fleet_log;
mod handovers;
mod holder;
mod images;
mod installation;
mod jobs;
mod journal;
mod last_files;
mod leases;
mod left_ecus;
mod listed;
mod lost_keys;
mod moving;
mod numbers;
mod offset;
mod old_reason;
mod page;
mod pending_blobs;
mod place;
mod pool;
mod postgres;
mod published;
mod reads;
mod recipients;
mod registration;
mod renewal;
mod retention;
mod retired;
mod rewraps;
mod roles;
mod servers;
mod sqlite;
mod staged;
mod status;
mod supplier_keys;
mod suppliers;
mod tokens;
mod uploads;
mod vehicle_list;
mod vehicles;
mod versions;

use std::sync::Arc;

use sqlx::Row;
use sqlx::any::AnyRow;

pub use audit::{AuditEntry, AuditFilter, AuditHead, Author, NewAuditEntry, Who, entry_hash};
pub use counts::VehicleCounts;
pub use director::DirectorRoot;
pub use ecu_keys::KeyPermission;
pub use ecus::EcuFilter;
pub use escrow::{EscrowKeyAdded, EscrowedCount};
pub use handovers::Handover;
pub use holder::Holder;
pub use images::NewImage;
pub use installation::{Age, StoredEnvelope};
pub use jobs::{InsertedJob, JobEnd, JobLease, JobProgress, JobRecord, JobState};
pub use journal::EntryChange;
pub use last_files::LastFile;
pub use listed::{FolderBound, ListingBound};
pub use moving::{BlobsMoved, Moving, Table, TableDigest, Target};
pub use page::Page;
pub use pending_blobs::AnnouncedBlobs;
pub use postgres::{Mark, Whereabouts};
pub use published::{Moments, PublishedTimestamp, SkippedTo};
pub use registration::Registration;
pub use renewal::{EcuOwner, ReEnrolment, Renewal};
pub use retention::YankedImage;
pub use retired::{RetiredRecipient, Successor};
pub use rewraps::{
    ConcernedEnvelope, EnvelopePosition, RecordedRewraps, Rewrapped, SupersededEnvelope,
};
pub use roles::{EndedStaging, PublishedRole, ReservedVersion, RoleState, SignedUpon};
pub use servers::{BlobsOf, OtherServer, ServerRecord, Shown};
pub use staged::{NewStaging, RefusedSignature, StagedSignature, Staging};
pub use status::StatusWriter;
pub use suppliers::{RemovedSupplier, SupplierConflict};
pub use tokens::TokenRecord;
pub use uploads::{NewUpload, UploadProgress, UploadRecord, UploadState};
pub use vehicle_list::{Quarantined, VehicleFilter};

use crate::model::{AuditKind, RoleName, Timestamp};
use place::Place;
use pool::Pool;
use reads::Reads;

/// A connection pool to the catalog.
#[derive(Debug, Clone)]
pub struct Catalog {
    pool: Pool,
    /// What a vehicle's poll waits for.
    reads: Arc<Reads>,
    place: Place,
    journal: Arc<journal::Journal>,
    numbers: Arc<numbers::Numbers>,
    offset: Arc<offset::ClockOffset>,
}

impl Catalog {
    /// Asks the database for a sign of life.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`] if there is none.
    pub async fn ping(&self) -> Result<(), Error> {
        sqlx::query("SELECT 1").execute(&self.pool).await.map(drop).during("reach the catalog")
    }

    /// What it is called in what people read.
    fn name(&self) -> String {
        self.place.to_string()
    }

    /// Whether it is on a server, which somebody else looks after: another one may take its place,
    /// or an older state of it.
    pub fn is_on_server(&self) -> bool {
        matches!(self.place, Place::Server(_))
    }

    /// Closes all connections once they are idle.
    pub async fn close(&self) {
        self.reads.close().await;
        self.pool.close().await; // last, to take the log into the file
    }
}

/// Why the catalog could not do something.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A row with that key is there.
    #[error("already in the catalog: {0}")]
    AlreadyExists(String),
    /// A role has no room for an entry.
    #[error("{role} has no room for another entry")]
    RoleFull {
        /// The role.
        role: RoleName,
        /// The folder whose share it is that is used up, if not all of the role.
        folder: Option<String>,
    },
    /// Others than the role that was chosen speak for a target now.
    #[error("other roles than {role} speak for {target}")]
    NotDelegated {
        /// The role.
        role: RoleName,
        /// The target.
        target: String,
    },
    /// The database has lost what it had committed, as this process remembers.
    #[error("the catalog's database has lost what it had committed")]
    Older,
    /// An envelope has an entry for a recipient that was retired since it was sealed.
    #[error("sealed for the recipient {kid}, which was retired")]
    Retired {
        /// Its id.
        kid: String,
    },
    /// A data key was wrapped to another escrow key than the one that all servers wrap to.
    #[error("wrapped to another escrow key than {wanted}, which the installation has")]
    OtherEscrowKey {
        /// The id of that one.
        wanted: String,
    },
    /// Another publication has overtaken this one.
    #[error("metadata was published by someone else meanwhile")]
    Overtaken,
    /// The database can't be reached, or does nothing more for the moment.
    #[error("failed to {op}: the catalog's database can't be reached")]
    Unreachable {
        /// What was being done.
        op: &'static str,
        /// What went wrong.
        #[source]
        source: Box<sqlx::Error>,
    },
    /// A text has a character that the database can't hold or look for: NUL, in PostgreSQL.
    #[error("failed to {op}: a text has a NUL character")]
    Text {
        /// What was being done.
        op: &'static str,
    },
    /// The disk is full.
    #[error("no space left to {op}")]
    Full {
        /// What was being done.
        op: &'static str,
    },
    /// The catalog can't be used as it is.
    #[error("{catalog} {fault}")]
    Unusable {
        /// Which catalog.
        catalog: String,
        /// What is wrong with it, and what to do.
        fault: String,
    },
    /// The tables could not be brought up to date.
    #[error("failed to migrate the catalog")]
    Migrate(#[source] Box<sqlx::migrate::MigrateError>),
    /// Anything else that the database said.
    #[error("failed to {op}")]
    Backend {
        /// What was being done.
        op: &'static str,
        /// What the database said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Error {
    fn backend(op: &'static str) -> impl FnOnce(sqlx::Error) -> Self {
        move |source| {
            // SQLITE_FULL (13) and SQLITE_IOERR_WRITE (778), or PostgreSQL's disk_full (53100).
            let code = source.as_database_error().and_then(|e| e.code()).unwrap_or_default();
            if ["13", "778", "53100"].contains(&&*code) {
                Self::Full { op }
            } else if code == "22021" {
                Self::Text { op }
            } else if is_passing(&source, &code) {
                Self::Unreachable { op, source: Box::new(source) }
            } else {
                Self::corrupt(op, source)
            }
        }
    }

    /// For a row that holds what nobody could have stored.
    fn corrupt(
        op: &'static str,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Backend { op, source: source.into() }
    }
}

/// Whether an error says that a server is away or out of breath, so that the same may succeed later.
fn is_passing(error: &sqlx::Error, code: &str) -> bool {
    use sqlx::Error as E;
    // The classes of connections, of resources and of what an operator does (PostgreSQL, appendix A;
    // SQLite's codes are shorter), a lock that was waited for in vain, and a transaction that lost it.
    let is_passing_code = |code: &str| {
        let class = code.get(..2).filter(|_| code.len() == 5);
        class.is_some_and(|class| ["08", "53", "57", "58"].contains(&class))
            || ["55P03", "25P03", "25006", "40001", "40P01"].contains(&code)
    };
    // What a server never says is a line that broke in the middle of a message.
    matches!(error, E::Io(_) | E::Tls(_) | E::Protocol(_) | E::PoolTimedOut | E::PoolClosed)
        || is_passing_code(code)
}

/// Says what was being done when the database failed.
trait During<T> {
    /// `op` is a verb and what it is done to, as in "find an image".
    fn during(self, op: &'static str) -> Result<T, Error>;
}

impl<T> During<T> for Result<T, sqlx::Error> {
    fn during(self, op: &'static str) -> Result<T, Error> {
        self.map_err(Error::backend(op))
    }
}

/// Says what was being done when a row held what nobody could have stored, or a value was nothing
/// that a row can hold.
trait OrCorrupt<T> {
    /// As [`During::during`].
    fn or_corrupt(self, op: &'static str) -> Result<T, Error>;
}

impl<T, E: Into<Box<dyn std::error::Error + Send + Sync>>> OrCorrupt<T> for Result<T, E> {
    fn or_corrupt(self, op: &'static str) -> Result<T, Error> {
        self.map_err(|error| Error::corrupt(op, error))
    }
}

/// Reads one column of a row into one of our types.
fn parsed<T>(row: &AnyRow, column: &'static str, op: &'static str) -> Result<T, Error>
where
    T: TryFrom<String>,
    T::Error: std::error::Error + Send + Sync + 'static,
{
    let text: String = row.try_get(column).during(op)?;
    T::try_from(text).or_corrupt(op)
}

/// Reads a column that holds JSON.
fn json<T: serde::de::DeserializeOwned>(
    row: &AnyRow,
    column: &'static str,
    op: &'static str,
) -> Result<T, Error> {
    serde_json::from_str(&text(row, column, op)?).or_corrupt(op)
}

fn number(row: &AnyRow, column: &'static str, op: &'static str) -> Result<u64, Error> {
    let value: i64 = row.try_get(column).during(op)?;
    u64::try_from(value).or_corrupt(op)
}

fn time(row: &AnyRow, column: &'static str, op: &'static str) -> Result<Timestamp, Error> {
    let millis: i64 = row.try_get(column).during(op)?;
    Timestamp::from_millisecond(millis).or_corrupt(op)
}

fn optional_time(
    row: &AnyRow,
    column: &'static str,
    op: &'static str,
) -> Result<Option<Timestamp>, Error> {
    let millis: Option<i64> = row.try_get(column).during(op)?;
    millis.map(|millis| Timestamp::from_millisecond(millis).or_corrupt(op)).transpose()
}

fn text(row: &AnyRow, column: &'static str, op: &'static str) -> Result<String, Error> {
    row.try_get(column).during(op)
}

/// The placeholders of `rows` rows of `columns` values: `($1, $2), ($3, $4)`.
fn placeholders(rows: usize, columns: usize) -> String {
    let row = |row: usize| {
        let numbers: Vec<String> =
            (1..=columns).map(|column| format!("${}", row * columns + column)).collect();
        format!("({})", numbers.join(", "))
    };
    (0..rows).map(row).collect::<Vec<_>>().join(", ")
}

/// Rows of `columns` values that are put into one statement on either engine.
const fn rows_at_once(columns: usize) -> usize {
    pool::FEW_PARAMETERS / columns
}

/// A length, counter or version as a column holds it; all of ours are far below 2^63.
fn column(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
