//! Where a catalog in PostgreSQL is.

use std::env;
use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::str::FromStr;

use url::Url;
use zeroize::Zeroizing;

/// The URL of a database in PostgreSQL, such as `postgresql://motorcade@db.example/motorcade`, in
/// the form that libpq takes. There may be a password in it, which nothing shows.
///
/// Where it says nothing of TLS, a server on another host has to have a certificate for its name
/// (`verify-full`), and one on this host need not know TLS (`prefer`). Where it says no host, it is this
/// one, whatever the environment says.
#[derive(Clone)]
pub struct DatabaseUrl {
    url: Zeroizing<String>,
    name: String,
    connections: u32,
}

/// Why a text is no URL of a database. It never repeats the text, which may have a password in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseDatabaseUrlError {
    /// It is no URL, or one of something else.
    #[error(
        "the URL of a catalog looks like postgresql://USER@HOST/DATABASE?sslmode=verify-full&sslrootcert=FILE"
    )]
    Form,
    /// It names no database.
    #[error(
        "the URL of the catalog names no database: put its name at the end, as in postgresql://USER@HOST/DATABASE"
    )]
    NoDatabase,
    /// It has a parameter that isn't known.
    #[error("the URL of the catalog has a parameter that isn't known; there are {}", PARAMETERS.join(", "))]
    Parameter,
    /// The number of connections can't be that.
    #[error("`connections` in the URL of the catalog is not in 2..=1000")]
    Connections,
}

impl DatabaseUrl {
    /// The URL as a driver takes it, with more parameters.
    pub fn with(&self, parameters: &[(&str, &str)]) -> Zeroizing<String> {
        let mut text = self.url.clone();
        for (name, value) in parameters {
            let separator = if text.contains('?') { '&' } else { '?' };
            text.push(separator);
            text.push_str(name);
            text.push('=');
            text.extend(url::form_urlencoded::byte_serialize(value.as_bytes()));
        }
        text
    }

    /// How many connections one server may have at a time.
    pub fn connections(&self) -> u32 {
        self.connections
    }
}

impl FromStr for DatabaseUrl {
    type Err = ParseDatabaseUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        use ParseDatabaseUrlError as E;
        let mut url = Url::parse(text.trim()).map_err(|_| E::Form)?;
        if !matches!(url.scheme(), "postgres" | "postgresql") || url.cannot_be_a_base() {
            return Err(E::Form);
        }
        let parameters: Vec<(String, String)> = url.query_pairs().into_owned().collect();
        if parameters.iter().any(|(name, _)| !PARAMETERS.contains(&name.as_str())) {
            return Err(E::Parameter);
        }
        let find = |wanted: &str| {
            parameters.iter().rev().find(|(name, _)| name == wanted).map(|(_, value)| value.clone())
        };
        let endpoint = Endpoint::of(&url, &parameters);
        let path = url.path().trim_start_matches('/').to_owned();
        let database = find("dbname").or(Some(path)).filter(|name| !name.is_empty());
        let port = find("port").or_else(|| url.port().map(|port| port.to_string()));
        let connections = match find("connections") {
            None => CONNECTIONS,
            Some(number) => number.parse().map_err(|_| E::Connections)?,
        };
        if !(2..=1000).contains(&connections) {
            return Err(E::Connections);
        }
        let default_tls = if endpoint.is_local { "prefer" } else { "verify-full" };
        let tls = find("sslmode").is_none().then_some(default_tls);
        let local_host = endpoint.host.is_empty().then(|| default_host(port.as_deref()));
        url.query_pairs_mut()
            .clear()
            .extend_pairs(parameters.iter().filter(|(name, _)| name != "connections"))
            .extend_pairs(local_host.map(|host| ("host", host)))
            .extend_pairs(tls.map(|mode| ("sslmode", mode)));
        let at = if endpoint.host.is_empty() { "localhost" } else { &endpoint.host };
        let port = port.map_or_else(String::new, |port| format!(":{port}"));
        let name = format!("postgresql://{at}{port}/{}", database.ok_or(E::NoDatabase)?);
        Ok(Self { url: Zeroizing::new(url.into()), name, connections })
    }
}

/// Without user and password.
impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DatabaseUrl({})", self.name)
    }
}

/// What the driver connects to: for it, the last of `host` and `hostaddr` replaces the URL's host.
struct Endpoint {
    /// Empty if there is none.
    host: String,
    /// Whether nothing of a connection leaves this host.
    is_local: bool,
}

impl Endpoint {
    fn of(url: &Url, parameters: &[(String, String)]) -> Self {
        let is_host = |(name, _): &&(String, String)| name == "host" || name == "hostaddr";
        let (host, is_socket) = match parameters.iter().rev().find(is_host) {
            Some((_, host)) => (host.clone(), host.starts_with('/')),
            None => {
                let host = url.host_str().unwrap_or_default();
                (host.to_owned(), host.starts_with("%2F") || host.starts_with("%2f"))
            }
        };
        // libpq would take the address, whatever the order.
        let mut addresses = parameters.iter().filter(|(name, _)| name == "hostaddr");
        let is_local = (host.is_empty() || is_socket || host == "localhost" || is_loopback(&host))
            && addresses.all(|(_, address)| is_loopback(address));
        Self { host, is_local }
    }
}

fn is_loopback(host: &str) -> bool {
    let host = host.trim_matches(['[', ']']);
    host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// This host, by a socket if there is one. The driver does the same, but takes `PGHOSTADDR` and
/// `PGHOST` first, which may be another host: so this is said in the URL.
fn default_host(port: Option<&str>) -> &'static str {
    let from_environment = || env::var("PGPORT").ok();
    let port = port.map(str::to_owned).or_else(from_environment);
    let socket = format!(".s.PGSQL.{}", port.as_deref().unwrap_or("5432"));
    let has_socket = |folder: &&str| Path::new(folder).join(&socket).exists();
    ["/var/run/postgresql", "/tmp"].into_iter().find(has_socket).unwrap_or("localhost")
}

/// Those of libpq that the driver knows, and `connections`, which is ours.
const PARAMETERS: [&str; 12] = [
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
    "connections",
];

const CONNECTIONS: u32 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<DatabaseUrl, ParseDatabaseUrlError> {
        text.parse()
    }

    #[test]
    fn a_password_is_in_what_the_driver_gets_and_in_nothing_that_is_shown() {
        let url =
            parse("postgres://motor:pa%20ss@db.example:6432/cars?application_name=m").unwrap();
        assert_eq!(url.to_string(), "postgresql://db.example:6432/cars");
        assert_eq!(format!("{url:?}"), "DatabaseUrl(postgresql://db.example:6432/cars)");
        let text = url.with(&[("options[a.b]", "on")]);
        assert_eq!(
            *text,
            "postgres://motor:pa%20ss@db.example:6432/cars?application_name=m&sslmode=verify-full&options[a.b]=on"
        );
        for wrong in ["mysql://u:secret@h/d", "postgres://u:secret@h:port/d", "u:secret@h/d"] {
            let error = parse(wrong).unwrap_err();
            assert_eq!(error, ParseDatabaseUrlError::Form);
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }

    #[test]
    fn tls_is_verified_unless_the_database_is_on_this_host() {
        for (text, mode) in [
            ("postgres://db/cars", "verify-full"),
            ("postgres://10.0.0.1/cars", "verify-full"),
            ("postgres://db/cars?sslmode=require", "require"),
            ("postgres://localhost/cars", "prefer"),
            ("postgres://127.0.0.1:5/cars", "prefer"),
            ("postgres://[::1]/cars", "prefer"),
            ("postgres://%2Frun%2Fpostgresql/cars", "prefer"),
            ("postgres:///cars?host=/run/postgresql", "prefer"),
            ("postgres:///cars", "prefer"),
            ("postgres://db/cars?hostaddr=127.0.0.1", "prefer"),
            ("postgres://localhost/cars?hostaddr=10.0.0.1", "verify-full"),
            ("postgres:///cars?hostaddr=10.0.0.1", "verify-full"),
            ("postgres:///cars?host=localhost&hostaddr=10.0.0.1", "verify-full"),
            ("postgres:///cars?hostaddr=10.0.0.1&host=localhost", "verify-full"),
            ("postgres:///cars?host=/run/postgresql&hostaddr=10.0.0.1", "verify-full"),
            ("postgres:///cars?hostaddr=127.0.0.1&host=db", "verify-full"),
            ("postgres:///cars?host=localhost&host=db", "verify-full"),
            ("postgres://localhost/cars?host=%252Frun", "verify-full"),
        ] {
            let url = parse(text).unwrap().with(&[]);
            assert!(url.contains(&format!("sslmode={mode}")), "{text}: {}", *url);
        }
    }

    #[test]
    fn a_url_without_a_host_names_this_one_so_that_the_environment_does_not() {
        for text in ["postgres:///cars?port=1", "postgres:///cars?host=&port=1"] {
            let url = parse(text).unwrap();
            assert_eq!(url.to_string(), "postgresql://localhost:1/cars");
            let url = url.with(&[]);
            assert!(url.ends_with("&host=localhost&sslmode=prefer"), "{}", *url);
        }
        for text in ["postgres://db/cars", "postgres:///cars?host=db", "postgres://[::1]/cars"] {
            let url = parse(text).unwrap().with(&[]);
            assert!(!url.contains("localhost") && !url.contains("/tmp"), "{}", *url);
        }
    }

    #[test]
    fn what_is_shown_is_what_is_connected_to() {
        let url = parse("postgres://localhost/cars?hostaddr=10.0.0.1").unwrap();
        assert_eq!(url.to_string(), "postgresql://10.0.0.1/cars");
    }

    #[test]
    fn what_would_be_overlooked_is_refused() {
        use ParseDatabaseUrlError as E;
        assert_eq!(parse("postgres://db").unwrap_err(), E::NoDatabase);
        assert_eq!(parse("postgres://db/").unwrap_err(), E::NoDatabase);
        assert_eq!(parse("postgres://db/cars?sslmod=disable").unwrap_err(), E::Parameter);
        assert_eq!(parse("postgres://db/cars?connections=1").unwrap_err(), E::Connections);
        assert_eq!(parse("postgres://db/cars?connections=9").unwrap().connections(), 9);
        assert_eq!(
            parse("postgres://db/?dbname=cars").unwrap().to_string(),
            "postgresql://db/cars"
        );
    }
}
