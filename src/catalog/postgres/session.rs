//! What is at the other end of a connection: a server that can hold a catalog, and whether
//! something between keeps no sessions.

use sqlx::{AnyConnection, Connection, Row};

use super::{Session, connect, explain};
use crate::model::DatabaseUrl;

/// Looks at the database, and finds out what it keeps of a session.
///
/// # Errors
///
/// What is wrong with it, and what to do.
pub(super) async fn find(url: &DatabaseUrl) -> Result<Session, String> {
    // What only ever reaches a server if the session is its own: pgbouncer refuses it, or is set to
    // leave it out.
    let marked = connect(url, &[("options[motorcade.session]", "kept")]).await;
    let (mut connection, session) = match marked {
        Ok(mut connection) => {
            let is_kept = ask(&mut connection, IS_KEPT).await? == "kept";
            (connection, if is_kept { Session::Kept } else { Session::Lost })
        }
        Err(error) if is_refused_parameter(&error) => {
            let plain = connect(url, &[("statement-cache-capacity", "0")]).await;
            (plain.map_err(|error| explain(&error))?, Session::Lost)
        }
        Err(error) => return Err(explain(&error)),
    };
    refuse_unsuitable(&mut connection).await?;
    let _ = connection.close().await; // nothing of it is used any more
    Ok(session)
}

async fn refuse_unsuitable(connection: &mut AnyConnection) -> Result<(), String> {
    let version = ask(connection, "SELECT current_setting('server_version_num')").await?;
    if version.parse::<u32>().unwrap_or(0) < OLDEST {
        let version = ask(connection, "SELECT current_setting('server_version')").await?;
        return Err(format!("is on PostgreSQL {version}, and 15 or newer is needed"));
    }
    let encoding = ask(connection, "SELECT current_setting('server_encoding')").await?;
    if encoding != "UTF8" {
        return Err(format!(
            "has the encoding {encoding}: create it with `ENCODING 'UTF8' TEMPLATE template0`"
        ));
    }
    let is_standby = "SELECT CAST(pg_is_in_recovery() AS TEXT)";
    if ask(connection, is_standby).await? == "true" {
        return Err("is a standby, which takes no changes: connect to the primary".into());
    }
    Ok(())
}

/// Asks for one text, in one message: what keeps no session gives the next one to any connection.
async fn ask(connection: &mut AnyConnection, sql: &'static str) -> Result<String, String> {
    let row = sqlx::raw_sql(sql).fetch_one(connection).await;
    let text = row.and_then(|row| row.try_get::<Option<String>, _>(0));
    text.map(Option::unwrap_or_default).map_err(|error| explain(&error))
}

/// Whether something has said that it takes no `options` as a connection begins.
fn is_refused_parameter(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|error| {
        error.code().as_deref() == Some(PROTOCOL_VIOLATION) && error.message().contains("options")
    })
}

const IS_KEPT: &str = "SELECT current_setting('motorcade.session', true)";
const PROTOCOL_VIOLATION: &str = "08P01";
const OLDEST: u32 = 15_00_00;
