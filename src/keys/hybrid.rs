//! Roles that are hybrid by threshold: keys of Ed25519 and of ML-DSA-65 (FIPS 204, TAP 21), and a
//! threshold that neither kind meets alone. Whoever breaks one of the two has not broken the role.
//!
//! What a root burnt into ECUs says has to hold for as long as they are driven, so roots and
//! top-level targets can be hybrid. What is signed online for every poll stays Ed25519: a signature
//! of ML-DSA-65 has 3309 bytes, and a key that is exchanged in a day needs to hold no longer.

use crate::model::{RepositorySide, RoleKind};
use motorcade_uptane::key::{PublicKey, Scheme};
use motorcade_uptane::metadata::Root;

/// Which scheme the key of this number has, from 1 on, where `init` makes them.
pub fn scheme(number: u8) -> Scheme {
    if number.is_multiple_of(2) { Scheme::MlDsa65 } else { Scheme::Ed25519 }
}

/// Why a role can't be hybrid with so many of so many keys, of which every other one is classical.
pub(super) fn fault(
    side: RepositorySide,
    kind: RoleKind,
    threshold: u8,
    keys: u8,
) -> Option<String> {
    if !can_be_hybrid(side, kind) {
        return Some(
            "hybrid is for root and the Image repository's targets: what is signed for every poll \
             stays Ed25519"
                .into(),
        );
    }
    let alone = keys.div_ceil(2);
    (threshold <= alone).then(|| {
        format!(
            "threshold must be {} or more: {alone} of its {keys} keys are Ed25519, and must not be enough \
             by themselves",
            alone + 1
        )
    })
}

/// Why keys that are there don't go with what the policy says of their role, however they are chosen
/// from: there may be some that are to come, and some that are to leave.
pub(super) fn fault_of_pool(is_hybrid: bool, threshold: u8, keys: &[&PublicKey]) -> Option<String> {
    let is_mixed = keys.iter().any(|key| key.scheme().is_post_quantum())
        && keys.iter().any(|key| !key.scheme().is_post_quantum());
    if is_hybrid && is_mixed { None } else { fault_of_keys(is_hybrid, threshold, keys) }
}

/// Why keys can't be a role's all together, as the policy says what it is to be.
pub fn fault_of_keys(is_hybrid: bool, threshold: u8, keys: &[&PublicKey]) -> Option<String> {
    let post_quantum = keys.iter().filter(|key| key.scheme().is_post_quantum()).count();
    let classical = keys.len() - post_quantum;
    let threshold = usize::from(threshold);
    if !is_hybrid {
        return (post_quantum > 0).then(|| {
            "has a key of ML-DSA-65, which tough and aktualizr can't read: it takes `hybrid = true` in \
             metadata/policy.toml, in [root], [targets] or [director.root]"
                .into()
        });
    }
    (classical.max(post_quantum) >= threshold).then(|| {
        format!(
            "is hybrid, and {classical} classical and {post_quantum} ML-DSA-65 keys are there for a threshold \
             of {threshold}: neither kind may be enough by itself"
        )
    })
}

/// What a root that names a key of ML-DSA-65 means for clients, if it does.
pub fn readers(root: &Root) -> Option<String> {
    let post_quantum = Scheme::MlDsa65.as_str();
    root.keys.values().any(|key| key["scheme"] == post_quantum).then(|| READERS.to_owned())
}

fn can_be_hybrid(side: RepositorySide, kind: RoleKind) -> bool {
    match kind {
        RoleKind::Root => true,
        RoleKind::Targets => side == RepositorySide::Image,
        RoleKind::Bins | RoleKind::Suppliers | RoleKind::Snapshot | RoleKind::Timestamp => false,
    }
}

/// Interoperability tests show each.
pub const READERS: &str = "it names a key of ML-DSA-65 (TAP 21): motorcade-vehicle follows it, and python-tuf 7 with \
     securesystemslib 1.6 and cryptography 48 or later does; tough 0.24 and aktualizr can't read it, and stay at the \
     root before it";

#[cfg(test)]
mod tests {
    use super::*;
    use motorcade_uptane::key::SigningKey;

    #[test]
    fn neither_kind_of_keys_meets_the_threshold_alone() {
        let fault = |threshold, keys| fault(RepositorySide::Image, RoleKind::Root, threshold, keys);
        for (threshold, keys, is_allowed) in [
            (1, 1, false),
            (1, 2, false),
            (2, 2, true),
            (2, 3, false),
            (3, 3, true),
            (2, 4, false),
            (3, 4, true),
        ] {
            assert_eq!(fault(threshold, keys).is_none(), is_allowed, "{threshold} of {keys}");
        }
    }

    #[test]
    fn what_is_signed_for_every_poll_stays_classical() {
        let director = RepositorySide::Director;
        assert_eq!(fault(director, RoleKind::Root, 2, 2), None);
        assert!(fault(director, RoleKind::Targets, 2, 2).unwrap().contains("every poll"));
        for kind in [RoleKind::Bins, RoleKind::Snapshot, RoleKind::Timestamp] {
            assert!(fault(RepositorySide::Image, kind, 2, 2).is_some(), "{kind}");
        }
    }

    #[test]
    fn keys_that_are_there_are_held_to_it() {
        let key =
            |scheme| SigningKey::from_pem(&SigningKey::generate_pem(scheme).unwrap()).unwrap();
        let (a, b) = (key(Scheme::Ed25519), key(Scheme::EcdsaSha2Nistp256));
        let pq = key(Scheme::MlDsa65);
        let (a, b, pq) = (a.public(), b.public(), pq.public());
        assert_eq!(fault_of_keys(true, 2, &[a, pq]), None);
        assert_eq!(fault_of_keys(true, 2, &[pq]), None, "the other one is elsewhere");
        assert!(fault_of_keys(true, 2, &[a, b]).unwrap().contains("neither kind"));
        assert_eq!(fault_of_keys(false, 2, &[a, b]), None);
        assert!(fault_of_keys(false, 2, &[a, pq]).unwrap().contains("hybrid = true"));
    }
}
