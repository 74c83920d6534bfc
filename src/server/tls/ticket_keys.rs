//! The keys under which session tickets are sealed. They follow from one secret in the state
//! directory, so tickets outlive a restart, and replicas that have the same file, and clocks that
//! agree, take each other's.
//!
//! Time is cut into periods. The secret of a period follows from that of the one before, and not
//! the other way round; two are live, and the file has no older one. Whoever steals it can't open
//! the tickets of earlier days.

use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use anyhow::{Context, bail};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, Prk};
use aws_lc_rs::rand;
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::files;
use crate::model::{Clock, Timestamp};

/// How long tickets are sealed under one key. They can be opened for as long again.
pub(super) const PERIOD: Duration = Duration::from_secs(24 * 60 * 60);

/// What sealed tickets are bound to: they open under no other.
pub(super) type Binding = [u8; 32];

/// The live keys.
pub(super) struct TicketKeys {
    file: PathBuf,
    clock: Arc<dyn Clock>,
    live: RwLock<Live>,
}

struct Live {
    /// Of the period before.
    previous: Generation,
    current: Generation,
    /// Whether the file has them.
    is_stored: bool,
}

/// The secret of one period and the key that follows from it.
struct Generation {
    period: u64,
    secret: Secret,
    key: LessSafeKey,
}

type Secret = Zeroizing<[u8; 32]>;

/// The file: the secret of the period before, from which all others follow.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    period: u64,
    /// 64 hexadecimal digits.
    secret: String,
}

impl TicketKeys {
    /// Goes on with the secret in `file`, or makes one. A file that can't be used is no reason not
    /// to serve: without it, and after it, clients make full handshakes.
    pub(super) fn open(file: PathBuf, clock: Arc<dyn Clock>) -> Self {
        let now = period_of(clock.now());
        let live = match read(&file) {
            Ok(Some(previous)) => Live::from(previous, now, true),
            Ok(None) => None,
            Err(error) => {
                let error = format!("{error:#}");
                tracing::warn!(
                    error,
                    "the secret of session tickets can't be used; another one is made"
                );
                None
            }
        };
        let live = RwLock::new(live.unwrap_or_else(|| Live::new(now)));
        let keys = Self { file, clock, live };
        keys.store();
        keys
    }

    /// Seals what a session is resumed from.
    pub(super) fn seal(&self, binding: &Binding, plain: &[u8]) -> Option<Vec<u8>> {
        let live = self.live();
        let Generation { period, key, .. } = &live.current;
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).ok()?;
        let mut sealed = plain.to_vec();
        let aad = aad(*period, binding);
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut sealed).ok()?;
        let mut ticket = Vec::with_capacity(PREFIX + sealed.len());
        ticket.extend(period.to_be_bytes());
        ticket.extend(nonce);
        ticket.extend(sealed);
        Some(ticket)
    }

    /// Opens a ticket that was sealed in this period or the one before.
    pub(super) fn open_ticket(&self, binding: &Binding, ticket: &[u8]) -> Option<Vec<u8>> {
        let (period, rest) = ticket.split_first_chunk::<8>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        let period = u64::from_be_bytes(*period);
        let live = self.live();
        let sealed_by =
            [&live.current, &live.previous].into_iter().find(|it| it.period == period)?;
        let mut plain = sealed.to_vec();
        let aad = aad(period, binding);
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let length = sealed_by.key.open_in_place(nonce, aad, &mut plain).ok()?.len();
        plain.truncate(length);
        Some(plain)
    }

    /// The keys of this period and the one before.
    fn live(&self) -> RwLockReadGuard<'_, Live> {
        let now = period_of(self.clock.now());
        let live = self.live.read().unwrap_or_else(PoisonError::into_inner);
        if live.is_good_in(now) {
            return live;
        }
        drop(live);
        let mut changed = self.live.write().unwrap_or_else(PoisonError::into_inner);
        if !changed.is_good_in(now) {
            changed.go_on(now);
        }
        drop(changed);
        self.live.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores the secret if it is another one than the file has. Reaches the disk: **must** be
    /// called where nobody waits for an answer. What can't be stored is tried again at the next
    /// call; until then the file has an older secret, from which the keys follow too.
    pub(super) fn store(&self) {
        let live = self.live();
        if live.is_stored {
            return;
        }
        let (period, secret) = (live.previous.period, live.previous.secret.clone());
        drop(live);
        match write(&self.file, period, &secret) {
            Ok(()) => {
                let mut live = self.live.write().unwrap_or_else(PoisonError::into_inner);
                live.is_stored = live.previous.period == period && live.previous.secret == secret;
            }
            Err(error) => {
                let file = self.file.display();
                tracing::debug!(%error, "the secret of session tickets can't be stored in {file}");
            }
        }
    }
}

impl fmt::Debug for TicketKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TicketKeys")
    }
}

impl Live {
    /// Keys that nothing was sealed under.
    fn new(now: u64) -> Self {
        let mut secret = Secret::default();
        rand::fill(secret.as_mut()).expect("a running operating system has randomness");
        let previous = Generation::new(now.saturating_sub(1), secret);
        Self { current: previous.next(), previous, is_stored: false }
    }

    /// The keys of period `now`, which follow from `previous`; none if that is of another time: of
    /// a clock that was wrong, or of years ago.
    fn from(previous: Generation, now: u64, is_stored: bool) -> Option<Self> {
        let mut live = Self { current: previous.next(), previous, is_stored };
        let is_of_our_time =
            live.current.period <= now + 1 && now - live.previous.period <= MOST_STEPS;
        if !is_of_our_time {
            return None;
        }
        while live.current.period < now {
            let next = live.current.next();
            live.previous = std::mem::replace(&mut live.current, next);
            live.is_stored = false;
        }
        Some(live)
    }

    /// A clock that is set back a little goes on with the keys that there are.
    fn is_good_in(&self, now: u64) -> bool {
        self.current.period == now || self.current.period == now + 1
    }

    fn go_on(&mut self, now: u64) {
        let previous = Generation::new(self.previous.period, self.previous.secret.clone());
        *self = Self::from(previous, now, self.is_stored).unwrap_or_else(|| Self::new(now));
    }
}

impl Generation {
    fn new(period: u64, secret: Secret) -> Self {
        let key = UnboundKey::new(&AES_256_GCM, derive(&secret, b"seal session tickets").as_ref())
            .expect("AES-256 takes 32 bytes");
        Self { period, secret, key: LessSafeKey::new(key) }
    }

    fn next(&self) -> Self {
        Self::new(self.period.saturating_add(1), derive(&self.secret, b"next period"))
    }
}

/// What follows from a secret for one purpose (RFC 5869, 2.3).
fn derive(secret: &Secret, purpose: &[u8]) -> Secret {
    let mut derived = Secret::default();
    let info = [b"motorcade: ", purpose];
    Prk::new_less_safe(HKDF_SHA256, secret.as_ref())
        .expand(&info, HKDF_SHA256)
        .and_then(|output| output.fill(derived.as_mut()))
        .expect("HKDF gives 32 bytes");
    derived
}

fn aad(period: u64, binding: &Binding) -> Aad<[u8; 40]> {
    let mut aad = [0; 40];
    aad[..8].copy_from_slice(&period.to_be_bytes());
    aad[8..].copy_from_slice(binding);
    Aad::from(aad)
}

fn period_of(now: Timestamp) -> u64 {
    u64::try_from(now.as_second()).unwrap_or(0) / PERIOD.as_secs()
}

/// What the file holds, or none if there is no file.
fn read(file: &Path) -> anyhow::Result<Option<Generation>> {
    let of_file = || format!("failed to read {}", file.display());
    let text = match files::read_secret(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        read => read.with_context(of_file)?.0,
    };
    // Without its source, which may repeat the secret.
    let Ok(stored) = serde_json::from_str::<Stored>(&text) else { bail!("{}", of_file()) };
    let (digits, mut secret) = (Zeroizing::new(stored.secret), Secret::default());
    if hex::decode_to_slice(digits.as_str(), secret.as_mut()).is_err() {
        bail!("{}", of_file());
    }
    Ok(Some(Generation::new(stored.period, secret)))
}

/// Replaces the file, whole or not at all; for its owner alone.
fn write(file: &Path, period: u64, secret: &Secret) -> io::Result<()> {
    let folder = file.parent().unwrap_or(Path::new("."));
    let secret = Zeroizing::new(hex::encode(secret.as_ref()));
    let text = Zeroizing::new(format!("{{\"period\":{period},\"secret\":\"{}\"}}\n", *secret));
    let mut new = tempfile::Builder::new().prefix(".new-").tempfile_in(folder)?; // of mode 0600
    new.write_all(text.as_bytes())?;
    new.as_file().sync_all()?;
    new.persist(file)?;
    fs::File::open(folder)?.sync_all()
}

const PREFIX: usize = 8 + NONCE_LEN; // period and nonce
/// 27 years of periods: a moment's work, and longer than any file lies about.
const MOST_STEPS: u64 = 10_000;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::sync::Mutex;

    use super::*;

    #[derive(Clone)]
    struct Days(Arc<Mutex<i64>>);

    impl Days {
        fn set(&self, days: i64) {
            *self.0.lock().unwrap() = days;
        }
    }

    impl Clock for Days {
        fn now(&self) -> Timestamp {
            Timestamp::from_second(*self.0.lock().unwrap() * 86_400 + 7).unwrap()
        }
    }

    const BINDING: Binding = [1; 32];

    fn keys(folder: &Path, day: i64) -> (TicketKeys, Days) {
        let clock = Days(Arc::new(Mutex::new(day)));
        (TicketKeys::open(folder.join("tickets"), Arc::new(clock.clone())), clock)
    }

    #[test]
    fn a_ticket_opens_in_its_period_and_the_next_and_never_again() {
        let folder = tempfile::tempdir().unwrap();
        let (keys, clock) = keys(folder.path(), 20_000);
        let ticket = keys.seal(&BINDING, b"session").unwrap();
        for (day, is_open) in
            [(20_000, true), (20_001, true), (20_000, true), (20_002, false), (20_001, false)]
        {
            clock.set(day);
            assert_eq!(keys.open_ticket(&BINDING, &ticket).is_some(), is_open, "{day}");
        }
        clock.set(30_000);
        let ticket = keys.seal(&BINDING, b"session").unwrap();
        clock.set(20_002); // back from a jump: nothing goes on from there
        assert_eq!(keys.open_ticket(&BINDING, &ticket), None);
        let ticket = keys.seal(&BINDING, b"session").unwrap();
        clock.set(20_003);
        assert_eq!(keys.open_ticket(&BINDING, &ticket).unwrap(), b"session");
    }

    #[test]
    fn a_ticket_that_is_not_ours_does_not_open() {
        let folder = tempfile::tempdir().unwrap();
        let (keys, _) = keys(folder.path(), 20_000);
        let ticket = keys.seal(&BINDING, b"session").unwrap();
        assert_eq!(keys.open_ticket(&[2; 32], &ticket), None, "other CAs are in force");
        for at in 0..ticket.len() {
            let mut changed = ticket.clone();
            changed[at] ^= 1;
            assert_eq!(keys.open_ticket(&BINDING, &changed), None, "{at}");
            assert_eq!(keys.open_ticket(&BINDING, &ticket[..at]), None, "{at}");
        }
    }

    #[test]
    fn keys_follow_from_the_file_and_older_ones_do_not() {
        let folder = tempfile::tempdir().unwrap();
        let (first, clock) = keys(folder.path(), 20_000);
        let file = folder.path().join("tickets");
        let early = fs::read(&file).unwrap();
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let ticket = first.seal(&BINDING, b"session").unwrap();
        let (second, _) = keys(folder.path(), 20_001); // restarted, or a replica
        assert_eq!(second.open_ticket(&BINDING, &ticket).unwrap(), b"session");
        assert_ne!(fs::read(&file).unwrap(), early, "the older secret is gone");
        let ticket = second.seal(&BINDING, b"session").unwrap();
        clock.set(20_001);
        assert_eq!(first.open_ticket(&BINDING, &ticket).unwrap(), b"session");
        let (third, _) = keys(folder.path(), 20_005);
        assert_eq!(third.open_ticket(&BINDING, &ticket), None);
        fs::write(&file, &early).unwrap(); // of a backup
        let (restored, _) = keys(folder.path(), 20_001);
        assert_eq!(restored.open_ticket(&BINDING, &ticket).unwrap(), b"session");
    }

    #[test]
    fn a_file_that_cannot_be_used_is_replaced_or_done_without() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tickets");
        for bad in
            ["", "{}", "{\"period\":1,\"secret\":\"00\"}", "{\"period\":18446744073709551615}"]
        {
            fs::write(&file, bad).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
            let (keys, _) = keys(folder.path(), 20_000);
            let ticket = keys.seal(&BINDING, b"session").unwrap();
            assert!(keys.open_ticket(&BINDING, &ticket).is_some());
            assert_ne!(fs::read(&file).unwrap(), bad.as_bytes());
        }
        let (keys, _) = keys(&folder.path().join("none"), 20_000);
        assert!(keys.seal(&BINDING, b"session").is_some());
        keys.store();
    }
}
