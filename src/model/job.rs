//! Work that takes longer than a request may.

/// What can be done as a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum JobKind {
    /// Reads every stored byte and compares it with what was signed, as `motorcade fsck` does.
    Fsck,
    /// Puts a key in the place of a recipient's, on every image concerned.
    RecipientRotation,
    /// Takes a recipient's key off every image.
    RecipientRevocation,
    /// Puts another escrow key in the place of the one that wraps, on every image.
    EscrowRotation,
    /// Seals an image again under a new data key.
    ImageReseal,
    /// Removes the files of images that were yanked long ago.
    ImageCollection,
}

impl JobKind {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Fsck,
        Self::RecipientRotation,
        Self::RecipientRevocation,
        Self::EscrowRotation,
        Self::ImageReseal,
        Self::ImageCollection,
    ];
    /// Those that can be asked for by their name alone; each of the others has a call of its own.
    pub const PLAIN: [Self; 1] = [Self::Fsck];

    /// Its name in the API and in the catalog.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fsck => "fsck",
            Self::RecipientRotation => "recipient_rotation",
            Self::RecipientRevocation => "recipient_revocation",
            Self::EscrowRotation => "escrow_rotation",
            Self::ImageReseal => "image_reseal",
            Self::ImageCollection => "image_collection",
        }
    }

    /// The kind of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}
