//! What a server of PostgreSQL, or the way to it, says, in words that say what to do.

/// Goes on from the name of the database.
pub(super) fn explain(error: &sqlx::Error) -> String {
    if let Some(database) = error.as_database_error() {
        let said = database.message();
        let code = database.code().unwrap_or_default();
        return match code.as_ref() {
            "28P01" | "28000" => format!("refuses this user or password: {said}"),
            "3D000" => format!("is not there: {said}; create it with `createdb`"),
            "42501" => format!(
                "does not let this user make tables: {said}; make the user its owner, or `GRANT CREATE ON SCHEMA public`"
            ),
            "53300" => format!("has no connection left: {said}"),
            "08P01" => format!(
                "can't be used as it is: {said}; pgbouncer needs `ignore_startup_parameters = extra_float_digits`"
            ),
            _ => format!("can't be used: {said} ({code})"),
        };
    }
    match error {
        // What rustls says comes as data that are not valid.
        sqlx::Error::Io(source) if source.kind() == std::io::ErrorKind::InvalidData => {
            over_tls(source)
        }
        sqlx::Error::Io(source) => format!("can't be reached: {source}"),
        sqlx::Error::Tls(source) => over_tls(source.as_ref()),
        _ => format!("can't be used: {error}"),
    }
}

fn over_tls(said: &(impl std::fmt::Display + ?Sized)) -> String {
    format!(
        "can't be reached over TLS: {said}; `sslrootcert=FILE` names the CA, and `sslmode` what is asked of the server"
    )
}
