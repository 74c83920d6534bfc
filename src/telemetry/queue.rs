//! Log lines on their way to where they are read, for which nothing that serves ever waits.
//!
//! Whoever logs adds to a buffer in memory, and a thread of its own writes it out. If nobody reads,
//! such as a log collector that stands still behind a full pipe, the buffer fills up. Lines are
//! then dropped, counted, and told of once it flows again.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{mem, thread};

/// How many lines this process has dropped, which has one stderr and one queue before it.
pub(super) fn dropped_lines() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

/// Lines that wait to be written.
#[derive(Clone, Debug)]
pub(super) struct Queue(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    filled: Condvar,
    emptied: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<u8>,
    is_writing: bool,
    /// Lines that had no room since `waiting` was taken last.
    dropped: u64,
}

impl Queue {
    /// Starts the thread that writes. It calls `tell_loss` with the number of lines that were
    /// dropped, when there is room to say so.
    ///
    /// # Errors
    ///
    /// If there can't be another thread.
    pub(super) fn start(
        output: impl Write + Send + 'static,
        tell_loss: impl Fn(u64) + Send + 'static,
    ) -> io::Result<Self> {
        let queue = Self(Arc::default());
        let shared = Arc::clone(&queue.0);
        thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || shared.write_out(output, tell_loss))?;
        Ok(queue)
    }

    /// Adds one whole line, or drops it if too much waits already; never waits itself.
    pub(super) fn push(&self, line: &[u8]) {
        let mut state = self.0.lock();
        if state.waiting.len() + line.len() > MAX_WAITING {
            state.dropped += 1;
            DROPPED.fetch_add(1, Ordering::Relaxed);
            return;
        }
        state.waiting.extend_from_slice(line);
        drop(state);
        self.0.filled.notify_one();
    }

    /// Waits until all is written, but not longer than `timeout`: nobody may be reading.
    pub(super) fn flush(&self, timeout: Duration) {
        let is_busy = |state: &mut State| state.is_writing || !state.waiting.is_empty();
        let flushed = self.0.emptied.wait_timeout_while(self.0.lock(), timeout, is_busy);
        drop(flushed.unwrap_or_else(PoisonError::into_inner));
    }
}

impl Shared {
    fn write_out(&self, mut output: impl Write, tell_loss: impl Fn(u64)) {
        let mut batch = Vec::new();
        loop {
            let waited = self.filled.wait_while(self.lock(), |state| state.waiting.is_empty());
            let mut state = waited.unwrap_or_else(PoisonError::into_inner);
            mem::swap(&mut state.waiting, &mut batch);
            state.is_writing = true;
            let dropped = mem::take(&mut state.dropped);
            drop(state);
            if dropped > 0 {
                tell_loss(dropped); // in the buffer that is empty now: after what came before the loss
            }
            let unwritten = write_patiently(&mut output, &batch);
            // Not told of in the log, which is what can't be written to.
            DROPPED.fetch_add(
                unwritten.iter().filter(|byte| **byte == b'\n').count() as u64,
                Ordering::Relaxed,
            );
            batch.clear();
            self.lock().is_writing = false;
            self.emptied.notify_all();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes until an error says that it is in vain, and returns what is left.
fn write_patiently<'a>(output: &mut impl Write, mut bytes: &'a [u8]) -> &'a [u8] {
    while !bytes.is_empty() {
        match output.write(bytes) {
            Ok(0) => break,
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Whoever shares the pipe or terminal has made it non-blocking.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(RETRY_PAUSE),
            Err(_) => break,
        }
    }
    bytes
}

static DROPPED: AtomicU64 = AtomicU64::new(0);
const MAX_WAITING: usize = 1024 * 1024; // 1 MiB, some 3,000 lines; as much again is being written
const RETRY_PAUSE: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{self, Receiver, Sender};
    use std::time::Instant;

    use super::*;

    /// Passes on what is written only as it is asked to.
    struct Reader {
        may_read: Receiver<()>,
        read: Sender<Vec<u8>>,
    }

    impl Write for Reader {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.may_read.recv().map_err(io::Error::other)?;
            let taken = &bytes[..bytes.len().min(70_000)];
            self.read.send(taken.to_vec()).map_err(io::Error::other)?;
            Ok(taken.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_stands_still_costs_lines_and_no_time() {
        let ((go_on, may_read), (read, lines)) = (mpsc::channel(), mpsc::channel());
        let (lose, losses) = mpsc::channel();
        let told = Arc::new(Mutex::new(None::<Queue>));
        let to_tell = Arc::clone(&told);
        let tell_loss = move |dropped| {
            to_tell
                .lock()
                .unwrap()
                .as_ref()
                .unwrap()
                .push(format!("{dropped} dropped\n").as_bytes());
            lose.send(dropped).unwrap();
        };
        let queue = Queue::start(Reader { may_read, read }, tell_loss).unwrap();
        *told.lock().unwrap() = Some(queue.clone());

        let started = Instant::now();
        for number in 0..100_000 {
            queue.push(format!("line {number:>30}\n").as_bytes());
        }
        queue.flush(Duration::from_millis(50));
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
        assert!(dropped_lines() > 0);

        (0..1000).for_each(|_| go_on.send(()).unwrap());
        queue.flush(Duration::from_secs(20));
        let text = String::from_utf8(lines.try_iter().flatten().collect()).unwrap();
        let dropped = losses.try_iter().sum::<u64>();
        let (before, after) =
            text.split_once(&format!("{dropped} dropped\n")).expect("the loss is told of once");
        assert_eq!(after, "", "nothing came later");
        assert_eq!(before.lines().count() as u64 + dropped, 100_000);
        assert!(
            before.lines().enumerate().all(|(number, line)| line == format!("line {number:>30}"))
        );
    }

    #[test]
    fn a_reader_that_is_gone_is_no_reason_to_stop() {
        struct Gone(Sender<()>);
        impl Write for Gone {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                self.0.send(()).unwrap();
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (tried, tries) = mpsc::channel();
        let queue = Queue::start(Gone(tried), |_| panic!("this can't be told")).unwrap();
        for _ in 0..3 {
            let before = dropped_lines();
            queue.push(b"line\n");
            queue.flush(Duration::from_secs(20));
            tries.recv_timeout(Duration::from_secs(20)).unwrap();
            assert!(dropped_lines() > before);
        }
    }
}
