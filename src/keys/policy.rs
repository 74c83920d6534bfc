//! The metadata policy: for how long, and by how many keys, each role is signed.

use std::time::Duration;

use serde::Deserialize;

use super::hybrid;
use super::source::KeySource;
use super::sources::{self, Sources};
use crate::model::clock::later;
use crate::model::{RepositorySide, RoleKind, Timestamp};

/// The policy of one repository; see `metadata/policy.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Root role.
    pub root: RolePolicy,
    /// Top-level targets role, which only delegates to the bins.
    pub targets: RolePolicy,
    /// The hash bins, which share their keys.
    pub bins: BinsPolicy,
    /// Suppliers' roles: how long each is valid, and what a new one has where nothing is said.
    #[serde(default = "default_suppliers")]
    pub suppliers: RolePolicy,
    /// Snapshot role.
    pub snapshot: RolePolicy,
    /// Timestamp role.
    pub timestamp: RolePolicy,
    /// The Director repository.
    #[serde(default)]
    pub director: DirectorPolicy,
    /// Where the keys are of roles that say so.
    #[serde(skip)]
    sources: Sources,
}

/// The policy of the Director repository (Deployment Best Practices 4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DirectorPolicy {
    /// Root role.
    pub root: RolePolicy,
    /// Targets, snapshot and timestamp, which are signed together for each vehicle.
    pub bundle: RolePolicy,
}

/// What a policy file of a version without suppliers means.
fn default_suppliers() -> RolePolicy {
    RolePolicy { expires_days: 90, threshold: 1, keys: None, hybrid: false, offline: false }
}

impl Default for DirectorPolicy {
    /// What a policy file of a version without a Director means.
    fn default() -> Self {
        Self {
            root: RolePolicy {
                expires_days: 365,
                threshold: 1,
                keys: None,
                hybrid: false,
                offline: false,
            },
            bundle: RolePolicy {
                expires_days: 1,
                threshold: 1,
                keys: None,
                hybrid: false,
                offline: false,
            },
        }
    }
}

/// The policy file can't be used, and why.
#[derive(Debug, thiserror::Error)]
#[error("metadata policy is not usable: {0}")]
pub struct PolicyError(String);

/// How one role is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RolePolicy {
    /// Days for which a signed file is valid.
    pub expires_days: u16,
    /// How many different keys have to sign it.
    pub threshold: u8,
    /// How many there are, if more.
    #[serde(default)]
    pub keys: Option<u8>,
    /// Whether every other key is one of ML-DSA-65; see [`hybrid`].
    #[serde(default)]
    pub hybrid: bool,
    /// Whether people sign it, with keys that are not here: the Image repository's targets alone.
    #[serde(default)]
    pub offline: bool,
}

/// How the bins are signed, and how many there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BinsPolicy {
    /// Days for which a signed file is valid.
    pub expires_days: u16,
    /// How many different keys have to sign it.
    pub threshold: u8,
    /// How many there are, if more.
    #[serde(default)]
    pub keys: Option<u8>,
    /// Hexadecimal digits of a path's digest that choose its bin: 1 or 2.
    pub prefix_digits: u8,
}

impl BinsPolicy {
    /// The part that bins have in common with other roles.
    pub fn role(self) -> RolePolicy {
        let Self { expires_days, threshold, keys, prefix_digits: _ } = self;
        RolePolicy { expires_days, threshold, keys, hybrid: false, offline: false }
    }
}

impl RolePolicy {
    /// How long a signed file is valid.
    pub fn lifetime(self) -> Duration {
        Duration::from_secs(u64::from(self.expires_days) * 24 * 60 * 60)
    }

    /// How many keys the role has.
    pub fn keys(self) -> u8 {
        self.keys.unwrap_or(self.threshold)
    }

    /// When a file that is signed at `now` expires: whole seconds, as clients expect (TUF 1.0.34,
    /// 4.2.3).
    pub fn expiry(self, now: Timestamp) -> Timestamp {
        let expires = later(now, self.lifetime());
        Timestamp::from_second(expires.as_second()).unwrap_or(expires)
    }

    /// Whether a file that expires at `expires_at` has to be signed again: half its life is over;
    /// or it expires far later than one that is signed now, because the clock was ahead, or this
    /// policy was a longer one.
    pub fn is_due(self, expires_at: Timestamp, now: Timestamp) -> bool {
        expires_at < later(now, self.lifetime() / 2)
            || expires_at > later(later(now, self.lifetime()), SLACK)
    }
}

impl Policy {
    /// Most keys of a role.
    pub const MAX_KEYS: u8 = 16;
    /// The policy that is built in, as text.
    pub const DEFAULT: &str = include_str!("../../metadata/policy.toml");

    /// Reads a policy.
    ///
    /// # Errors
    ///
    /// [`PolicyError`] names what is wrong: unknown or missing members, no days or keys (TUF
    /// 1.0.34, 4.3: a threshold is at least 1), too many digits, a hybrid role whose threshold keys
    /// of one kind meet.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        let policy = Self::read(text)?;
        let suppliers = (RepositorySide::Image, RoleKind::Suppliers, policy.suppliers);
        for (side, kind, role) in policy.roles().chain([suppliers]) {
            let name = key_name(side, kind);
            if !(1..=3650).contains(&role.expires_days) {
                return Err(PolicyError(format!("[{name}] expires_days must be 1 to 3650")));
            }
            if !(1..=Self::MAX_KEYS).contains(&role.threshold) {
                return Err(PolicyError(format!("[{name}] threshold must be 1 to 16")));
            }
            if !(role.threshold..=Self::MAX_KEYS).contains(&role.keys()) {
                let fault =
                    format!("[{name}] keys must be {} to 16: its threshold", role.threshold);
                return Err(PolicyError(fault));
            }
            if role.offline && (side, kind) != (RepositorySide::Image, RoleKind::Targets) {
                return Err(PolicyError(format!(
                    "[{name}] offline is for [targets]: the keys of a root may be elsewhere as it is, and what vehicles \
                     poll for is signed here"
                )));
            }
            if role.hybrid
                && let Some(fault) = hybrid::fault(side, kind, role.threshold, role.keys())
            {
                return Err(PolicyError(format!("[{name}] {fault}")));
            }
        }
        // Three digits would be 4096 bins, too many for a snapshot of 64 KiB.
        if !(1..=2).contains(&policy.bins.prefix_digits) {
            return Err(PolicyError("[bins] prefix_digits must be 1 or 2".into()));
        }
        Ok(policy)
    }

    /// Reads a policy, with the places of what is wrong as long as it names no sources of keys.
    fn read(text: &str) -> Result<Self, PolicyError> {
        let unusable = |fault: toml::de::Error| PolicyError(fault.to_string());
        let mut table: toml::Table = toml::from_str(text).map_err(unusable)?;
        let sources = sources::take(&mut table, key_name).map_err(PolicyError)?;
        let policy: Self = match sources.is_empty() {
            true => toml::from_str(text).map_err(unusable)?,
            false => table.try_into().map_err(unusable)?,
        };
        Ok(Self { sources, ..policy })
    }

    /// Where a role's keys are, if the policy says so; else they are in `keys/`.
    pub fn sources(&self, side: RepositorySide, kind: RoleKind) -> &[KeySource] {
        self.sources.get(&(side, kind)).map_or(&[], Vec::as_slice)
    }

    /// Whether people sign the Image repository's targets, with keys that are not here.
    pub fn has_offline_targets(&self) -> bool {
        self.targets.offline
    }

    /// How the roles of a kind are signed.
    pub fn role(&self, side: RepositorySide, kind: RoleKind) -> RolePolicy {
        match (side, kind) {
            (RepositorySide::Image, RoleKind::Root) => self.root,
            (RepositorySide::Image, RoleKind::Targets) => self.targets,
            (RepositorySide::Image, RoleKind::Bins) => self.bins.role(),
            (RepositorySide::Image, RoleKind::Suppliers) => self.suppliers,
            (RepositorySide::Image, RoleKind::Snapshot) => self.snapshot,
            (RepositorySide::Image, RoleKind::Timestamp) => self.timestamp,
            (RepositorySide::Director, RoleKind::Root) => self.director.root,
            (
                RepositorySide::Director,
                RoleKind::Targets
                | RoleKind::Bins
                | RoleKind::Suppliers
                | RoleKind::Snapshot
                | RoleKind::Timestamp,
            ) => self.director.bundle,
        }
    }

    /// The roles that both repositories always have, each with its policy.
    pub fn roles(&self) -> impl Iterator<Item = (RepositorySide, RoleKind, RolePolicy)> {
        let of = |side: RepositorySide| {
            side.kinds().iter().map(move |&kind| (side, kind, self.role(side, kind)))
        };
        of(RepositorySide::Image).chain(of(RepositorySide::Director))
    }
}

/// A role's name in key files and messages.
pub fn key_name(side: RepositorySide, kind: RoleKind) -> String {
    match side {
        RepositorySide::Image => kind.to_string(),
        RepositorySide::Director => format!("{}-{kind}", side.as_str()),
    }
}

/// What a clock may have been set back by.
const SLACK: Duration = Duration::from_secs(60 * 60);

impl Default for Policy {
    fn default() -> Self {
        Self::parse(Self::DEFAULT).expect("a test parses the built-in policy")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(from: &str, to: &str) -> String {
        let text = Policy::DEFAULT.replacen(from, to, 1);
        assert_ne!(text, Policy::DEFAULT);
        match Policy::parse(&text) {
            Err(PolicyError(message)) => message,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_built_in_policy_is_valid() {
        assert_eq!(Policy::default().timestamp.lifetime(), Duration::from_secs(86_400));
    }

    #[test]
    fn a_file_is_due_past_half_its_life_and_when_it_expires_later_than_it_could() {
        let policy = Policy::default().timestamp; // a day
        let now = Timestamp::from_second(1_790_000_000).unwrap();
        let is_due = |hours: i64| {
            policy.is_due(Timestamp::from_second(1_790_000_000 + hours * 3600).unwrap(), now)
        };
        assert_eq!(
            [-1, 11, 12, 24, 25, 26, 87_600].map(is_due),
            [true, true, false, false, false, true, true]
        );
        assert!(
            !policy.is_due(Timestamp::MAX, Timestamp::MAX),
            "the last time there is has nothing after it"
        );
    }

    #[test]
    fn refuses_what_would_sign_nothing_or_forever() {
        assert_eq!(changed("threshold = 1", "threshold = 0"), "[root] threshold must be 1 to 16");
        assert_eq!(
            changed("expires_days = 365", "expires_days = 0"),
            "[root] expires_days must be 1 to 3650"
        );
        assert_eq!(
            changed("threshold = 1", "threshold = 3\nkeys = 2"),
            "[root] keys must be 3 to 16: its threshold"
        );
        assert_eq!(
            changed("threshold = 1", "threshold = 2\nkeys = 3\nhybrid = true"),
            "[root] threshold must be 3 or more: 2 of its 3 keys are Ed25519, and must not be enough by themselves"
        );
        assert_eq!(
            changed("prefix_digits = 2", "prefix_digits = 3"),
            "[bins] prefix_digits must be 1 or 2"
        );
        assert!(
            changed("threshold = 1", "threshold = 1\noffline = true")
                .contains("[root] offline is for [targets]")
        );
        assert!(changed("threshold = 1", "treshold = 1").contains("unknown field `treshold`"));
    }

    #[test]
    fn sources_of_keys_count_as_keys() {
        let sources = "threshold = 2\nkeys = [\"file:a.pem\", \"pkcs11:token=t;object=b\"]";
        let text = Policy::DEFAULT.replacen("threshold = 1", sources, 1);
        let policy = Policy::parse(&text).unwrap();
        assert_eq!((policy.root.threshold, policy.root.keys()), (2, 2));
        assert_eq!(policy.sources(RepositorySide::Image, RoleKind::Root).len(), 2);
        assert!(policy.sources(RepositorySide::Image, RoleKind::Targets).is_empty());
        assert_eq!(
            changed("threshold = 1", "threshold = 2\nkeys = [\"file:a.pem\"]"),
            "[root] keys must be 2 to 16: its threshold"
        );
    }
}
