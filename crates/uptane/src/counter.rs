//! Counters of what an ECU signs, which rise with each (DIR-17), and **must never** come to their
//! end: who had one message with the highest number accepted would have silenced the ECU for good.

/// The highest counter: what every JSON reader holds exactly.
pub const MAX_COUNTER: u64 = (1 << 53) - 1;

/// A counter that is refused, whatever was accepted before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CounterFault {
    /// No reader of JSON would be sure of it.
    #[error("it is over {MAX_COUNTER}")]
    TooHigh,
    /// It would take the ECU to the end of its numbers.
    #[error(
        "it leaves out more than {LARGEST_STEP} numbers, and hardly any are left above {END_BEGINS}"
    )]
    TooFar,
}

/// Looks at a counter that follows `last`, which is 0 before the first. Near the end of the numbers
/// it may rise by little: no single message takes an ECU there, and whoever counts by ones has a
/// million million reports left.
///
/// # Errors
///
/// [`CounterFault`].
pub fn check_step(last: u64, counter: u64) -> Result<(), CounterFault> {
    match counter {
        _ if counter > MAX_COUNTER => Err(CounterFault::TooHigh),
        _ if counter > END_BEGINS && counter - last.min(counter) > LARGEST_STEP => {
            Err(CounterFault::TooFar)
        }
        _ => Ok(()),
    }
}

const END_BEGINS: u64 = MAX_COUNTER - (1 << 40);
const LARGEST_STEP: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_single_step_leads_to_the_end() {
        for (last, counter, expected) in [
            (0, 1, Ok(())),
            (0, END_BEGINS, Ok(())),
            (0, END_BEGINS + 1, Err(CounterFault::TooFar)),
            (0, MAX_COUNTER, Err(CounterFault::TooFar)),
            (END_BEGINS, END_BEGINS + LARGEST_STEP, Ok(())),
            (END_BEGINS, END_BEGINS + LARGEST_STEP + 1, Err(CounterFault::TooFar)),
            (MAX_COUNTER - 1, MAX_COUNTER, Ok(())),
            (MAX_COUNTER, MAX_COUNTER + 1, Err(CounterFault::TooHigh)),
            (MAX_COUNTER, END_BEGINS + 1, Ok(())), // a replay, which is another's to refuse
        ] {
            assert_eq!(check_step(last, counter), expected, "{last} {counter}");
        }
    }
}
