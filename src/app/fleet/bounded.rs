//! A reader that gives no more than it was told to: a CSV field without an end is one field,
//! however long it gets.

use std::cell::Cell;
use std::io::{self, Read};

/// Gives `left` bytes; whoever has taken a row raises that again.
pub(super) struct Bounded<'a, R> {
    pub(super) body: R,
    pub(super) left: &'a Cell<u64>,
}

impl<R: Read> Read for Bounded<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.left.get()).unwrap_or(usize::MAX);
        if left == 0 {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let size = buffer.len().min(left);
        let count = self.body.read(buffer.get_mut(..size).unwrap_or_default())?;
        self.left.set(self.left.get() - count as u64);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_what_is_left_and_then_fails() {
        let left = Cell::new(3);
        let mut reader = Bounded { body: io::repeat(b'x'), left: &left };
        let mut buffer = [0; 8];
        assert_eq!(reader.read(&mut buffer).unwrap(), 3);
        assert_eq!(reader.read(&mut buffer).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        left.set(9);
        assert_eq!(reader.read(&mut buffer).unwrap(), 8);
        assert_eq!(reader.read(&mut buffer).unwrap(), 1);
    }
}
