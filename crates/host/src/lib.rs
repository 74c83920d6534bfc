//! What both programs ask of the machine that they run on: a command line with variables that stand
//! for flags, files with the right modes and owners, and a processor that has what was compiled in.

pub mod environment;
pub mod files;
pub mod new_file;
pub mod shown;
pub mod unnamed;
