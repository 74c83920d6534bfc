//! `motorcade vehicle clear`

use std::process::ExitCode;

use reqwest::Method;
use serde_json::json;

use crate::api::{ClearManyBody, ClearedBody};
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
        let body = ClearManyBody {
            reason: reason.clone(),
            vins: vins.iter().map(VehicleId::to_string).collect(),
            all,
            attacks: attacks.clone(),
            since: since.clone(),
        };
        loop {
            let request = api.request(Method::POST, "quarantine/clear").json(&body);
            let report: ClearedBody = api.json(request).await?;
            cleared += report.cleared;
            if !vins.is_empty() {
                missed.extend(report.not_quarantined);
            }
            if !report.more {
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
