//! What the fields of an upload say of its body. An image is signed for ever, so whatever makes the
//! body something else than the image as it is, a part of it, or wrapped, is refused and never
//! passed over.

use actix_web::http::header::{self, HeaderMap, HeaderName};

use crate::app::Error;
use crate::app::images::ingest::EmptyImage;
use crate::http::rfc::digest_fields::announced_sha256;
use crate::model::Sha256Digest;

/// An upload's body, before any of it has come.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::http) struct BodyFields {
    /// How it is delimited.
    pub(in crate::http) framing: Framing,
    /// What it has to hash to.
    pub(in crate::http) expected_sha256: Option<Sha256Digest>,
}

/// How an upload's body is delimited (RFC 9112, 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) enum Framing {
    /// By its length in bytes.
    Length(u64),
    /// In chunks.
    Chunked,
    /// Not at all: there is none.
    NoBody,
}

impl Framing {
    /// The body's length, if that can be known.
    ///
    /// # Errors
    ///
    /// [`Error::LengthRequired`] for an image without a body, unless the client has asked for one
    /// without bytes.
    pub(in crate::http) fn content_length(self, empty: EmptyImage) -> Result<Option<u64>, Error> {
        match self {
            Self::Length(length) => Ok(Some(length)),
            Self::Chunked => Ok(None),
            Self::NoBody if empty == EmptyImage::Allowed => Ok(Some(0)),
            Self::NoBody => {
                let detail = "the request has no body: send the image with Content-Length or in chunks, as `curl -T FILE` does";
                Err(Error::LengthRequired { detail: detail.into() })
            }
        }
    }
}

/// Reads the fields that are about the body.
///
/// # Errors
///
/// [`Error::Invalid`] or [`Error::UnsupportedMediaType`].
pub(in crate::http) fn parse(headers: &HeaderMap) -> Result<BodyFields, Error> {
    refuse_parts(headers)?;
    refuse_codings(headers)?;
    let expected_sha256 = announced_sha256(headers)?;
    refuse_wrapping(headers, expected_sha256.is_some())?;
    let framing = match content_length(headers) {
        Some(length) => Framing::Length(length),
        None if headers.contains_key(header::TRANSFER_ENCODING) => Framing::Chunked,
        None => Framing::NoBody,
    };
    Ok(BodyFields { framing, expected_sha256 })
}

/// The length of a body in bytes, if the client sent it.
pub(super) fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok())
}

/// `Content-Range` (RFC 9110, 14.5), which `curl -C` sends, and what resumable uploads have in its
/// place.
fn refuse_parts(headers: &HeaderMap) -> Result<(), Error> {
    let value = |name: &str| headers.get(name).map(|value| value.as_bytes().trim_ascii().to_vec());
    let is_part = headers.contains_key(header::CONTENT_RANGE)
        || ["x-content-range", "upload-offset", "tus-resumable"]
            .iter()
            .any(|name| headers.contains_key(*name))
        || value("upload-complete").is_some_and(|value| value != b"?1")
        || value("upload-incomplete").is_some_and(|value| value != b"?0");
    if !is_part {
        return Ok(());
    }
    let detail = "a part of an image can't be uploaded here: send the whole image in one request, as `curl -T FILE` does \
                  without -C, or upload it by parts with tus, at /api/v1/uploads";
    Err(Error::Invalid { code: "partial_body", detail: detail.into() })
}

fn refuse_codings(headers: &HeaderMap) -> Result<(), Error> {
    let is_coded = |name: HeaderName, plain: &[&str]| {
        let mut tokens =
            headers.get_all(name).flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
        tokens.any(|token| {
            !plain.iter().any(|plain| token.trim_ascii().eq_ignore_ascii_case(plain.as_bytes()))
        })
    };
    if is_coded(header::CONTENT_ENCODING, &["identity"]) {
        let detail = "send the image as it is, without Content-Encoding: it is hashed and sealed as it comes";
        return Err(Error::Invalid { code: "content_coding", detail: detail.into() });
    }
    // HTTP takes the chunks away, and nothing else (RFC 9112, 6.1).
    if is_coded(header::TRANSFER_ENCODING, &["chunked"]) {
        let detail = "send the image as it is, in chunks or not, without another Transfer-Encoding";
        return Err(Error::Invalid { code: "content_coding", detail: detail.into() });
    }
    if is_coded(HeaderName::from_static("content-transfer-encoding"), &["binary", "8bit", "7bit"]) {
        let detail = "send the image as it is, without Content-Transfer-Encoding: it is hashed and sealed as it comes";
        return Err(Error::Invalid { code: "content_coding", detail: detail.into() });
    }
    Ok(())
}

/// Forms. Some clients say that raw bytes are one (`wget`, `curl --data-binary`); others have
/// changed them (`curl -d @FILE` strips line ends): only a digest tells.
fn refuse_wrapping(headers: &HeaderMap, is_digest_announced: bool) -> Result<(), Error> {
    for value in headers.get_all(header::CONTENT_TYPE) {
        let kind =
            value.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        let kind = kind.to_ascii_lowercase();
        if kind.starts_with(b"multipart/") {
            let detail = "the body is the image and nothing else, and no form (multipart): send it with `curl -T FILE`";
            return Err(Error::UnsupportedMediaType { detail: detail.into() });
        }
        if kind == b"application/x-www-form-urlencoded" && !is_digest_announced {
            let detail = "Content-Type says that the body is a form, and it is to be the image as it is (`curl -d` strips \
                          line ends): send it with `curl -T FILE`, say `Content-Type: application/octet-stream`, or send \
                          its digest in Repr-Digest";
            return Err(Error::UnsupportedMediaType { detail: detail.into() });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    fn headers(fields: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(
                HeaderName::try_from(*name).unwrap(),
                HeaderValue::from_str(value).unwrap(),
            );
        }
        headers
    }

    fn code(fields: &[(&str, &str)]) -> &'static str {
        match parse(&headers(&[&[("content-length", "7")], fields].concat())) {
            Ok(_) => "taken",
            Err(Error::Invalid { code, .. }) => code,
            Err(Error::UnsupportedMediaType { .. }) => "media type",
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn parts_and_codings_are_refused_however_they_are_written() {
        for field in [
            ("content-range", "bytes 5-9/10"),
            ("x-content-range", "bytes 5-9/10"),
            ("upload-offset", "5"),
            ("upload-complete", "?0"),
            ("upload-incomplete", "?1"),
            ("tus-resumable", "1.0.0"),
        ] {
            assert_eq!(code(&[field]), "partial_body", "{field:?}");
        }
        for fields in [
            &[("content-encoding", "gzip")][..],
            &[("content-encoding", "identity, aws-chunked")],
            &[("content-encoding", "identity"), ("content-encoding", "br")],
            &[("content-transfer-encoding", "base64")],
            &[("transfer-encoding", "gzip, chunked")],
        ] {
            assert_eq!(code(fields), "content_coding", "{fields:?}");
        }
        assert_eq!(code(&[("content-encoding", "Identity"), ("upload-complete", "?1")]), "taken");
    }

    #[test]
    fn forms_are_refused_and_a_digest_excuses_one_of_them() {
        let digest = ("repr-digest", "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:");
        for kind in ["multipart/form-data; boundary=x", "Multipart/Mixed", "multipart/byteranges"] {
            assert_eq!(code(&[("content-type", kind)]), "media type");
            assert_eq!(code(&[("content-type", kind), digest]), "media type");
        }
        let form = ("content-type", "application/X-WWW-form-urlencoded; charset=utf-8");
        assert_eq!(code(&[form]), "media type");
        assert_eq!(code(&[("content-type", "text/plain"), form]), "media type");
        assert_eq!(code(&[form, digest]), "taken");
        assert_eq!(code(&[("content-type", "application/gzip")]), "taken");
    }

    #[test]
    fn a_body_has_a_length_or_chunks() {
        let length = |fields: &[(&str, &str)], empty| {
            parse(&headers(fields)).unwrap().framing.content_length(empty)
        };
        for empty in [EmptyImage::Refused, EmptyImage::Allowed] {
            assert_eq!(length(&[("transfer-encoding", "chunked")], empty).unwrap(), None);
            assert_eq!(length(&[("content-length", "7")], empty).unwrap(), Some(7));
        }
        assert!(matches!(length(&[], EmptyImage::Refused), Err(Error::LengthRequired { .. })));
        assert_eq!(length(&[], EmptyImage::Allowed).unwrap(), Some(0));
    }
}
