//! Which roles need a new file: a pure function of what is published and of the time.

use crate::catalog::RoleState;
use crate::keys::policy::Policy;
use crate::model::{RepositorySide, RoleName, Timestamp};

/// Those that changed, or whose file is to be signed again, and whoever lists them. Root is renewed
/// by itself.
pub(super) fn due_roles(policy: &Policy, states: &[RoleState], now: Timestamp) -> Vec<RoleName> {
    let is_due = |state: &&RoleState| {
        let role = policy.role(RepositorySide::Image, state.name.kind());
        let is_old = state.version == 0 || role.is_due(state.expires_at, now);
        state.name != RoleName::Root && (state.is_changed || is_old)
    };
    with_listers(states.iter().filter(is_due).map(|state| state.name.clone()).collect(), &[])
}

/// What is due, and whoever lists that or what others have signed.
pub(super) fn with_listers(mut due: Vec<RoleName>, signed: &[RoleName]) -> Vec<RoleName> {
    let mut cascade = |role: RoleName, causes: fn(&RoleName) -> bool| {
        if !due.contains(&role) && due.iter().chain(signed).any(causes) {
            due.push(role);
        }
    };
    cascade(RoleName::Snapshot, is_listed);
    cascade(RoleName::Timestamp, |name| *name == RoleName::Snapshot);
    due
}

/// The timestamp alone, if its file is to be signed again: it then lists the snapshot that is
/// published, whatever waits to be.
pub(super) fn timestamp_alone(
    policy: &Policy,
    states: &[RoleState],
    now: Timestamp,
) -> Vec<RoleName> {
    let role = policy.timestamp;
    let is_old = |state: &&RoleState| {
        state.name == RoleName::Timestamp && state.version > 0 && role.is_due(state.expires_at, now)
    };
    states.iter().filter(is_old).map(|state| state.name.clone()).collect()
}

/// All of them.
pub(super) fn all_roles(states: &[RoleState]) -> Vec<RoleName> {
    states
        .iter()
        .filter(|state| state.name != RoleName::Root)
        .map(|state| state.name.clone())
        .collect()
}

/// Whether a snapshot lists the role.
pub(super) fn is_listed(role: &RoleName) -> bool {
    match role {
        RoleName::Targets | RoleName::Delegated(_) => true,
        RoleName::Root | RoleName::Snapshot | RoleName::Timestamp => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Sha256Digest;

    const HOUR: i64 = 3600;
    const DAY: i64 = 24 * HOUR;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_790_000_000 + second).unwrap()
    }

    /// Everything was published at 0, and nothing has changed.
    fn states() -> Vec<RoleState> {
        let policy = Policy::default();
        let state = |name: &str| {
            let name: RoleName = name.parse().unwrap();
            let expires_at = policy.role(RepositorySide::Image, name.kind()).expiry(at(0));
            RoleState {
                name,
                version: 1,
                reserved: 1,
                length: 1,
                sha256: Sha256Digest::from_bytes([0; 32]),
                expires_at,
                changes: 0,
                is_changed: false,
            }
        };
        ["bin-00", "bin-01", "root", "snapshot", "targets", "timestamp"].map(state).into()
    }

    fn due(change: impl FnOnce(&mut Vec<RoleState>), second: i64) -> Vec<String> {
        let mut states = states();
        change(&mut states);
        let due = due_roles(&Policy::default(), &states, at(second));
        due.iter().map(RoleName::to_string).collect()
    }

    #[test]
    fn what_changed_is_due_with_what_lists_it() {
        assert_eq!(due(|_| (), HOUR), Vec::<String>::new());
        let changed = |states: &mut Vec<RoleState>| states[1].is_changed = true;
        assert_eq!(due(changed, HOUR), ["bin-01", "snapshot", "timestamp"]);
    }

    #[test]
    fn what_is_past_half_its_life_is_due_and_root_never_is() {
        assert_eq!(due(|_| (), 13 * HOUR), ["timestamp"]);
        assert_eq!(due(|_| (), 4 * DAY), ["snapshot", "timestamp"]);
        let all = ["bin-00", "bin-01", "snapshot", "targets", "timestamp"];
        assert_eq!(due(|_| (), 50 * DAY), all);
        assert_eq!(due(|states| states[2].is_changed = true, HOUR), Vec::<String>::new());
    }

    #[test]
    fn the_timestamp_is_due_alone_by_its_age_and_nothing_else() {
        let mut states = states();
        let alone = |states: &[RoleState], second| {
            timestamp_alone(&Policy::default(), states, at(second)).len()
        };
        states[1].is_changed = true;
        assert_eq!((alone(&states, HOUR), alone(&states, 13 * HOUR)), (0, 1));
        states[5].version = 0;
        assert_eq!(alone(&states, 13 * HOUR), 0, "there is no snapshot to list");
    }

    #[test]
    fn what_was_never_published_is_due() {
        let new = |states: &mut Vec<RoleState>| states.iter_mut().for_each(|s| s.version = 0);
        assert_eq!(due(new, 0).len(), 5);
        assert_eq!(all_roles(&states()).len(), 5);
    }

    #[test]
    fn what_others_have_signed_is_listed() {
        let signed: RoleName = "supplier-acme".parse().unwrap();
        let listers = with_listers(Vec::new(), &[signed]);
        assert_eq!(listers, [RoleName::Snapshot, RoleName::Timestamp]);
        assert_eq!(with_listers(Vec::new(), &[]), []);
    }
}
