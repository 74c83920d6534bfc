//! `motorcade-vehicle update` and `run`
//!
//! With `--json` a cycle prints one line: `{"outcome": "updated"|"up_to_date"|"refused"|"failed",
//! "installed": [{"ecu_serial", "filepath"}], "attack": null or a name of [`Attack`], "fault": null
//! or a name of [`Fault`], "detail": null or what went wrong}`. It is refused what looks like an
//! attack, and failed what does not. A turn of `run` that has found nothing new, and reported
//! nothing, is `"unchanged"`.
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
use crate::service::Service;
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
    /// Seconds between two turns; a tenth more or less, so that a fleet does not come at once
    #[arg(long, value_name = "SECONDS", default_value_t = 3600, value_parser = clap::value_parser!(u64).range(1..=2_592_000))]
    interval: u64,
    /// Print a line of JSON for each turn
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
    let mut service = Service::new(Duration::from_secs(args.interval));
    loop {
        let turn = service.turn(&mut vehicle);
        if let Some(error) = service.unusable() {
            eprintln!("warning: the token and certificates from before are used: {}", chain(error));
        }
        match turn {
            Some(Outcome { failure: Some(Error::Http(HttpError::Stopped)), .. }) => {
                return Ok(ExitCode::SUCCESS);
            }
            Some(outcome) => show(&outcome, args.json)?,
            None if args.json => print_line(line(&Outcome::default(), "unchanged"))?,
            None => {}
        }
        match service.wait(&vehicle) {
            Err(HttpError::Stopped) => return Ok(ExitCode::SUCCESS),
            other => other?,
        }
    }
}

fn show(outcome: &Outcome, json: bool) -> anyhow::Result<()> {
    for path in &outcome.mended {
        eprintln!(
            "warning: {} was damaged or gone, and has been replaced; see to the disk",
            path.display()
        );
    }
    if json {
        return print_line(line(outcome, name(outcome)));
    }
    for (ecu, path) in &outcome.installed {
        print_line(format!("{ecu} {path}"))?;
    }
    match (outcome.attack(), outcome.fault(), detail(outcome)) {
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

fn line(outcome: &Outcome, name: &str) -> serde_json::Value {
    let installed = outcome.installed.iter();
    let installed: Vec<_> =
        installed.map(|(ecu, path)| json!({ "ecu_serial": ecu, "filepath": path })).collect();
    json!({
        "outcome": name, "installed": installed, "attack": outcome.attack(), "fault": outcome.fault(),
        "detail": detail(outcome),
    })
}

fn detail(outcome: &Outcome) -> Option<String> {
    outcome.failure.as_ref().or(outcome.undelivered.as_ref()).map(|error| chain(error))
}
