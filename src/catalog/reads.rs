//! Connections that only read, one statement at a time.
//!
//! A pool asks a connection for a sign of life whenever it takes it back, and that costs as much as
//! the query of a vehicle: a round trip to the connection's thread, or to the server. What only
//! reads and leaves no transaction behind has no need of it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sqlx::any::{AnyArguments, AnyConnectOptions, AnyRow};
use sqlx::query::Query;
use sqlx::{Any, AnyConnection, Connection, Executor};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::pool::{Engine, Pool, Session};

/// Where a vehicle's poll reads.
#[derive(Debug)]
pub(super) enum Reads {
    /// Over connections of its own.
    Own(Box<Connections>),
    /// Over the pool, whose statements are transactions of several messages: behind something that
    /// keeps no session, others' could come between the messages of one.
    Pool(Pool),
}

/// A few connections, opened when they are first needed.
#[derive(Debug)]
pub(super) struct Connections {
    options: AnyConnectOptions,
    settings: Option<&'static str>,
    /// After how long a connection may have gone away, if it can.
    stale_after: Option<Duration>,
    permits: Semaphore,
    size: usize,
    idle: Mutex<Vec<(AnyConnection, Instant)>>,
}

impl Reads {
    /// `settings` is what each connection of its own begins with.
    pub(super) fn new(
        pool: &Pool,
        options: AnyConnectOptions,
        settings: Option<&'static str>,
    ) -> Self {
        let (stale_after, size) = match pool.engine() {
            Engine::Sqlite => (None, CONNECTIONS), // a file does not go away as a server does
            Engine::Postgres(Session::Kept) => (Some(STALE_AFTER), SERVER_CONNECTIONS),
            Engine::Postgres(Session::Lost) => return Self::Pool(pool.clone()),
        };
        let (permits, idle) = (Semaphore::new(size), Mutex::default());
        Self::Own(Box::new(Connections { options, settings, stale_after, permits, size, idle }))
    }

    /// The first row of a query that writes nothing.
    pub(super) async fn fetch_optional(
        &self,
        query: Query<'_, Any, AnyArguments>,
    ) -> Result<Option<AnyRow>, sqlx::Error> {
        match self {
            Self::Own(connections) => connections.fetch_optional(query).await,
            Self::Pool(pool) => query.fetch_optional(pool).await,
        }
    }

    /// Closes its own connections once they are idle.
    pub(super) async fn close(&self) {
        if let Self::Own(connections) = self {
            connections.close().await;
        }
    }
}

impl Connections {
    async fn fetch_optional(
        &self,
        query: Query<'_, Any, AnyArguments>,
    ) -> Result<Option<AnyRow>, sqlx::Error> {
        let _permit = self.permits.acquire().await.map_err(|_| sqlx::Error::PoolClosed)?;
        let idle = self.idle().pop();
        let mut connection = match idle {
            Some((connection, since)) => self.test(connection, since).await?,
            None => self.connect().await?,
        };
        let row = query.fetch_optional(&mut connection);
        let row = match self.stale_after {
            None => row.await?,
            Some(_) => timeout(LONGEST, row).await.map_err(|_| sqlx::Error::PoolTimedOut)??,
        };
        self.idle().push((connection, Instant::now())); // not after a failure, nor if nobody waits any more
        Ok(row)
    }

    async fn close(&self) {
        if let Ok(permits) = self.permits.acquire_many(self.size as u32).await {
            permits.forget();
            self.permits.close();
        }
        let idle = std::mem::take(&mut *self.idle());
        for (connection, _) in idle {
            let _ = connection.close().await; // there is nothing of it to lose
        }
    }

    /// The connection, or a new one if its server has gone away meanwhile.
    async fn test(
        &self,
        mut connection: AnyConnection,
        idle_since: Instant,
    ) -> Result<AnyConnection, sqlx::Error> {
        let is_stale = self.stale_after.is_some_and(|after| idle_since.elapsed() > after);
        if !is_stale || matches!(timeout(PATIENCE, connection.ping()).await, Ok(Ok(()))) {
            return Ok(connection);
        }
        self.idle().clear();
        self.connect().await
    }

    async fn connect(&self) -> Result<AnyConnection, sqlx::Error> {
        let connect = AnyConnection::connect_with(&self.options);
        let mut connection =
            timeout(PATIENCE, connect).await.map_err(|_| sqlx::Error::PoolTimedOut)??;
        if let Some(settings) = self.settings {
            connection.execute(settings).await?;
        }
        Ok(connection)
    }

    fn idle(&self) -> MutexGuard<'_, Vec<(AnyConnection, Instant)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const CONNECTIONS: usize = 2;
const SERVER_CONNECTIONS: usize = 4;
const STALE_AFTER: Duration = Duration::from_secs(1);
/// For a query on a server.
const LONGEST: Duration = Duration::from_secs(30);
/// For a sign of life of a server, or for a connection to one.
const PATIENCE: Duration = Duration::from_secs(5);
