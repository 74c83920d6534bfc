//! Trust: whether what signs here, and what was signed here, is what clients take.
//!
//! A key file that was exchanged or damaged signs as willingly as the right one, and to a vehicle
//! what it signs is an attack. So keys are compared with the published roots before a server
//! starts, and no file is recorded that the verifier has not taken. What was published by a server
//! that did not look is signed again.

mod chain;
mod envelope;
mod escrow;
mod keys;
mod roots;
mod signers;
mod start;
mod verifier;
mod wrapping;

pub(super) use chain::{ChainFault, Walk, walk};
pub(super) use envelope::{fault_of, read_envelope};
pub(super) use escrow::{
    Remembered, add_key, check_envelope, check_escrow, check_proof, retire_key,
};
pub(super) use keys::{
    authority, authority_of, compare_bins, compare_keys, compare_policy, compare_suppliers,
    signed_here,
};
pub(super) use roots::{former_root_keys, read_root};
pub(super) use signers::{published_signers, top_level};
pub(super) use start::check_keys;
pub(super) use verifier::{Verifier, read_published, read_recorded, trusted_root};
pub(super) use wrapping::{check_wrapping, find_other_wrapping, settle_wrapping};

use super::Error;

/// Refuses to start with files in `keys/` that aren't those that the installation goes by.
pub(super) fn refuse(problems: &[String]) -> Result<(), Error> {
    if problems.is_empty() {
        return Ok(());
    }
    let detail = format!(
        "{}; nothing was changed: put the right files back from a backup of keys/, with mode 0600",
        problems.join("; ")
    );
    Err(Error::Conflict { code: "wrong_keys", detail })
}
