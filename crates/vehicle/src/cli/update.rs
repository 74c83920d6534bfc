//! `motorcade-vehicle update` and `run`
//!
//! With `--json` a cycle prints one line: `{"outcome": "updated"|"up_to_date"|"refused"|"failed",
//! "installed": [{"ecu_serial", "filepath"}], "attack": null or a name of [`Attack`], "fault": null
//! or a name of [`Fault`], "detail": null or what went wrong}`. It is refused what looks like an
//! attack, and failed what does not.
//!
//! [`Attack`]: motorcade_uptane::verify::Attack
//! [`Fault`]: motorcade_uptane::verify::Fault

use std::process::ExitCode;
use std::time::Duration;

use serde_json::json;

use super::shared::{StateArgs, chain, print_line};
use crate::Error;
use crate::cycle::{self, Outcome};
use crate::http_error::HttpError;
use crate::progress::Progress;
use crate::setup::Vehicle;
use crate::stop::{Hangup, Stop};

#[derive(Debug, clap::Args)]
pub(super) struct UpdateArgs {
    #[command(flatten)]
    state: StateArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct RunArgs {
    #[command(flatten)]
    state: StateArgs,
    /// Seconds between two updates; a tenth more or less, so that a fleet does not come at once
    #[arg(long, value_name = "SECONDS", default_value_t = 3600, value_parser = clap::value_parser!(u64).range(1..=2_592_000))]
    interval: u64,
    /// Print a line of JSON for each update
    #[arg(long)]
    json: bool,
}

pub(super) fn update(args: UpdateArgs) -> anyhow::Result<ExitCode> {
    let outcome = match Vehicle::open(&args.state.dir) {
        Ok(mut vehicle) => {
            vehicle.http.stop_with(Stop::on_signals(Hangup::Ends)?);
            if !args.json {
                vehicle.http.show(Progress::on_terminal());
            }
            cycle::run(&mut vehicle)
        }
        Err(error) => Outcome { failure: Some(error), ..Outcome::default() },
    };
    show(&outcome, args.json)?;
    Ok(if outcome.failure.is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Updates again and again, more rarely while that fails, until SIGTERM or SIGINT. No other signal
/// that a service gets ends it.
pub(super) fn run(args: RunArgs) -> anyhow::Result<ExitCode> {
    let mut vehicle = Vehicle::open(&args.state.dir)?;
    vehicle.http.stop_with(Stop::on_signals(Hangup::Ignored)?);
    let mut failures = 0;
    loop {
        let outcome = cycle::run(&mut vehicle);
        if matches!(outcome.failure, Some(Error::Http(HttpError::Stopped))) {
            return Ok(ExitCode::SUCCESS);
        }
        show(&outcome, args.json)?;
        failures = if outcome.failure.is_some() { failures + 1 } else { 0 };
        let pause = pause(Duration::from_secs(args.interval), failures, rand::random());
        match vehicle.http.sleep(pause) {
            Err(HttpError::Stopped) => return Ok(ExitCode::SUCCESS),
            other => other?,
        }
    }
}

/// The interval, twice as long for each failure up to an hour, and a tenth more or less.
fn pause(interval: Duration, failures: u32, random: u32) -> Duration {
    let longest = interval.max(MAX_PAUSE);
    let pause = interval.saturating_mul(2_u32.saturating_pow(failures)).min(longest);
    pause.mul_f64(0.9 + 0.2 * f64::from(random) / f64::from(u32::MAX))
}

fn show(outcome: &Outcome, json: bool) -> anyhow::Result<()> {
    for path in &outcome.mended {
        eprintln!(
            "warning: {} was damaged or gone, and has been replaced; see to the disk",
            path.display()
        );
    }
    let detail = outcome.failure.as_ref().or(outcome.undelivered.as_ref()).map(describe);
    if json {
        let installed = outcome.installed.iter();
        let installed: Vec<_> =
            installed.map(|(ecu, path)| json!({ "ecu_serial": ecu, "filepath": path })).collect();
        let line = json!({
            "outcome": name(outcome), "installed": installed, "attack": outcome.attack(), "fault": outcome.fault(),
            "detail": detail,
        });
        return print_line(line);
    }
    for (ecu, path) in &outcome.installed {
        print_line(format!("{ecu} {path}"))?;
    }
    match (outcome.attack(), outcome.fault(), detail) {
        (Some(attack), _, Some(detail)) => eprintln!("error: {detail} (attack: {attack})"),
        (None, Some(fault), Some(detail)) => eprintln!("error: {detail} (fault: {fault})"),
        (None, None, Some(detail)) => eprintln!("error: {detail}"),
        _ => eprintln!("{}", if outcome.installed.is_empty() { "Up to date" } else { "Updated" }),
    }
    Ok(())
}

fn name(outcome: &Outcome) -> &'static str {
    match (&outcome.failure, outcome.attack(), outcome.installed.is_empty()) {
        (Some(_), Some(_), _) => "refused",
        (Some(_), None, _) => "failed",
        (None, _, true) => "up_to_date",
        (None, _, false) => "updated",
    }
}

fn describe(error: &Error) -> String {
    chain(error)
}

const MAX_PAUSE: Duration = Duration::from_secs(3600); // 1 h

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_with_failures_and_are_not_all_the_same() {
        let minute = Duration::from_secs(60);
        assert_eq!(pause(minute, 0, 0), Duration::from_secs(54));
        assert_eq!(pause(minute, 0, u32::MAX), Duration::from_secs(66));
        assert_eq!(pause(minute, 2, 0), Duration::from_secs(216));
        assert_eq!(pause(minute, 60, 0), Duration::from_secs(3240));
        assert_eq!(
            pause(minute * 1440, 1, 0),
            Duration::from_secs(77_760),
            "never more often than without failures"
        );
    }
}
