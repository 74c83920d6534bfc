//! Work for all cores that gives way to whoever else has something to do.

use std::num::NonZeroUsize;
use std::thread;

use crate::app::Error;

/// Does `work` to each item, in their order, on as many threads as there are cores, and off the
/// executor. The threads are of low priority: an upload or a poll has a core whenever it wants one.
///
/// # Errors
///
/// [`Error::Internal`] if the work could not run.
pub(super) async fn on_all_cores<T, R>(
    items: Vec<T>,
    work: impl Fn(T) -> R + Send + Sync + 'static,
) -> Result<Vec<R>, Error>
where
    T: Send + 'static,
    R: Send + 'static,
{
    let share = move || share(items, &work);
    tokio::task::spawn_blocking(share).await.map_err(Error::internal("work on all cores"))
}

fn share<T: Send, R: Send>(items: Vec<T>, work: &(impl Fn(T) -> R + Sync)) -> Vec<R> {
    let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let size = items.len().div_ceil(cores).max(1);
    let mut parts = Vec::with_capacity(cores);
    let mut items = items.into_iter().peekable();
    while items.peek().is_some() {
        parts.push(items.by_ref().take(size).collect::<Vec<T>>());
    }
    thread::scope(|scope| {
        let part = |part: Vec<T>| {
            move || {
                give_way();
                part.into_iter().map(work).collect::<Vec<R>>()
            }
        };
        let threads: Vec<_> = parts.into_iter().map(|items| scope.spawn(part(items))).collect();
        let joined = threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        joined.flatten().collect()
    })
}

/// Linux knows a priority for each thread, and 0 is the calling one (setpriority(2)).
fn give_way() {
    let _ = rustix::process::setpriority_process(None, LOW_PRIORITY); // then it has the usual one
}

const LOW_PRIORITY: i32 = 19;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn results_are_in_the_order_of_the_items() {
        for count in [0, 1, 2, 7, 100] {
            let doubled = on_all_cores((0..count).collect(), |n: i32| 2 * n).await.unwrap();
            assert_eq!(doubled, (0..count).map(|n| 2 * n).collect::<Vec<_>>());
        }
    }

    #[tokio::test]
    async fn only_the_threads_that_work_have_a_low_priority() {
        let priority = || rustix::process::getpriority_process(None).unwrap();
        let before = priority();
        let low = on_all_cores(vec![()], move |()| priority()).await.unwrap();
        assert_eq!(low, [LOW_PRIORITY]);
        assert_eq!(rustix::process::getpriority_process(None).unwrap(), before);
    }
}
