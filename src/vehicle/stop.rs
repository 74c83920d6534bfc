//! Whether the process was asked to end, and by what it must not be ended.
//!
//! Signals are taken by a thread of their own, so that one that comes while an image is written is not lost, and whatever waits
//! can be told.

use std::future::Future;
use std::io;
use std::sync::mpsc;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// Tells that the process is to end.
#[derive(Debug, Clone)]
pub(super) struct Stop(Option<watch::Receiver<bool>>);

/// What is done with signals that a program is not ended by on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hangup {
    /// A terminal that is gone ends a command.
    Ends,
    /// A service goes on: there is nothing that it would read again. Nor do `SIGUSR1` and `SIGUSR2` end it.
    Ignored,
}

impl Stop {
    /// Nobody asks.
    pub(super) fn never() -> Self {
        Self(None)
    }

    /// From now on `SIGTERM` and `SIGINT` ask, and do not end the process by themselves.
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
                    Ok((mut terminate, mut interrupt, _ignored)) => {
                        let _ = ready.send(Ok(())); // who asked for it waits
                        loop {
                            tokio::select! {
                                _ = terminate.recv() => {}
                                _ = interrupt.recv() => {}
                            }
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

/// Signals that ask, and those that are taken and forgotten.
fn listen(hangup: Hangup) -> io::Result<(Signal, Signal, Vec<Signal>)> {
    let kinds = [SignalKind::hangup(), SignalKind::user_defined1(), SignalKind::user_defined2()];
    let kinds = kinds.into_iter().filter(|_| hangup == Hangup::Ignored);
    let ignored = kinds.map(signal).collect::<io::Result<_>>()?;
    Ok((signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?, ignored))
}
