//! What of a role that its owner signs people are told.

use std::process::ExitCode;

use crate::api::{StagedTargetsBody, TargetsBody};
use crate::cli::output::{self, print_json, print_line};
use crate::cli::signing::tell_signatures;
use motorcade_host::shown::{printable, whole};

/// How far a role is.
pub(super) fn tell(state: &TargetsBody) -> anyhow::Result<ExitCode> {
    if output::is_json() {
        print_json(state)?;
        return Ok(ExitCode::SUCCESS);
    }
    let role = printable(&state.targets_role);
    match (state.version, &state.expires_at) {
        (Some(version), Some(expires_at)) => {
            print_line(format_args!("{role} {version}, good until {}", printable(expires_at)))?;
        }
        _ => print_line(format_args!("nothing of {role} is published"))?,
    }
    print_line(format_args!("{} of {} keys sign", state.threshold, state.keys.len()))?;
    match state.waiting.len() {
        0 => print_line("nothing waits")?,
        _ => print_line("waits to be staged, signed and published:")?,
    }
    for line in &state.waiting {
        print_line(format_args!("  {}", whole(line)))?;
    }
    match &state.staged {
        Some(staged) => tell_staged(staged)?,
        None => print_line("nothing is staged")?,
    }
    Ok(ExitCode::SUCCESS)
}

/// What a file changes.
pub(super) fn tell_changes(changes: &[String]) -> anyhow::Result<()> {
    for line in changes {
        print_line(whole(line))?;
    }
    Ok(())
}

fn tell_staged(staged: &StagedTargetsBody) -> anyhow::Result<()> {
    let state = match (staged.is_outdated, staged.missing) {
        (true, _) => "outdated: stage it again".to_owned(),
        (false, 0) => "signed: publish it".to_owned(),
        (false, missing) => format!("waits for {missing} more signatures"),
    };
    print_line(format_args!(
        "staged: version {}, revision {}, by {} at {}, {state}",
        staged.version,
        staged.revision,
        printable(&staged.staged_by),
        printable(&staged.staged_at)
    ))?;
    print_line(format_args!("  digest {}", printable(&staged.payload_sha256)))?;
    tell_signatures(&staged.signatures)
}
