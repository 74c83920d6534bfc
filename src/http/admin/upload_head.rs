//! The head of an upload, `PUT /api/v1/images/{path}?…`, as an [`UploadRequest`].

use actix_web::http::header::HeaderMap;
use percent_encoding::percent_decode_str;
use url::form_urlencoded;

use super::upload_body;
use crate::app::Error;
use crate::app::access::Principal;
use crate::app::images::ingest::{EmptyImage, UploadRequest};
use crate::app::images::precondition::Precondition;
use crate::http::rfc::conditional;
use crate::model::{
    Constraint, HardwareId, ImageDescription, ImageName, ImagePath, SealAlgorithm, TargetFormat,
};

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
    let mut request = Query::parse(query)?.into_request(path, by)?;
    request.expected_sha256 = body.expected_sha256;
    request.content_length = body.framing.content_length(request.empty)?;
    request.precondition = conditional::precondition(headers)?;
    Ok(request)
}

/// The image path in a request's path, which may be percent-encoded.
///
/// # Errors
///
/// [`Error::Invalid`] names the rule that it breaks.
pub(in crate::http) fn image_path(encoded: &str) -> Result<ImagePath, Error> {
    let decoded = percent_decode_str(encoded).decode_utf8();
    let decoded = decoded.map_err(|_| bad_path("image path must be ASCII"))?;
    decoded.parse().map_err(bad_path)
}

fn bad_path(rule: impl ToString) -> Error {
    Error::Invalid { code: "bad_image_path", detail: rule.to_string() }
}

/// The members of the query; each once but for those that are lists.
#[derive(Default)]
struct Query {
    hardware_ids: Vec<String>,
    recipients: Vec<String>,
    version: Option<String>,
    release_counter: Option<String>,
    name: Option<String>,
    target_format: Option<String>,
    algorithm: Option<String>,
    requires: Vec<String>,
    conflicts: Vec<String>,
    allow_empty: Option<String>,
}

impl Query {
    fn parse(text: &str) -> Result<Self, Error> {
        refuse_raw_plus(text)?;
        let mut query = Self::default();
        for (member, value) in form_urlencoded::parse(text.as_bytes()) {
            let value = value.into_owned();
            let single = match &*member {
                "hardware_id" => {
                    query.hardware_ids.push(value);
                    continue;
                }
                "recipient" => {
                    query.recipients.push(value);
                    continue;
                }
                "requires" => {
                    query.requires.push(value);
                    continue;
                }
                "conflicts" => {
                    query.conflicts.push(value);
                    continue;
                }
                "version" => &mut query.version,
                "release_counter" => &mut query.release_counter,
                "name" => &mut query.name,
                "target_format" => &mut query.target_format,
                "algorithm" => &mut query.algorithm,
                "allow_empty" => &mut query.allow_empty,
                other => {
                    return Err(bad_query(format!(
                        "unknown query parameter {other:.40?}: use {ALLOWED}"
                    )));
                }
            };
            if single.replace(value).is_some() {
                return Err(bad_query(format!("`{member}` is given twice")));
            }
        }
        Ok(query)
    }

    fn into_request(self, path: ImagePath, by: &Principal) -> Result<UploadRequest, Error> {
        let mut hardware_ids: Vec<HardwareId> = self
            .hardware_ids
            .into_iter()
            .map(|id| id.parse().map_err(bad_query))
            .collect::<Result<_, _>>()?;
        hardware_ids.sort();
        hardware_ids.dedup();
        if hardware_ids.is_empty() {
            return Err(bad_query(
                "`hardware_id` is missing: say which hardware may run the image, once for each",
            ));
        }
        let name = match self.name {
            Some(name) => name.parse().map_err(bad_query)?,
            None => default_name(&path)?,
        };
        let missing = |member: &str| bad_query(format!("`{member}` is missing"));
        let version = self.version.ok_or_else(|| missing("version"))?;
        if version.contains(' ') {
            return Err(bad_query(
                "`version` must not contain a space; a `+` is written `%2B` in a query",
            ));
        }
        let release_counter = self.release_counter.ok_or_else(|| missing("release_counter"))?;
        let target_format =
            self.target_format.map(|format| format.parse()).transpose().map_err(bad_query)?;
        let algorithm =
            self.algorithm.map(|algorithm| algorithm.parse()).transpose().map_err(bad_query)?;
        Ok(UploadRequest {
            path,
            description: ImageDescription {
                name,
                version: version.parse().map_err(bad_query)?,
                hardware_ids,
                release_counter: release_counter.parse().map_err(bad_query)?,
                target_format: target_format.unwrap_or(TargetFormat::Binary),
                requires: constraints(self.requires)?,
                conflicts: constraints(self.conflicts)?,
            },
            algorithm: algorithm.unwrap_or(SealAlgorithm::Aes256GcmHkdf1Mb),
            recipients: (!self.recipients.is_empty()).then_some(self.recipients),
            expected_sha256: None,
            empty: empty_image(self.allow_empty.as_deref())?,
            precondition: Precondition::default(),
            content_length: None,
            uploaded_by: by.id.clone(),
            request_id: by.request_id.clone(),
            folder: by.path_prefix.clone(),
        })
    }
}

/// A form writes a space as `+`, and people write `4.2.0+build.7` as it is: what is signed must not
/// depend on who is right. Where there can be spaces, a `+` is one, as libraries write it; where it
/// can't be, or where two of them or one at an end show that it was none (`libstdc++`), it is
/// refused.
fn refuse_raw_plus(text: &str) -> Result<(), Error> {
    for member in text.split('&').filter(|member| member.contains('+')) {
        let (name, value) = member.split_once('=').unwrap_or((member, ""));
        let is_text = matches!(name, "name" | "requires" | "conflicts");
        let is_odd = value.starts_with('+') || value.ends_with('+') || value.contains("++");
        if !is_text || is_odd {
            return Err(bad_query(format!(
                "`{name:.40}` has a raw `+`: write `%2B` for a plus, or `%20` for a space"
            )));
        }
    }
    Ok(())
}

fn empty_image(allowed: Option<&str>) -> Result<EmptyImage, Error> {
    match allowed {
        None | Some("false") => Ok(EmptyImage::Refused),
        Some("true") => Ok(EmptyImage::Allowed),
        Some(_) => Err(bad_query("`allow_empty` must be true or false")),
    }
}

fn constraints(texts: Vec<String>) -> Result<Vec<Constraint>, Error> {
    if texts.len() > MAX_CONSTRAINTS {
        return Err(bad_query(format!(
            "an image can require and conflict with {MAX_CONSTRAINTS} others each"
        )));
    }
    let mut constraints: Vec<Constraint> =
        texts.into_iter().map(|text| text.parse().map_err(bad_query)).collect::<Result<_, _>>()?;
    constraints.sort();
    constraints.dedup();
    Ok(constraints)
}

/// The file's name without its extension, as much of it as a name may have.
fn default_name(path: &ImagePath) -> Result<ImageName, Error> {
    let file = path.as_str().rsplit('/').next().unwrap_or_default();
    let stem = file.rsplit_once('.').map_or(file, |(stem, _)| stem);
    let name = if stem.is_empty() { file } else { stem };
    name.get(..ImageName::MAX_LENGTH).unwrap_or(name).parse().map_err(bad_query)
}

fn bad_query(detail: impl ToString) -> Error {
    Error::Invalid { code: "bad_query", detail: detail.to_string() }
}

const ALLOWED: &str = "hardware_id, version, release_counter, name, target_format, algorithm, recipient, requires, conflicts and allow_empty";
const MAX_CONSTRAINTS: usize = 32; // they are in signed metadata, and checked with each assignment

#[cfg(test)]
mod tests {
    use actix_web::http::header::{self, HeaderValue};

    use super::*;
    use crate::model::AccessRole;

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
