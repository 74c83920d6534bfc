//! What any test here gets from the API has to be in the OpenAPI document.

use std::sync::LazyLock;

use reqwest::Method;
use serde_json::Value;

static DOCUMENT: LazyLock<Value> = LazyLock::new(|| {
    serde_json::from_str(motorcade::http::openapi_document()).expect("it is JSON")
});

/// Asserts that the document knows this status of a call that it has.
#[track_caller]
pub(crate) fn assert_documented(method: &Method, path: &str, status: u16) {
    let Some((template, calls)) = described(path) else { return };
    let call = &calls[method.as_str().to_ascii_lowercase()];
    let is_known = call.is_null() || call["responses"].get(status.to_string()).is_some();
    assert!(
        is_known,
        "{method} {template} answers {status}, which the OpenAPI document does not say"
    );
}

/// The template of a path in the document, and its calls.
pub(crate) fn described(path: &str) -> Option<(&'static str, &'static Value)> {
    let paths = DOCUMENT["paths"].as_object().unwrap().iter();
    let fitting = paths.filter(|(template, _)| fits(template, path));
    // `/images/{path}/envelope` and `/images/{path}` both fit an envelope.
    let (template, calls) = fitting.max_by_key(|(template, _)| template.len())?;
    Some((template, calls))
}

fn fits(template: &str, path: &str) -> bool {
    let Some((before, rest)) = template.split_once('{') else { return template == path };
    let (Some(path), Some((name, after))) = (path.strip_prefix(before), rest.split_once('}'))
    else {
        return false;
    };
    let ends = (1..=path.len()).filter(|end| name == "path" || !path[..*end].contains('/'));
    ends.into_iter().any(|end| fits(after, &path[end..]))
}

#[test]
fn a_path_is_found_in_its_template() {
    for (template, path) in [
        ("/api/v1/images", "/api/v1/images"),
        ("/api/v1/images/{path}", "/api/v1/images/gw/4.2.0/a.bin"),
        ("/api/v1/images/{path}/envelope", "/api/v1/images/gw/4.2.0/a.bin/envelope"),
        (
            "/api/v1/vehicles/{vin}/ecus/{serial}/replacement",
            "/api/v1/vehicles/V/ecus/S/replacement",
        ),
    ] {
        assert!(fits(template, path), "{template}");
    }
    assert!(!fits("/api/v1/vehicles/{vin}", "/api/v1/vehicles/V/ecus"));
    assert!(!fits("/api/v1/vehicles/{vin}", "/api/v1/vehicles"));
}
