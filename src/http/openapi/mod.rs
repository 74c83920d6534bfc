//! The OpenAPI document.
//!
//! The handlers say what they take and what they answer in particular. What goes for all of them is
//! added here: who needs a token, the statuses that any call can have, problems as their own content
//! type, and the rules of names ([`rules`]).

mod rules;

use std::collections::BTreeSet;

use actix_web::{HttpResponse, web};
use serde_json::{Map, Value, json};
use utoipa::openapi::path::PathItem;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::{Modify, OpenApi};

use super::callers::Callers;
use crate::api::Problem;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Motorcade",
        description = "OTA update-artifact server. Vehicles read the TUF repository below /repo/; see docs/FORMAT.md."
    ),
    components(schemas(Problem)),
    modifiers(&TokenSecurity)
)]
struct Document;

struct TokenSecurity;

impl Modify for TokenSecurity {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("token", SecurityScheme::Http(bearer));
    }
}

/// The document as JSON, of all calls that are described.
pub(super) fn document<'a>(calls: impl IntoIterator<Item = Described<'a>>) -> String {
    let document = serde_json::to_value(assembled(calls)).map(completed);
    document.and_then(|document| serde_json::to_string_pretty(&document)).unwrap_or_default()
}

/// The OpenAPI document.
#[utoipa::path(
    get, path = "/openapi.json", tag = "operation",
    responses((status = 200, content_type = "application/json", description = "this document"))
)]
pub(super) async fn show_openapi(document: web::Data<DocumentText>) -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(document.0)
}

/// The document as it is served.
pub(super) struct DocumentText(pub(super) &'static str);

/// A call, as its handler describes it.
pub(super) struct Described<'a> {
    pub(super) call: &'a utoipa::openapi::OpenApi,
    /// Who may make it.
    pub(super) callers: Callers,
}

/// All that the calls say of themselves.
fn assembled<'a>(calls: impl IntoIterator<Item = Described<'a>>) -> utoipa::openapi::OpenApi {
    let mut document = Document::openapi();
    for Described { call, callers } in calls {
        let mut described = call.clone();
        if let Callers::Roles(_) = callers {
            described.paths.paths.values_mut().for_each(require_token);
        }
        document.merge(described);
    }
    document
}

fn require_token(path: &mut PathItem) {
    let calls = [&mut path.get, &mut path.put, &mut path.post, &mut path.delete, &mut path.patch];
    let calls = calls.into_iter().chain([&mut path.head, &mut path.options]);
    for call in calls.flatten() {
        call.security = Some(vec![SecurityRequirement::new("token", [""; 0])]);
    }
}

/// Adds what goes for all calls.
fn completed(mut document: Value) -> Value {
    let mut taken = BTreeSet::new();
    for (path, calls) in members(&mut document["paths"]) {
        for (_, call) in members(calls) {
            complete_parameters(call);
            complete_body(call, &mut taken);
            complete_responses(path, call);
        }
    }
    for (name, schema) in members(&mut document["components"]["schemas"]) {
        if taken.contains(name) {
            schema["additionalProperties"] = json!(false);
            members(&mut schema["properties"])
                .for_each(|(name, property)| rules::complete(name, property));
        }
    }
    document
}

fn members(object: &mut Value) -> impl Iterator<Item = (&String, &mut Value)> {
    object.as_object_mut().into_iter().flat_map(Map::iter_mut)
}

fn complete_parameters(call: &mut Value) {
    for parameter in call.get_mut("parameters").and_then(Value::as_array_mut).into_iter().flatten()
    {
        let name = parameter["name"].as_str().unwrap_or_default().to_owned();
        // A parameter is there or not there; it is never the JSON value null.
        if let Some(kind) =
            parameter["schema"]["type"].as_array().and_then(|kinds| kinds.first()).cloned()
        {
            parameter["schema"]["type"] = kind;
        }
        rules::complete(&name, &mut parameter["schema"]);
    }
}

/// Notes which schemas a call takes, with those that they refer to.
fn complete_body(call: &mut Value, taken: &mut BTreeSet<String>) {
    let Some(body) = call.get_mut("requestBody") else { return };
    body["required"] = json!(true);
    taken.extend(["NewEcuBody", "NewAssignment"].map(String::from)); // within others
    for (content_type, content) in members(&mut body["content"]) {
        match content_type.as_str() {
            "application/octet-stream" | "application/offset+octet-stream" => {
                content["schema"] = json!({ "type": "string", "format": "binary", "minLength": 1 })
            }
            "text/csv" => content["schema"] = json!({ "type": "string", "pattern": CSV_HEAD }),
            _ => {}
        }
        let reference = content["schema"]["$ref"].as_str().unwrap_or_default();
        taken.extend(reference.strip_prefix("#/components/schemas/").map(str::to_owned));
    }
}

fn complete_responses(path: &str, call: &mut Value) {
    let (has_body, needs_token) =
        (call.get("requestBody").is_some(), call.get("security").is_some());
    let statuses = [
        (needs_token, "400", "malformed; `detail` names the rule"),
        (needs_token, "401", "no valid token"),
        (needs_token, "403", "the token's role may not do this"),
        (path.contains('{'), "404", "there is no such thing"),
        (has_body, "408", "nothing was received for too long"),
        (has_body, "413", "larger than the limit, which is in `limit`"),
        (needs_token, "429", "too many requests or connections at once"),
        (needs_token, "500", "the server's own failure; its log says more, under `request_id`"),
        (needs_token, "503", "too busy; try again after `Retry-After`"),
        (has_body, "507", "no space is left"),
    ];
    let Some(responses) = call["responses"].as_object_mut() else { return };
    for (_, status, description) in statuses.into_iter().filter(|(applies, ..)| *applies) {
        responses
            .entry(status)
            .or_insert_with(|| json!({ "description": description, "content": problem() }));
    }
    for response in responses.values_mut() {
        if response["content"]["application/json"]["schema"]["$ref"] == PROBLEM {
            response["content"] = problem();
        }
    }
}

fn problem() -> Value {
    json!({ "application/problem+json": { "schema": { "$ref": PROBLEM } } })
}

const CSV_HEAD: &str =
    "^vin,ecu_serial,hardware_id,role,signing_key,encryption_key(,token_sha256)?\\r?\\n";
const PROBLEM: &str = "#/components/schemas/Problem";
