//! What bounds an upload that can be resumed, and how a refusal reads.

use std::time::Duration;

use crate::app::Error;
use crate::catalog::UploadRecord;

pub(super) fn check_offset(record: &UploadRecord, at: u64) -> Result<(), Error> {
    if record.received == at { Ok(()) } else { Err(Error::WrongOffset { offset: record.received }) }
}

/// For a body that goes on where the image has ended.
pub(super) fn beyond_length() -> Error {
    let detail =
        "the body goes on beyond Upload-Length: send what is left of the image, and no more";
    Error::Invalid { code: "beyond_length", detail: detail.into() }
}

/// Uploads of one token that can wait at a time: each takes a row, and space for what has come.
pub(super) const MOST_OPEN: u64 = 100;
/// How long an upload is taken without a word; the session says one much more often.
pub(super) const LEASE: Duration = Duration::from_secs(60);
/// How long it is known that an upload was completed or ended, for a client that has not heard it.
pub(super) const REMEMBERED: Duration = Duration::from_secs(24 * 60 * 60);
/// Of how many uploads of one token that is known.
pub(super) const MOST_REMEMBERED: u64 = 1000;
