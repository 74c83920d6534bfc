//! `/director`: what a vehicle sends and gets, for itself alone.

use actix_web::http::header::{
    CACHE_CONTROL, CONTENT_LOCATION, CONTENT_TYPE, ETAG, HeaderMap, HeaderName,
};
use actix_web::{HttpRequest, HttpResponse, web};
use sha2::{Digest, Sha256};

use crate::app::access::Tokens;
use crate::app::director::{Director, DirectorFile, DirectorRole, MAX_MANIFEST_SIZE};
use crate::app::fleet::{Enrolment, Fleet, MAX_KEY_CHANGE_SIZE};
use crate::app::{Error, Limits};
use crate::http::ApiError;
use crate::http::auth::bearer_token;
use crate::http::error::not_json;
use crate::http::identity::{FromVehicle, claims_of};
use crate::http::observe::request_id::RequestId;
use crate::http::rfc::conditional::is_known;
use crate::model::{AccessRole, ParseFieldError, RoleName};

/// `PUT /director/manifest`: a vehicle that asks for it gets its timestamp with the answer.
pub(in crate::http) async fn submit_manifest(
    director: web::Data<Director>,
    limits: web::Data<Limits>,
    vehicle: FromVehicle,
    request: HttpRequest,
    body: web::Payload,
) -> Result<HttpResponse, ApiError> {
    // One byte more tells a manifest that is too large.
    let limit = MAX_MANIFEST_SIZE + 1;
    let body = read_body(&limits, body, limit).await?.unwrap_or_else(|| vec![b' '; limit].into());
    director.submit_manifest(&vehicle.vin, &body).await?;
    let timestamp = match preferred_after_root(request.headers()) {
        Some(root) => director.timestamp_after(&vehicle.vin, root).await,
        None => None,
    };
    let Some(timestamp) = timestamp else { return Ok(HttpResponse::NoContent().finish()) };
    Ok(HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "application/json"))
        .insert_header((CONTENT_LOCATION, "timestamp.json"))
        .insert_header((CACHE_CONTROL, PRIVATE))
        .insert_header((PREFERENCE_APPLIED, "return=representation"))
        .body(timestamp))
}

/// The version of the root that a vehicle trusts, if it prefers its timestamp in the answer to its
/// manifest (RFC 7240): `Prefer: return=representation; root=3`. Without the version it would not
/// learn of a newer root.
fn preferred_after_root(headers: &HeaderMap) -> Option<u64> {
    let lines = headers.get_all(PREFER).filter_map(|line| line.to_str().ok());
    let mut preferences = lines.flat_map(|line| line.split(','));
    // The first that says how to return counts (RFC 7240, 2).
    let (name, parameters) = preferences.find_map(|preference| {
        let (preference, parameters) = preference.split_once(';').unwrap_or((preference, ""));
        let (name, value) = preference.split_once('=')?;
        name.trim().eq_ignore_ascii_case("return").then_some((value, parameters))
    })?;
    if unquoted(name) != "representation" {
        return None;
    }
    let parameter = |text: &str| {
        let (name, value) = text.split_once('=')?;
        name.trim().eq_ignore_ascii_case("root").then(|| unquoted(value).parse().ok())?
    };
    parameters.split(';').find_map(parameter)
}

fn unquoted(value: &str) -> &str {
    let value = value.trim();
    value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value)
}

/// `POST /director/ecus`: a factory's token registers a vehicle that was never seen; the vehicle
/// itself may have one ECU replaced, with an engineer's approval; and either enrols a vehicle anew
/// if a person has approved that.
pub(in crate::http) async fn enrol(
    tokens: web::Data<Tokens>,
    fleet: web::Data<Fleet>,
    limits: web::Data<Limits>,
    request: HttpRequest,
    body: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let factory = tokens.authorize(bearer_token(request.headers()), ENROLLERS).await;
    let enroller = fleet.identify_enroller(factory, &claims_of(&request)).await?;
    let Some(body) = read_body(&limits, body, MAX_ENROLMENT_SIZE).await? else {
        return Err(Error::TooLarge { limit: MAX_ENROLMENT_SIZE as u64 }.into());
    };
    let enrolment: Enrolment =
        serde_json::from_slice(&body).map_err(|error| not_json("an enrolment", &error))?;
    let is_new = fleet.enrol(enroller, enrolment, request_id()).await?;
    Ok(if is_new { HttpResponse::Created().finish() } else { HttpResponse::Ok().finish() })
}

/// `PUT /director/ecus/{serial}/encryption-key`: an ECU's new key, which the ECU has signed.
pub(in crate::http) async fn change_key(
    fleet: web::Data<Fleet>,
    limits: web::Data<Limits>,
    vehicle: FromVehicle,
    request: HttpRequest,
    body: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let serial = request.match_info().query("serial").parse();
    let serial = serial.map_err(|rule: ParseFieldError| Error::Invalid {
        code: "bad_path",
        detail: rule.to_string(),
    })?;
    let Some(body) = read_body(&limits, body, MAX_KEY_CHANGE_SIZE).await? else {
        return Err(Error::TooLarge { limit: MAX_KEY_CHANGE_SIZE as u64 }.into());
    };
    fleet.change_encryption_key(&vehicle.vin, &serial, &body, request_id()).await?;
    Ok(HttpResponse::NoContent().finish())
}

fn request_id() -> Option<String> {
    RequestId::current().map(|id| id.to_string())
}

/// A small body whole, or nothing if it is larger than `limit`; not longer than an upload may
/// pause.
async fn read_body(
    limits: &Limits,
    body: web::Payload,
    limit: usize,
) -> Result<Option<web::Bytes>, Error> {
    let idle_timeout = limits.idle_timeout;
    let read = tokio::time::timeout(idle_timeout, body.to_bytes_limited(limit)).await;
    match read.map_err(|_| Error::Stalled { seconds: idle_timeout.as_secs() })? {
        Ok(Ok(body)) => Ok(Some(body)),
        Ok(Err(_)) => Err(Error::ClientGone),
        Err(_) => Ok(None),
    }
}

/// `GET /director/{N.}root.json`: the same for all, and open to everyone.
pub(in crate::http) async fn serve_root(
    director: web::Data<Director>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let (_, version) = parse_name(request.match_info().query("name")).ok_or_else(no_file)?;
    let root = director.root(version).await?;
    let caching =
        if version.is_some() { "public, max-age=31536000, immutable" } else { "no-cache" };
    Ok(answer(&request, root, caching))
}

/// `GET /director/{timestamp,N.snapshot,N.targets}.json`
pub(in crate::http) async fn serve_file(
    director: web::Data<Director>,
    vehicle: FromVehicle,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let (name, version) = parse_name(request.match_info().query("name")).ok_or_else(no_file)?;
    let role = match (name, version) {
        (RoleName::Timestamp, None) => DirectorRole::Timestamp,
        (RoleName::Snapshot, _) => DirectorRole::Snapshot,
        (RoleName::Targets, _) => DirectorRole::Targets,
        (RoleName::Timestamp | RoleName::Root | RoleName::Delegated(_), _) => {
            return Err(no_file().into());
        }
    };
    let body = director.file(&vehicle.vin, DirectorFile { role, version }).await?;
    Ok(answer(&request, body, PRIVATE))
}

/// Role and version of `17.targets.json` or `targets.json`.
fn parse_name(name: &str) -> Option<(RoleName, Option<u64>)> {
    let stem = name.strip_suffix(".json")?;
    match stem.split_once('.') {
        None => Some((stem.parse().ok()?, None)),
        Some((version, role))
            if !version.starts_with('0') && version.bytes().all(|b| b.is_ascii_digit()) =>
        {
            Some((role.parse().ok()?, Some(version.parse().ok()?)))
        }
        Some(_) => None,
    }
}

fn no_file() -> Error {
    Error::NotFound {
        code: "file_not_found",
        detail: "there is no such file in the Director repository".into(),
    }
}

fn answer(request: &HttpRequest, body: web::Bytes, caching: &'static str) -> HttpResponse {
    let etag = format!("\"{}\"", hex::encode(Sha256::digest(&body)));
    let is_known = is_known(request.headers(), &etag);
    let mut response = if is_known { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    response.insert_header((ETAG, etag)).insert_header((CACHE_CONTROL, caching));
    if is_known {
        return response.finish();
    }
    response.insert_header((CONTENT_TYPE, "application/json")).body(body)
}

const MAX_ENROLMENT_SIZE: usize = 256 * 1024; // 256 KiB: 64 ECUs with RSA keys
/// One vehicle's: no shared cache may keep it.
const PRIVATE: &str = "private, no-cache";
const PREFER: HeaderName = HeaderName::from_static("prefer");
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");
const ENROLLERS: &[AccessRole] = &[AccessRole::Enroller, AccessRole::Engineer];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_is_preferred_with_the_root_that_is_trusted() {
        let of = |lines: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(PREFER, line.parse().unwrap());
            }
            preferred_after_root(&headers)
        };
        for line in [
            "return=representation; root=3",
            "respond-async, Return = \"representation\" ;root=\"3\"",
            "return=representation;a;b=1;ROOT=3;root=4",
        ] {
            assert_eq!(of(&[line]), Some(3), "{line}");
        }
        assert_eq!(of(&["wait=10", "return=representation;root=3"]), Some(3));
        for line in [
            "return=representation",
            "return=representation; root=new",
            "return=minimal; root=3",
            "return=minimal, return=representation; root=3",
            "root=3",
            "",
        ] {
            assert_eq!(of(&[line]), None, "{line}");
        }
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn reads_names_with_and_without_a_version() {
        assert_eq!(parse_name("timestamp.json"), Some((RoleName::Timestamp, None)));
        assert_eq!(parse_name("17.root.json"), Some((RoleName::Root, Some(17))));
        for name in [
            "root",
            "x17.root.json",
            "01.root.json",
            "+1.root.json",
            ".root.json",
            "1.2.root.json ",
        ] {
            assert!(!matches!(parse_name(name), Some((RoleName::Root, _))), "{name}");
        }
    }
}
