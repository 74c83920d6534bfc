//! `motorcade job start | list | show | cancel`

use std::process::ExitCode;
use std::time::Duration;

use motorcade_host::shown::printable;
use reqwest::Method;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::json;

use super::EXIT_FAILURE;
use super::api::Api;
use super::output::{self, List, print_json, print_line};
use crate::api::{JobBody, JobList, JobQuery, NewJob, ProgressBody};
use crate::config::ClientSettings;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Has the server do something: fsck
    Start {
        #[command(flatten)]
        client: ClientSettings,
        /// What
        kind: String,
        /// Wait for its end, and show how far it is
        #[arg(long)]
        follow: bool,
    },
    /// Lists jobs, the newest first
    List {
        #[command(flatten)]
        client: ClientSettings,
    },
    /// Shows a job, and what came of it
    Show {
        #[command(flatten)]
        client: ClientSettings,
        /// Id of the job
        id: String,
        /// Wait for its end, and show how far it is
        #[arg(long)]
        follow: bool,
    },
    /// Cancels a job
    Cancel {
        #[command(flatten)]
        client: ClientSettings,
        /// Id of the job
        id: String,
    },
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Start { client, kind, follow } => start(&Api::new(client)?, kind, follow).await,
        Command::List { client } => list(&Api::new(client)?).await,
        Command::Show { client, id, follow } => {
            let api = Api::new(client)?;
            let job = if follow { self::follow(&api, &id).await? } else { find(&api, &id).await? };
            show(&job)
        }
        Command::Cancel { client, id } => {
            let api = Api::new(client)?;
            api.send(api.request(Method::DELETE, &format!("jobs/{id}"))).await?;
            output::done(format_args!("Cancelled {id}"), json!({ "cancelled": id }))
        }
    }
}

async fn start(api: &Api, kind: String, follow: bool) -> anyhow::Result<ExitCode> {
    let job = api.json(api.request(Method::POST, "jobs").json(&NewJob { kind })).await?;
    begun(api, &job, follow).await
}

/// Says which job was begun, or waits for its end and shows what came of it.
pub(super) async fn begun(api: &Api, job: &JobBody, follow: bool) -> anyhow::Result<ExitCode> {
    if follow {
        output::note(format_args!("Job {}", job.id));
        return show(&self::follow(api, &job.id).await?);
    }
    if output::is_json() {
        print_json(job)?;
    } else {
        print_line(&job.id)?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(api: &Api) -> anyhow::Result<ExitCode> {
    let mut list =
        List::new([("ID", 24), ("KIND", 20), ("STATE", 9), ("CREATED", 27), ("PROGRESS", 0)]);
    let mut next = Some(JobQuery { cursor: String::new(), limit: 1000 });
    while let Some(query) = next {
        let page: JobList = api.json(api.request(Method::GET, "jobs").query(&query)).await?;
        for job in page.jobs {
            list.item(&job, |job| {
                let progress = progress(&job.progress);
                let [id, kind, state, created_at] =
                    [&job.id, &job.kind, &job.state, &job.created_at].map(String::clone);
                [id, kind, state, created_at, progress]
            })?;
        }
        next = page.next_cursor.map(|cursor| JobQuery { cursor, ..query });
    }
    list.end()?;
    Ok(ExitCode::SUCCESS)
}

async fn find(api: &Api, id: &str) -> anyhow::Result<JobBody> {
    api.json(api.request(Method::GET, &format!("jobs/{id}"))).await
}

/// Waits until a job has ended.
async fn follow(api: &Api, id: &str) -> anyhow::Result<JobBody> {
    let bar = output::bytes("job", 0);
    loop {
        let job = find(api, id).await?;
        bar.set_prefix(job.kind.clone());
        bar.set_length(job.progress.total);
        bar.set_position(job.progress.done);
        if !matches!(job.state.as_str(), "queued" | "running") {
            bar.finish_and_clear();
            return Ok(job);
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// What a job that looks for problems has found.
#[derive(Deserialize)]
struct Found {
    problems: Vec<IgnoredAny>,
}

/// Exits with 1 if it has failed, or if it has found problems.
fn show(job: &JobBody) -> anyhow::Result<ExitCode> {
    let found = job.result.as_ref().and_then(|result| Found::deserialize(result).ok());
    let is_bad = job.state == "failed" || found.is_some_and(|found| !found.problems.is_empty());
    if output::is_json() {
        print_json(job)?;
    } else {
        print_line(format_args!("{} {} {}", job.id, job.kind, job.state))?;
        print_line(format_args!("created {} by {}", job.created_at, job.created_by))?;
        for (what, time) in [("started", &job.started_at), ("ended", &job.ended_at)] {
            if let Some(time) = time {
                print_line(format_args!("{what} {time}"))?;
            }
        }
        if job.ended_at.is_none() {
            print_line(progress(&job.progress))?;
        }
        if let Some(error) = &job.error {
            print_line(format_args!("error: {}", printable(error)))?;
        }
        if let Some(result) = &job.result {
            print_line(format_args!("{result:#}"))?;
        }
    }
    Ok(if is_bad { ExitCode::from(EXIT_FAILURE) } else { ExitCode::SUCCESS })
}

fn progress(progress: &ProgressBody) -> String {
    match progress {
        ProgressBody { total: 0, phase, .. } => phase.clone(),
        ProgressBody { phase, done, total } => {
            format!("{phase}: {done} of {total} ({} %)", done.saturating_mul(100) / total)
        }
    }
}

const POLL_INTERVAL: Duration = Duration::from_millis(500);
