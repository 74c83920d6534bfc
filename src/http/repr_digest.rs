//! `Repr-Digest` and `Content-Digest` (RFC 9530) of an upload.

use actix_web::http::header::HeaderMap;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::app::Error;
use crate::model::Sha256Digest;

/// The SHA-256 that a request announces for its body. An upload has no content coding and no range, so the digest of
/// its content is the digest of its representation.
///
/// # Errors
///
/// [`Error::Invalid`] if a field can't be read, names no sha-256, or the two contradict each other: a client that sends
/// a digest wants it checked.
pub(super) fn announced_sha256(headers: &HeaderMap) -> Result<Option<Sha256Digest>, Error> {
    let mut announced = None;
    for name in ["repr-digest", "content-digest"] {
        for line in headers.get_all(name) {
            let text = line.to_str().map_err(|_| invalid(name, "it is not ASCII"))?;
            let sha256 = parse(text).map_err(|reason| invalid(name, reason))?;
            if announced.is_some_and(|other| other != sha256) {
                return Err(invalid(name, "it contradicts another digest field"));
            }
            announced = Some(sha256);
        }
    }
    Ok(announced)
}

/// One structured-field dictionary (RFC 9651, 3.2) of byte sequences; members of other algorithms are passed over.
fn parse(text: &str) -> Result<Sha256Digest, &'static str> {
    let member = text.split(',').map(str::trim).find_map(|member| member.strip_prefix("sha-256="));
    let value = member.ok_or("it has no sha-256, the one algorithm that is checked here")?;
    let encoded =
        value.strip_prefix(':').and_then(|rest| rest.strip_suffix(':')).ok_or("write it as sha-256=:BASE64:")?;
    let bytes = STANDARD.decode(encoded).map_err(|_| "its value is not base64")?;
    let bytes: [u8; 32] = bytes.try_into().map_err(|_| "a SHA-256 has 32 bytes")?;
    Ok(Sha256Digest::from_bytes(bytes))
}

fn invalid(field: &str, reason: &str) -> Error {
    Error::Invalid { code: "bad_digest_field", detail: format!("the field {field} can't be used: {reason}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_rfc_s_own_form() {
        let empty = "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:";
        let expected = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(parse(empty).unwrap().to_string(), expected);
        assert_eq!(parse(&format!("sha-512=:AAAA:, {empty}")).unwrap().to_string(), expected);
    }

    #[test]
    fn a_digest_that_can_t_be_checked_is_refused() {
        for text in ["", "sha-512=:AAAA:", "sha-256=AAAA", "sha-256=:AAAA:", "sha-256=:!:", "sha-256=:"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
