//! What is staged, whichever role it is, on its way out and in.

use actix_web::HttpResponse;
use actix_web::http::header::{ETAG, HeaderName};
use serde::Serialize;
use serde_json::Value;

use crate::api::{NewSignature, NewSignatures, SignatureBody};
use crate::app::Error;
use crate::app::ceremony::{Offer, OfferedSignature};
use crate::app::staging::Staging;
use crate::model::{ParseDigestError, Sha256Digest};

/// Shows a role, and which staging it has.
pub(super) fn shown(body: impl Serialize, staging: Option<&Staging>) -> HttpResponse {
    let mut response = HttpResponse::Ok();
    if let Some(staging) = staging {
        response.insert_header(entity_tag(staging));
    }
    response.json(body)
}

/// Which of all stagings it is.
fn entity_tag(staging: &Staging) -> (HeaderName, String) {
    (ETAG, format!("\"{}\"", staging.tag()))
}

/// The staged file, with the signatures that came in.
pub(super) fn draft(staging: &Staging) -> Result<Value, Error> {
    json(&staging.draft()?)
}

/// A metadata file of our own.
pub(super) fn json(file: &[u8]) -> Result<Value, Error> {
    serde_json::from_slice(file).map_err(|error| Error::Internal(error.into()))
}

/// The signatures that were kept.
pub(super) fn signatures(staging: &Staging) -> Vec<SignatureBody> {
    let kept = staging.signatures.iter().map(|signature| SignatureBody {
        key_id: signature.key_id.to_string(),
        signed_at: signature.created_at.to_string(),
        signed_by: signature.created_by.clone(),
    });
    kept.collect()
}

/// Signatures that somebody brings.
///
/// # Errors
///
/// [`Error::Invalid`] if the digest is none.
pub(super) fn offer(new: NewSignatures) -> Result<Offer, Error> {
    let payload = new.payload_sha256.as_deref().map(|text| digest("payload_sha256", text));
    let offered = |NewSignature { keyid, sig }| OfferedSignature { key_id: keyid, signature: sig };
    let signatures = new.signatures.into_iter().map(offered).collect();
    Ok(Offer { payload: payload.transpose()?, signatures })
}

/// Reads a digest, or the id of a key, of the member `name`.
///
/// # Errors
///
/// [`Error::Invalid`] if it is none.
pub(super) fn digest(name: &str, text: &str) -> Result<Sha256Digest, Error> {
    text.parse().map_err(|rule: ParseDigestError| Error::Invalid {
        code: "bad_digest",
        detail: format!("`{name}`: {rule}"),
    })
}
