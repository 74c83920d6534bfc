//! `Upload-Metadata` of tus: what an upload of a whole image says in its path and query, as pairs of a
//! key and a value in base64.
//!
//! A key can be there once only, so that lists have their members in one value, separated by spaces:
//! none of them can have one.

use actix_web::http::header::HeaderMap;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::query::bad_query;
use super::tus::METADATA;
use super::upload_head::{described, image_path_of};
use crate::api::UploadQuery;
use crate::app::Error;
use crate::app::access::Principal;
use crate::app::images::ingest::UploadRequest;
use crate::model::Sha256Digest;

/// Reads the upload that metadata describe, and returns it with the metadata as they are written.
///
/// # Errors
///
/// [`Error::Invalid`] names the key and the rule that it breaks.
pub(super) fn parse(headers: &HeaderMap, by: &Principal) -> Result<(UploadRequest, String), Error> {
    let text = headers.get(METADATA).map(|value| value.to_str()).transpose();
    let text = text.map_err(|_| bad("it is not ASCII"))?.unwrap_or_default();
    if text.len() > MOST_BYTES {
        return Err(bad(&format!("it has more than {MOST_BYTES} bytes")));
    }
    let (mut path, mut sha256, mut members) = (None, None, Vec::new());
    let mut seen = Vec::new();
    for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once(' ').unwrap_or((pair, ""));
        if seen.contains(&key) {
            return Err(bad(&format!(
                "`{key:.40}` is there twice; a list has spaces between its members"
            )));
        }
        seen.push(key);
        let value =
            STANDARD.decode(value.trim()).ok().and_then(|value| String::from_utf8(value).ok());
        let value =
            value.ok_or_else(|| bad(&format!("the value of `{key:.40}` is no text in base64")))?;
        match key {
            "path" => path = Some(image_path_of(&value)?),
            "sha256" => sha256 = Some(parse_sha256(&value)?),
            "hardware_id" | "recipient" | "requires" | "conflicts" => {
                let listed = value.split_whitespace();
                members.extend(listed.map(|member| (key.to_owned(), member.to_owned())));
            }
            "filename" | "filetype" => {} // clients add them by themselves
            _ => members.push((key.to_owned(), value)),
        }
    }
    let path = path.ok_or_else(|| bad("`path` is missing: say where the image goes"))?;
    let query = UploadQuery::of(members).map_err(bad_query)?;
    let mut request = described(path, query, by)?;
    request.expected_sha256 = sha256;
    Ok((request, text.to_owned()))
}

fn parse_sha256(text: &str) -> Result<Sha256Digest, Error> {
    text.parse().map_err(|_| bad("`sha256` has to be 64 hexadecimal digits, in lower case"))
}

fn bad(reason: &str) -> Error {
    Error::Invalid { code: "bad_upload_metadata", detail: format!("Upload-Metadata: {reason}") }
}

/// It is kept for as long as the upload, and what an image can say is shorter.
const MOST_BYTES: usize = 16 * 1024; // 16 KiB

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;
    use crate::model::AccessRole;

    fn parsed(pairs: &[(&str, &str)]) -> Result<UploadRequest, String> {
        let pairs: Vec<String> =
            pairs.iter().map(|(key, value)| format!("{key} {}", STANDARD.encode(value))).collect();
        raw(&pairs.join(",")).map(|(request, _)| request)
    }

    fn raw(text: &str) -> Result<(UploadRequest, String), String> {
        let by = Principal {
            id: "token".into(),
            role: AccessRole::Uploader,
            path_prefix: None,
            request_id: None,
        };
        let mut headers = HeaderMap::new();
        headers.insert(METADATA, HeaderValue::from_str(text).unwrap());
        parse(&headers, &by).map_err(|error| error.to_string())
    }

    const ALL: [(&str, &str); 4] = [
        ("path", "gw/4.2.0/gateway.bin"),
        ("hardware_id", "gw-mk3 gw-mk4"),
        ("version", "4.2.0+b1"),
        ("release_counter", "42"),
    ];

    #[test]
    fn says_what_a_path_and_a_query_say() {
        let more = [("name", "two words"), ("requires", "a>=1 b"), ("filename", "x y.bin")];
        let sha256 = [("sha256", &*"ab".repeat(32))];
        let request = parsed(&[&ALL[..], &more, &sha256].concat()).unwrap();
        assert_eq!(request.path.as_str(), "gw/4.2.0/gateway.bin");
        assert_eq!(request.description.version.as_str(), "4.2.0+b1");
        assert_eq!(request.description.name.as_str(), "two words");
        assert_eq!(
            (request.description.hardware_ids.len(), request.description.requires.len()),
            (2, 2)
        );
        assert_eq!(request.expected_sha256.unwrap().to_string(), "ab".repeat(32));
        assert_eq!(parsed(&ALL).unwrap().description.name.as_str(), "gateway");
    }

    #[test]
    fn names_what_is_wrong() {
        for (pairs, expected) in [
            (&ALL[1..], "Upload-Metadata: `path` is missing"),
            (&[&ALL[..], &[("path", "x")]].concat(), "Upload-Metadata: `path` is there twice"),
            (&[&ALL[..], &[("sha256", "AB")]].concat(), "Upload-Metadata: `sha256` has to be"),
            (&[&ALL[..], &[("hwid", "x")]].concat(), "unknown query parameter \"hwid\""),
            (&ALL[..3], "`release_counter` is missing"),
            (&[&ALL[1..], &[("path", "../x")]].concat(), "image path"),
        ] {
            let error = parsed(pairs).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
        for text in ["path ???", "path /w==", "path gw"] {
            let error = raw(text).unwrap_err();
            assert!(error.contains("no text in base64"), "{text}: {error}");
        }
        let long = format!("filename {}", "A".repeat(MOST_BYTES));
        assert!(raw(&long).unwrap_err().contains("more than 16384 bytes"));
        assert!(raw("").unwrap_err().contains("`path` is missing"), "tuspy sends an empty field");
    }
}
