//! `motorcade image retain | collect`

use std::process::ExitCode;

use anyhow::ensure;
use reqwest::Method;

use crate::api::{NewCollection, NewRetention, RetentionBody};
use crate::cli::api::Api;
use crate::cli::{job, output};
use crate::config::{ClientSettings, Span};
use crate::model::{ImagePath, Timestamp};

#[derive(Debug, clap::Args)]
pub(super) struct RetainArgs {
    #[command(flatten)]
    client: ClientSettings,
    /// Until when, as in 2036-01-01T00:00:00Z
    #[arg(long, value_name = "TIME", required_unless_present = "no_longer")]
    until: Option<Timestamp>,
    /// Take back what was said before
    #[arg(long, conflicts_with = "until")]
    no_longer: bool,
    /// Target path, such as gw/4.2.0/gateway.bin
    path: ImagePath,
}

#[derive(Debug, clap::Args)]
pub(super) struct CollectArgs {
    #[command(flatten)]
    client: ClientSettings,
    /// Those that were yanked so long ago, or longer; whole days
    #[arg(long, value_name = "TIME", default_value = "90d")]
    yanked_for: Span<{ DAY }, { DAY }, { 36_500 * DAY }>,
    /// Only find out which ones those are
    #[arg(long)]
    dry_run: bool,
    /// Wait for its end
    #[arg(long)]
    follow: bool,
}

pub(super) async fn retain(args: RetainArgs) -> anyhow::Result<ExitCode> {
    let RetainArgs { client, until, no_longer: _, path } = args;
    let api = Api::new(client)?;
    let body = NewRetention { retain_until: until.map(|until| until.to_string()) };
    let request = api.request(Method::PUT, &format!("retentions/{path}")).json(&body);
    let kept: RetentionBody = api.json(request).await?;
    let line = match &kept.retain_until {
        Some(until) => format!("The files of {path} are kept until {until}"),
        None => format!("The files of {path} are kept for as long as others"),
    };
    output::report(line, kept)?;
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn collect(args: CollectArgs) -> anyhow::Result<ExitCode> {
    let CollectArgs { client, yanked_for, dry_run, follow } = args;
    let seconds = yanked_for.duration().as_secs();
    ensure!(seconds.is_multiple_of(DAY), "--yanked-for takes whole days");
    let api = Api::new(client)?;
    let yanked_for_days = u32::try_from(seconds / DAY)?;
    let body = NewCollection { yanked_for_days, dry_run };
    let request = api.request(Method::POST, "collections").json(&body);
    job::begun(&api, &api.json(request).await?, follow).await
}

const DAY: u64 = 24 * 60 * 60;
