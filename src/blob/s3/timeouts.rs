//! How long a store is waited for. Each attempt ends, and each operation with all its attempts: a store
//! that is full, or stopped, may never answer.

use std::time::Duration;

use aws_config::timeout::TimeoutConfig;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::{Builder, Config};

/// Attempts and a whole operation; each ends, also where a store never answers.
pub(super) fn timeouts(attempt: Duration, operation: Duration) -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(CONNECT)
        .operation_attempt_timeout(attempt)
        .operation_timeout(operation)
        .build()
}

/// How often something is tried, with pauses that get longer.
pub(super) fn tries(most: u32) -> RetryConfig {
    RetryConfig::standard()
        .with_max_attempts(most)
        .with_initial_backoff(FIRST_PAUSE)
        .with_max_backoff(LONGEST_PAUSE)
}

/// For one operation that takes another time than most.
pub(super) fn within(attempt: Duration, operation: Duration) -> Builder {
    Config::builder().timeout_config(timeouts(attempt, operation))
}

/// For a part of an upload, and what ends one: it is tried longest, since much was done for it.
pub(super) fn patiently(attempt: Duration, operation: Duration) -> Builder {
    within(attempt, operation).retry_config(tries(MOST_TRIES))
}

/// For what is asked again soon, and has to be answered soon.
pub(super) fn briefly(time: Duration) -> Builder {
    within(time, time).retry_config(tries(2))
}

/// Of what is small.
pub(super) const TRIES: u32 = 4;
const MOST_TRIES: u32 = 7;
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(8);
const CONNECT: Duration = Duration::from_secs(3);
