//! Errors for programs: problem details (RFC 9457), as the API has them.

use serde_json::{Value, json};

use super::api::Failure;
use super::chain;
use crate::app::Error;

/// An error as a problem. A server's own is passed on as it came.
pub(super) fn of(error: &anyhow::Error) -> Value {
    for cause in error.chain() {
        match cause.downcast_ref() {
            Some(Failure::Refused(refused)) if refused.problem.is_object() => {
                return refused.problem.clone();
            }
            Some(Failure::Refused(refused)) => {
                let title = refused.status.canonical_reason().unwrap_or("Error");
                return json!({
                    "type": "about:blank", "title": title, "status": refused.status.as_u16(),
                    "detail": chain(error), "code": "refused",
                });
            }
            Some(Failure::Unreachable { .. }) => {
                return problem("Unreachable", "unreachable", &chain(error));
            }
            None => {}
        }
        let code = match cause.downcast_ref() {
            Some(
                Error::Invalid { code, .. }
                | Error::NotFound { code, .. }
                | Error::Conflict { code, .. }
                | Error::Unprocessable { code, .. },
            ) => code,
            _ => continue,
        };
        return problem("Failed", code, &chain(error));
    }
    problem("Failed", "failed", &chain(error))
}

fn problem(title: &str, code: &str, detail: &str) -> Value {
    json!({ "type": "about:blank", "title": title, "detail": detail, "code": code })
}
