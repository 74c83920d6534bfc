//! `motorcade backup`

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::StateArgs;
use super::output::{self, done, note};
use super::signals;
use crate::app::backup::{Blobs, KeyFiles, Plan, Record, back_up};
use crate::model::{Clock, SystemClock};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    state: StateArgs,
    /// New folder for the backup, best on another disk
    folder: PathBuf,
    /// Leave the keys out, to be kept elsewhere; the backup can't be used without them
    #[arg(long)]
    without_keys: bool,
    /// Copy images on the same file system too, where they would be hard links
    #[arg(long)]
    copy: bool,
}

pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let stop = Arc::new(AtomicBool::new(false));
    let bar = output::unknown_bytes("backing up");
    let plan = Plan {
        keys: if args.without_keys { KeyFiles::LeftOut } else { KeyFiles::Included },
        blobs: if args.copy { Blobs::Copied } else { Blobs::Linked },
        now: SystemClock.now(),
        is_stopped: Box::new({
            let stop = Arc::clone(&stop);
            move || stop.load(Ordering::Relaxed)
        }),
        progress: Box::new({
            let bar = bar.clone();
            move |bytes| bar.inc(bytes)
        }),
    };
    let end = signals::told_to_end()?;
    let state = args.state.state()?;
    let mut backing_up = std::pin::pin!(back_up(&state, &args.folder, plan));
    let record = tokio::select! {
        record = &mut backing_up => record?,
        code = end => {
            stop.store(true, Ordering::Relaxed);
            return match backing_up.await {
                Ok(record) => tell(&args, &record), // it was done by then
                Err(_) => {
                    note("The backup was told to end; what was made of it is removed");
                    Ok(ExitCode::from(code))
                }
            };
        }
    };
    bar.finish_and_clear();
    tell(&args, &record)
}

fn tell(args: &Args, record: &Record) -> anyhow::Result<ExitCode> {
    let Record { linked, copied, bytes, key_files, keys_elsewhere, .. } = record;
    let folder = args.folder.display();
    let size = output::size(*bytes);
    done(
        format_args!(
            "Backed up to {folder}: {linked} files of repo/ as hard links, {copied} as copies ({size} with catalog, keys and policy)"
        ),
        record,
    )?;
    if args.without_keys {
        note(
            "warning: it has no keys, and can't be used without them: keep a copy of keys/ elsewhere",
        );
    } else {
        note(format_args!(
            "It has {} key files, which open everything: guard it like the state directory",
            key_files.len()
        ));
    }
    if let Some(bucket) = args.state.state()?.bucket() {
        note(format_args!("warning: blobs are not in it, but in {}", bucket.url));
    }
    for place in keys_elsewhere {
        note(format_args!("warning: a key is not in it, but in {place}"));
    }
    if *linked > 0 {
        note(
            "hint: hard links are the same bytes on the same disk; copy the folder to another one, with its links (`cp -a`)",
        );
    }
    note("hint: to restore it, follow docs/runbooks/restored-from-an-old-backup.md");
    Ok(ExitCode::SUCCESS)
}
