//! How a catalog in PostgreSQL is opened.
//!
//! What is wrong with the server or the database is said at once and with its name: a pool would
//! try again until it times out.

mod fault;
mod migrations;
mod session;
#[cfg(test)]
mod tests;
mod whereabouts;

use std::sync::Arc;
use std::time::Duration;

use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::{AnyConnection, ConnectOptions, Connection, Executor};
use tokio::time::timeout;

use super::place::Place;
use super::pool::{Engine, Pool, Session};
use super::reads::Reads;
use super::{Catalog, During, Error};
use crate::model::{DatabaseUrl, Timestamp};
use fault::explain;
pub use whereabouts::{Mark, Whereabouts};

impl Catalog {
    /// Opens the catalog in a database for a server, and brings its tables up to date. Several
    /// servers may do so at once: one does it, the others wait.
    ///
    /// # Errors
    ///
    /// [`Error::Unusable`] if it can't be reached, is nothing that a catalog can be kept in, holds
    /// something else or comes from a later version; [`Error::Migrate`]; [`Error::Full`];
    /// [`Error::Backend`].
    pub async fn own_postgres(url: &DatabaseUrl, now: Timestamp) -> Result<Self, Error> {
        let catalog = Self::connect_postgres(url).await?;
        catalog.migrate_postgres().await?;
        catalog.note_version(now).await?;
        Ok(catalog)
    }

    /// Opens a database that a catalog is to be moved to, with its tables up to date and no word of
    /// this version, which comes with the catalog.
    ///
    /// # Errors
    ///
    /// As [`Self::own_postgres`].
    pub async fn target_postgres(url: &DatabaseUrl) -> Result<Self, Error> {
        let catalog = Self::connect_postgres(url).await?;
        // Whoever has served it is its installation, and brings it up to date.
        if catalog.is_empty().await? || catalog.find_installed("id").await?.is_none() {
            catalog.migrate_postgres().await?;
        }
        Ok(catalog)
    }

    /// Opens the catalog in a database as it is, for a command that may run beside a server. None
    /// if the database is empty.
    ///
    /// # Errors
    ///
    /// [`Error::Unusable`] if it can't be reached, or has other tables than this version's;
    /// [`Error::Backend`].
    pub async fn open_postgres(url: &DatabaseUrl) -> Result<Option<Self>, Error> {
        let Some(catalog) = Self::look_at_postgres(url).await? else { return Ok(None) };
        let known = migrations::known();
        catalog.refuse_later_version(&known).await?;
        catalog.refuse_earlier_version(&known).await?;
        Ok(Some(catalog))
    }

    /// Opens the catalog in a database to look at it, of whatever version it is. None if the database
    /// is empty.
    ///
    /// # Errors
    ///
    /// [`Error::Unusable`] if it can't be reached, or holds something else; [`Error::Backend`].
    pub async fn look_at_postgres(url: &DatabaseUrl) -> Result<Option<Self>, Error> {
        let catalog = Self::connect_postgres(url).await?;
        if catalog.is_empty().await? {
            catalog.close().await;
            return Ok(None);
        }
        Ok(Some(catalog))
    }

    /// Looks whether this version can still use the tables, where another server may change them.
    ///
    /// # Errors
    ///
    /// [`Error::Unusable`] if they are of a later version now; [`Error::Unreachable`];
    /// [`Error::Backend`].
    pub async fn check_version(&self) -> Result<(), Error> {
        match self.is_on_server() {
            true => self.refuse_later_version(&migrations::known()).await,
            false => Ok(()),
        }
    }

    async fn connect_postgres(url: &DatabaseUrl) -> Result<Self, Error> {
        sqlx::any::install_default_drivers();
        let unusable = |fault| Error::Unusable { catalog: url.to_string(), fault };
        let session = match timeout(PATIENCE, session::find(url)).await {
            Ok(found) => found.map_err(unusable)?,
            Err(_) => {
                let waited = PATIENCE.as_secs();
                return Err(unusable(format!(
                    "can't be reached: it has not answered for {waited} seconds"
                )));
            }
        };
        if session == Session::Lost {
            tracing::info!(
                catalog = %url,
                "something between this server and the database, such as pgbouncer, keeps no sessions: each read takes \
                 three round trips instead of one; a direct connection, or pooling by session, is faster"
            );
        }
        let options = options(url, session).during("open the catalog")?;
        let pool = AnyPoolOptions::new()
            .max_connections(url.connections())
            .acquire_timeout(PATIENCE)
            .test_before_acquire(false) // but see below
            .before_acquire(|connection, meta| {
                Box::pin(async move {
                    if meta.idle_for > UNTESTED {
                        let alive = timeout(UNTESTED, connection.ping()).await;
                        alive.map_err(|_| sqlx::Error::PoolTimedOut)??;
                    }
                    Ok(true)
                })
            })
            .after_release(|connection, _| {
                Box::pin(async move {
                    // Who gave up while a transaction began, such as by a client that hung up, has
                    // left it begun, and sqlx knows nothing of it: what is written there next would
                    // never be committed. One that failed is an error here, and closes the connection.
                    let ended = timeout(PATIENCE, connection.execute("BEGIN; ROLLBACK")).await;
                    ended.map_err(|_| sqlx::Error::PoolTimedOut)?.map(|_| true)
                })
            })
            .connect_lazy_with(options.clone());
        let pool = Pool::new(pool, Engine::Postgres(session));
        let reads = Arc::new(Reads::new(&pool, options, None));
        let place = Place::Server(url.to_string().into());
        let (journal, numbers, offset) = (Arc::default(), Arc::default(), Arc::default());
        Ok(Self { pool, reads, place, journal, numbers, offset })
    }
}

/// Opens a connection with more parameters than the URL has.
async fn connect(url: &DatabaseUrl, more: &[(&str, &str)]) -> Result<AnyConnection, sqlx::Error> {
    let options: AnyConnectOptions = url.with(more).parse()?;
    AnyConnection::connect_with(&options.disable_statement_logging()).await
}

fn options(url: &DatabaseUrl, session: Session) -> Result<AnyConnectOptions, sqlx::Error> {
    let prepared = match session {
        Session::Kept => "100",
        Session::Lost => "0", // a statement would be prepared over one connection and run over another
    };
    let options: AnyConnectOptions = url.with(&[("statement-cache-capacity", prepared)]).parse()?;
    Ok(options.disable_statement_logging())
}

/// For a database to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// For how long a connection that nobody uses is taken to be alive.
const UNTESTED: Duration = Duration::from_secs(1);
