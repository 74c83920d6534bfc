//! Which attack something looks like.

/// What an attacker would gain if a check were not there (Uptane 2.1.0, 4.3; TUF 1.0.34, 1.5.2).
/// FV-23: its name goes into `attacks_detected` of the ECU version report and into the output of
/// `motorcade-vehicle update --json`.
///
/// Names are stable: `rollback`, `freeze`, `mix-and-match`, `arbitrary-software`, `endless-data`,
/// `slow-retrieval`, `wrong-vehicle`, `mixed-bundles`, `wrong-hardware`, `image-rollback`,
/// `wrong-software`, `encryption-downgrade`, `malformed`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Attack {
    /// Metadata that is older than what was seen.
    Rollback,
    /// Metadata that is listed and withheld. That it is out of date is a [`Fault`](super::Fault).
    Freeze,
    /// Files that never were together on a repository, or images that do not fit together.
    MixAndMatch,
    /// Something that nobody who may has signed.
    ArbitrarySoftware,
    /// More bytes than were announced or are allowed.
    EndlessData,
    /// Fewer bytes a second than are of use, for long and more than once.
    SlowRetrieval,
    /// Metadata of another vehicle.
    WrongVehicle,
    /// Different instructions for one ECU.
    MixedBundles,
    /// An image for other hardware.
    WrongHardware,
    /// An image with a release counter below one that was accepted before.
    ImageRollback,
    /// A sealed image or envelope that is not what the signed metadata says.
    WrongSoftware,
    /// An image that is not sealed, or not in a way that is known.
    EncryptionDowngrade,
    /// Metadata that can't be read, and was made so.
    Malformed,
}

impl Attack {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Rollback,
        Self::Freeze,
        Self::MixAndMatch,
        Self::ArbitrarySoftware,
        Self::EndlessData,
        Self::SlowRetrieval,
        Self::WrongVehicle,
        Self::MixedBundles,
        Self::WrongHardware,
        Self::ImageRollback,
        Self::WrongSoftware,
        Self::EncryptionDowngrade,
        Self::Malformed,
    ];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rollback => "rollback",
            Self::Freeze => "freeze",
            Self::MixAndMatch => "mix-and-match",
            Self::ArbitrarySoftware => "arbitrary-software",
            Self::EndlessData => "endless-data",
            Self::SlowRetrieval => "slow-retrieval",
            Self::WrongVehicle => "wrong-vehicle",
            Self::MixedBundles => "mixed-bundles",
            Self::WrongHardware => "wrong-hardware",
            Self::ImageRollback => "image-rollback",
            Self::WrongSoftware => "wrong-software",
            Self::EncryptionDowngrade => "encryption-downgrade",
            Self::Malformed => "malformed",
        }
    }
}

impl std::fmt::Display for Attack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_serde() {
        for attack in Attack::ALL {
            assert_eq!(serde_json::to_string(&attack).unwrap(), format!("\"{attack}\""));
        }
    }
}
