//! Installation by a program.
//!
//! It must not take the end of its input for the end of the image unless it is: it is ended before
//! its input is closed on anything else. Nobody can do that if the vehicle itself is killed, so it
//! is told length and hash of the image, and has to compare them. It leads a group of its own, so
//! that what it has started ends with it, and it is ended if it takes too long or if the vehicle is
//! asked to stop.

use std::io::{self, PipeWriter, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use motorcade_uptane::custom::PlaintextCustom;
use motorcade_uptane::verify::Assignment;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use super::Sink;
use crate::stop::Stop;

/// How long a program may take, and what ends it before.
#[derive(Debug, Clone)]
pub(crate) struct CommandPatience {
    pub(crate) longest: Duration,
    pub(crate) stop: Stop,
}

/// A program that reads the image.
pub(crate) struct CommandSink {
    child: Child,
    /// Never waited for: whoever holds the other end may not read and not be of the group.
    stdin: Option<PipeWriter>,
    watched: Arc<Watched>,
    watch: Option<JoinHandle<()>>,
}

/// What the thread that watches a program shares with the one that feeds it.
struct Watched {
    state: Mutex<State>,
}

struct State {
    /// Its group, for as long as the program was not waited for: the number may be another's
    /// afterwards.
    group: Option<Pid>,
    /// Why it was ended.
    reason: Option<String>,
    /// Whether its time to end by itself has passed, too.
    is_over: bool,
}

impl Watched {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CommandSink {
    pub(crate) fn new(
        folder: &Path,
        command: &[String],
        assignment: &Assignment,
        patience: CommandPatience,
    ) -> io::Result<Self> {
        let (program, arguments) = command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let (input, stdin) = io::pipe()?;
        fcntl_setfl(&stdin, fcntl_getfl(&stdin)? | OFlags::NONBLOCK)?;
        let image = &assignment.custom.image.sealed.plaintext;
        let child = Command::new(program)
            .args(arguments)
            .current_dir(folder)
            .env("MOTORCADE_ECU_SERIAL", assignment.ecu.as_str())
            .env("MOTORCADE_IMAGE_LENGTH", image.length.to_string())
            .env("MOTORCADE_IMAGE_SHA256", image.hashes.sha256.to_string())
            .stdin(input)
            .stdout(Stdio::null()) // ours is for results
            .process_group(0)
            .spawn()?;
        let group = Some(Pid::from_child(&child));
        let watched =
            Arc::new(Watched { state: Mutex::new(State { group, reason: None, is_over: false }) });
        let shared = Arc::clone(&watched);
        let watch = std::thread::spawn(move || watch(&shared, &patience));
        Ok(Self { child, stdin: Some(stdin), watched, watch: Some(watch) })
    }

    /// Why it ended, if it was ended from here.
    fn explain(&self, error: io::Error) -> io::Error {
        self.watched.state().reason.clone().map_or(error, io::Error::other)
    }

    /// Waits without giving its number free before the watching thread knows, and before what it
    /// has started is ended unless all went well.
    fn wait(&mut self) -> io::Result<ExitStatus> {
        loop {
            let mut state = self.watched.state();
            let Some(group) = state.group else { return self.child.wait() };
            match waitid(
                WaitId::Pid(group),
                WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT,
            ) {
                Ok(None) => {}
                Ok(Some(status)) => {
                    if state.reason.is_some() || status.exit_status() != Some(0) {
                        let _ = kill_process_group(group, Signal::KILL); // there may be nobody left
                    }
                    state.group = None;
                    return self.child.wait();
                }
                Err(error) => {
                    state.group = None;
                    return Err(error.into());
                }
            }
            drop(state);
            std::thread::sleep(TICK);
        }
    }

    fn feed(&mut self, mut block: &[u8]) -> io::Result<()> {
        let stdin = self.stdin.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        while !block.is_empty() {
            match stdin.write(block) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => block = block.get(written..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if self.watched.state().is_over {
                        return Err(io::ErrorKind::TimedOut.into());
                    }
                    let tick = Timespec::try_from(TICK).map_err(io::Error::other)?;
                    // Whether there is room is seen by the next try.
                    let _ = poll(&mut [PollFd::new(&*stdin, PollFlags::OUT)], Some(&tick));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Sink for CommandSink {
    fn write(&mut self, block: &[u8]) -> io::Result<()> {
        self.feed(block).map_err(|error| self.explain(error))
    }

    fn commit(mut self: Box<Self>, _: &PlaintextCustom) -> io::Result<()> {
        drop(self.stdin.take());
        let status = self.wait()?;
        match status.success() {
            true => Ok(()),
            false => {
                Err(self.explain(io::Error::other(format!("the command ended with {status}"))))
            }
        }
    }
}

impl Drop for CommandSink {
    fn drop(&mut self) {
        if let Some(group) = self.watched.state().group {
            let _ = kill_process_group(group, Signal::KILL); // it may have ended by itself
        }
        let _ = self.wait();
        if let Some(watch) = self.watch.take() {
            let _ = watch.join(); // it does not panic
        }
    }
}

/// Ends the group when it is time: first in kindness, and soon after for good.
fn watch(watched: &Watched, patience: &CommandPatience) {
    let started = Instant::now();
    let mut asked: Option<Instant> = None;
    loop {
        std::thread::sleep(TICK);
        let mut state = watched.state();
        let Some(group) = state.group else { return };
        match asked {
            Some(asked) if asked.elapsed() >= GRACE => {
                let _ = kill_process_group(group, Signal::KILL); // it may have ended by itself
                state.is_over = true;
            }
            Some(_) => {}
            None => {
                let reason = if patience.stop.is_asked() {
                    "the command was ended, since the vehicle was asked to stop".to_owned()
                } else if started.elapsed() >= patience.longest {
                    format!(
                        "the command took longer than {} s and was ended",
                        patience.longest.as_secs()
                    )
                } else {
                    continue;
                };
                state.reason = Some(reason);
                let _ = kill_process_group(group, Signal::TERM);
                asked = Some(Instant::now());
            }
        }
    }
}

const TICK: Duration = Duration::from_millis(20);
/// Between the request to end and the end.
const GRACE: Duration = Duration::from_secs(3);
