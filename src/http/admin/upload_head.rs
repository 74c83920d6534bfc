//! The head of an upload, `PUT /api/v1/images/{path}?…`, as an [`UploadRequest`].

use actix_web::http::header::HeaderMap;
use percent_encoding::percent_decode_str;

use super::query::bad_query;
use super::upload_body;
use crate::api::UploadQuery;
use crate::app::Error;
use crate::app::access::Principal;
use crate::app::images::ingest::{EmptyImage, UploadRequest};
use crate::app::images::precondition::Precondition;
use crate::http::rfc::conditional;
use crate::model::{ImageDescription, ImageName, ImagePath};

/// Below which path images are.
pub(in crate::http) const IMAGES: &str = "/api/v1/images/";

/// Reads the head of an upload to `path`.
///
/// # Errors
///
/// [`Error::Invalid`] names the part and the rule that it breaks.
pub(in crate::http) fn parse(
    path: ImagePath,
    query: &str,
    headers: &HeaderMap,
    by: &Principal,
) -> Result<UploadRequest, Error> {
    let body = upload_body::parse(headers)?;
    let query = UploadQuery::parse(query).map_err(bad_query)?;
    let mut request = described(path, query, by)?;
    request.expected_sha256 = body.expected_sha256;
    request.content_length = body.framing.content_length(request.empty)?;
    request.precondition = conditional::precondition(headers)?;
    Ok(request)
}

/// An upload to `path` of which no more is known than a query says.
///
/// # Errors
///
/// [`Error::Invalid`] if the path's last part can't be a name, and none is given.
pub(in crate::http) fn described(
    path: ImagePath,
    query: UploadQuery,
    by: &Principal,
) -> Result<UploadRequest, Error> {
    let name = match query.name {
        Some(name) => name,
        None => default_name(&path)?,
    };
    let empty = if query.allows_empty { EmptyImage::Allowed } else { EmptyImage::Refused };
    Ok(UploadRequest {
        path,
        description: ImageDescription {
            name,
            version: query.version,
            hardware_ids: query.hardware_ids,
            release_counter: query.release_counter,
            target_format: query.target_format,
            requires: query.requires,
            conflicts: query.conflicts,
        },
        algorithm: query.algorithm,
        recipients: query.recipients,
        expected_sha256: None,
        empty,
        content_length: None,
        precondition: Precondition::default(),
        copy_of: None,
        by: by.clone(),
    })
}

/// The image path in a request's path, which may be percent-encoded.
///
/// # Errors
///
/// [`Error::Invalid`] names the rule that it breaks.
pub(in crate::http) fn image_path(encoded: &str) -> Result<ImagePath, Error> {
    let decoded = percent_decode_str(encoded).decode_utf8();
    let decoded = decoded.map_err(|_| bad_path("image path must be ASCII"))?;
    image_path_of(&decoded)
}

/// An image path as it is.
///
/// # Errors
///
/// [`Error::Invalid`] names the rule that it breaks.
pub(in crate::http) fn image_path_of(text: &str) -> Result<ImagePath, Error> {
    text.parse().map_err(bad_path)
}

fn bad_path(rule: impl ToString) -> Error {
    Error::Invalid { code: "bad_image_path", detail: rule.to_string() }
}

/// The file's name without its extension, as much of it as a name may have.
fn default_name(path: &ImagePath) -> Result<ImageName, Error> {
    let file = path.as_str().rsplit('/').next().unwrap_or_default();
    let stem = file.rsplit_once('.').map_or(file, |(stem, _)| stem);
    let name = if stem.is_empty() { file } else { stem };
    name.get(..ImageName::MAX_LENGTH).unwrap_or(name).parse().map_err(bad_query)
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{self, HeaderValue};

    use super::*;
    use crate::model::{AccessRole, HardwareId, SealAlgorithm};

    fn parsed(query: &str) -> Result<UploadRequest, String> {
        let by = Principal {
            id: "token".into(),
            role: AccessRole::Uploader,
            path_prefix: None,
            request_id: None,
        };
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("7"));
        let path = image_path("gw/4.2.0/gateway.bin").unwrap();
        parse(path, query, &headers, &by).map_err(|error| error.to_string())
    }

    #[test]
    fn reads_what_the_readme_shows() {
        let request = parsed("hardware_id=gw-mk3&version=4.2.0&release_counter=42").unwrap();
        assert_eq!(request.description.name.as_str(), "gateway");
        assert_eq!(request.description.release_counter.value(), 42);
        assert_eq!(request.algorithm, SealAlgorithm::Aes256GcmHkdf1Mb);
        assert_eq!(request.recipients, None);
    }

    #[test]
    fn lists_are_given_by_repeating_and_their_order_is_nothing() {
        let one = parsed("hardware_id=b&hardware_id=a&hardware_id=b&version=1&release_counter=1")
            .unwrap();
        let ids: Vec<_> = one.description.hardware_ids.iter().map(HardwareId::as_str).collect();
        assert_eq!(ids, ["a", "b"]);
    }

    #[test]
    fn names_what_is_missing_unknown_or_doubled() {
        let all = "hardware_id=a&version=1&release_counter=1";
        for (query, expected) in [
            ("version=1&release_counter=1", "`hardware_id` is missing"),
            ("hardware_id=a&release_counter=1", "`version` is missing"),
            ("hardware_id=a&version=1", "`release_counter` is missing"),
            (&format!("{all}&version=2"), "`version` is given twice"),
            (&format!("{all}&hwid=2"), "unknown query parameter \"hwid\""),
            (&format!("{all}&algorithm=AES"), "unknown sealing algorithm"),
            (&format!("{all}&target_format=ZIP"), "`target_format` must be"),
            (&format!("{all}&requires=gw%3E%3Dx"), "\"gw>=x\" is no constraint"),
            ("hardware_id=a&version=1&release_counter=-1", "`release_counter` must be"),
            ("hardware_id=a%20b&version=1&release_counter=1", "`hardware_id` must not contain"),
            (
                "hardware_id=a&version=4.2.0+build.7&release_counter=1",
                "`version` has a raw `+`: write `%2B`",
            ),
            (
                "hardware_id=a&version=4.2.0%20build.7&release_counter=1",
                "`version` must not contain a space",
            ),
            (&format!("{all}&name=lib++"), "`name` has a raw `+`"),
            (&format!("{all}&requires=lib%2Ba+"), "`requires` has a raw `+`"),
            (&format!("{all}&allow_empty=yes"), "`allow_empty` must be"),
        ] {
            let error = parsed(query).unwrap_err();
            assert!(error.starts_with(expected), "{query}: {error}");
        }
    }

    #[test]
    fn a_plus_and_a_space_are_signed_as_they_are_meant() {
        let request =
            parsed("hardware_id=a&version=4.2.0%2Bbuild.7&release_counter=1&name=two+words")
                .unwrap();
        assert_eq!(request.description.version.as_str(), "4.2.0+build.7");
        assert_eq!(request.description.name.as_str(), "two words");
    }

    #[test]
    fn an_encoded_path_meets_the_same_rules() {
        assert_eq!(image_path("gw/4.2.0%2Bb1/x.bin").unwrap().as_str(), "gw/4.2.0+b1/x.bin");
        for path in
            ["gw/%2e%2e/x", "%2Fgw/x", "gw%2F%2Fx", "gw/%00", "gw/%ff", "gw/%C3%A9", "gw/%25"]
        {
            assert!(
                matches!(image_path(path), Err(Error::Invalid { code: "bad_image_path", .. })),
                "{path}"
            );
        }
    }
}
