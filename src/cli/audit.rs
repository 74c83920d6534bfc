//! `motorcade audit list | verify`

use std::process::ExitCode;
use std::str::FromStr;

use reqwest::Method;
use serde_json::json;

use super::api::Api;
use super::output::{self, List, print_line};
use super::{EXIT_FAILURE, StateArgs};
use crate::api::{AuditEntryBody, AuditPage, AuditQuery};
use crate::app::audit::{self, AuditFindings, AuditHead};
use crate::config::ClientSettings;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
#[allow(clippy::large_enum_variant, reason = "there is one of it in the life of a process")]
enum Command {
    /// Lists who changed what, the newest first
    List {
        #[command(flatten)]
        client: ClientSettings,
        #[command(flatten)]
        filter: FilterArgs,
    },
    /// Looks in the state directory whether an entry is missing, changed or moved
    Verify {
        #[command(flatten)]
        state: StateArgs,
        /// An entry that was remembered elsewhere, as an earlier check printed it; can be repeated
        #[arg(long = "head", value_name = "NUMBER:HASH")]
        heads: Vec<Head>,
    },
}

#[derive(Debug, clap::Args)]
struct FilterArgs {
    /// Only of this kind, such as image_yanked
    #[arg(long)]
    kind: Option<String>,
    /// Only by the token, vehicle or local user with this id
    #[arg(long, value_name = "ID")]
    actor: Option<String>,
    /// Only about this: an image's path, the id of a key, a token or a vehicle
    #[arg(long)]
    subject: Option<String>,
    /// Only from then on, such as 2026-11-24T10:00:00Z
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only before then
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// At most so many; all without it
    #[arg(long, value_name = "NUMBER")]
    limit: Option<usize>,
}

/// `NUMBER:HASH`
#[derive(Debug, Clone)]
struct Head(AuditHead);

impl FromStr for Head {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (seq, hash) = text.split_once(':').ok_or("it is NUMBER:HASH, as `verify` prints it")?;
        let is_hash = hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
        match seq.parse() {
            Ok(seq) if is_hash => Ok(Self(AuditHead { seq, hash: hash.to_ascii_lowercase() })),
            _ => Err("it is NUMBER:HASH, as `verify` prints it"),
        }
    }
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::List { client, filter } => list(&Api::new(client)?, filter).await,
        Command::Verify { state, heads } => {
            let heads: Vec<AuditHead> = heads.into_iter().map(|Head(head)| head).collect();
            verify(&state, &heads).await
        }
    }
}

async fn list(api: &Api, filter: FilterArgs) -> anyhow::Result<ExitCode> {
    let FilterArgs { kind, actor, subject, since, until, limit } = filter;
    let mut query = AuditQuery { kind, actor, subject, since, until, before: None, limit: 0 };
    let mut list = List::new([
        ("NUMBER", 0),
        ("AT", 27),
        ("KIND", 20),
        ("ACTOR", 24),
        ("SUBJECT", 24),
        ("DETAIL", 0),
    ]);
    let mut left = limit.unwrap_or(usize::MAX);
    while left > 0 {
        query.limit = u32::try_from(left).unwrap_or(u32::MAX).min(1000);
        let page: AuditPage = api.json(api.request(Method::GET, "audit").query(&query)).await?;
        for entry in &page.entries {
            list.item(entry, cells)?;
        }
        left -= page.entries.len().min(left);
        query.before = page.next_before.and_then(|seq| i64::try_from(seq).ok());
        if query.before.is_none() {
            break;
        }
    }
    list.end()?;
    Ok(ExitCode::SUCCESS)
}

fn cells(entry: &AuditEntryBody) -> [String; 6] {
    let who = entry.actor_role.as_ref().unwrap_or(&entry.actor_kind);
    [
        entry.seq.to_string(),
        entry.at.clone(),
        entry.kind.clone(),
        format!("{who} {}", entry.actor).trim_end().to_owned(),
        entry.subject.clone(),
        entry.detail.to_string(),
    ]
}

/// Exits with 1 if anything is wrong.
async fn verify(state: &StateArgs, heads: &[AuditHead]) -> anyhow::Result<ExitCode> {
    let AuditFindings { entries, head, problems } = audit::verify(&state.state()?, heads).await?;
    let head = format!("{}:{}", head.seq, head.hash);
    if output::is_json() {
        print_line(json!({ "entries": entries, "head": head, "problems": problems }))?;
    } else {
        problems.iter().try_for_each(print_line)?;
        let entries = usize::try_from(entries).unwrap_or(usize::MAX);
        let entries = output::count(entries, "entry", "entries");
        let found = output::count(problems.len(), "problem", "problems");
        eprintln!("Checked {entries} of the audit log: {found}");
        eprintln!("Its head is {head}");
        eprintln!("hint: keep that elsewhere, and give it to a later check with --head");
    }
    Ok(if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FAILURE) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_a_number_and_a_hash() {
        let hash = "0123456789abcdef".repeat(4);
        let Head(head) = format!("7:{}", hash.to_uppercase()).parse().unwrap();
        assert_eq!(head, AuditHead { seq: 7, hash: hash.clone() });
        for bad in ["", "7", "7:", &hash, &format!("x:{hash}"), &format!("7:{hash}0"), "7:zz"] {
            assert!(bad.parse::<Head>().is_err(), "{bad}");
        }
    }
}
