//! The `motorcade-vehicle` binary.

fn main() {}
