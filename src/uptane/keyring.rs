//! Role keys: the private keys that sign metadata, one PEM file (PKCS#8, mode 0600) each.
//!
//! A role's keys are in `<role>.pem`, `<role>-2.pem` and so on. Ed25519 is what is made; P-256 and
//! RSA are read too.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::Ed25519KeyPair;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::FutureExt;
use tough::schema::decoded::{Decoded, Hex};
use tough::schema::key::Key;
use tough::sign::{Sign, parse_keypair};
use zeroize::Zeroizing;

use super::Error;
use super::key::PublicKey;
use super::policy::{Policy, key_name};
use crate::files::{self, Exposure};
use crate::model::{RepositorySide, RoleKind};

/// One private key of a role.
pub struct RoleKey {
    file: PathBuf,
    id: Decoded<Hex>,
    public: Key,
    signer: Box<dyn Sign>,
}

impl RoleKey {
    /// The file that it was read from.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The key id in hexadecimal.
    pub fn hex_id(&self) -> String {
        hex::encode(&*self.id)
    }

    /// The key id (TUF 1.0.34, 4.2.1).
    pub fn id(&self) -> &Decoded<Hex> {
        &self.id
    }

    /// The public key.
    pub fn public(&self) -> &Key {
        &self.public
    }

    /// Whether a signature over `message` is this key's.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let object = serde_json::to_value(&self.public).ok();
        let key = object.and_then(|object| PublicKey::from_object(object).ok());
        key.is_some_and(|key| key.verifies(message, signature))
    }

    /// Signs a message.
    ///
    /// # Errors
    ///
    /// Whatever the signer says.
    pub async fn sign(
        &self,
        message: &[u8],
    ) -> Result<Vec<u8>, Box<dyn std::error::Error + Send + Sync>> {
        self.signer.sign(message, &SystemRandom::new()).await
    }

    /// Signs something and verifies it with code of our own, under the id that metadata will name:
    /// a file whose private and public half don't belong together is found before anything is
    /// signed with it.
    fn prove(&self) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let public = PublicKey::from_object(serde_json::to_value(&self.public)?)?;
        let signature = self.sign(PROOF).now_or_never().ok_or("it does not sign at once")??;
        if public.id().to_string() != self.hex_id() || !public.verifies(PROOF, &signature) {
            return Err(
                "what it signs does not verify with its own public half: the file is damaged"
                    .into(),
            );
        }
        Ok(())
    }
}

impl fmt::Debug for RoleKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RoleKey({})", hex::encode(&*self.id))
    }
}

/// The keys of all roles that are on this machine.
#[derive(Debug)]
pub struct Keyring {
    keys: Keys,
}

type Keys = BTreeMap<(RepositorySide, RoleKind), Vec<RoleKey>>;

impl Keyring {
    /// Makes the keys that `policy` asks for, in `directory`. Keys that are there already stay as
    /// they are.
    ///
    /// # Errors
    ///
    /// [`Error::KeyFile`].
    pub fn create(directory: &Path, policy: &Policy) -> Result<(), Error> {
        remove_unfinished(directory).map_err(|e| Error::KeyFile {
            verb: "clean up beside",
            path: directory.display().to_string(),
            source: e.into(),
        })?;
        create_missing(directory, policy, &RepositorySide::ALL)
    }

    /// Makes the keys of the Director's roles alone, for a state directory that has none.
    ///
    /// # Errors
    ///
    /// [`Error::KeyFile`].
    pub fn create_director(directory: &Path, policy: &Policy) -> Result<(), Error> {
        create_missing(directory, policy, &[RepositorySide::Director])
    }

    /// Reads the keys in `directory`. Those of the root roles may be elsewhere.
    ///
    /// # Errors
    ///
    /// [`Error::KeyFile`] if a file is unreadable, open to others or not a key,
    /// [`Error::TooFewKeys`], and [`Error::SharedKey`] if two roles have a key in common.
    pub fn load(directory: &Path, policy: &Policy) -> Result<Self, Error> {
        let mut keys = BTreeMap::new();
        for (side, kind, role_policy) in policy.roles() {
            let role = key_name(side, kind);
            let present =
                (1..=role_policy.threshold).map(|number| key_path(directory, &role, number));
            let found = present
                .filter(|path| path.exists())
                .map(|path| load_key(&path))
                .collect::<Result<Vec<_>, _>>()?;
            if kind != RoleKind::Root && found.len() < usize::from(role_policy.threshold) {
                let threshold = role_policy.threshold.into();
                return Err(Error::TooFewKeys { role, found: found.len(), threshold });
            }
            keys.insert((side, kind), found);
        }
        refuse_shared_keys(&keys)?;
        Ok(Self { keys })
    }

    /// Whether a public key, as PEM, is one of these: a key that signs must not decrypt
    /// too.
    pub fn has_public_pem(&self, pem: &str) -> bool {
        let public = |key: &RoleKey| {
            serde_json::to_value(key.public()).ok()?["keyval"]["public"].as_str().map(pem_body)
        };
        let wanted = pem_body(pem);
        self.keys.values().flatten().any(|key| public(key).as_ref() == Some(&wanted))
    }

    /// The keys of a kind of roles.
    pub fn keys(&self, side: RepositorySide, kind: RoleKind) -> &[RoleKey] {
        self.keys.get(&(side, kind)).map_or(&[], Vec::as_slice)
    }
}

fn create_missing(
    directory: &Path,
    policy: &Policy,
    sides: &[RepositorySide],
) -> Result<(), Error> {
    for (side, kind, role_policy) in policy.roles().filter(|(side, ..)| sides.contains(side)) {
        for number in 1..=role_policy.threshold {
            let path = key_path(directory, &key_name(side, kind), number);
            if !path.exists() {
                write_secret(&path, generate()?.as_bytes())?;
            }
        }
    }
    Ok(())
}

fn refuse_shared_keys(keys: &Keys) -> Result<(), Error> {
    let mut seen = BTreeMap::new();
    for ((side, kind), role_keys) in keys {
        let role = key_name(*side, *kind);
        for key in role_keys {
            let key_id = key.hex_id();
            if let Some(first) = seen.insert(key_id.clone(), role.clone()) {
                return Err(Error::SharedKey { key_id, first, second: role });
            }
        }
    }
    Ok(())
}

fn key_path(directory: &Path, role: &str, number: u8) -> PathBuf {
    directory.join(if number == 1 { format!("{role}.pem") } else { format!("{role}-{number}.pem") })
}

fn generate() -> Result<Zeroizing<String>, Error> {
    // PKCS#8 version 1: OpenSSL 3.0 reads no other.
    let document = Ed25519KeyPair::generate_pkcs8v1(&SystemRandom::new()).map_err(|e| {
        Error::KeyFile { verb: "make a key for", path: "a role".into(), source: e.into() }
    })?;
    let body = Zeroizing::new(STANDARD.encode(document.as_ref()));
    let mut pem = Zeroizing::new(String::with_capacity(256));
    pem.push_str("-----BEGIN PRIVATE KEY-----\n");
    for line in body.as_bytes().chunks(64) {
        pem.push_str(std::str::from_utf8(line).expect("base64 is ASCII"));
        pem.push('\n');
    }
    pem.push_str("-----END PRIVATE KEY-----\n");
    Ok(pem)
}

fn load_key(path: &Path) -> Result<RoleKey, Error> {
    let text = read_secret(path)?;
    let error = |verb, source| Error::KeyFile { verb, path: path.display().to_string(), source };
    // tough takes Ed25519 and P-256 keys as DER and RSA keys as PEM.
    let der =
        decode_pem(&text).ok_or_else(|| error("read", "it holds no PEM `PRIVATE KEY`".into()))?;
    let signer: Box<dyn Sign> = match parse_keypair(&der) {
        Ok(signer) => Box::new(signer),
        Err(_) => Box::new(parse_keypair(text.as_bytes()).map_err(|e| error("use", e.into()))?),
    };
    let public = signer.tuf_key();
    let object = serde_json::to_value(&public).map_err(|e| error("identify", e.into()))?;
    PublicKey::from_object(object)
        .and_then(|key| key.check_strength())
        .map_err(|e| error("use", e.into()))?;
    let id = public.key_id().map_err(|e| error("identify", e.into()))?;
    let key = RoleKey { file: path.to_owned(), id, public, signer };
    key.prove().map_err(|source| error("use", source))?;
    Ok(key)
}

/// The base64 text between a PEM's first and last line.
fn pem_body(pem: &str) -> String {
    pem.lines()
        .filter(|line| !line.starts_with("-----"))
        .flat_map(|line| line.trim().chars())
        .collect()
}

fn decode_pem(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let body = text
        .split_once("-----BEGIN PRIVATE KEY-----")?
        .1
        .split_once("-----END PRIVATE KEY-----")?
        .0;
    let joined: Zeroizing<String> = Zeroizing::new(body.split_ascii_whitespace().collect());
    STANDARD.decode(joined.as_bytes()).ok().map(Zeroizing::new)
}

/// Writes a file that only its owner can read, and fails if there is one. The file is there whole
/// and synced, or not at all, so that an `init` that was cut off can be repeated.
///
/// # Errors
///
/// [`Error::KeyFile`].
pub fn write_secret(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let folder = path.parent().unwrap_or(Path::new("."));
    // A temporary file has mode 0600.
    let written =
        tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(folder).and_then(|mut file| {
            file.write_all(bytes)?;
            file.as_file().sync_all()?;
            file.persist_noclobber(path)?;
            File::open(folder)?.sync_all()
        });
    written.map_err(|e| Error::KeyFile {
        verb: "write",
        path: path.display().to_string(),
        source: e.into(),
    })
}

/// Removes what a cut-off [`write_secret`] has left.
fn remove_unfinished(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Reads a file that nobody but its owner, and perhaps this server's own group, can read.
///
/// # Errors
///
/// [`Error::KeyFile`], also if others can read it.
pub fn read_secret(path: &Path) -> Result<Zeroizing<String>, Error> {
    let read = files::read_secret(path);
    let (text, exposure) = read.map_err(|e| Error::KeyFile {
        verb: "read",
        path: path.display().to_string(),
        source: e.into(),
    })?;
    let path = path.display();
    match exposure {
        Exposure::None => {}
        Exposure::Mended => {
            tracing::warn!(%path, "this server's group could read a key file; its mode is 0600 now")
        }
        Exposure::OwnGroup => {
            tracing::warn!(%path, "this server's group can read a key file, and its mode can't be changed")
        }
    }
    Ok(text)
}

const UNFINISHED: &str = ".unfinished-";
const PROOF: &[u8] = b"motorcade: a role key signs this when it is read";

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn root(keyring: &Keyring) -> &[RoleKey] {
        keyring.keys(RepositorySide::Image, RoleKind::Root)
    }

    #[tokio::test]
    async fn makes_keys_once_and_reads_them_back() {
        let dir = tempfile::tempdir().unwrap();
        let policy = Policy::default();
        Keyring::create(dir.path(), &policy).unwrap();
        let first = Keyring::load(dir.path(), &policy).unwrap();
        Keyring::create(dir.path(), &policy).unwrap();
        let second = Keyring::load(dir.path(), &policy).unwrap();
        assert_eq!(root(&first)[0].id(), root(&second)[0].id());
        assert_eq!(
            first.keys(RepositorySide::Image, RoleKind::Bins)[0]
                .sign(b"message")
                .await
                .unwrap()
                .len(),
            64
        );
    }

    #[test]
    fn refuses_a_key_file_that_others_can_read() {
        let dir = tempfile::tempdir().unwrap();
        Keyring::create(dir.path(), &Policy::default()).unwrap();
        fs::set_permissions(dir.path().join("bins.pem"), fs::Permissions::from_mode(0o604))
            .unwrap();
        let error = Keyring::load(dir.path(), &Policy::default()).unwrap_err();
        assert!(matches!(error, Error::KeyFile { verb: "read", .. }), "{error}");
    }

    /// RFC 8410, section 7, has the public half in the file too.
    #[test]
    fn refuses_a_key_file_whose_halves_do_not_belong_together() {
        let dir = tempfile::tempdir().unwrap();
        Keyring::create(dir.path(), &Policy::default()).unwrap();
        let mut der =
            Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap().as_ref().to_vec();
        let pem = |der: &[u8]| {
            format!(
                "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
                STANDARD.encode(der)
            )
        };
        let file = dir.path().join("timestamp.pem");
        fs::write(&file, pem(&der)).unwrap();
        Keyring::load(dir.path(), &Policy::default()).unwrap();
        *der.last_mut().unwrap() ^= 1;
        fs::write(&file, pem(&der)).unwrap();
        let error = Keyring::load(dir.path(), &Policy::default()).unwrap_err();
        assert!(
            matches!(&error, Error::KeyFile { path, .. } if path.ends_with("timestamp.pem")),
            "{error}"
        );
    }

    #[test]
    fn refuses_one_key_for_two_roles() {
        let dir = tempfile::tempdir().unwrap();
        Keyring::create(dir.path(), &Policy::default()).unwrap();
        fs::copy(dir.path().join("bins.pem"), dir.path().join("timestamp.pem")).unwrap();
        let error = Keyring::load(dir.path(), &Policy::default()).unwrap_err();
        assert!(matches!(error, Error::SharedKey { .. }), "{error}");
    }

    #[test]
    fn only_the_root_key_may_be_elsewhere() {
        let dir = tempfile::tempdir().unwrap();
        Keyring::create(dir.path(), &Policy::default()).unwrap();
        fs::remove_file(dir.path().join("root.pem")).unwrap();
        assert!(root(&Keyring::load(dir.path(), &Policy::default()).unwrap()).is_empty());
        fs::remove_file(dir.path().join("snapshot.pem")).unwrap();
        let error = Keyring::load(dir.path(), &Policy::default()).unwrap_err();
        assert!(matches!(error, Error::TooFewKeys { found: 0, .. }), "{error}");
    }
}
