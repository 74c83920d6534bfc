//! What a value may be, by the name that it has in queries, paths and bodies: the rules of `model`,
//! for whoever generates a client or sends requests by the document.
//!
//! A name means one thing wherever it appears, so that a new route has its rules without saying
//! them again.

use serde_json::{Map, Value, json};

use crate::app::fleet::Suspicion;
use crate::model::RepositorySide;

/// Completes the schema of what is called `name`: bounds, patterns, examples.
pub(super) fn complete(name: &str, schema: &mut Value) {
    let Some(schema) = schema.as_object_mut() else { return };
    let is_list = schema.get("type").is_some_and(|kind| kind == "array");
    if !is_list {
        return add(schema, rule(name));
    }
    add(schema, list_rule(name));
    if let Some(items) = schema.get_mut("items").and_then(Value::as_object_mut) {
        add(items, rule(name));
    }
}

fn add(schema: &mut Map<String, Value>, rule: Value) {
    if let Value::Object(rule) = rule {
        schema.extend(rule);
    }
}

fn rule(name: &str) -> Value {
    match name {
        "path" | "image" | "assigned" => {
            json!({ "pattern": image_path(), "maxLength": 1024, "examples": ["gw/4.2.0/gateway.bin"] })
        }
        "vin" | "vins" => json!({ "pattern": ID, "examples": ["WVWZZZ1JZXW000001"] }),
        "serial" | "ecu_serial" | "take_ecus" => json!({ "pattern": ID, "examples": ["gw-0001"] }),
        "kid" | "recipient" => json!({ "pattern": "^[A-Za-z0-9_-]{43}$" }),
        "id" => json!({ "pattern": "^[0-9a-f]{24}$" }),
        "hardware_id" | "hardware_ids" => {
            json!({ "pattern": "^[!-~]{1,64}$", "examples": ["gw-mk3"] })
        }
        "version" => json!({ "pattern": "^[!-~]{1,128}$", "examples": ["4.2.0"] }),
        "name" => json!({ "pattern": "^[ -~]{1,128}$" }),
        "release_counter" | "below_release" => {
            json!({ "minimum": 0, "maximum": MAX_SAFE_INTEGER, "examples": [42] })
        }
        "target_format" => json!({ "enum": ["BINARY", "OSTREE"] }),
        "algorithm" => json!({ "enum": ["AES256_GCM_HKDF_1MB", "AES256_GCM_HKDF_4KB"] }),
        "requires" | "conflicts" => {
            json!({ "pattern": "^[!-;?-~]{1,128}((>=|<=|<|>|=)[0-9]{1,15})?$" })
        }
        "supplier" => {
            json!({ "pattern": "^(?=.{1,32}$)[a-z0-9]+(-[a-z0-9]+)*$", "examples": ["acme"] })
        }
        "targets_role" => {
            json!({ "pattern": "^(targets|supplier-(?=.{1,32}$)[a-z0-9]+(-[a-z0-9]+)*)$", "examples": ["supplier-acme"] })
        }
        "folder" => json!({ "pattern": folder(), "examples": ["acme/"] }),
        "threshold" => json!({ "minimum": 1, "maximum": 16 }),
        "limit" => json!({ "minimum": 1, "maximum": 1000 }),
        "before" => json!({ "minimum": i64::MIN, "maximum": i64::MAX }),
        "silent_since" | "since" | "until" | "retain_until" => json!({ "format": "date-time" }),
        "Repr-Digest" => json!({ "pattern": "^sha-256=:[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=:$" }),
        "If-Match" | "If-None-Match" => {
            json!({ "pattern": "^([*]|(W/)?\"[!#-~]*\"(, ?(W/)?\"[!#-~]*\")*)$" })
        }
        "reason" | "rollback_reason" => json!({ "pattern": "[!-~]", "maxLength": 500 }),
        "expires_in_seconds" => json!({ "minimum": 1, "maximum": 30 * 24 * 60 * 60 }),
        "repository" => json!({ "enum": RepositorySide::ALL.map(RepositorySide::as_str) }),
        "yanked_for_days" => json!({ "minimum": 1, "maximum": 36_500, "examples": [90] }),
        "expires_days" => json!({ "minimum": 1, "maximum": 3650 }),
        "token_sha256" | "sha256" | "payload_sha256" => json!({ "pattern": "^[0-9a-f]{64}$" }),
        "attacks" => json!({ "enum": Suspicion::all().map(Suspicion::as_str).collect::<Vec<_>>() }),
        "role" => json!({ "enum": ["primary", "secondary"] }),
        "public_key" | "signing_key" => {
            json!({ "oneOf": [{ "type": "string" }, { "type": "object" }] })
        }
        "encryption_key" => {
            json!({ "oneOf": [{ "type": "string" }, { "type": "object" }, { "type": "null" }] })
        }
        _ => Value::Null,
    }
}

fn list_rule(name: &str) -> Value {
    match name {
        "hardware_id" | "hardware_ids" => json!({ "minItems": 1 }),
        "assignments" => json!({ "minItems": 1, "uniqueItems": true }),
        "ecus" => json!({ "minItems": 1, "maxItems": 64 }),
        "requires" | "conflicts" => json!({ "maxItems": 32 }),
        "take_ecus" => json!({ "maxItems": 64 }),
        "vins" => json!({ "maxItems": 1000 }),
        _ => Value::Null,
    }
}

/// `model::ImagePath`, but for folders that look like published names.
fn image_path() -> String {
    let part = "[A-Za-z0-9._~+@=,-]";
    let folder = format!("(?![.]{{1,2}}/){part}");
    let file = format!("(?!(envelope|reseal|[.]{{1,2}})$)(?![^/]*[.]jwe$){part}{{1,186}}");
    format!("^({folder}{{1,186}}/({folder}{{1,255}}/){{0,14}})?{file}$")
}

/// `model::Folder`, but for folders that look like published names.
fn folder() -> String {
    let folder = "(?![.]{1,2}/)[A-Za-z0-9._~+@=,-]";
    format!("^{folder}{{1,186}}/({folder}{{1,255}}/){{0,14}}$")
}

const ID: &str = "^[A-Za-z0-9._-]{1,64}$";
const MAX_SAFE_INTEGER: u64 = (1 << 53) - 1;
