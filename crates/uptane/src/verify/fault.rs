//! What goes wrong in a vehicle without anybody's ill will, and what it makes of a failure.

use super::attack::Attack;

/// A failure that takes no attack to explain it. Its name goes into `faults_detected`
/// of the ECU version report and into the output of `motorcade-vehicle update --json`. It is
/// refused all the same.
///
/// Names are stable: `clock`, `expired`, `garbled`, `unreachable`, `stalled`, `missing`, `storage`,
/// `disk-full`, `install`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// The clock is behind a time that was verified, or has no time.
    Clock,
    /// Metadata is past its expiry: nobody has signed it again, or the clock is ahead.
    Expired,
    /// What came is no metadata, or was rewritten on its way: a login page, a cut file, a byte
    /// order mark, other line ends.
    Garbled,
    /// A server could not be reached, or did not answer with what was asked for.
    Unreachable,
    /// Nothing more came for a while.
    Stalled,
    /// A file that has to be there is not.
    Missing,
    /// A file of the vehicle's own can't be read or written, or was damaged and has been replaced
    /// by its copy.
    Storage,
    /// There is no room for an image.
    DiskFull,
    /// An ECU did not take its image.
    Install,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Clock,
        Self::Expired,
        Self::Garbled,
        Self::Unreachable,
        Self::Stalled,
        Self::Missing,
        Self::Storage,
        Self::DiskFull,
        Self::Install,
    ];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Clock => "clock",
            Self::Expired => "expired",
            Self::Garbled => "garbled",
            Self::Unreachable => "unreachable",
            Self::Stalled => "stalled",
            Self::Missing => "missing",
            Self::Storage => "storage",
            Self::DiskFull => "disk-full",
            Self::Install => "install",
        }
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The class of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    /// An attack: there is no other way to come by it.
    Attack(Attack),
    /// A fault: anybody's network, clock or disk can do it.
    Fault(Fault),
}

impl Finding {
    /// The attack, if it is one.
    pub fn attack(self) -> Option<Attack> {
        match self {
            Self::Attack(attack) => Some(attack),
            Self::Fault(_) => None,
        }
    }

    /// The fault, if it is one.
    pub fn fault(self) -> Option<Fault> {
        match self {
            Self::Attack(_) => None,
            Self::Fault(fault) => Some(fault),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A Director gets both in text, and tells them apart by the member alone.
    #[test]
    fn names_are_those_of_serde_and_of_no_attack() {
        for fault in Fault::ALL {
            assert_eq!(serde_json::to_string(&fault).unwrap(), format!("\"{fault}\""));
            assert!(Attack::ALL.iter().all(|attack| attack.as_str() != fault.as_str()));
        }
    }
}
