//! The escrow keys of a server: which there are, whether they can be used, and how another one
//! comes in.
//!
//! A rotation begins with a key that wraps from then on, beside the former one, which still opens;
//! the job `escrow_rotation` wraps every envelope again, and takes the former key out at its end.

mod current;
mod measured;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::error::ESCROW_KEY_DIFFERS;
use super::keys::escrow_failed;
use super::state_dir::StateDir;
use super::{Error, trust};
use crate::catalog::{Author, Catalog, EscrowedCount};
use crate::envelope::key::Kid;
use crate::keys::file::FileEscrow;
use crate::keys::pkcs11::Pkcs11Escrow;
use crate::keys::{Escrow, EscrowEntry, EscrowKeys, EscrowRing, EscrowSource, RingFile, escrow};
use crate::model::Clock;
use crate::telemetry::{Chain, Metrics};
use measured::{EscrowHealth, measured};

/// The escrow keys of a server.
pub struct Escrows {
    catalog: Catalog,
    state: StateDir,
    ring: Arc<EscrowRing>,
    metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
    health: Arc<EscrowHealth>,
    /// Set once all keys were tried: nobody may have used them since the start.
    tried: tokio::sync::OnceCell<()>,
    /// One change of the keys at a time.
    changing: tokio::sync::Mutex<()>,
}

/// An escrow key, as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EscrowKeyShown {
    /// Its id.
    pub kid: String,
    /// Where it is.
    pub source: String,
    /// Whether new envelopes are wrapped with it.
    pub is_wrapping: bool,
    /// Envelopes that it opens.
    pub envelopes: u64,
}

/// Which keys a rotation is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotation {
    /// The key that goes.
    pub old: Kid,
    /// The one that comes.
    pub new: Kid,
}

impl Escrows {
    pub(super) fn new(
        catalog: Catalog,
        state: StateDir,
        ring: Arc<EscrowRing>,
        metrics: Arc<Metrics>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let health = Arc::default();
        ring.replace(measured(EscrowKeys::clone(&ring.keys()), &metrics, &health));
        let (tried, changing) = (tokio::sync::OnceCell::new(), tokio::sync::Mutex::default());
        Self { catalog, state, ring, metrics, clock, health, tried, changing }
    }

    /// Lists the keys, the one that wraps first.
    ///
    /// # Errors
    ///
    /// [`Error::Internal`].
    pub async fn show(&self) -> Result<Vec<EscrowKeyShown>, Error> {
        let mut shown = Vec::new();
        for (at, entry) in self.written()?.entries().iter().enumerate() {
            shown.push(EscrowKeyShown {
                kid: entry.kid().to_owned(),
                source: entry.source().to_owned(),
                is_wrapping: at == 0,
                envelopes: self.catalog.count_escrowed(entry.kid()).await?.all,
            });
        }
        Ok(shown)
    }

    /// What can't be used of the keys, a line each; those that failed are tried again.
    pub async fn faults(&self) -> Vec<String> {
        self.tried.get_or_init(|| self.try_keys(|_| true)).await;
        let untried = self.health.untried();
        self.try_keys(|kid| untried.contains(kid)).await;
        self.health.faults()
    }

    /// Has keys wrap and unwrap; what comes of it is noted where they are measured.
    async fn try_keys(&self, which: impl Fn(&Kid) -> bool) {
        let keys = self.ring.keys();
        for key in keys.all().filter(|key| which(key.kid())) {
            let _ = prove(key.as_ref()).await;
        }
    }

    /// What a rotation would be about, or the one that has not ended.
    ///
    /// # Errors
    ///
    /// [`Error::Unprocessable`] for a key that can't be an escrow key; [`Error::Conflict`] for one
    /// that is in use, and while another rotation has not ended; [`Error::Internal`].
    pub async fn check(&self, source: Option<&str>) -> Result<Kid, Error> {
        let written = self.written_in_use().await?;
        if let Some(source) = source {
            self.named(source, &written).await?;
        }
        let old = written.entries().get(1).unwrap_or(&written.entries()[0]);
        old.kid().parse().map_err(Error::internal("read the id of an escrow key"))
    }

    /// Has another key wrap from now on, a new one in a file or the one that `source` names; or
    /// returns the rotation that has not ended, if none is named.
    ///
    /// # Errors
    ///
    /// As [`Self::check`]; [`Error::Unavailable`] if the key can't be used, or another server's wraps;
    /// [`Error::Full`].
    pub async fn begin(&self, source: Option<&str>, author: &Author) -> Result<Rotation, Error> {
        let _one = self.changing.lock().await;
        let written = self.written_in_use().await?;
        let wraps = self.catalog.find_escrow_kid().await?;
        let wraps = wraps.as_deref().unwrap_or(written.entries()[0].kid());
        if !written.entries().iter().any(|entry| entry.kid() == wraps) {
            return Err(Error::other_escrow_key(wraps, None));
        }
        let named = match source {
            Some(source) => Some(self.named(source, &written).await?),
            None => None,
        };
        if written.entries().len() == 1 {
            let (entry, key) = match named {
                Some(named) => named,
                None => self.make()?,
            };
            prove(key.as_ref()).await.map_err(escrow_failed("use an escrow key"))?;
            self.add(&written, entry, (key.as_ref(), wraps), author).await?;
        } else if self.ring.keys().former.is_empty() || wraps != written.entries()[0].kid() {
            self.go_on(&written, wraps, author).await?;
        }
        let keys = self.ring.keys();
        let former = keys.former.first().ok_or_else(|| {
            Error::internal("begin a rotation")(std::io::Error::other("there is one escrow key"))
        })?;
        Ok(Rotation { old: former.kid().clone(), new: keys.wrapping.kid().clone() })
    }

    /// Writes a key down that comes, has the catalog know of it, and uses it. In this order, whenever
    /// this is cut off, the next start finds a key that it has for all that is wrapped.
    async fn add(
        &self,
        before: &RingFile,
        entry: EscrowEntry,
        (key, wraps): (&dyn Escrow, &str),
        author: &Author,
    ) -> Result<(), Error> {
        let source = entry.source().to_owned();
        let ring = before.with(entry);
        let keys = self.open(&ring)?;
        self.write_down(&ring)?;
        let added = trust::add_key(&self.catalog, key, &source, wraps, author).await;
        if let Err(Error::Unavailable { code: ESCROW_KEY_DIFFERS, .. }) = &added {
            self.write_down(before)?; // another server's rotation was first
        }
        added?;
        self.use_from_now(keys);
        Ok(())
    }

    /// Goes on with a rotation that was cut off before the catalog knew of it, or of which a server of
    /// a version that notes nothing has begun.
    async fn go_on(&self, written: &RingFile, wraps: &str, author: &Author) -> Result<(), Error> {
        let keys = self.open(written)?;
        let (key, source) = (Arc::clone(&keys.wrapping), written.entries()[0].source());
        trust::add_key(&self.catalog, key.as_ref(), source, wraps, author).await?;
        self.use_from_now(keys);
        Ok(())
    }

    /// The keys as they are now, for work that **must** hold them until what it has wrapped is where a
    /// rotation finds it.
    pub(in crate::app) fn keys(&self) -> Arc<EscrowKeys> {
        self.ring.keys()
    }

    /// The key that wraps.
    pub(super) fn wrapping(&self) -> Arc<dyn Escrow> {
        Arc::clone(&self.ring.keys().wrapping)
    }

    /// How many envelopes are left that name a key.
    pub(super) async fn count(&self, kid: &Kid) -> Result<EscrowedCount, Error> {
        Ok(self.catalog.count_escrowed(kid.as_str()).await?)
    }

    /// Whether nobody wraps any more with a key that was the wrapping one before.
    pub(super) fn is_settled(&self) -> bool {
        self.ring.is_settled()
    }

    /// Takes a former key out, which opens nothing any more.
    ///
    /// # Errors
    ///
    /// [`Error::Full`]; [`Error::Internal`].
    pub(super) async fn retire(&self, kid: &Kid, author: &Author) -> Result<(), Error> {
        let _one = self.changing.lock().await;
        let keys = self.ring.keys();
        trust::retire_key(&self.catalog, kid, keys.wrapping.kid(), author).await?;
        drop(keys);
        self.write(&self.written()?.without(kid.as_str()))
    }

    fn written(&self) -> Result<RingFile, Error> {
        RingFile::read(&self.state.keys()).map_err(Error::internal("read the escrow keys"))
    }

    /// The same without former keys that were taken back, as they can be in files that were copied
    /// before that.
    async fn written_in_use(&self) -> Result<RingFile, Error> {
        let mut ring = self.written()?;
        for former in ring.entries().to_vec().iter().skip(1) {
            if self.catalog.is_escrow_retired(former.kid()).await? {
                ring = ring.without(former.kid());
            }
        }
        Ok(ring)
    }

    fn open(&self, ring: &RingFile) -> Result<EscrowKeys, Error> {
        ring.open(&self.state.keys()).map_err(Error::internal("open the escrow keys"))
    }

    fn write_down(&self, ring: &RingFile) -> Result<(), Error> {
        ring.write(&self.state.keys()).map_err(Error::internal("write down the escrow keys"))
    }

    pub(super) fn use_from_now(&self, keys: EscrowKeys) {
        self.ring.replace(measured(keys, &self.metrics, &self.health));
    }

    /// Writes down which keys there are, and uses these from now on.
    fn write(&self, ring: &RingFile) -> Result<(), Error> {
        let keys = self.open(ring)?;
        self.write_down(ring)?;
        self.use_from_now(keys);
        Ok(())
    }

    /// Makes a key in a file.
    fn make(&self) -> Result<(EscrowEntry, Arc<dyn Escrow>), Error> {
        const OP: &str = "make an escrow key";
        let mut number = [0; 4];
        getrandom::fill(&mut number).map_err(Error::internal(OP))?;
        let name = format!("escrow-{}.jwk", hex::encode(number));
        let path = self.state.keys().join(&name);
        FileEscrow::create(&path).map_err(Error::internal(OP))?;
        let key = FileEscrow::read(&path).map_err(Error::internal(OP))?;
        Ok((EscrowEntry::of_file(Path::new(&name), &key), Arc::new(key)))
    }

    /// The key that somebody names; it must not be one of the ring's.
    async fn named(
        &self,
        source: &str,
        written: &RingFile,
    ) -> Result<(EscrowEntry, Arc<dyn Escrow>), Error> {
        let refused = |fault: &(dyn std::error::Error + 'static)| Error::Unprocessable {
            code: "bad_escrow_key",
            detail: format!("{source} can't be the escrow key: {}", Chain(fault)),
        };
        let parsed: EscrowSource = source.parse().map_err(|fault| refused(&fault))?;
        let (entry, key): (_, Arc<dyn Escrow>) = match parsed {
            EscrowSource::File(name) => {
                let key = FileEscrow::read(&self.state.keys().join(&name));
                let key = key.map_err(|fault| refused(&fault))?;
                (EscrowEntry::of_file(&name, &key), Arc::new(key))
            }
            EscrowSource::Pkcs11(uri) => {
                let key = Pkcs11Escrow::find(uri.clone()).await.map_err(|fault| refused(&fault))?;
                (EscrowEntry::of_token(&uri, &key), Arc::new(key))
            }
        };
        if written.entries().iter().any(|entry| entry.kid() == key.kid().as_str()) {
            let detail = format!("{source} holds the escrow key {}, which is in use", key.kid());
            return Err(Error::Conflict { code: "escrow_key_in_use", detail });
        }
        if written.entries().len() > 1 {
            let detail = "a rotation has not ended: end it first, with `motorcade escrow rotate` and no --key";
            return Err(Error::Conflict { code: "rotation_not_ended", detail: detail.into() });
        }
        Ok((entry, key))
    }
}

/// Has a key wrap and unwrap.
async fn prove(key: &dyn Escrow) -> Result<(), escrow::EscrowError> {
    let proof = escrow::seal_proof(key).await?;
    escrow::open_proof(key, &proof).await
}

/// How long to wait for uploads that have sealed with the key before, between two looks.
pub(super) const SETTLING: Duration = Duration::from_millis(200);
