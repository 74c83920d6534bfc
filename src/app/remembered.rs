//! What follows from some bytes that change seldom, kept until they do.

use std::sync::{Mutex, PoisonError};

/// What was made of some bytes the last time.
#[derive(Debug)]
pub(in crate::app) struct Remembered<T>(Mutex<Option<(Vec<u8>, T)>>);

impl<T> Default for Remembered<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T: Clone> Remembered<T> {
    /// What `make` makes of these bytes, which is asked only if they are others than the last time.
    pub(in crate::app) fn of(&self, bytes: &[u8], make: impl FnOnce(&[u8]) -> T) -> T {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((before, made)) = known.as_ref()
            && before == bytes
        {
            return made.clone();
        }
        let made = make(bytes);
        *known = Some((bytes.to_vec(), made.clone()));
        made
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn the_same_bytes_are_looked_at_once() {
        let (made, remembered) = (Cell::new(0), Remembered::default());
        let length = |bytes: &[u8]| {
            made.set(made.get() + 1);
            bytes.len()
        };
        for (bytes, expected) in [("one", 1), ("one", 1), ("other", 2), ("other", 2), ("one", 3)] {
            assert_eq!(remembered.of(bytes.as_bytes(), length), bytes.len());
            assert_eq!(made.get(), expected, "{bytes}");
        }
    }
}
