//! Errors: for people on one line, for programs as problem details (RFC 9457) as the API has them.

use serde_json::{Value, json};

use super::api::Failure;
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

/// An error and its causes, each once. That a failure is an internal one is for API clients, who
/// are told no more.
pub(super) fn chain(error: &anyhow::Error) -> String {
    let mut text = String::new();
    let is_internal = |cause: &&(dyn std::error::Error + 'static)| {
        matches!(cause.downcast_ref(), Some(crate::app::Error::Internal(_)))
    };
    for cause in error.chain().filter(|cause| !is_internal(cause)).map(ToString::to_string) {
        if !text.is_empty() && !text.ends_with(&cause) {
            text.push_str(": ");
        }
        if !text.ends_with(&cause) {
            text.push_str(&cause);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_chain_does_not_repeat_itself() {
        let cause = std::io::Error::other("disk on fire");
        let error = anyhow::Error::new(cause).context("failed to read x");
        assert_eq!(super::chain(&error), "failed to read x: disk on fire");
    }
}
