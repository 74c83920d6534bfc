//! The connections to a catalog. How a transaction begins, and how a statement runs that is in
//! none, is the engine's matter; a query says `&self.pool` or `self.pool.begin()` and knows of no
//! engine.
//!
//! SQLite has one writer at a time, and whoever writes sees all that was written before: queries
//! rely on that. PostgreSQL would let writers work beside each other, each on what it read before
//! the others committed. So there, whatever writes takes one lock first, which ends with its
//! transaction; reads wait for nobody.

use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt};
use sqlx::any::{AnyArguments, AnyQueryResult, AnyRow, AnyStatement, AnyTypeInfo};
use sqlx::error::BoxDynError;
use sqlx::{
    Any, AnyConnection, AnyPool, Connection, Describe, Either, Execute, Executor, SqlStr,
    Transaction,
};
use tokio::time::timeout;

/// A pool of connections, for statements of which each is a transaction by itself.
#[derive(Debug, Clone)]
pub(super) struct Pool {
    connections: AnyPool,
    engine: Engine,
}

/// What runs the statements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Engine {
    Sqlite,
    Postgres(Session),
}

/// What stays between two transactions of a connection to PostgreSQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Session {
    /// All of it, such as the statements that were prepared.
    Kept,
    /// Nothing: something between, such as pgbouncer, gives each transaction to any connection.
    Lost,
}

impl Pool {
    pub(super) fn new(connections: AnyPool, engine: Engine) -> Self {
        Self { connections, engine }
    }

    pub(super) fn engine(&self) -> Engine {
        self.engine
    }

    /// Whether a statement that writes takes its turn over a connection by itself, and needs no
    /// transaction for it.
    pub(super) fn takes_turns(&self) -> bool {
        self.engine == Engine::Sqlite
    }

    /// Rows of `columns` values that are put into one statement. A round trip to a server costs as
    /// much as many rows, and SQLite's driver gets slow with many parameters.
    pub(super) fn rows_at_once(&self, columns: usize) -> usize {
        match self.engine {
            Engine::Sqlite => FEW_PARAMETERS / columns,
            Engine::Postgres(_) => MANY_PARAMETERS / columns,
        }
    }

    /// Begins a transaction that writes. On SQLite its first statement **must** write, which takes
    /// the lock that PostgreSQL's takes here.
    pub(super) async fn begin(&self) -> Result<Transaction<'static, Any>, sqlx::Error> {
        self.begin_as(&TO_WRITE).await
    }

    /// The same over a connection of this pool.
    pub(super) async fn begin_on<'c>(
        &self,
        connection: &'c mut AnyConnection,
    ) -> Result<Transaction<'c, Any>, sqlx::Error> {
        match self.engine {
            Engine::Sqlite => connection.begin().await,
            Engine::Postgres(session) => connection.begin_with(TO_WRITE.of(session)).await,
        }
    }

    /// Begins a transaction that only reads, and all of it as it was at one moment.
    pub(super) async fn begin_to_read(&self) -> Result<Transaction<'static, Any>, sqlx::Error> {
        self.begin_as(&TO_READ).await
    }

    /// Begins a transaction that changes tables.
    pub(super) async fn begin_to_migrate(&self) -> Result<Transaction<'static, Any>, sqlx::Error> {
        self.begin_as(&TO_MIGRATE).await
    }

    async fn begin_as(&self, how: &Begin) -> Result<Transaction<'static, Any>, sqlx::Error> {
        match self.engine {
            Engine::Sqlite => self.connections.begin().await,
            Engine::Postgres(session) => self.connections.begin_with(how.of(session)).await,
        }
    }

    /// The connections themselves, for what belongs to one engine.
    pub(super) fn connections(&self) -> &AnyPool {
        &self.connections
    }

    /// Closes all connections once they are idle.
    pub(super) async fn close(&self) {
        self.connections.close().await;
    }

    /// Runs a statement that is in no transaction, on PostgreSQL, for as long as it may take: a cut
    /// that drops what is sent is noticed by nothing else for a quarter of an hour.
    async fn run(
        &self,
        session: Session,
        statement: Statement,
    ) -> Result<Vec<Either<AnyQueryResult, AnyRow>>, sqlx::Error> {
        let run = timeout(LONGEST, self.run_patiently(session, statement));
        run.await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
    }

    async fn run_patiently(
        &self,
        session: Session,
        statement: Statement,
    ) -> Result<Vec<Either<AnyQueryResult, AnyRow>>, sqlx::Error> {
        let writes = !statement.sql.as_str().trim_start().starts_with("SELECT");
        if !writes && session == Session::Kept {
            let mut connection = self.connections.acquire().await?;
            let done = connection.fetch_many(statement).try_collect().await?;
            return Ok(done);
        }
        let mut transaction = match writes {
            true => self.begin().await?,
            false => self.begin_to_read().await?,
        };
        let done = transaction.fetch_many(statement).try_collect().await?;
        transaction.commit().await?;
        Ok(done)
    }
}

/// A statement that was taken apart to see what it does.
struct Statement {
    sql: SqlStr,
    arguments: Option<AnyArguments>,
    persistent: bool,
}

impl Statement {
    fn of<'q>(mut query: impl Execute<'q, Any>) -> Result<Self, sqlx::Error> {
        let arguments = query.take_arguments().map_err(sqlx::Error::Encode)?;
        let persistent = query.persistent();
        let sql = query.sql();
        // The columns of a star change with a migration, which a server of the next version may run
        // beside this one: a statement that was prepared before would be refused from then on.
        let persistent = persistent && !sql.as_str().contains("SELECT *");
        Ok(Self { sql, arguments, persistent })
    }
}

impl<'q> Execute<'q, Any> for Statement {
    fn sql(self) -> SqlStr {
        self.sql
    }

    fn statement(&self) -> Option<&AnyStatement> {
        None
    }

    fn take_arguments(&mut self) -> Result<Option<AnyArguments>, BoxDynError> {
        Ok(self.arguments.take())
    }

    fn persistent(&self) -> bool {
        self.persistent
    }
}

impl<'p> Executor<'p> for &'p Pool {
    type Database = Any;

    fn fetch_many<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxStream<'e, Result<Either<AnyQueryResult, AnyRow>, sqlx::Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Any>,
    {
        let Engine::Postgres(session) = self.engine else {
            return self.connections.fetch_many(query);
        };
        let done = async move { self.run(session, Statement::of(query)?).await };
        let each = |done: Vec<_>| stream::iter(done.into_iter().map(Ok));
        stream::once(done).map_ok(each).try_flatten().boxed()
    }

    fn fetch_optional<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxFuture<'e, Result<Option<AnyRow>, sqlx::Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Any>,
    {
        let Engine::Postgres(session) = self.engine else {
            return self.connections.fetch_optional(query);
        };
        Box::pin(async move {
            let done = self.run(session, Statement::of(query)?).await?;
            Ok(done.into_iter().find_map(Either::right))
        })
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [AnyTypeInfo],
    ) -> BoxFuture<'e, Result<AnyStatement, sqlx::Error>>
    where
        'p: 'e,
    {
        self.connections.prepare_with(sql, parameters)
    }

    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, Result<Describe<Any>, sqlx::Error>>
    where
        'p: 'e,
    {
        self.connections.describe(sql)
    }
}

/// Of one statement: far below the 65,535 that PostgreSQL's protocol can count, and more than are
/// ever needed at once.
const MANY_PARAMETERS: usize = 12_000;
/// Of one statement on either engine.
///
/// SQLite's driver looks each parameter of a statement up among all of them: with thousands, that
/// takes longer than what the statement does.
pub(super) const FEW_PARAMETERS: usize = 300;
/// For a statement on a server, with the wait for the lock.
const LONGEST: Duration = Duration::from_secs(60);

/// How a transaction begins: in PostgreSQL with all of it in one message.
///
/// The lock's number is one of this database alone. A server that hangs or is cut off while it has
/// the lock loses it, and its transaction with it; who waits for it for too long gives up. All
/// migrations together may take longer, and one of them may be a single statement that does: the
/// database looks meanwhile whether the server that wants it is still there. What writes says how,
/// since a database or a user may have other defaults: a snapshot that is taken before the lock sees
/// nothing of what the others wrote, and a commit that doesn't wait for the disk is lost with it.
/// Where no session is kept, the driver's names for its statements may be taken by those that
/// somebody else has left.
macro_rules! begin {
    ($begin:literal $(, $more:literal)*) => {
        Begin {
            kept: concat!($begin, "; ", $($more),*),
            lost: concat!($begin, "; DEALLOCATE ALL; ", $($more),*),
        }
    };
}

struct Begin {
    kept: &'static str,
    lost: &'static str,
}

impl Begin {
    fn of(&self, session: Session) -> &'static str {
        match session {
            Session::Kept => self.kept,
            Session::Lost => self.lost,
        }
    }
}

const TO_READ: Begin = begin!("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
const TO_WRITE: Begin = begin!(
    "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE",
    "SET LOCAL synchronous_commit = on; ",
    "SET LOCAL lock_timeout = '20s'; SET LOCAL idle_in_transaction_session_timeout = '30s'; ",
    "SELECT pg_advisory_xact_lock(7091026)"
);
const TO_MIGRATE: Begin = begin!(
    "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE",
    "SET LOCAL synchronous_commit = on; ",
    "SET LOCAL lock_timeout = '10min'; SET LOCAL idle_in_transaction_session_timeout = '30s'; ",
    // PostgreSQL on Windows can't look.
    "DO $$ BEGIN SET LOCAL client_connection_check_interval = '5s'; EXCEPTION WHEN OTHERS THEN END $$; ",
    "SELECT pg_advisory_xact_lock(7091026)"
);
