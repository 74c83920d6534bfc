//! Digests of an upload's body, in whatever field a client sends them: one that can be checked is,
//! and any other is refused. Who sends a digest relies on its being compared.

use actix_web::http::header::HeaderMap;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::repr_digest;
use crate::app::Error;
use crate::model::Sha256Digest;

/// The SHA-256 that a request announces for its body: in the fields of RFC 9530, in the one that
/// they replaced (RFC 3230), or in those of object stores.
///
/// # Errors
///
/// [`Error::Invalid`] if a field can't be read, has no SHA-256, or contradicts another.
pub(in crate::http) fn announced_sha256(
    headers: &HeaderMap,
) -> Result<Option<Sha256Digest>, Error> {
    let mut announced = of_rfc_9530(headers)?;
    for (name, value) in headers {
        let name = name.as_str();
        let text = || value.to_str().map(str::trim).map_err(|_| unreadable(name));
        let sha256 = match name {
            "repr-digest" | "content-digest" => continue,
            "digest" => of_rfc_3230(text()?).ok_or_else(|| unreadable(name))?,
            "x-amz-checksum-sha256" => base64(text()?).ok_or_else(|| unreadable(name))?,
            "x-amz-content-sha256" if text()? == "UNSIGNED-PAYLOAD" => continue,
            "x-checksum-sha256" | "x-amz-content-sha256" => {
                text()?.parse().map_err(|_| unreadable(name))?
            }
            "trailer"
                if text()?
                    .split(',')
                    .any(|field| is_digest(&field.trim().to_ascii_lowercase())) =>
            {
                return Err(unknown("trailer", "a digest after the body is not read"));
            }
            _ if is_digest(name) => return Err(unknown(name, "it is not checked here")),
            _ => continue,
        };
        if announced.is_some_and(|other| other != sha256) {
            return Err(invalid(format!("the field {name} contradicts another digest field")));
        }
        announced = Some(sha256);
    }
    Ok(announced)
}

/// Whether a field is for the digest of a body. Proxies add digests of certificates, which are none
/// of these.
fn is_digest(name: &str) -> bool {
    let of_content = [
        "content-",
        "x-content-",
        "x-amz-content-",
        "x-bz-content-",
        "x-ms-content-",
        "x-ms-blob-content-",
    ];
    let is_of_content = of_content.iter().any(|prefix| name.starts_with(prefix));
    let algorithms = [
        "md5", "sha1", "sha-1", "sha2", "sha-2", "sha3", "sha-3", "sha5", "sha-5", "crc32", "crc64",
    ];
    ["digest", "repr-digest", "content-digest", "x-digest", "x-goog-hash", "x-amz-trailer"]
        .contains(&name)
        || name.contains("checksum")
        || is_of_content && algorithms.iter().any(|algorithm| name.contains(algorithm))
}

/// The SHA-256 that a request announces for its body. An upload has no content coding and no range,
/// so the digest of its content is the digest of its representation.
fn of_rfc_9530(headers: &HeaderMap) -> Result<Option<Sha256Digest>, Error> {
    let mut announced = None;
    for name in ["repr-digest", "content-digest"] {
        for line in headers.get_all(name) {
            let text = line.to_str().map_err(|_| unusable(name, "it is not ASCII"))?;
            let sha256 = repr_digest::parse(text).map_err(|reason| unusable(name, reason))?;
            if announced.is_some_and(|other| other != sha256) {
                return Err(unusable(name, "it contradicts another digest field"));
            }
            announced = Some(sha256);
        }
    }
    Ok(announced)
}

/// `Digest: SHA-256=…`, perhaps beside other algorithms (RFC 3230, 4.3.2).
fn of_rfc_3230(text: &str) -> Option<Sha256Digest> {
    text.split(',').find_map(|member| {
        let (algorithm, value) = member.trim().split_once('=')?;
        algorithm.eq_ignore_ascii_case("sha-256").then(|| base64(value))?
    })
}

fn base64(text: &str) -> Option<Sha256Digest> {
    let bytes: [u8; 32] = STANDARD.decode(text).ok()?.try_into().ok()?;
    Some(Sha256Digest::from_bytes(bytes))
}

fn unreadable(name: &str) -> Error {
    invalid(format!(
        "the field {name} can't be used: it has no SHA-256, the one algorithm that is checked here; {INSTEAD}"
    ))
}

fn unknown(name: &str, why: &str) -> Error {
    let detail = format!("the field {name} is not passed over, and {why}; {INSTEAD}");
    Error::Invalid { code: "unknown_digest_field", detail }
}

fn unusable(name: &str, reason: &str) -> Error {
    invalid(format!("the field {name} can't be used: {reason}"))
}

fn invalid(detail: String) -> Error {
    Error::Invalid { code: "bad_digest_field", detail }
}

const INSTEAD: &str = "send `Repr-Digest: sha-256=:BASE64:` instead, or no digest";

#[cfg(test)]
mod tests {
    use actix_web::http::header::{HeaderName, HeaderValue};

    use super::*;

    const BASE64: &str = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn announced(fields: &[(&str, &str)]) -> Result<Option<String>, &'static str> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(
                HeaderName::try_from(*name).unwrap(),
                HeaderValue::from_str(value).unwrap(),
            );
        }
        match announced_sha256(&headers) {
            Ok(announced) => Ok(announced.map(|sha256| sha256.to_string())),
            Err(Error::Invalid { code, .. }) => Err(code),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn sha_256_is_read_wherever_it_is_sent() {
        for (name, value) in [
            ("Repr-Digest", format!("sha-256=:{BASE64}:")),
            ("Content-Digest", format!("sha-256=:{BASE64}:")),
            ("Digest", format!("SHA-256={BASE64}")),
            ("Digest", format!("MD5=1B2M2Y8AsgTpgAmY7PhCfg==, sha-256={BASE64}")),
            ("x-amz-checksum-sha256", BASE64.to_owned()),
            ("X-Checksum-Sha256", HEX.to_owned()),
            ("x-amz-content-sha256", HEX.to_owned()),
        ] {
            assert_eq!(announced(&[(name, &value)]), Ok(Some(HEX.to_owned())), "{name}");
        }
        let other = HEX.replace('e', "f");
        assert_eq!(
            announced(&[("digest", &format!("SHA-256={BASE64}")), ("x-checksum-sha256", HEX)]),
            Ok(Some(HEX.into()))
        );
        assert_eq!(
            announced(&[("digest", &format!("SHA-256={BASE64}")), ("x-checksum-sha256", &other)]),
            Err("bad_digest_field")
        );
    }

    #[test]
    fn what_can_not_be_checked_is_refused() {
        for (name, value) in [
            ("digest", "MD5=AAAA"),
            ("digest", "SHA-256=AAAA"),
            ("x-checksum-sha256", "x"),
            ("x-amz-checksum-sha256", HEX),
        ] {
            assert_eq!(announced(&[(name, value)]), Err("bad_digest_field"), "{name}");
        }
        for name in [
            "content-md5",
            "x-checksum-sha1",
            "x-checksum",
            "x-amz-checksum-crc32",
            "x-goog-hash",
            "x-amz-trailer",
            "x-bz-content-sha1",
            "x-ms-blob-content-md5",
            "x-ms-content-crc64",
        ] {
            assert_eq!(announced(&[(name, "AAAA")]), Err("unknown_digest_field"), "{name}");
        }
        assert_eq!(announced(&[("trailer", "x, Repr-Digest")]), Err("unknown_digest_field"));
    }

    #[test]
    fn other_fields_are_no_digests() {
        for (name, value) in [
            ("x-amz-content-sha256", "UNSIGNED-PAYLOAD"),
            ("want-repr-digest", "sha-256=1"),
            ("trailer", "x-signature"),
            ("x-client-cert-sha256", "AAAA"),
            ("content-type", "text/plain"),
            ("x-ssl-client-sha1", "AAAA"),
        ] {
            assert_eq!(announced(&[(name, value)]), Ok(None), "{name}");
        }
    }
}
