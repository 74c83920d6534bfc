//! The clients that servers are asked with: whom a server has to be, and who this vehicle is to it.

use std::path::Path;
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, ClientBuilder, Identity, NoProxy, Proxy};
use zeroize::Zeroizing;

use super::Error;
use super::http_error::HttpError;
use super::waiting::Patience;

/// Whom a server has to be, who we are to it, and whom we ask to get there.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Tls<'a> {
    /// A proxy in the place of what the environment says (`https_proxy`, `http_proxy`, `no_proxy`);
    /// `none` for none at all.
    pub(super) proxy: Option<&'a str>,
    pub(super) ca_file: Option<&'a Path>,
    pub(super) client_cert: Option<&'a Path>,
    pub(super) client_key: Option<&'a Path>,
}

/// The clients. What they have open belongs to the runtime on which it was opened, and **must** be
/// dropped before that.
pub(super) struct Clients {
    pub(super) own: Client,
    /// The same without a certificate, for servers that another one has sent us on to.
    pub(super) stranger: Client,
}

impl Clients {
    pub(super) fn new(tls: Tls<'_>, patience: Patience) -> Result<Self, Error> {
        let build = |builder: ClientBuilder| {
            builder.build().map_err(|source| HttpError::Client { source: Box::new(source) })
        };
        let stranger = build(base(tls, patience)?)?;
        let own = match identity(tls)? {
            Some(identity) => build(base(tls, patience)?.identity(identity))?,
            None => stranger.clone(),
        };
        Ok(Self { own, stranger })
    }
}

/// All that both clients have in common.
fn base(tls: Tls<'_>, patience: Patience) -> Result<ClientBuilder, Error> {
    let builder = Client::builder()
        .redirect(Policy::none())
        .connect_timeout(patience.answer)
        .pool_idle_timeout(KEPT_IDLE);
    let builder = match tls.proxy {
        None => builder,
        Some("none") => builder.no_proxy(),
        Some(url) => builder.proxy(proxy(url)?),
    };
    let builder = builder.user_agent(concat!("motorcade-vehicle/", env!("CARGO_PKG_VERSION")));
    let Some(path) = tls.ca_file else { return Ok(builder) };
    let certificates = Certificate::from_pem_bundle(&read(path)?).map_err(unusable(path))?;
    if certificates.is_empty() {
        return Err(Error::Setting {
            path: path.to_owned(),
            fault: "it has no certificate in PEM".into(),
        });
    }
    Ok(builder.tls_certs_merge(certificates))
}

/// A proxy for all servers but those that the environment's `no_proxy` lists.
fn proxy(url: &str) -> Result<Proxy, HttpError> {
    let proxy = Proxy::all(url).map_err(|source| HttpError::Client { source: Box::new(source) })?;
    Ok(proxy.no_proxy(NoProxy::from_env()))
}

/// The certificate that servers know us by, and its key.
fn identity(tls: Tls<'_>) -> Result<Option<Identity>, Error> {
    let Some(path) = tls.client_cert else { return Ok(None) };
    let mut pem = Zeroizing::new(read(path)?);
    if let Some(key) = tls.client_key {
        pem.push(b'\n');
        pem.extend_from_slice(&Zeroizing::new(read(key)?));
    }
    Identity::from_pem(&pem).map(Some).map_err(unusable(path))
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(Error::file("read", path))
}

fn unusable(path: &Path) -> impl Fn(reqwest::Error) -> Error {
    |error| Error::Setting { path: path.to_owned(), fault: error.to_string() }
}

/// How long a connection is kept that nothing is asked over: a little less than Motorcade and nginx
/// keep it, so that none is used in the moment in which they let go of it. TLS sessions are kept
/// for longer, and resumed.
const KEPT_IDLE: Duration = Duration::from_secs(70);
