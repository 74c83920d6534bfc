//! What is told of a move while it goes on.

/// A piece of a move that is done.
#[derive(Debug, Clone, Copy)]
pub enum Progress<'a> {
    /// A blob is there, and was read back.
    Copied {
        /// Its name.
        name: &'a str,
        /// Its length.
        bytes: u64,
    },
    /// So many rows more of a table are there.
    Moved {
        /// Which table.
        table: &'a str,
        /// How many rows.
        rows: u64,
    },
    /// A table is the same on both sides.
    Compared {
        /// Which table.
        table: &'a str,
        /// How many rows it has.
        rows: u64,
    },
}
