//! `motorcade doctor`

use std::process::ExitCode;
use std::sync::Arc;

use super::EXIT_FAILURE;
use super::output::{self, print_json, print_line};
use crate::api::{CheckBody, DoctorBody};
use crate::app::doctor::{self, Around, Severity};
use crate::app::setup::StateDir;
use crate::config::ServeSettings;
use crate::model::{Clock, SystemClock};
use crate::server::inspect_tls;

/// The settings of `serve`, so that what that would serve is looked at.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    settings: ServeSettings,
}

/// Exits with 1 if there is a warning or an error.
pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let config = args.settings.resolve()?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let tls = config.vehicles.tls.as_ref();
    let around = Around {
        certificates: tls.map(|tls| inspect_tls(tls, &clock)).unwrap_or_default(),
        reserved_space: config.reserved_space,
        service: None,
    };
    let state = StateDir::new(config.data_dir).with_catalog(config.catalog);
    let state = state.with_shared_blobs(config.shared_blobs).with_bucket(config.bucket);
    let report = doctor::examine(&state, clock.now(), around).await?;
    let is_fine = report.worst().is_none_or(|worst| worst < Severity::Warning);
    let body = DoctorBody::from(report);
    if output::is_json() {
        print_json(&body)?;
    } else {
        body.checks.iter().try_for_each(show)?;
    }
    Ok(if is_fine { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FAILURE) })
}

fn show(check: &CheckBody) -> std::io::Result<()> {
    let CheckBody { check, status, looked_at, findings } = check;
    print_line(format_args!("{status:8} {check:13} {looked_at}"))?;
    for finding in findings {
        print_line(format_args!("  {}: {}", finding.severity, finding.problem))?;
        print_line(format_args!("    do: {}", finding.action))?;
    }
    Ok(())
}
