//! Blobs: sealed images, envelopes and metadata files, under the names that `/repo` serves.
//!
//! [`BlobStore`] is the contract; [`local`] keeps blobs in a directory that any file server can
//! serve as it is. `conformance` tests each sentence of the contract on every implementation.

pub mod key;
pub mod local;
mod parts;
mod store;

#[cfg(test)]
mod conformance;

pub use key::BlobKey;
pub use local::{LocalBlobStore, Names};
pub use parts::{Parts, PartsSecret};
pub use store::{Blob, BlobStore, BlobUpload, Error, StagedBlob};
