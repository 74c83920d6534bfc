//! Whether the process was asked to end, and by what it must not be ended.
//!
//! Signals are taken by a thread of their own, so that one that comes while an image is written is
//! not lost, and whatever waits can be told. None that is sent on purpose ends the process at once,
//! short of SIGKILL: an install command would take the end of its input for the end of the image.

use std::future::{self, Future};
use std::io;
use std::sync::mpsc;
use std::task::Poll;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// Tells that the process is to end.
#[derive(Debug, Clone)]
pub(super) struct Stop(Option<watch::Receiver<bool>>);

/// What is done with signals that a program is not ended by on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hangup {
    /// A terminal that is gone ends a command, unless it was started with `nohup`; so do `SIGUSR1`
    /// and `SIGUSR2`.
    Ends,
    /// A service goes on: there is nothing that it would read again. Nor do `SIGUSR1` and `SIGUSR2`
    /// end it.
    Ignored,
}

impl Stop {
    /// Nobody asks.
    pub(super) fn never() -> Self {
        Self(None)
    }

    /// Somebody has asked before.
    #[cfg(test)]
    pub(super) fn asked_already() -> Self {
        let (_ask, asked) = watch::channel(true);
        Self(Some(asked))
    }

    /// From now on `SIGTERM`, `SIGINT` and `SIGQUIT` ask, and do not end the process by themselves.
    pub(super) fn on_signals(hangup: Hangup) -> io::Result<Self> {
        let (ask, asked) = watch::channel(false);
        let (ready, is_ready) = mpsc::sync_channel(1);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = match runtime {
                Ok(runtime) => runtime,
                Err(error) => return drop(ready.send(Err(error))),
            };
            runtime.block_on(async {
                match listen(hangup) {
                    Ok((mut asking, _ignored)) => {
                        let _ = ready.send(Ok(())); // who asked for it waits
                        loop {
                            any(&mut asking).await;
                            let _ = ask.send(true); // nobody may listen any more
                        }
                    }
                    Err(error) => drop(ready.send(Err(error))),
                }
            });
        });
        is_ready.recv().map_err(io::Error::other)??;
        Ok(Self(Some(asked)))
    }

    /// Whether it was asked.
    pub(super) fn is_asked(&self) -> bool {
        self.0.as_ref().is_some_and(|asked| *asked.borrow())
    }

    /// Ends once it is asked.
    pub(super) fn asked(&self) -> impl Future<Output = ()> + use<> {
        let asked = self.0.clone();
        async move {
            if let Some(mut asked) = asked
                && asked.wait_for(|asked| *asked).await.is_ok()
            {
                return;
            }
            std::future::pending().await
        }
    }
}

/// Ends once one of them comes.
async fn any(signals: &mut [Signal]) {
    future::poll_fn(|context| {
        let has_come = signals.iter_mut().any(|signal| signal.poll_recv(context).is_ready());
        if has_come { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// Signals that ask, and those that are taken and forgotten.
fn listen(hangup: Hangup) -> io::Result<(Vec<Signal>, Vec<Signal>)> {
    let mut asking = vec![SignalKind::terminate(), SignalKind::interrupt(), SignalKind::quit()];
    let mut ignored = Vec::new();
    let others = [SignalKind::hangup(), SignalKind::user_defined1(), SignalKind::user_defined2()];
    match hangup {
        Hangup::Ends => asking.extend(others.into_iter().filter(|kind| !is_ignored(*kind))),
        Hangup::Ignored => ignored.extend(others),
    }
    let take = |kinds: Vec<SignalKind>| kinds.into_iter().map(signal).collect::<io::Result<_>>();
    Ok((take(asking)?, take(ignored)?))
}

/// Whether whoever has started the process wants it to ignore a signal, as `nohup` does.
fn is_ignored(kind: SignalKind) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    mask >> (kind.as_raw_value() - 1) & 1 == 1
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use rustix::process::{Signal, getpid, kill_process};

    use super::*;

    #[test]
    fn signals_that_would_end_a_command_ask_it_to_stop() {
        let signals = [Signal::HUP, Signal::QUIT, Signal::USR1, Signal::TERM, Signal::INT];
        // Whoever runs this may have used `nohup`.
        for signal in
            signals.into_iter().filter(|signal| !is_ignored(SignalKind::from_raw(signal.as_raw())))
        {
            let stop = Stop::on_signals(Hangup::Ends).unwrap();
            assert!(!stop.is_asked());
            kill_process(getpid(), signal).unwrap();
            let started = Instant::now();
            while !stop.is_asked() {
                assert!(started.elapsed() < Duration::from_secs(30), "{signal:?}");
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}
