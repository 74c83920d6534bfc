//! Root metadata of both repositories (TUF 1.0.34, 4.3; Uptane 2.1.0, 5.2.2): which keys sign which
//! role.

use std::num::NonZeroU64;

use motorcade_model::{RoleName, Timestamp};

use super::{Authority, Error, RoleKeys, Root, Signed, Unsigned};
use crate::key::PublicKey;

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
    let signers = root.roles.get(&RoleName::Root);
    let signers = signers.ok_or_else(|| Error::Root("it names nobody who signs root".into()))?;
    let authority = Authority::from(signers);
    Ok((Unsigned::new(RoleName::Root, &root)?, authority))
}
