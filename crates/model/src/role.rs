//! Names of metadata roles (TUF 1.0.34, 2.1), and of the two repositories that have them.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::SupplierName;

/// A role: one of the four that every repository has, or one that targets delegate to.
///
/// Ordered by the text of the name.
#[derive(Debug, Clone)]
pub enum RoleName {
    /// `root`, which names everybody's keys.
    Root,
    /// `targets`, the top-level one.
    Targets,
    /// `snapshot`
    Snapshot,
    /// `timestamp`
    Timestamp,
    /// One that targets delegate to, such as a hash bin.
    Delegated(DelegatedName),
}

/// The name of a role that targets delegate to: never empty, and none of the four top-level names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DelegatedName(String);

/// What kind of role it is: those of one kind have the same keys, policy and labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RoleKind {
    /// `root`
    Root,
    /// `targets`, the top-level one.
    Targets,
    /// The hash bins, which share their keys.
    Bins,
    /// Suppliers' roles, each with keys of its own.
    Suppliers,
    /// `snapshot`
    Snapshot,
    /// `timestamp`
    Timestamp,
}

/// Which repository: images as they are published for all, or as they are directed to one vehicle
/// (Uptane 2.1.0, 5.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RepositorySide {
    /// The Image repository.
    Image,
    /// The Director repository.
    Director,
}

/// Not the name of a role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a role has a name")]
pub struct ParseRoleNameError;

impl RoleName {
    /// The four that every repository has.
    pub const TOP_LEVEL: [Self; 4] = [Self::Root, Self::Targets, Self::Snapshot, Self::Timestamp];

    /// The name.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Root => "root",
            Self::Targets => "targets",
            Self::Snapshot => "snapshot",
            Self::Timestamp => "timestamp",
            Self::Delegated(DelegatedName(name)) => name,
        }
    }

    /// What kind of role it is.
    pub fn kind(&self) -> RoleKind {
        match self {
            Self::Root => RoleKind::Root,
            Self::Targets => RoleKind::Targets,
            Self::Snapshot => RoleKind::Snapshot,
            Self::Timestamp => RoleKind::Timestamp,
            Self::Delegated(DelegatedName(name)) if name.starts_with(SUPPLIER_PREFIX) => {
                RoleKind::Suppliers
            }
            Self::Delegated(_) => RoleKind::Bins,
        }
    }

    /// The role of the supplier of this name.
    pub fn of_supplier(name: &SupplierName) -> Self {
        Self::Delegated(DelegatedName(format!("{SUPPLIER_PREFIX}{name}")))
    }

    /// The name under which a snapshot or a timestamp lists the role's file (TUF 1.0.34, 4.4).
    pub fn file_name(&self) -> String {
        format!("{self}.json")
    }

    /// The role that a snapshot or a timestamp lists under `name`.
    pub fn from_file_name(name: &str) -> Option<Self> {
        name.strip_suffix(".json")?.parse().ok()
    }
}

impl RoleKind {
    /// The four that every repository has.
    pub const TOP_LEVEL: [Self; 4] = [Self::Root, Self::Targets, Self::Snapshot, Self::Timestamp];

    /// Its name in labels and file names.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Targets => "targets",
            Self::Bins => "bins",
            Self::Suppliers => "suppliers",
            Self::Snapshot => "snapshot",
            Self::Timestamp => "timestamp",
        }
    }
}

impl RepositorySide {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Image, Self::Director];

    /// The kinds of roles that it always has, each with keys in common: the Director never
    /// delegates (Uptane 2.1.0, 5.3.2).
    pub const fn kinds(self) -> &'static [RoleKind] {
        match self {
            Self::Image => &[
                RoleKind::Root,
                RoleKind::Targets,
                RoleKind::Bins,
                RoleKind::Snapshot,
                RoleKind::Timestamp,
            ],
            Self::Director => &RoleKind::TOP_LEVEL,
        }
    }

    /// Its name in labels and file names.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Director => "director",
        }
    }
}

impl FromStr for RoleName {
    type Err = ParseRoleNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match Self::TOP_LEVEL.into_iter().find(|role| role.as_str() == text) {
            Some(role) => Ok(role),
            None if text.is_empty() => Err(ParseRoleNameError),
            None => Ok(Self::Delegated(DelegatedName(text.to_owned()))),
        }
    }
}

impl TryFrom<String> for RoleName {
    type Error = ParseRoleNameError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl fmt::Display for RoleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for RoleKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// As it is in messages.
impl fmt::Display for RepositorySide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Image => "Image repository",
            Self::Director => "Director",
        })
    }
}

impl PartialEq for RoleName {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for RoleName {}

impl Hash for RoleName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl Ord for RoleName {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl PartialOrd for RoleName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Serialize for RoleName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for RoleName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// What the name of a supplier's role begins with, and a bin's does not.
const SUPPLIER_PREFIX: &str = "supplier-";

/// The longest root that vehicles take (TUF 1.0.34, 5.3.3), and so the longest that is made.
pub const MAX_ROOT_BYTES: u64 = 512 * 1024; // 512 KiB

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_a_role_leads_back_to_it() {
        for role in RoleName::TOP_LEVEL {
            assert_eq!(role.as_str().parse(), Ok(role.clone()));
            assert!(!matches!(role.as_str().parse().unwrap(), RoleName::Delegated(_)));
        }
        let bin: RoleName = "bin-3f".parse().unwrap();
        assert!(matches!(&bin, RoleName::Delegated(_)));
        assert_eq!(bin.to_string(), "bin-3f");
        assert_eq!(RoleName::from_file_name(&bin.file_name()), Some(bin));
    }

    #[test]
    fn a_supplier_s_role_is_no_bin() {
        let role = RoleName::of_supplier(&"acme".parse().unwrap());
        assert_eq!((role.as_str(), role.kind()), ("supplier-acme", RoleKind::Suppliers));
        assert_eq!("supplier-acme".parse::<RoleName>().unwrap().kind(), RoleKind::Suppliers);
        assert_eq!("bin-3f".parse::<RoleName>().unwrap().kind(), RoleKind::Bins);
    }

    #[test]
    fn what_has_no_name_is_no_role() {
        assert_eq!("".parse::<RoleName>(), Err(ParseRoleNameError));
        assert_eq!(RoleName::from_file_name(".json"), None);
        assert_eq!(RoleName::from_file_name("targets"), None);
    }

    #[test]
    fn roles_are_in_the_order_of_their_names() {
        let mut roles: Vec<RoleName> =
            ["timestamp", "bin-00", "targets", "root"].map(|name| name.parse().unwrap()).into();
        roles.sort();
        let names: Vec<_> = roles.iter().map(RoleName::as_str).collect();
        assert_eq!(names, ["bin-00", "root", "targets", "timestamp"]);
    }
}
