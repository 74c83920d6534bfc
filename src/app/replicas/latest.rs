//! One question for all who ask at the same time.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Mutex;

use crate::app::Error;

/// Has something compared with the catalog before it is served from memory. Whoever asks while a
/// comparison runs waits for the next one, which began after it had asked, and so do all others who
/// wait: a crowd costs one question.
#[derive(Debug, Default)]
pub(in crate::app) struct Latest {
    asked: AtomicU64,
    answered: Mutex<Answered>,
}

/// The last comparison.
#[derive(Debug, Default)]
struct Answered {
    /// It began after so many had asked.
    asked: u64,
    has_failed: bool,
}

impl Latest {
    /// Returns once `compare` has run, for this caller or for another one that it began after.
    ///
    /// # Errors
    ///
    /// What `compare` returns, or that the catalog can't be reached if it failed for somebody else.
    pub(in crate::app) async fn compare(
        &self,
        compare: impl AsyncFnOnce() -> Result<(), Error>,
    ) -> Result<(), Error> {
        let number = self.asked.fetch_add(1, Ordering::AcqRel) + 1;
        let mut answered = self.answered.lock().await;
        if answered.asked >= number {
            return if answered.has_failed { Err(Error::catalog_unreachable()) } else { Ok(()) };
        }
        let asked = self.asked.load(Ordering::Acquire);
        let compared = compare().await;
        *answered = Answered { asked, has_failed: compared.is_err() };
        compared
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use futures_util::future::join_all;

    use super::*;

    #[tokio::test]
    async fn a_crowd_costs_two_questions_and_each_is_asked_after_its_askers_came() {
        let (latest, questions) = (Latest::default(), Cell::new(0));
        let ask = || {
            latest.compare(async || {
                questions.set(questions.get() + 1);
                tokio::task::yield_now().await;
                Ok(())
            })
        };
        join_all((0..50).map(|_| ask())).await.into_iter().for_each(Result::unwrap);
        assert!(questions.get() <= 2, "{}", questions.get());
        let before = questions.get();
        ask().await.unwrap();
        assert_eq!(questions.get(), before + 1, "an answer from before is none");
    }

    #[tokio::test]
    async fn who_waited_for_an_answer_that_failed_is_told_so() {
        let latest = Latest::default();
        let ask = || {
            latest.compare(async || {
                tokio::task::yield_now().await;
                Err(Error::catalog_unreachable())
            })
        };
        for answer in join_all((0..9).map(|_| ask())).await {
            assert!(answer.unwrap_err().is_unreachable());
        }
    }
}
