//! Which role lists an image, and whether its uploader may have that role sign it: the chain of
//! delegations is walked for each image as a client walks it (Uptane 2.1.0, 5.3.1).

use super::UploadRequest;
use crate::app::Error;
use crate::app::access::Principal;
use crate::app::images::Images;
use crate::model::{HardwareId, ImagePath, RoleName, SupplierRecord};

/// Who lists an image and its envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Lister {
    /// The bin of each.
    Bins,
    /// A supplier's role.
    Supplier(RoleName),
}

impl Images {
    /// Finds who lists an image that is uploaded.
    ///
    /// # Errors
    ///
    /// [`Error::Forbidden`] if its uploader isn't the supplier whose role that is;
    /// [`Error::Unprocessable`] if it is for hardware that the supplier doesn't speak for.
    pub(super) async fn find_lister(&self, request: &UploadRequest) -> Result<Lister, Error> {
        let suppliers = self.catalog.list_suppliers().await?;
        let ids = &request.description.hardware_ids;
        match lister_of_copy(&suppliers, request) {
            Some(lister) => Ok(lister),
            None => choose(&suppliers, &request.path, ids, &request.by),
        }
    }

    /// Finds the supplier in whose folder an image lies, or would; none for what is the maker's own
    /// there, since it is for other hardware and the delegation doesn't end the search.
    ///
    /// # Errors
    ///
    /// [`Error::Internal`].
    pub(in crate::app::images) async fn find_supplier_of(
        &self,
        path: &ImagePath,
        hardware_ids: &[HardwareId],
    ) -> Result<Option<SupplierRecord>, Error> {
        let suppliers = self.catalog.list_suppliers().await?;
        let supplier = suppliers.into_iter().find(|supplier| supplier.folder.has(path.as_str()));
        Ok(supplier.filter(|supplier| supplier.terminating || supplier.has_hardware(hardware_ids)))
    }

    /// The role that lists a target.
    pub(super) fn role_of(&self, lister: &Lister, target: &str) -> RoleName {
        match lister {
            Lister::Bins => self.publisher.bin_of(target),
            Lister::Supplier(role) => role.clone(),
        }
    }
}

/// Folders don't overlap, so that one delegation to a supplier at most is to the path.
fn choose(
    suppliers: &[SupplierRecord],
    path: &ImagePath,
    hardware_ids: &[HardwareId],
    by: &Principal,
) -> Result<Lister, Error> {
    let Some(supplier) = suppliers.iter().find(|supplier| supplier.folder.has(path.as_str()))
    else {
        return Ok(Lister::Bins);
    };
    let is_its_own = by.path_prefix.as_deref().is_some_and(|own| supplier.folder.has(own));
    if supplier.has_hardware(hardware_ids) {
        return match is_its_own {
            true => Ok(Lister::Supplier(supplier.role())),
            false => Err(foreign(supplier)),
        };
    }
    // Clients that know no hardware ids end their search at a terminating role; and what a
    // supplier may not sign itself, nobody else signs for it.
    match supplier.terminating || is_its_own {
        true => Err(other_hardware(supplier, hardware_ids)),
        false => Ok(Lister::Bins),
    }
}

/// A copy of a supplier's image, in its folder and for hardware that it speaks for, is the
/// supplier's as well, whoever makes it.
fn lister_of_copy(suppliers: &[SupplierRecord], request: &UploadRequest) -> Option<Lister> {
    let original = &request.copy_of.as_ref()?.path;
    let is_in = |supplier: &&SupplierRecord, path: &ImagePath| supplier.folder.has(path.as_str());
    let supplier = suppliers.iter().find(|supplier| is_in(supplier, original))?;
    let is_its_own =
        is_in(&supplier, &request.path) && supplier.has_hardware(&request.description.hardware_ids);
    is_its_own.then(|| Lister::Supplier(supplier.role()))
}

fn foreign(supplier: &SupplierRecord) -> Error {
    let SupplierRecord { name, folder, .. } = supplier;
    Error::Forbidden {
        detail: format!(
            "images below {folder} are signed with the keys of the supplier {name}, and this token is not its own: it takes \
             one that was made with --path-prefix {folder}"
        ),
    }
}

fn other_hardware(supplier: &SupplierRecord, hardware_ids: &[HardwareId]) -> Error {
    let SupplierRecord { name, folder, .. } = supplier;
    let other: Vec<&str> = hardware_ids
        .iter()
        .filter(|id| !supplier.hardware_ids.contains(id))
        .map(HardwareId::as_str)
        .collect();
    let own: Vec<&str> = supplier.hardware_ids.iter().map(HardwareId::as_str).collect();
    Error::Unprocessable {
        code: "hardware_not_delegated",
        detail: format!(
            "what lies below {folder} is for {} alone, which is what the supplier {name} speaks for, and not for {}",
            own.join(", "),
            other.join(", ")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{AccessRole, Timestamp};

    fn supplier(name: &str, hardware_ids: &[&str], terminating: bool) -> SupplierRecord {
        let name: crate::model::SupplierName = name.parse().unwrap();
        SupplierRecord {
            folder: name.folder(),
            name,
            hardware_ids: hardware_ids.iter().map(|id| id.parse().unwrap()).collect(),
            keys: Vec::new(),
            offline: false,
            threshold: 1,
            terminating,
            created_at: Timestamp::UNIX_EPOCH,
            created_by: String::new(),
        }
    }

    /// Who lists `path` for `hardware`, uploaded by whoever is bound to `folder`; or the code of
    /// the refusal.
    fn chosen(path: &str, hardware: &str, folder: Option<&str>) -> String {
        let suppliers =
            [supplier("acme", &["brake-1", "brake-2"], true), supplier("bolt", &["door-1"], false)];
        let by = Principal {
            id: "ci".into(),
            role: AccessRole::Uploader,
            path_prefix: folder.map(str::to_owned),
            request_id: None,
        };
        let hardware: Vec<_> = hardware.split(' ').map(|id| id.parse().unwrap()).collect();
        match choose(&suppliers, &path.parse().unwrap(), &hardware, &by) {
            Ok(Lister::Bins) => "bins".into(),
            Ok(Lister::Supplier(role)) => role.to_string(),
            Err(Error::Forbidden { .. }) => "forbidden".into(),
            Err(Error::Unprocessable { code, .. }) => code.into(),
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_image_is_listed_by_the_first_role_that_speaks_for_it() {
        let own = Some("acme/");
        assert_eq!(chosen("acme/1/a.bin", "brake-1 brake-2", own), "supplier-acme");
        assert_eq!(chosen("acme/eu/a.bin", "brake-1", Some("acme/eu/")), "supplier-acme");
        assert_eq!(chosen("acme-2/a.bin", "brake-1", None), "bins");
        assert_eq!(chosen("gw/a.bin", "brake-1", None), "bins");
    }

    #[test]
    fn nobody_signs_with_the_keys_of_another() {
        assert_eq!(chosen("acme/a.bin", "brake-1", None), "forbidden");
        assert_eq!(chosen("acme/a.bin", "brake-1", Some("bolt/")), "forbidden");
        assert_eq!(chosen("bolt/a.bin", "door-1", None), "forbidden");
    }

    #[test]
    fn hardware_that_is_not_a_supplier_s_is_somebody_else_s_or_nobody_s() {
        for hardware in ["gw-1", "brake-1 gw-1"] {
            assert_eq!(chosen("acme/a.bin", hardware, Some("acme/")), "hardware_not_delegated");
            assert_eq!(chosen("acme/a.bin", hardware, None), "hardware_not_delegated");
        }
        assert_eq!(chosen("bolt/a.bin", "gw-1", None), "bins");
        assert_eq!(chosen("bolt/a.bin", "gw-1", Some("bolt/")), "hardware_not_delegated");
    }
}
