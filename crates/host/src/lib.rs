//! What both programs ask of the machine that they run on: a command line with variables that stand
//! for flags, files with the right modes and owners, a processor that has what was compiled in, and
//! how TLS begins.

pub mod environment;
pub mod files;
pub mod key_exchange;
pub mod new_file;
pub mod shown;
pub mod unnamed;
