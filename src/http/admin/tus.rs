//! What tus 1.0 says of requests and answers (<https://tus.io/protocols/resumable-upload>).

use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, HeaderMap, HeaderName, HeaderValue};
use actix_web::{HttpResponse, HttpResponseBuilder, ResponseError};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::app::Error;
use crate::app::images::resume::{Checksum, ChecksumAlgorithm, UploadShown};
use crate::http::ApiError;
use crate::http::rfc::date::HttpDate;

pub(super) const RESUMABLE: HeaderName = HeaderName::from_static("tus-resumable");
pub(super) const VERSION: HeaderName = HeaderName::from_static("tus-version");
pub(super) const OFFSET: HeaderName = HeaderName::from_static("upload-offset");
pub(super) const LENGTH: HeaderName = HeaderName::from_static("upload-length");
pub(super) const METADATA: HeaderName = HeaderName::from_static("upload-metadata");
const EXPIRES: HeaderName = HeaderName::from_static("upload-expires");
const CHECKSUM: HeaderName = HeaderName::from_static("upload-checksum");
/// The one version there is.
pub(super) const V1: &str = "1.0.0";

/// Refuses a client of another version.
///
/// # Errors
///
/// [`Error::Unexpected`].
pub(super) fn check_version(headers: &HeaderMap) -> Result<(), Error> {
    if headers.get(RESUMABLE).is_some_and(|version| version.as_bytes() == V1.as_bytes()) {
        return Ok(());
    }
    Err(Error::Unexpected { detail: "send `Tus-Resumable: 1.0.0`: this is tus 1.0".into() })
}

/// A number of bytes.
///
/// # Errors
///
/// [`Error::Invalid`] if it is missing, or none.
pub(super) fn number(headers: &HeaderMap, name: &HeaderName) -> Result<u64, Error> {
    let value = headers.get(name).and_then(|value| value.to_str().ok());
    let digits = value.filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    digits.and_then(|text| text.parse().ok()).ok_or_else(|| Error::Invalid {
        code: "bad_upload_field",
        detail: format!("`{name}` has to be a number of bytes"),
    })
}

/// What a part has to hash to, if that is said.
///
/// # Errors
///
/// [`Error::Invalid`] if it can't be read, or can't be checked.
pub(super) fn checksum(headers: &HeaderMap) -> Result<Option<Checksum>, Error> {
    let Some(value) = headers.get(CHECKSUM) else { return Ok(None) };
    let parse = || {
        let (algorithm, digest) = value.to_str().ok()?.trim().split_once(' ')?;
        let algorithm: ChecksumAlgorithm = algorithm.parse().ok()?;
        let digest = STANDARD.decode(digest.trim()).ok()?;
        (digest.len() == algorithm.digest_length()).then_some(Checksum { algorithm, digest })
    };
    parse().map(Some).ok_or_else(|| Error::Invalid {
        code: "bad_upload_field",
        detail: format!(
            "`Upload-Checksum` has to be {} and a digest in base64",
            algorithms(" or ")
        ),
    })
}

/// The algorithms of checksums.
pub(super) fn algorithms(between: &str) -> String {
    ChecksumAlgorithm::ALL.map(ChecksumAlgorithm::as_str).join(between)
}

/// The beginning of an answer that says how far an upload is.
pub(super) fn progress(status: StatusCode, upload: &UploadShown) -> HttpResponseBuilder {
    let mut response = HttpResponse::build(status);
    response
        .insert_header((OFFSET, upload.received))
        .insert_header((EXPIRES, HttpDate::from(upload.expires_at).to_string()))
        .insert_header((CACHE_CONTROL, "no-store"));
    response
}

/// An answer as tus has each: with the version, also where it is a refusal.
pub(super) fn answer(answer: Result<HttpResponse, ApiError>) -> HttpResponse {
    let mut response = answer.unwrap_or_else(|error| error.error_response());
    let is_of_version = response.status() == StatusCode::PRECONDITION_FAILED;
    let headers = response.headers_mut();
    headers.insert(RESUMABLE, HeaderValue::from_static(V1));
    if is_of_version {
        headers.insert(VERSION, HeaderValue::from_static(V1));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &HeaderName, value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name.clone(), HeaderValue::from_str(value).unwrap());
        headers
    }

    #[test]
    fn numbers_are_digits_and_nothing_else() {
        assert_eq!(number(&headers(&OFFSET, "0"), &OFFSET).unwrap(), 0);
        assert_eq!(number(&headers(&OFFSET, "8589934592"), &OFFSET).unwrap(), 1 << 33);
        for bad in ["", "-1", "+1", "1.0", "0x1", "99999999999999999999", "1 "] {
            let refused = number(&headers(&OFFSET, bad), &OFFSET);
            assert!(
                matches!(refused, Err(Error::Invalid { code: "bad_upload_field", .. })),
                "{bad}"
            );
        }
        assert!(number(&HeaderMap::new(), &OFFSET).is_err());
    }

    #[test]
    fn a_checksum_that_cannot_be_checked_is_refused() {
        assert_eq!(checksum(&HeaderMap::new()).unwrap(), None);
        let sha1 = "sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=";
        let found = checksum(&headers(&CHECKSUM, sha1)).unwrap().unwrap();
        assert_eq!((found.algorithm, found.digest.len()), (ChecksumAlgorithm::Sha1, 20));
        for bad in [
            "",
            "sha1",
            "md5 1B2M2Y8AsgTpgAmY7PhCfg==",
            "sha1 AAAA",
            "sha256 Kq5sNclPz7QV2+lfQIuc6R7oRu0=",
            "sha1 ?",
        ] {
            assert!(checksum(&headers(&CHECKSUM, bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_version_1_is_spoken() {
        check_version(&headers(&RESUMABLE, "1.0.0")).unwrap();
        for bad in ["", "0.2.2", "1.0", "2.0.0"] {
            assert!(check_version(&headers(&RESUMABLE, bad)).is_err(), "{bad}");
        }
        assert!(check_version(&HeaderMap::new()).is_err());
    }
}
