//! TLS with client certificates (RFC 8446, RFC 5280): the server's own certificate, the OEM's CAs
//! whose certificates vehicles have, and their revocation lists.
//!
//! The files are read when the server starts, on SIGHUP, and whenever they have changed. What was
//! read is taken whole or not at all: a file that can't be used leaves in force what was in force
//! before.
//!
//! A client may come back with a ticket and without a full handshake; its certificate is judged
//! again then, by the CAs and lists that are in force, before a request is looked at.

mod files;
mod refusal;
mod standing;
mod ticket_keys;
mod tickets;
mod verifier;
mod watch;

use std::path::PathBuf;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use anyhow::Context;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{HandshakeKind, RootCertStore, ServerConfig, ServerConnection};
use rustls_pki_types::CertificateDer;
use tokio::sync::watch::{Receiver, Sender};

use crate::app::doctor::Certificate;
use crate::config::TlsConfig;
use crate::model::{Clock, Timestamp};
use crate::telemetry::Metrics;
use files::{Expiries, File, Fingerprint};
pub(super) use refusal::Refusals;
use standing::Standing;
use ticket_keys::{Binding, TicketKeys};
use tickets::Tickets;
use verifier::Unexpired;

/// Certificates, key and revocation lists as they are now.
pub(super) struct Tls {
    config: TlsConfig,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    current: RwLock<Loaded>,
    replaced: Sender<()>,
    /// None before the state directory is open.
    ticket_keys: OnceLock<Arc<TicketKeys>>,
}

/// What was read at one moment.
struct Loaded {
    server: Arc<ServerConfig>,
    /// None without CAs of client certificates.
    standing: Option<Arc<Standing>>,
    /// Of the CAs: a ticket that was given under others is none.
    binding: Binding,
    expiries: Expiries,
    fingerprint: Fingerprint,
}

impl Tls {
    /// Reads certificates, key and revocation lists. A client may come without a certificate, and
    /// is then known by its token or not at all; one that another CA has signed, or that is
    /// revoked, gets no connection.
    ///
    /// # Errors
    ///
    /// If a file can't be read or used, or has nothing of what it is for; the message names it.
    pub(super) fn load(
        config: &TlsConfig,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
    ) -> anyhow::Result<Arc<Self>> {
        let loaded = Loaded::read(config, &clock)?;
        let tls = Self {
            config: config.clone(),
            clock,
            metrics,
            current: RwLock::new(loaded),
            replaced: Sender::new(()),
            ticket_keys: OnceLock::new(),
        };
        tls.metrics.connections().show_handshakes();
        tls.show_expiries();
        tls.warn_of_expiries();
        Ok(Arc::new(tls))
    }

    /// Gives clients tickets from now on, under keys that follow from the secret in `file`.
    pub(super) fn give_tickets(&self, file: PathBuf) {
        let keys = Arc::new(TicketKeys::open(file, Arc::clone(&self.clock)));
        let _ = self.ticket_keys.set(keys); // once
    }

    /// What the next connection is to be made with.
    pub(super) fn current(&self) -> Arc<ServerConfig> {
        let loaded = self.read();
        let Some(keys) = self.ticket_keys.get() else { return Arc::clone(&loaded.server) };
        let mut server = ServerConfig::clone(&loaded.server); // all of it is shared but the tickets
        server.ticketer =
            Arc::new(Tickets::new(Arc::clone(keys), loaded.binding, Arc::clone(&self.clock)));
        Arc::new(server)
    }

    /// Counts a handshake, and judges who has come back with a ticket. **Must** be asked before
    /// anything is served.
    ///
    /// # Errors
    ///
    /// What a full handshake would end with now.
    pub(super) fn check_resumed(&self, connection: &ServerConnection) -> Result<(), rustls::Error> {
        let is_resumed = connection.handshake_kind() == Some(HandshakeKind::Resumed);
        self.metrics.connections().add_handshake(if is_resumed { "resumed" } else { "full" });
        match connection.peer_certificates().filter(|_| is_resumed) {
            Some(chain) => self.check_standing(chain),
            None => Ok(()),
        }
    }

    fn check_standing(&self, chain: &[CertificateDer<'_>]) -> Result<(), rustls::Error> {
        let standing = self.read().standing.clone();
        standing.ok_or_else(standing::nobody)?.check(chain)
    }

    /// Tells when something else is in force than now. A connection that was made before then
    /// **must** end with the request that it is at: its certificate may have been revoked.
    pub(super) fn replaced(&self) -> Receiver<()> {
        self.replaced.subscribe()
    }

    /// Reads the files again, and puts them in force if all of them can be used.
    ///
    /// # Errors
    ///
    /// As of [`Self::load`]; what was in force stays in force.
    pub(super) fn reload(&self) -> anyhow::Result<()> {
        let loaded = Loaded::read(&self.config, &self.clock)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = loaded;
        self.replaced.send_replace(());
        self.show_expiries();
        self.warn_of_expiries();
        Ok(())
    }

    /// The files that are in force, for the doctor.
    pub(super) fn certificates(&self) -> Vec<Certificate> {
        let expiries = self.read().expiries;
        expiries
            .iter()
            .map(|(file, expires)| self::certificate(file, &self.config, expires))
            .collect()
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Loaded> {
        self.current.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn show_expiries(&self) {
        for (file, expires) in self.read().expiries.iter() {
            self.metrics.connections().set_tls_expiry(file.label(), expires.into());
        }
    }

    /// Says what has expired, and what soon will.
    fn warn_of_expiries(&self) {
        let now = self.clock.now();
        for (file, expires) in self.read().expiries.iter() {
            let (what, path) = (file.noun(), file.path(&self.config).display());
            if expires <= now {
                tracing::error!(%expires, "{what} in {path} has expired: {}", file.consequence());
            } else if expires.duration_since(now) < jiff::SignedDuration::from_hours(SOON_HOURS) {
                tracing::warn!(%expires, "{what} in {path} expires soon: replace it, it is noticed without a restart");
            }
        }
    }
}

impl Loaded {
    fn read(config: &TlsConfig, clock: &Arc<dyn Clock>) -> anyhow::Result<Self> {
        let fingerprint = Fingerprint::of(config); // first: whatever changes from here on is noticed
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?;
        let mut expiries = Expiries::default();
        let (mut standing, mut binding) = (None, [0; 32]);
        let builder = match &config.client_ca {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let (roots, expires) = files::authorities(path)?;
                expiries.client_ca = Some(expires);
                binding = binding_to(&roots);
                let mut verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                if let Some(path) = &config.client_crl {
                    let lists = files::revocation_lists(path)?;
                    expiries.client_crl = Some(lists.next_update);
                    verifier = verifier.with_crls(lists.lists);
                }
                let verifier = verifier.allow_unauthenticated().build()?;
                let until = expiries.client_crl.map(|expires| after(expires, config.crl_grace));
                let verifier = Unexpired::new(verifier, until, Arc::clone(clock));
                standing = Some(Arc::new(Standing::new(Arc::clone(&verifier), Arc::clone(clock))));
                builder.with_client_cert_verifier(verifier)
            }
        };
        let (chain, expires) = files::certificate_chain(&config.certificate)?;
        expiries.server_certificate = Some(expires);
        let certificate = config.certificate.display();
        let mut server =
            builder.with_single_cert(chain, files::private_key(&config.key)?).with_context(
                || format!("failed to use {certificate} with the key in {}", config.key.display()),
            )?;
        server.alpn_protocols = vec![b"http/1.1".to_vec()];
        // Sessions are with the clients, or nowhere: see `Tls::current`.
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 1; // a vehicle makes one connection, and gets another one with it
        server.max_early_data_size = 0; // a request that could be replayed is none
        Ok(Self { server: Arc::new(server), standing, binding, expiries, fingerprint })
    }
}

/// The files of TLS as a server that starts would find them.
pub(crate) fn inspect(config: &TlsConfig, clock: &Arc<dyn Clock>) -> Vec<Certificate> {
    match Loaded::read(config, clock) {
        Ok(loaded) => {
            let certificate = |(file, expires)| certificate(file, config, expires);
            loaded.expiries.iter().map(certificate).collect()
        }
        Err(error) => vec![Certificate {
            what: "TLS can't be served".into(),
            expires: Err(format!("{error:#}")),
            consequence: "",
        }],
    }
}

fn certificate(file: File, config: &TlsConfig, expires: Timestamp) -> Certificate {
    Certificate {
        what: format!("{} in {}", file.noun(), file.path(config).display()),
        expires: Ok(expires),
        consequence: file.consequence(),
    }
}

/// A digest of the CAs, in whatever order they are in their file.
fn binding_to(roots: &RootCertStore) -> Binding {
    let mut anchors: Vec<[&[u8]; 2]> = roots
        .roots
        .iter()
        .map(|anchor| [anchor.subject.as_ref(), anchor.subject_public_key_info.as_ref()])
        .collect();
    anchors.sort_unstable();
    standing::digest_of(anchors.into_iter().flatten())
}

/// `grace` after `time`, or the last moment there is.
fn after(time: Timestamp, grace: Duration) -> Timestamp {
    time.checked_add(grace).unwrap_or(Timestamp::MAX)
}

const SOON_HOURS: i64 = 14 * 24;

#[cfg(test)]
#[path = "tls_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "resumption_tests.rs"]
mod resumption_tests;
