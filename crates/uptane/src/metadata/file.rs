//! From a content to the file that is published: signed once, and exactly those bytes kept.
//!
//! What is signed is canonical JSON (TUF 1.0.34, 4.2). What is published is JSON with sorted
//! members and no spaces: the same bytes, but for the line breaks in PEM keys, which canonical JSON
//! leaves as they are and no JSON parser takes.

use std::collections::BTreeSet;
use std::num::NonZeroU64;

use bytes::Bytes;
use motorcade_model::{RoleName, Sha256Digest, Timestamp};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::content::{Content, MetaFile, RoleKeys, Signature, Signed};
use super::{Error, Hashes};
use crate::canonical::canonical;
use crate::key::{KeyId, PublicKey};

/// A signed metadata file. `bytes` **must** be published as they are: the digest, and the digests
/// in other files, are theirs.
#[derive(Debug, Clone)]
pub struct SignedFile {
    /// The role.
    pub role: RoleName,
    /// Version of the file.
    pub version: u64,
    /// When it expires.
    pub expires_at: Timestamp,
    /// The file.
    pub bytes: Bytes,
    /// Digest of the file.
    pub sha256: Sha256Digest,
}

/// Who may sign for a role, and how many have to: as the published root says, or the published
/// targets of what they delegate to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    /// Ids of the keys.
    pub key_ids: BTreeSet<KeyId>,
    /// How many of them.
    pub threshold: u64,
}

/// A content that nobody has signed yet.
#[derive(Debug)]
#[must_use]
pub struct Unsigned {
    role: RoleName,
    version: u64,
    expires_at: Timestamp,
    message: Vec<u8>,
    /// The content as it stands in the file, where that is not the message.
    text: Option<Vec<u8>>,
}

/// What all contents say.
#[derive(Deserialize)]
struct Head {
    version: NonZeroU64,
    expires: Timestamp,
}

/// A content that may be signed by those who are there.
#[derive(Debug)]
#[must_use]
pub struct Authorized(Unsigned);

impl Unsigned {
    /// Brings a content into the form that is signed.
    ///
    /// # Errors
    ///
    /// [`Error::Build`].
    pub fn new(role: RoleName, content: &impl Content) -> Result<Self, Error> {
        let value = serde_json::to_value(content).map_err(|e| Error::build(&role, e))?;
        let message = canonical(&value).map_err(|e| Error::build(&role, e))?;
        let text = serde_json::to_vec(&value).map_err(|e| Error::build(&role, e))?;
        let text = Some(text).filter(|text| *text != message);
        Ok(Self::of(role, content, message, text))
    }

    /// The same for a content that is written in its canonical form: its entries are that text
    /// already, and all of it is printable ASCII. A bin of 800 targets is signed for each image, and
    /// to sort it takes longer than to sign it.
    ///
    /// # Errors
    ///
    /// [`Error::Build`].
    pub fn as_written(role: RoleName, content: &impl Content) -> Result<Self, Error> {
        let message = serde_json::to_vec(content).map_err(|e| Error::build(&role, e))?;
        Ok(Self::of(role, content, message, None))
    }

    fn of(role: RoleName, content: &impl Content, message: Vec<u8>, text: Option<Vec<u8>>) -> Self {
        let (version, expires_at) = (content.version().get(), content.expires());
        Self { role, version, expires_at, message, text }
    }

    /// Reads a content back that was kept as [`Self::text`] until it is signed.
    ///
    /// # Errors
    ///
    /// [`Error::Build`] if it is none.
    pub fn read(role: RoleName, text: &[u8]) -> Result<Self, Error> {
        let value: Value = serde_json::from_slice(text).map_err(|e| Error::build(&role, e))?;
        let head = Head::deserialize(&value).map_err(|e| Error::build(&role, e))?;
        let message = canonical(&value).map_err(|e| Error::build(&role, e))?;
        let text = serde_json::to_vec(&value).map_err(|e| Error::build(&role, e))?;
        let text = Some(text).filter(|text| *text != message);
        let Head { version, expires } = head;
        Ok(Self { role, version: version.get(), expires_at: expires, message, text })
    }

    /// The content of a file.
    ///
    /// # Errors
    ///
    /// [`Error::Build`] if it is none.
    pub fn of_file(role: RoleName, file: &[u8]) -> Result<Self, Error> {
        let file: Signed<&RawValue> =
            serde_json::from_slice(file).map_err(|e| Error::build(&role, e))?;
        Self::read(role, file.signed.get().as_bytes())
    }

    /// The content as it stands in the file, to be kept and shown before it is signed.
    pub fn text(&self) -> &[u8] {
        self.text.as_deref().unwrap_or(&self.message)
    }

    /// The file with the signatures that there are, for people who look at it and sign it: clients
    /// take it once enough keys have signed.
    ///
    /// # Errors
    ///
    /// [`Error::Build`].
    pub fn draft(
        &self,
        signatures: impl IntoIterator<Item = (KeyId, Vec<u8>)>,
    ) -> Result<Bytes, Error> {
        assemble(&self.role, self.text(), signatures)
    }

    /// The role.
    pub fn role(&self) -> &RoleName {
        &self.role
    }

    /// Version of the file.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// When the file expires.
    pub fn expires_at(&self) -> Timestamp {
        self.expires_at
    }

    /// Digest of what is signed: two files have the same one if they say the same.
    pub fn digest(&self) -> Sha256Digest {
        Sha256Digest::from_bytes(Sha256::digest(&self.message).into())
    }

    /// Whether a signature that came from elsewhere is `key`'s over this.
    pub fn is_signed_by(&self, key: &PublicKey, signature: &[u8]) -> bool {
        key.verifies(&self.message, signature)
    }

    /// Lets the keys sign, if they are keys of the role and enough of them.
    ///
    /// # Errors
    ///
    /// [`Error::ForeignKey`], [`Error::TooFewKeys`].
    pub fn authorize(
        self,
        authority: &Authority,
        keys: impl IntoIterator<Item = KeyId>,
    ) -> Result<Authorized, Error> {
        let keys: BTreeSet<KeyId> = keys.into_iter().collect();
        if let Some(&key_id) = keys.difference(&authority.key_ids).next() {
            return Err(Error::ForeignKey { role: self.role, key_id });
        }
        let (found, threshold) = (keys.len(), authority.threshold.max(1));
        if (found as u64) < threshold {
            return Err(Error::TooFewKeys { role: self.role, found, threshold });
        }
        Ok(Authorized(self))
    }
}

impl Authorized {
    /// What is to be signed.
    pub fn message(&self) -> &[u8] {
        &self.0.message
    }

    /// The file, with the signatures of all keys.
    ///
    /// # Errors
    ///
    /// [`Error::Build`].
    pub fn into_file(
        self,
        signatures: impl IntoIterator<Item = (KeyId, Vec<u8>)>,
    ) -> Result<SignedFile, Error> {
        let Unsigned { role, version, expires_at, message, text } = self.0;
        let bytes = assemble(&role, text.as_deref().unwrap_or(&message), signatures)?;
        let sha256 = Sha256Digest::from_bytes(Sha256::digest(&bytes).into());
        Ok(SignedFile { role, version, expires_at, bytes, sha256 })
    }
}

fn assemble(
    role: &RoleName,
    text: &[u8],
    signatures: impl IntoIterator<Item = (KeyId, Vec<u8>)>,
) -> Result<Bytes, Error> {
    let signatures: Vec<Signature> = signatures
        .into_iter()
        .map(|(id, sig)| Signature { keyid: id.to_string(), sig: hex::encode(sig) })
        .collect();
    let signatures = serde_json::to_vec(&signatures).map_err(|e| Error::build(role, e))?;
    Ok([b"{\"signatures\":", signatures.as_slice(), b",\"signed\":", text, b"}"].concat().into())
}

impl SignedFile {
    /// What a snapshot or a timestamp says of it.
    pub fn described(&self) -> MetaFile {
        MetaFile {
            hashes: Hashes { sha256: self.sha256 },
            length: self.bytes.len() as u64,
            version: self.version,
        }
    }
}

impl From<&RoleKeys> for Authority {
    fn from(keys: &RoleKeys) -> Self {
        Self { key_ids: keys.keyids.iter().copied().collect(), threshold: keys.threshold.get() }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Snapshot, root};
    use super::*;
    use crate::key::{PublicKey, Scheme, SigningKey};

    fn key() -> SigningKey {
        SigningKey::from_pem(&SigningKey::generate_pem(Scheme::Ed25519).unwrap()).unwrap()
    }

    fn snapshot() -> Unsigned {
        let content = Snapshot::new(NonZeroU64::MIN, Timestamp::UNIX_EPOCH, []);
        Unsigned::new(RoleName::Snapshot, &content).unwrap()
    }

    fn authority(keys: &[&PublicKey], threshold: u64) -> Authority {
        Authority { key_ids: keys.iter().map(|key| key.id()).collect(), threshold }
    }

    #[test]
    fn only_keys_that_the_published_metadata_names_may_sign() {
        let (ours, other) = (key(), key());
        let named = authority(&[ours.public()], 1);
        let signed = snapshot().authorize(&named, [ours.public().id()]).unwrap();
        assert!(ours.public().verifies(signed.message(), &ours.sign(signed.message())));
        let both = [ours.public().id(), other.public().id()];
        let refused = snapshot().authorize(&named, both).unwrap_err();
        assert!(
            matches!(refused, Error::ForeignKey { key_id, .. } if key_id == other.public().id()),
            "{refused}"
        );
    }

    #[test]
    fn one_key_twice_is_no_threshold_of_two() {
        let (first, second) = (key(), key());
        let named = authority(&[first.public(), second.public()], 2);
        let refused = snapshot().authorize(&named, [first.public().id(); 2]).unwrap_err();
        assert!(matches!(refused, Error::TooFewKeys { found: 1, threshold: 2, .. }), "{refused}");
        let nobody = snapshot().authorize(&authority(&[], 0), []).unwrap_err();
        assert!(matches!(nobody, Error::TooFewKeys { found: 0, threshold: 1, .. }), "{nobody}");
    }

    /// A PEM key has line breaks: canonical JSON has them as they are, and JSON can't.
    #[test]
    fn a_root_with_pem_keys_is_json_and_signed_in_canonical_form() {
        let pem = SigningKey::generate_pem(Scheme::EcdsaSha2Nistp256).unwrap();
        let key = SigningKey::from_pem(&pem).unwrap();
        let appointed = RoleName::TOP_LEVEL.map(|role| root::Appointed {
            role,
            keys: vec![key.public()],
            threshold: NonZeroU64::MIN,
        });
        let (unsigned, authority) = root::first(Timestamp::UNIX_EPOCH, appointed).unwrap();
        let unsigned = unsigned.authorize(&authority, [key.public().id()]).unwrap();
        let message = unsigned.message().to_vec();
        let file = unsigned.into_file([(key.public().id(), key.sign(&message))]).unwrap();
        let value: serde_json::Value = serde_json::from_slice(&file.bytes).unwrap();
        assert_eq!(canonical(&value["signed"]).unwrap(), message);
        assert_eq!(serde_json::to_vec(&value).unwrap(), file.bytes, "sorted, without spaces");
        assert!(message.contains(&b'\n'));
        let kept = Unsigned::of_file(RoleName::Root, &file.bytes).unwrap();
        assert_eq!((kept.version(), kept.expires_at()), (1, Timestamp::UNIX_EPOCH));
        assert!(kept.is_signed_by(key.public(), &key.sign(&message)));
        let again = Unsigned::read(RoleName::Root, kept.text()).unwrap();
        assert_eq!((again.digest(), again.text()), (kept.digest(), kept.text()));
        let (renewed, again) =
            root::renewed(&file.bytes, NonZeroU64::MAX, Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!((renewed.version, again), (u64::MAX, authority));
    }
}
