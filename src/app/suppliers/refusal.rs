//! Why a supplier can't be added, in words that say what to do.

use crate::app::Error;
use crate::catalog::SupplierConflict;
use crate::keys::policy::Policy;
use crate::model::{SupplierName, SupplierRecord};

/// A threshold is at least 1 and can be met (TUF 1.0.34, 4.5).
pub(super) fn check_keys(threshold: u8, count: u8) -> Result<(), Error> {
    let most = Policy::MAX_KEYS;
    if (1..=most).contains(&threshold) && (threshold..=most).contains(&count) {
        return Ok(());
    }
    Err(Error::Unprocessable {
        code: "bad_threshold",
        detail: format!(
            "{threshold} of {count} keys can't be: a supplier has 1 to {most} keys, of which 1 or more have to sign, and no \
             more than there are"
        ),
    })
}

pub(super) fn keys_elsewhere(name: &SupplierName) -> Error {
    let detail = format!(
        "the supplier {name} keeps its keys itself, so that none can be made here: have it make other ones, and name their \
         public halves with `motorcade supplier keys {name} --public-key FILE`"
    );
    Error::Conflict { code: "keys_elsewhere", detail }
}

pub(super) fn targets_offline(name: &SupplierName) -> Error {
    let detail = format!(
        "people sign the targets, which have to name the keys of {name} in the moment in which these sign: have the supplier \
         make keys of its own, and name their public halves with `motorcade supplier keys {name} --public-key FILE`"
    );
    Error::Conflict { code: "targets_offline", detail }
}

pub(super) fn no_supplier(name: &SupplierName) -> Error {
    let detail = format!("there is no supplier {name}");
    Error::NotFound { code: "supplier_not_found", detail }
}

pub(super) fn conflict(new: &SupplierRecord, conflict: SupplierConflict) -> Error {
    let (name, folder) = (&new.name, &new.folder);
    let (code, detail) = match conflict {
        SupplierConflict::NameUsed { is_removed: false } => {
            ("supplier_exists", format!("there is a supplier {name} already"))
        }
        SupplierConflict::NameUsed { is_removed: true } => (
            "supplier_name_used",
            format!(
                "the name {name} was that of a supplier who was removed, and clients remember the versions of its role: use \
                 another one, such as {name}-2; the folder can be the same"
            ),
        ),
        SupplierConflict::FolderTaken { by } => (
            "folder_taken",
            format!(
                "the folder {folder} is that of the supplier {by}, or one lies in the other: clients would have two roles to ask"
            ),
        ),
        SupplierConflict::FolderHasImages { images } => (
            "folder_has_images",
            format!(
                "{images} images below {folder} are listed by others, and nobody would find them any more: yank them, use \
                 another folder, or say that the delegation is not terminating"
            ),
        ),
    };
    Error::Conflict { code, detail }
}
