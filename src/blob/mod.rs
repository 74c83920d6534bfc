//! Blobs: sealed images, envelopes and metadata files, under the names that `/repo` serves.
//!
//! [`BlobStore`] is the contract; [`local`] keeps blobs in a directory that any file server can
//! serve as it is, and [`s3`] in a bucket that is a static repository, too. `conformance` tests each
//! sentence of the contract on every implementation.

pub mod key;
pub mod local;
mod opened;
mod parts;
#[cfg(feature = "s3")]
pub mod s3;
mod store;

#[cfg(test)]
mod conformance;

pub use key::BlobKey;
pub use local::LocalBlobStore;
pub use opened::Blob;
pub use parts::{Parts, PartsSecret};
pub use store::{
    BlobStore, BlobUpload, Error, Names, REPLACEABLE, ReadVerb, SecondName, StagedBlob,
};
