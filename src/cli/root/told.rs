//! What of a ceremony people are told, by the server's word and offline.

use crate::api::StagedRootBody;
use crate::cli::output::print_line;
use crate::cli::signing::tell_signatures;
use motorcade_host::shown::{printable, whole};

/// What a root changes, for people.
pub(super) fn tell_diff(changes: &[String], consequences: &[String]) -> anyhow::Result<()> {
    for line in changes {
        print_line(whole(line))?;
    }
    for line in consequences {
        print_line(format_args!("- {}", whole(line)))?;
    }
    Ok(())
}

/// How far a staging is, for people.
pub(super) fn tell_staged(staged: &StagedRootBody) -> anyhow::Result<()> {
    let state = match (staged.is_outdated, staged.missing_of_published, staged.missing_of_staged) {
        (true, ..) => "outdated, since another root was published: stage it again".to_owned(),
        (false, 0, 0) => "signed: publish it with `motorcade root publish`".to_owned(),
        (false, before, after) => format!(
            "waits for {before} more signatures by keys of root {}, and {after} by its own",
            staged.base
        ),
    };
    print_line(format_args!(
        "staged: root {}, revision {}, by {} at {}, {state}",
        staged.version,
        staged.revision,
        printable(&staged.staged_by),
        printable(&staged.staged_at)
    ))?;
    print_line(format_args!("  digest {}", printable(&staged.payload_sha256)))?;
    tell_signatures(&staged.signatures)
}
