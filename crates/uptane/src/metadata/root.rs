//! Root metadata of both repositories (TUF 1.0.34, 4.3; Uptane 2.1.0, 5.2.2): which keys sign which
//! role.

use std::collections::BTreeSet;
use std::num::NonZeroU64;

use motorcade_model::{RoleName, Timestamp};

use super::{Authority, Error, RoleKeys, Root, Signed, Unsigned};
use crate::key::{KeyId, PublicKey};

/// Who is to sign for a top-level role.
#[derive(Debug)]
pub struct Appointed<'a> {
    /// The role.
    pub role: RoleName,
    /// The keys.
    pub keys: Vec<&'a PublicKey>,
    /// How many of them have to sign.
    pub threshold: NonZeroU64,
}

/// Who is to sign for a top-level role from the next version on: all that is said of it there.
#[derive(Debug, Clone)]
pub struct RoleChange {
    /// The role.
    pub role: RoleName,
    /// All of its keys, those that stay too.
    pub keys: Vec<PublicKey>,
    /// How many of them have to sign.
    pub threshold: NonZeroU64,
}

/// Who has to sign a version that follows another: enough keys of both (TUF 1.0.34, 5.3.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Succession {
    /// The root keys of the version before.
    pub before: Authority,
    /// Its own.
    pub after: Authority,
}

impl Succession {
    /// Whoever may sign, each for itself.
    pub fn either(&self) -> Authority {
        let key_ids = self.before.key_ids.union(&self.after.key_ids).copied().collect();
        Authority { key_ids, threshold: 1 }
    }

    /// How many signatures are missing of those of the version before, and of its own.
    pub fn missing(&self, signed: &BTreeSet<KeyId>) -> (u64, u64) {
        let missing = |authority: &Authority| {
            let found = authority.key_ids.intersection(signed).count() as u64;
            authority.threshold.max(1).saturating_sub(found)
        };
        (missing(&self.before), missing(&self.after))
    }
}

/// Version 1, and who signs it: its own root keys.
///
/// # Errors
///
/// [`Error::Build`] if no keys of root are appointed.
pub fn first<'a>(
    expires: Timestamp,
    appointed: impl IntoIterator<Item = Appointed<'a>>,
) -> Result<(Unsigned, Authority), Error> {
    let mut root = Root::new(NonZeroU64::MIN, expires);
    for Appointed { role, keys, threshold } in appointed {
        root.keys.extend(keys.iter().map(|key| (key.id(), key.object().clone())));
        let keyids = keys.iter().map(|key| key.id()).collect();
        root.roles.insert(role, RoleKeys { keyids, threshold });
    }
    finish(root)
}

/// The version after `current`, with the same keys and roles, valid for longer; and who signs it.
///
/// # Errors
///
/// [`Error::Root`] if `current` isn't a root.
pub fn renewed(
    current: &[u8],
    version: NonZeroU64,
    expires: Timestamp,
) -> Result<(Unsigned, Authority), Error> {
    let mut root = parse(current)?;
    (root.version, root.expires) = (version, expires);
    finish(root)
}

/// The version after `current`, with some roles given to other keys or other numbers of them; and
/// who signs it.
///
/// # Errors
///
/// [`Error::Root`] if `current` isn't a root; [`Error::Threshold`] for fewer keys than have to sign
/// (TUF 1.0.34, 4.3); [`Error::SharedKey`] if one key would be in two roles or twice in one;
/// [`Error::Build`] for a role that root names no keys for.
pub fn changed(
    current: &[u8],
    version: NonZeroU64,
    expires: Timestamp,
    changes: &[RoleChange],
) -> Result<(Unsigned, Succession), Error> {
    let mut root = parse(current)?;
    let before = root_keys(&root)?;
    (root.version, root.expires) = (version, expires);
    for RoleChange { role, keys, threshold } in changes {
        if let RoleName::Delegated(_) = role {
            return Err(Error::build(role, "root names no keys for a delegated role"));
        }
        root.keys.extend(keys.iter().map(|key| (key.id(), key.object().clone())));
        let keyids = keys.iter().map(PublicKey::id).collect();
        root.roles.insert(role.clone(), RoleKeys { keyids, threshold: *threshold });
    }
    let used: BTreeSet<KeyId> =
        root.roles.values().flat_map(|keys| keys.keyids.iter().copied()).collect();
    root.keys.retain(|id, _| used.contains(id));
    check_appointments(&root)?;
    let after = root_keys(&root)?;
    Ok((Unsigned::new(RoleName::Root, &root)?, Succession { before, after }))
}

/// Who has to sign `next` for it to follow `current`, as both say.
///
/// # Errors
///
/// [`Error::Root`].
pub fn succession(current: &Root, next: &Root) -> Result<Succession, Error> {
    Ok(Succession { before: root_keys(current)?, after: root_keys(next)? })
}

/// Refuses what could never be signed, and one key that would be counted twice or in two roles. By
/// the key and not by its id: one key counts once, however it is written (TUF 1.0.34, 5.3.4).
fn check_appointments(root: &Root) -> Result<(), Error> {
    let mut seen: Vec<(&RoleName, KeyId, Option<PublicKey>)> = Vec::new();
    for (role, keys) in &root.roles {
        let (found, threshold) = (keys.keyids.len(), keys.threshold.get());
        if (found as u64) < threshold {
            return Err(Error::Threshold { role: role.clone(), found, threshold });
        }
        for &id in &keys.keyids {
            // One of a scheme that is unknown here is compared by its id alone.
            let object = root.keys.get(&id).cloned().unwrap_or_default();
            let key = PublicKey::from_object(object).ok();
            let is_same = |other: &Option<PublicKey>| {
                key.as_ref().zip(other.as_ref()).is_some_and(|(key, other)| key.is_same_key(other))
            };
            if let Some((first, ..)) =
                seen.iter().find(|(_, other_id, other)| *other_id == id || is_same(other))
            {
                let (first, second) = ((*first).clone(), role.clone());
                return Err(Error::SharedKey { key_id: id, first, second });
            }
            seen.push((role, id, key));
        }
    }
    Ok(())
}

/// Reads a root back.
///
/// # Errors
///
/// [`Error::Root`].
pub fn parse(file: &[u8]) -> Result<Root, Error> {
    let file: Signed<Root> = serde_json::from_slice(file).map_err(|e| Error::Root(e.into()))?;
    Ok(file.signed)
}

fn finish(root: Root) -> Result<(Unsigned, Authority), Error> {
    let authority = root_keys(&root)?;
    Ok((Unsigned::new(RoleName::Root, &root)?, authority))
}

fn root_keys(root: &Root) -> Result<Authority, Error> {
    let signers = root.roles.get(&RoleName::Root);
    signers.map(Authority::from).ok_or_else(|| Error::Root("it names nobody who signs root".into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{Scheme, SigningKey};

    fn key() -> PublicKey {
        let pem = SigningKey::generate_pem(Scheme::Ed25519).unwrap();
        SigningKey::from_pem(&pem).unwrap().public().clone()
    }

    fn change(role: RoleName, keys: &[&PublicKey], threshold: u64) -> RoleChange {
        let keys = keys.iter().map(|key| (*key).clone()).collect();
        RoleChange { role, keys, threshold: threshold.try_into().unwrap() }
    }

    /// A root whose roles have a key each, in the order of `TOP_LEVEL`.
    fn root() -> (Vec<PublicKey>, Vec<u8>) {
        let keys: Vec<PublicKey> = RoleName::TOP_LEVEL.iter().map(|_| key()).collect();
        let appointed = RoleName::TOP_LEVEL.into_iter().zip(&keys).map(|(role, key)| Appointed {
            role,
            keys: vec![key],
            threshold: NonZeroU64::MIN,
        });
        let (unsigned, _) = first(Timestamp::UNIX_EPOCH, appointed).unwrap();
        let file = [b"{\"signatures\":[],\"signed\":", unsigned.text(), b"}"].concat();
        (keys, file)
    }

    fn next(current: &[u8], changes: &[RoleChange]) -> Result<(Unsigned, Succession), Error> {
        changed(current, NonZeroU64::new(2).unwrap(), Timestamp::UNIX_EPOCH, changes)
    }

    #[test]
    fn a_change_says_all_of_its_roles_and_nothing_of_others() {
        let (keys, current) = root();
        let (second, timestamp) = (key(), key());
        let changes = [
            change(RoleName::Root, &[&keys[0], &second], 2),
            change(RoleName::Timestamp, &[&timestamp], 1),
        ];
        let (unsigned, succession) = next(&current, &changes).unwrap();
        let root: Root = serde_json::from_slice(unsigned.text()).unwrap();
        assert_eq!(root.roles[&RoleName::Timestamp].keyids, [timestamp.id()]);
        assert_eq!(root.roles[&RoleName::Snapshot].keyids, [keys[2].id()]);
        assert!(!root.keys.contains_key(&keys[3].id()), "a key of no role is left out");
        assert_eq!(succession, super::succession(&parse(&current).unwrap(), &root).unwrap());
        let signed = BTreeSet::from([keys[0].id()]);
        assert_eq!(succession.missing(&signed), (0, 1));
        assert_eq!(succession.either().key_ids, BTreeSet::from([keys[0].id(), second.id()]));
    }

    #[test]
    fn refuses_what_could_not_be_signed_and_keys_that_count_twice() {
        let (keys, current) = root();
        let few = next(&current, &[change(RoleName::Root, &[&keys[0]], 2)]).unwrap_err();
        assert!(matches!(few, Error::Threshold { found: 1, threshold: 2, .. }), "{few}");
        let shared = [change(RoleName::Timestamp, &[&keys[2]], 1)];
        let shared = next(&current, &shared).unwrap_err();
        assert!(matches!(shared, Error::SharedKey { .. }), "{shared}");
        let mut object = keys[0].object().clone();
        object["comment"] = "the same key under another id".into();
        let again = PublicKey::from_object(object).unwrap();
        let twice = next(&current, &[change(RoleName::Root, &[&keys[0], &again], 2)]).unwrap_err();
        assert!(matches!(twice, Error::SharedKey { .. }), "{twice}");
        let bin = next(&current, &[change("bin-0".parse().unwrap(), &[&key()], 1)]).unwrap_err();
        assert!(matches!(bin, Error::Build { .. }), "{bin}");
    }
}
