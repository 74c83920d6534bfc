//! `motorcade vehicle re-enrol` and `remove`

use std::process::ExitCode;
use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use super::done;
use crate::api::{Approved, ReEnrolmentBody, RemovalQuery};
use crate::cli::api::Api;
use crate::model::{EcuSerial, VehicleId};
use motorcade_host::shown::printable;

#[derive(Debug, clap::Args)]
pub(super) struct ReEnrolArgs {
    /// Id of the vehicle
    vin: VehicleId,
    /// How long the approval is valid, at most 30d; in s, m, h or d
    #[arg(long = "for", value_name = "TIME", default_value = "24h", value_parser = parse_time)]
    valid_for: Duration,
    /// ECU that it may take from another vehicle, which had registered it; repeat for more
    #[arg(long, value_name = "SERIAL")]
    take: Vec<EcuSerial>,
}

#[derive(Debug, clap::Args)]
pub(super) struct RemoveArgs {
    /// Id of the vehicle
    vin: VehicleId,
    /// Why, for the record
    #[arg(long)]
    reason: Option<String>,
}

pub(super) async fn re_enrol(api: &Api, args: ReEnrolArgs) -> anyhow::Result<ExitCode> {
    let ReEnrolArgs { vin, valid_for, take } = args;
    let request = api.request(Method::POST, &format!("vehicles/{vin}/re-enrolment"));
    let take_ecus = take.into_iter().map(String::from).collect();
    let body = ReEnrolmentBody { expires_in_seconds: valid_for.as_secs(), take_ecus };
    let approved: Approved = api.json(request.json(&body)).await?;
    let until = printable(&approved.expires_at);
    done(format_args!("Approved until {until}: let {vin} enrol now, as at the factory"), approved)
}

pub(super) async fn remove(api: &Api, args: RemoveArgs) -> anyhow::Result<ExitCode> {
    let RemoveArgs { vin, reason } = args;
    let request = api.request(Method::DELETE, &format!("vehicles/{vin}"));
    api.send(request.query(&RemovalQuery { reason })).await?;
    done(format_args!("Removed {vin}; its history stays"), json!({ "removed": vin }))
}

/// Reads a number and a unit.
fn parse_time(text: &str) -> Result<Duration, String> {
    let rule = || format!("{text:?} is no time: write 90s, 30m, 24h or 7d");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().map_err(|_| rule())?;
    let seconds = match &text[digits.len()..] {
        "s" => 1,
        "m" => 60,
        "h" => 60 * 60,
        "d" => 24 * 60 * 60,
        _ => return Err(rule()),
    };
    number.checked_mul(seconds).map(Duration::from_secs).ok_or_else(rule)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_a_unit() {
        assert_eq!(parse_time("24h"), Ok(Duration::from_secs(86_400)));
        assert_eq!(parse_time("7d"), Ok(Duration::from_secs(7 * 86_400)));
        for text in ["", "24", "h", "-1h", "1w", "1.5h", "18446744073709551615d", "1 h"] {
            assert!(parse_time(text).is_err_and(|error| error.contains("24h")), "{text}");
        }
    }
}
