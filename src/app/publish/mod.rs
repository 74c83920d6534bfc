//! Publication: from what has changed in the catalog to a new timestamp.
//!
//! One task publishes. Requests that come while it works are answered together by its next round,
//! so that a hundred uploads that end at once lead to one or two new snapshots. A round is
//!
//! 1. find the roles whose content changed or whose file is past half its life;
//! 2. reserve their next versions, on disk, so that no crash leads to two files of one version;
//! 3. sign and store bins, targets, then the snapshot (TUF 1.0.34, 6.3);
//! 4. record all of them and the signed timestamp in one transaction, which is the moment of
//!    publication;
//! 5. replace `timestamp.json`.
//!
//! Root is no part of a round: see `roots`.
//!
//! A crash before step 4 leaves files that nothing names, whose versions are never used again. A
//! crash after it is mended by [`Publisher::recover`], which repeats step 5; so does the next round
//! if step 5 itself fails.

mod bins;
pub(in crate::app) mod delegations;
mod due;
mod outcome;
mod retention;
mod roots;
mod round;
pub(in crate::app) mod seen;
pub(in crate::app) mod signed;
mod time;

use std::collections::HashSet;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::Error;
use super::expiry::Expiry;
use super::replicas::Replica;
use super::replicas::presence::Presence;
use super::watch::Pulse;
use crate::blob::{BlobKey, BlobStore};
use crate::catalog::{Author, Catalog};
use crate::keys::policy::Policy;
use crate::model::{Clock, HardwareId, ImagePath, RoleName, Timestamp};
use crate::telemetry::Metrics;
use crate::uptane::image_repo::ImageRepository;
use crate::uptane::key::PublicKey;
use crate::uptane::metadata::{SignedFile, Unsigned};
pub use outcome::{CurrentTimestamp, SigningSize};
use outcome::{Failed, Outcome, Reason};
use round::{Rounds, Worked};
use signed::OwnerSigned;

/// Signs and publishes the Image repository's metadata.
#[derive(Clone)]
pub struct Publisher {
    requests: mpsc::UnboundedSender<Request>,
    rounds: Arc<Rounds>,
}

/// What is asked of the task that publishes.
struct Request {
    /// What others have signed, to be published with what is due.
    signed: Vec<OwnerSigned>,
    answer: oneshot::Sender<Outcome>,
}

/// The other end of [`Publisher`]: the task that publishes.
pub struct PublisherTask {
    requests: mpsc::UnboundedReceiver<Request>,
    rounds: Arc<Rounds>,
    pulse: Pulse,
}

impl Publisher {
    /// Makes a publisher and its task, which has to be run.
    pub fn new(
        catalog: Catalog,
        blobs: Arc<dyn BlobStore>,
        repository: ImageRepository,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
    ) -> (Self, PublisherTask) {
        let (sender, requests) = mpsc::unbounded_channel();
        let rounds = Arc::new(Rounds::new(catalog, blobs, repository, clock, metrics));
        (
            Self { requests: sender, rounds: Arc::clone(&rounds) },
            PublisherTask { requests, rounds, pulse: Pulse::default() },
        )
    }

    /// Publishes whatever has changed and signs again what gets old; returns once that is visible.
    ///
    /// # Errors
    ///
    /// [`Error::Full`], [`Error::Unavailable`] or [`Error::Internal`]: the last publication stays as
    /// it is, and this one is tried again.
    pub async fn publish(&self) -> Result<(), Error> {
        let Err(failed) = self.request(Vec::new()).await? else { return Ok(()) };
        Err(failed.into_error(|why| {
            let (what, then) = match why {
                Reason::Full => ("no space is left to publish it", "it will be once there is"),
                Reason::Clock => (
                    "the server's clock is behind what was signed last",
                    "it will be published once the clock is right",
                ),
                Reason::Blobs => {
                    ("the server can't use its store of blobs", "it will be published once it can")
                }
                Reason::Key => (
                    "a key that has to sign it can't be used at the moment",
                    "it will be published once it can; GET /readyz says which one",
                ),
                Reason::NotShown => (
                    "another server may have taken this one's place",
                    "it will be published once this one is shown to the others; GET /readyz says why it isn't",
                ),
            };
            format!("the change is accepted, but {what}: {then}")
        }))
    }

    /// Publishes what others have signed, with whatever is due. It is visible when this returns, or
    /// the catalog knows it to be as it was: another server may have been first.
    ///
    /// # Errors
    ///
    /// [`Error::Full`], [`Error::Unavailable`] or [`Error::Internal`]: nothing of it is published,
    /// and it is not tried again.
    pub(in crate::app) async fn publish_signed(
        &self,
        signed: Vec<OwnerSigned>,
    ) -> Result<(), Error> {
        let Err(failed) = self.request(signed).await? else { return Ok(()) };
        Err(failed.into_error(|why| {
            let (what, then) = match why {
                Reason::Full => ("no space is left", "there is"),
                Reason::Clock => ("the server's clock is behind what was signed last", "it is right"),
                Reason::Blobs => ("the server can't use its store of blobs", "it can"),
                Reason::Key => (
                    "a key that has to sign what lists it can't be used, and GET /readyz says which one",
                    "it can",
                ),
                Reason::NotShown => (
                    "another server may have taken this one's place",
                    "this one is shown to the others",
                ),
            };
            format!("{what}: nothing of it was published, and what is staged stays: publish it again once {then}")
        }))
    }

    /// Asks for a round. Fails only when the task is gone, at the end of the process.
    async fn request(&self, signed: Vec<OwnerSigned>) -> Result<Outcome, Error> {
        let (answer, outcome) = oneshot::channel();
        let stopped =
            || Error::internal("publish")(std::io::Error::other("the publisher has stopped"));
        self.requests.send(Request { signed, answer }).map_err(|_| stopped())?;
        outcome.await.map_err(|_| stopped())
    }

    /// Whether all that is due has been published.
    ///
    /// # Errors
    ///
    /// [`Error::NotReady`] before the first round: what is served may be older than what a start is
    /// about to publish. [`Error::Unavailable`] if the last round, or the last renewal of root,
    /// failed.
    pub fn check(&self) -> Result<(), Error> {
        if !self.rounds.is_known() {
            let detail = "what is due is not published yet since the start".into();
            return Err(Error::NotReady { detail });
        }
        let why = match self.rounds.failing() {
            None => return Ok(()),
            Some(Failed::Full) => "no space is left",
            Some(Failed::Clock) => "the clock is behind what was signed last",
            Some(Failed::Unreachable) => "the database can't be reached",
            Some(Failed::Older) => return Err(Error::catalog_is_older()),
            Some(Failed::Blobs) => "the store of blobs can't be used",
            Some(Failed::Key) => "a key that has to sign it can't be used, as the log says",
            Some(Failed::NotShown) => "this server isn't shown to the others of its database",
            Some(Failed::Other) => "the log says why",
        };
        let detail =
            format!("metadata is due and can't be published, and expires if that goes on: {why}");
        Err(Error::Unavailable { code: "not_published", detail })
    }

    /// Compares what is stored with what the catalog knows, and takes up the time of the last
    /// signing. Changes nothing.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] if the catalog is older than what is stored; [`Error::Internal`].
    pub async fn prepare(&self) -> Result<(), Error> {
        self.rounds.prepare().await
    }

    /// Makes the visible timestamp the one that was last recorded, after a crash between the two,
    /// and has signed again what clients would refuse. Where nothing was signed for long, leaves
    /// out the numbers that may have been used since. **Must** follow [`Self::prepare`].
    ///
    /// # Errors
    ///
    /// [`Error::Full`] or [`Error::Internal`].
    pub async fn recover(&self) -> Result<(), Error> {
        let recover = async || {
            self.rounds.skip_what_may_be_used().await?;
            self.rounds.recover().await?;
            self.rounds.sign_unverified().await
        };
        self.rounds.alone(recover).await?;
        self.rounds.note_if_idle().await;
        Ok(())
    }

    /// Publishes beside other servers of the same catalog and blobs from now on. **Must** be called
    /// before anything is published.
    pub(in crate::app) fn join(&self, replica: Arc<Replica>) {
        self.rounds.join(replica);
    }

    /// Publishes from now on only while the other servers of a database know that this one is there.
    pub(in crate::app) fn ask(&self, presence: Arc<Presence>) {
        self.rounds.ask(presence);
    }

    /// The time now, if something may be signed.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] if the clock is behind what was signed last.
    pub fn signing_time(&self) -> Result<Timestamp, Error> {
        self.rounds.time().now()
    }

    /// Notes that something else than the Image repository's metadata was signed, at
    /// [`Self::signing_time`].
    pub fn note_signed(&self, at: Timestamp) {
        self.rounds.time().note(at);
    }

    /// Publishes the next root of the Image repository, which people have signed and the caller has
    /// checked; it was staged as `staging`.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] if it isn't the next version any more; [`Error::Full`];
    /// [`Error::Internal`].
    pub(super) async fn publish_root(
        &self,
        file: &SignedFile,
        staging: u64,
        author: &Author,
    ) -> Result<(), Error> {
        self.rounds.publish_root(file, staging, author).await
    }

    /// Returns once something was published since the last call: by a round, also one that goes on
    /// with what a crash has cut off, or a root that was renewed or taken over. One may wait.
    pub(super) async fn published(&self) {
        self.rounds.published().await;
    }

    /// What it takes to sign everything at once, which is what uploads have to leave room for.
    pub fn signing_size(&self) -> SigningSize {
        self.rounds.size()
    }

    /// Removes superseded metadata that nobody asks for any more, and returns how many files that
    /// were.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`], [`Error::Full`] or [`Error::Internal`].
    pub async fn remove_superseded(&self) -> Result<usize, Error> {
        self.rounds.remove_superseded().await
    }

    /// All metadata that somebody may still go by: what a timestamp in force leads to. A removed
    /// supplier's last file is in it for as long as targets name its role.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] while that isn't known; [`Error::Internal`].
    pub(in crate::app) async fn metadata_in_force(&self) -> Result<HashSet<BlobKey>, Error> {
        self.rounds.metadata_in_force().await
    }

    /// The timestamp that is published now.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] if another server may have published a newer one, and the catalog
    /// can't be reached.
    pub async fn current_timestamp(&self) -> Result<Option<CurrentTimestamp>, Error> {
        self.rounds.newest().await
    }

    /// When what is published expires, and who signs it before that; of both repositories.
    ///
    /// # Errors
    ///
    /// [`Error::Internal`].
    pub async fn expiries(&self) -> Result<Vec<Expiry>, Error> {
        self.rounds.expiries().await
    }

    /// Whether a public key is one of those that sign metadata here.
    pub fn signs_metadata(&self, key: &PublicKey) -> bool {
        let keyring = self.rounds.repository().keyring();
        keyring.all().any(|signer| signer.public().is_same_key(key))
    }

    /// The same of one that is written as PEM, and is to decrypt.
    pub fn is_role_key(&self, public_pem: &str) -> bool {
        self.rounds.repository().keyring().has_public_pem(public_pem)
    }

    /// The metadata policy.
    pub(in crate::app) fn policy(&self) -> &Policy {
        self.rounds.repository().policy()
    }

    /// What the next targets are to say, for people to sign: delegations to `ready` as well, of
    /// which there is a file that their own keys have signed.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] if the published root can't be read; [`Error::Internal`].
    pub(in crate::app) async fn targets_to_sign(
        &self,
        version: NonZeroU64,
        expires: Timestamp,
        ready: &[RoleName],
    ) -> Result<Unsigned, Error> {
        self.rounds.targets_to_sign(version, expires, ready).await
    }

    /// Whether every client asks a role for an image that it lists, as the published targets say.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] if the published root can't be read; [`Error::Internal`].
    pub(in crate::app) async fn is_asked(
        &self,
        role: &RoleName,
        path: &ImagePath,
        hardware_ids: &[HardwareId],
    ) -> Result<bool, Error> {
        self.rounds.is_asked(role, path, hardware_ids).await
    }

    /// Name of the bin that lists a target, unless a supplier does.
    pub fn bin_of(&self, target: &str) -> RoleName {
        self.rounds.repository().bins().of(target)
    }
}

impl PublisherTask {
    /// The pulse of [`Self::run`].
    pub fn pulse(&self) -> Pulse {
        self.pulse.clone()
    }

    /// Publishes on request, and looks every `interval` for files that get old, and whether what was
    /// published last is shown, until every [`Publisher`] is gone.
    pub async fn run(mut self, interval: Duration) {
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            self.pulse.beat(interval.saturating_add(LONGEST_ROUND));
            let mut waiting = Vec::new();
            tokio::select! {
                biased;
                request = self.requests.recv() => match request {
                    Some(request) => waiting.push(request),
                    None => return,
                },
                _ = ticks.tick() => self.rounds.look_at_shown().await,
            }
            while let Ok(request) = self.requests.try_recv() {
                waiting.push(request);
            }
            self.pulse.beat(LONGEST_ROUND);
            let signed = waiting.iter_mut().flat_map(|request| std::mem::take(&mut request.signed));
            let signed: Vec<OwnerSigned> = signed.collect();
            let Worked { round, root } = self.rounds.work(&signed).await;
            self.rounds.set_failing(round.and(root).err());
            if round.and(root).is_err() {
                ticks.reset_after(RETRY_PAUSE.min(interval));
            }
            for request in waiting {
                let _ = request.answer.send(round); // whoever asked may be gone
            }
        }
    }
}

/// To sign and store every file anew takes seconds, on a very slow disk some minutes.
const LONGEST_ROUND: Duration = Duration::from_secs(15 * 60);
const RETRY_PAUSE: Duration = Duration::from_secs(5);
