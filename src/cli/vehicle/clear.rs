//! `motorcade vehicle clear`

use std::process::ExitCode;

use reqwest::Method;
use serde_json::{Value, json};

use crate::cli::api::Api;
use crate::cli::output;
use crate::model::VehicleId;

#[derive(Debug, clap::Args)]
#[group(id = "which", required = true, multiple = true, args = ["vins", "all", "attacks", "since"])]
pub(super) struct Args {
    /// Ids of the vehicles
    #[arg(value_name = "VIN", conflicts_with_all = ["all", "attacks", "since"])]
    vins: Vec<VehicleId>,
    /// All that are in quarantine
    #[arg(long, conflicts_with_all = ["attacks", "since"])]
    all: bool,
    /// Those that are there for nothing but this kind of attack, such as `freeze` or
    /// `unexpected-image`; repeat for more
    #[arg(long = "attack", value_name = "KIND")]
    attacks: Vec<String>,
    /// Those that are there since this time or later, such as 2026-11-24T10:00:00Z
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// What was found out, for the record
    #[arg(long)]
    reason: String,
}

pub(super) async fn run(api: &Api, args: Args) -> anyhow::Result<ExitCode> {
    let Args { vins, all, attacks, since, reason } = args;
    let mut cleared: u64 = 0;
    let mut missed: Vec<String> = Vec::new();
    // None of them means all that the other settings say, in one list that is empty.
    let lists: Vec<&[VehicleId]> =
        if vins.is_empty() { vec![&[]] } else { vins.chunks(AT_ONCE).collect() };
    for vins in lists {
        let mut body = json!({ "reason": reason, "vins": vins, "all": all, "attacks": attacks });
        if let Some(since) = &since {
            body["since"] = since.as_str().into();
        }
        loop {
            let report =
                api.json(api.request(Method::POST, "quarantine/clear").json(&body)).await?;
            cleared += report["cleared"].as_u64().unwrap_or_default();
            if !vins.is_empty() {
                let not_there = report["not_quarantined"].as_array().into_iter().flatten();
                missed.extend(not_there.filter_map(Value::as_str).map(str::to_owned));
            }
            if report["more"] != true {
                break;
            }
        }
    }
    missed.iter().for_each(|vin| output::note(format_args!("{vin} is not in quarantine")));
    output::report(
        format_args!("Cleared {cleared}"),
        json!({ "cleared": cleared, "not_quarantined": missed }),
    )?;
    Ok(if missed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

const AT_ONCE: usize = 500;
