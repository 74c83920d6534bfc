//! API tokens: who may do what.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::Error;
pub use super::principal::{Principal, local_author};
use crate::catalog::{Catalog, TokenRecord};
use crate::model::{AccessRole, Clock, Sha256Digest, Timestamp};

/// A token that is about to be made.
#[derive(Debug, Clone)]
pub struct NewToken<'a> {
    /// What its holder may do.
    pub role: AccessRole,
    /// Who holds it.
    pub label: &'a str,
    /// When it stops working, if ever.
    pub expires_at: Option<Timestamp>,
    /// Where its holder may upload, as a folder with a slash at its end; everywhere without it.
    pub path_prefix: Option<&'a str>,
}

impl<'a> NewToken<'a> {
    /// A token that works for ever and everywhere.
    pub fn of(role: AccessRole, label: &'a str) -> Self {
        Self { role, label, expires_at: None, path_prefix: None }
    }
}

/// Makes a token and returns it; only its hash is kept. Its author is whoever runs this process.
///
/// # Errors
///
/// [`Error::Invalid`] for a label that no list can show, [`Error::Full`] or [`Error::Internal`].
pub async fn create_token(
    catalog: &Catalog,
    new: NewToken<'_>,
    now: Timestamp,
) -> Result<Zeroizing<String>, Error> {
    check_label(new.label)?;
    let mut id = [0; 6];
    getrandom::fill(&mut id).map_err(Error::internal("make a token"))?;
    let token = random_token(TOKEN_PREFIX)?;
    let record = TokenRecord {
        id: hex::encode(id),
        sha256: digest(&token),
        role: new.role,
        label: new.label.to_owned(),
        path_prefix: new.path_prefix.map(str::to_owned),
        created_at: now,
        expires_at: new.expires_at,
        revoked_at: None,
    };
    catalog.insert_token(&record, &local_author(now)).await?;
    Ok(token)
}

/// It is shown in a list, one token a line.
fn check_label(label: &str) -> Result<(), Error> {
    let invalid = |detail: String| Err(Error::Invalid { code: "bad_label", detail });
    if label.chars().count() > MAX_LABEL {
        return invalid(format!("a label has at most {MAX_LABEL} characters"));
    }
    match label.chars().find(|c| c.is_control()) {
        Some(c) => invalid(format!("a label is one line of text, and must not contain {c:?}")),
        None => Ok(()),
    }
}

/// The tokens that were made, and what their holders may do.
pub struct Tokens {
    catalog: Catalog,
    clock: Arc<dyn Clock>,
}

impl Tokens {
    pub(super) fn new(catalog: Catalog, clock: Arc<dyn Clock>) -> Self {
        Self { catalog, clock }
    }

    /// Recognizes the holder of a token and checks that its role is among `allowed`.
    ///
    /// # Errors
    ///
    /// [`Error::Unauthenticated`] without a valid token, [`Error::Forbidden`] if the role isn't
    /// allowed.
    pub async fn authorize(
        &self,
        token: Option<&str>,
        allowed: &[AccessRole],
    ) -> Result<Principal, Error> {
        let unauthenticated = |detail: &str| Error::Unauthenticated { detail: detail.to_owned() };
        let token = token.ok_or_else(|| unauthenticated("send `Authorization: Bearer <token>`"))?;
        // The digest is looked up, not compared, so timing tells nothing about a token.
        let record = self.catalog.find_token(&digest(token)).await?;
        let record = record.ok_or_else(|| unauthenticated("this token is not known here"))?;
        check_validity(&record, self.clock.now())?;
        if !allowed.contains(&record.role) {
            let names: Vec<_> = allowed.iter().map(|role| role.as_str()).collect();
            let detail = format!(
                "a token of role {} may not do this; it takes {}",
                record.role,
                names.join(" or ")
            );
            return Err(Error::Forbidden { detail });
        }
        Ok(Principal {
            id: record.id,
            role: record.role,
            path_prefix: record.path_prefix,
            request_id: None,
        })
    }
}

/// Checks again a token that was valid when a long request began.
///
/// # Errors
///
/// [`Error::Unauthenticated`] if it has been revoked or has expired.
pub(super) async fn check_token_still_valid(
    catalog: &Catalog,
    id: &str,
    now: Timestamp,
) -> Result<(), Error> {
    // Tokens are never deleted: an id that isn't there is not a token's, but of whoever uses the
    // library itself.
    catalog.find_token_by_id(id).await?.map_or(Ok(()), |record| check_validity(&record, now))
}

fn check_validity(record: &TokenRecord, now: Timestamp) -> Result<(), Error> {
    if record.revoked_at.is_some() {
        return Err(Error::Unauthenticated { detail: "this token was revoked".into() });
    }
    if record.expires_at.is_some_and(|expires_at| expires_at <= now) {
        return Err(Error::Unauthenticated { detail: "this token has expired".into() });
    }
    Ok(())
}

/// Makes a token of 256 random bits. The prefix lets secret scanners find one that was committed by
/// mistake.
pub(super) fn random_token(prefix: &str) -> Result<Zeroizing<String>, Error> {
    let mut secret = Zeroizing::new([0; 32]);
    getrandom::fill(secret.as_mut()).map_err(Error::internal("make a token"))?;
    Ok(Zeroizing::new(format!("{prefix}{}", URL_SAFE_NO_PAD.encode(*secret))))
}

pub(super) fn digest(token: &str) -> Sha256Digest {
    Sha256Digest::from_bytes(Sha256::digest(token.as_bytes()).into())
}

const MAX_LABEL: usize = 128; // characters
const TOKEN_PREFIX: &str = "motorcade_";
