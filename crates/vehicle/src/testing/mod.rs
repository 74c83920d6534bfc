//! What tests of several files have in common.

pub(crate) mod car;
pub(crate) mod server;
pub(crate) mod small_disk;
