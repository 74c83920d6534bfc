//! When a push is tried again.

use std::time::Duration;

use reqwest::StatusCode;

use crate::cli::api::Failure;

/// How long to wait before the next try; none if it would be in vain.
pub(super) fn pause_before_retry(error: &Failure, attempt: u32) -> Option<Duration> {
    match error {
        Failure::Refused(refused) => match refused.status {
            StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => {
                Some(refused.retry_after.unwrap_or(backoff(attempt)).min(LONGEST_PAUSE))
            }
            _ => None,
        },
        // Nobody there at the first try is a wrong address more often than a server that starts
        // again.
        Failure::Unreachable { source, .. } if source.is_connect() && attempt == 1 => None,
        Failure::Unreachable { .. } => Some(backoff(attempt)),
    }
}

/// How long to wait before an upload that the server has some of is gone on with; none if that would
/// be in vain.
pub(super) fn pause_before_resuming(error: &Failure, attempt: u32) -> Option<Duration> {
    let Failure::Refused(refused) = error else { return Some(backoff(attempt)) };
    let code = refused.problem["code"].as_str().unwrap_or_default();
    match refused.status {
        StatusCode::CONFLICT if ["wrong_offset", "upload_taken"].contains(&code) => {
            Some(backoff(attempt))
        }
        // The connection that broke off may not have ended for the server.
        StatusCode::LOCKED | StatusCode::REQUEST_TIMEOUT | StatusCode::INTERNAL_SERVER_ERROR => {
            Some(backoff(attempt))
        }
        _ => pause_before_retry(error, attempt),
    }
}

fn backoff(attempt: u32) -> Duration {
    Duration::from_secs(1 << attempt.min(5)).min(LONGEST_PAUSE)
}

const LONGEST_PAUSE: Duration = Duration::from_secs(60);
