//! Where a plaintext image goes: a file, a block device or a program.
//!
//! Each has its own way to keep an image from being used before it is known to be whole and the one
//! that was signed.

pub(super) mod command;
pub(super) mod device;
pub(super) mod file;

use std::io;

use motorcade_uptane::custom::PlaintextCustom;

/// Takes plaintext. What was written counts only after [`Self::commit`].
pub(super) trait Sink {
    /// Takes the next part.
    fn write(&mut self, block: &[u8]) -> io::Result<()>;

    /// All of it is there and right: puts it into effect, for good.
    fn commit(self: Box<Self>, expected: &PlaintextCustom) -> io::Result<()>;
}
