//! The escrow key that wraps here against the one that all servers wrap to, which is noted in the
//! catalog.

use super::escrow::{Remembered, add_key, check_proof, is_known, remember};
use crate::app::Error;
use crate::catalog::{Author, Catalog};
use crate::keys::{EscrowKeys, EscrowRing};

/// The id of the key that all servers wrap to, if it is not the one that wraps here.
///
/// # Errors
///
/// [`Error::Internal`].
pub(in crate::app) async fn find_other_wrapping(
    catalog: &Catalog,
    escrow: &EscrowRing,
) -> Result<Option<String>, Error> {
    let wanted = catalog.find_escrow_kid().await?;
    Ok(wanted.filter(|wanted| wanted != escrow.keys().wrapping.kid().as_str()))
}

/// Refuses keys that were put here while a server runs, and are not what their ids say.
///
/// # Errors
///
/// [`Error::Unavailable`]; [`Error::Internal`].
pub(in crate::app) async fn check_wrapping(
    catalog: &Catalog,
    escrow: &EscrowRing,
) -> Result<(), Error> {
    match check_proof(catalog, escrow).await? {
        Remembered::Another(problem) => {
            let wanted = catalog.find_escrow_kid().await?.unwrap_or_default();
            Err(Error::other_escrow_key(&wanted, Some(&problem)))
        }
        Remembered::These | Remembered::AllBut { .. } | Remembered::Nothing => Ok(()),
    }
}

/// Notes the key that wraps here, if none is noted yet or the one that is has gone; returns the id of
/// the one that is noted, if that is another one.
///
/// # Errors
///
/// [`Error::Unavailable`] if the catalog can't be reached; [`Error::Full`]; [`Error::Internal`].
pub(in crate::app) async fn settle_wrapping(
    catalog: &Catalog,
    escrow: &EscrowRing,
    author: &Author,
) -> Result<Option<String>, Error> {
    let keys = escrow.keys();
    let own = keys.wrapping.kid();
    if catalog.find_escrow_kid().await?.is_none() {
        catalog.note_escrow_kid(own.as_str()).await?;
    }
    if let Some(wanted) = find_other_wrapping(catalog, escrow).await? {
        if was_cut_off(catalog, &keys, &wanted).await? {
            let key = keys.wrapping.as_ref();
            return match add_key(catalog, key, &key.place(), &wanted, author).await {
                Ok(()) => Ok(None),
                Err(Error::Unavailable { .. }) => Ok(Some(wanted)), // it is tried again
                Err(error) => Err(error),
            };
        }
        if !is_known(catalog, own).await? || is_remembered(catalog, &wanted).await? {
            return Ok(Some(wanted));
        }
        // A server of a version that notes nothing has put this one in its place.
        catalog.replace_escrow_kid(own.as_str(), &wanted, &[]).await?;
    }
    if !is_known(catalog, own).await? {
        remember(catalog, keys.wrapping.as_ref()).await?;
    }
    Ok(None)
}

/// Whether a server began a rotation and was killed before the catalog knew of it: the files come
/// first. One that has heard of no later rotation looks the same, but for what the catalog knows of
/// its key.
async fn was_cut_off(catalog: &Catalog, keys: &EscrowKeys, wanted: &str) -> Result<bool, Error> {
    let own = keys.wrapping.kid();
    Ok(keys.former.iter().any(|key| key.kid().as_str() == wanted)
        && !is_known(catalog, own).await?
        && !catalog.is_escrow_retired(own.as_str()).await?)
}

async fn is_remembered(catalog: &Catalog, kid: &str) -> Result<bool, Error> {
    match kid.parse() {
        Ok(kid) => is_known(catalog, &kid).await,
        Err(_) => Ok(false), // nobody's
    }
}
