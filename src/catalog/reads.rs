//! Connections that only read, one statement at a time.
//!
//! A pool asks a connection for a sign of life whenever it takes it back, and that costs as much as
//! the query of a vehicle: a round trip to the connection's thread. What only reads and leaves no
//! transaction behind has no need of it.

use std::sync::{Mutex, PoisonError};

use sqlx::any::{AnyArguments, AnyConnectOptions, AnyRow};
use sqlx::query::Query;
use sqlx::{Any, AnyConnection, Connection, Executor};
use tokio::sync::Semaphore;

/// A few connections, opened when they are first needed.
#[derive(Debug)]
pub(super) struct Reads {
    options: AnyConnectOptions,
    settings: &'static str,
    permits: Semaphore,
    idle: Mutex<Vec<AnyConnection>>,
}

impl Reads {
    /// `settings` is what each connection begins with.
    pub(super) fn new(options: AnyConnectOptions, settings: &'static str) -> Self {
        let (permits, idle) = (Semaphore::new(CONNECTIONS), Mutex::default());
        Self { options, settings, permits, idle }
    }

    /// The first row of a query that writes nothing.
    pub(super) async fn fetch_optional(
        &self,
        query: Query<'_, Any, AnyArguments>,
    ) -> Result<Option<AnyRow>, sqlx::Error> {
        let _permit = self.permits.acquire().await.map_err(|_| sqlx::Error::PoolClosed)?;
        let idle = self.idle().pop();
        let mut connection = match idle {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        let row = query.fetch_optional(&mut connection).await?;
        self.idle().push(connection); // not after a failure, nor if nobody waits any more
        Ok(row)
    }

    /// Closes them once they are idle.
    pub(super) async fn close(&self) {
        if let Ok(permits) = self.permits.acquire_many(CONNECTIONS as u32).await {
            permits.forget();
            self.permits.close();
        }
        let idle = std::mem::take(&mut *self.idle());
        for connection in idle {
            let _ = connection.close().await; // there is nothing of it to lose
        }
    }

    async fn connect(&self) -> Result<AnyConnection, sqlx::Error> {
        let mut connection = AnyConnection::connect_with(&self.options).await?;
        connection.execute(self.settings).await?;
        Ok(connection)
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<AnyConnection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const CONNECTIONS: usize = 2;
