//! A root chain, walked as a client walks it (TUF 1.0.34, 5.3).

use super::trusted_root;
use crate::uptane::verify::{TrustedSet, VerifyError};

/// What came of a walk.
#[derive(Default)]
pub(in crate::app) struct Walk {
    /// The newest root that can be read, if there is one.
    pub(in crate::app) newest: Option<TrustedSet>,
    /// Where a client stops, by version.
    pub(in crate::app) faults: Vec<(u64, ChainFault)>,
}

/// Why a client gets no further.
pub(in crate::app) enum ChainFault {
    /// There is no such version.
    Missing,
    /// The file says that it is this one.
    Other(u64),
    /// It is not signed as it has to be, or is no root.
    Refused(VerifyError),
}

/// Walks from version 1 over `roots`, which **must** be in their order. Whoever gets from each version
/// to the next gets to the newest from any of them. After a version that breaks the chain, what
/// follows is judged by itself.
pub(in crate::app) fn walk<B: AsRef<[u8]>>(roots: impl IntoIterator<Item = (u64, B)>) -> Walk {
    let mut walk = Walk::default();
    let mut expected = 1;
    for (version, bytes) in roots {
        let bytes = bytes.as_ref();
        walk.faults.extend((expected..version).map(|missing| (missing, ChainFault::Missing)));
        let taken = match walk.newest.take() {
            Some(mut set) if set.root_version() + 1 == version => {
                set.update_root(bytes).map(|()| set)
            }
            _ => trusted_root(bytes),
        };
        match taken {
            Ok(set) if set.root_version() == version => walk.newest = Some(set),
            Ok(set) => walk.faults.push((version, ChainFault::Other(set.root_version()))),
            Err(fault) => {
                walk.faults.push((version, ChainFault::Refused(fault)));
                walk.newest = trusted_root(bytes).ok();
            }
        }
        expected = version + 1;
    }
    walk
}
