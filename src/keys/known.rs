//! Which public halves keys had that are not on this machine, when they were found last:
//! `keys/public-halves.toml`. So a server starts, and knows who could sign, while a token is away.
//!
//! It holds no secret, and decides nothing: who may sign is what the published metadata says, and
//! what a key signs is verified with its public half.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use motorcade_uptane::key::PublicKey;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Keyring;
use super::source::KeySource;
use super::written::replace;

/// Public halves by source.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KnownKeys {
    /// The key objects of TUF, as JSON, by the text of their source.
    #[serde(default)]
    public: BTreeMap<String, String>,
}

impl KnownKeys {
    /// Reads what is written down in `directory`. A file that can't be read knows of nothing: what
    /// it says is found again once the keys are.
    pub(super) fn read(directory: &Path) -> Self {
        let path = directory.join(NAME);
        let read = match fs::read_to_string(&path) {
            Ok(text) => toml::from_str(&text).map_err(io::Error::other),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Self::default(),
            Err(error) => Err(error),
        };
        read.unwrap_or_else(|error| {
            let path = path.display();
            tracing::warn!(%path, %error, "what is written down of keys in tokens can't be read");
            Self::default()
        })
    }

    /// The public half that the key of a source had.
    pub(super) fn find(&self, source: &KeySource) -> Option<PublicKey> {
        let object: Value = serde_json::from_str(self.public.get(&source.to_string())?).ok()?;
        PublicKey::from_object(object).ok().filter(|key| key.check_strength().is_ok())
    }

    fn of(keyring: &Keyring) -> Self {
        let remote = keyring.all().filter(|key| key.source().is_remote());
        let public =
            remote.map(|key| (key.source().to_string(), key.public().object().to_string()));
        Self { public: public.collect() }
    }
}

/// Writes down which public halves the keys have that are not on this machine, if that is not
/// written down yet. A failure is logged: the keys are there, and only a start without them would
/// miss it.
pub fn remember(directory: &Path, keyring: &Keyring) {
    let known = KnownKeys::of(keyring);
    if known == KnownKeys::read(directory) {
        return;
    }
    let written = toml::to_string(&known).map_err(io::Error::other);
    let written = written.and_then(|text| replace(directory, NAME, &format!("{HEAD}{text}")));
    if let Err(error) = written {
        let path = directory.join(NAME);
        tracing::warn!(path = %path.display(), %error, "failed to write down which keys are in tokens");
    }
}

const NAME: &str = "public-halves.toml";
const HEAD: &str = "\
# The public halves of role keys in tokens or in a KMS, as they were found last: with them the
# server starts while a token is away. It writes this by itself; without it, each key is found anew.

";

#[cfg(test)]
mod tests {
    use super::*;
    use motorcade_uptane::key::{Scheme, SigningKey};

    fn known(text: &str) -> KnownKeys {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(NAME), text).unwrap();
        KnownKeys::read(folder.path())
    }

    #[test]
    fn a_public_half_is_found_by_its_source_alone() {
        let pem = SigningKey::generate_pem(Scheme::EcdsaSha2Nistp256).unwrap();
        let key = SigningKey::from_pem(&pem).unwrap().public().as_named().unwrap();
        let public = [("pkcs11:token=a;object=b".to_owned(), key.object().to_string())].into();
        let text = toml::to_string(&KnownKeys { public }).unwrap();
        let known = known(&format!("{HEAD}{text}"));
        let found = known.find(&"pkcs11:token=a;object=b".parse().unwrap()).unwrap();
        assert_eq!(found.id(), key.id());
        assert_eq!(known.find(&"pkcs11:token=a;object=c".parse().unwrap()), None);
    }

    #[test]
    fn what_cannot_be_read_knows_of_nothing() {
        for text in ["nonsense", "other = 1", "[public]\n\"awskms:a\" = \"no key\""] {
            assert_eq!(known(text).find(&"awskms:a".parse().unwrap()), None, "{text}");
        }
    }
}
