//! Work that takes longer than a request may.

/// What can be done as a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum JobKind {
    /// Reads every stored byte and compares it with what was signed, as `motorcade fsck` does.
    Fsck,
}

impl JobKind {
    /// All of them.
    pub const ALL: [Self; 1] = [Self::Fsck];

    /// Its name in the API and in the catalog.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fsck => "fsck",
        }
    }

    /// The kind of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}
