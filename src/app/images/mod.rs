//! Images: what comes in, what is kept of it, what goes out.

pub mod deliver;
pub mod ingest;
pub mod precondition;
mod recipients;
