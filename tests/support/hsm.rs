//! A token in software: SoftHSM 2, with its tokens below `target/`.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::Attribute;
use cryptoki::session::{Session, UserType};
use cryptoki::types::AuthPin;

/// The PIN of every token.
pub(crate) const PIN: &str = "snakeoil-2468";
const SO_PIN: &str = "13579";
/// `prime256v1` and `edwards25519`, as `CKA_EC_PARAMS` has them.
const P256: [u8; 10] = [6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
const ED25519: &[u8] = b"\x13\x0cedwards25519";

/// A token of its own, which is removed with it.
pub(crate) struct Hsm {
    pub(crate) label: String,
    folder: PathBuf,
    pin_file: PathBuf,
}

impl Hsm {
    /// Makes a token.
    pub(crate) fn new(label: &str) -> Self {
        let library = library();
        let label = format!("{label}-{}", std::process::id());
        let before = tokens();
        // SoftHSM always has one slot whose token nobody has initialized yet.
        // That of a token that was removed tells nothing.
        let empty = |slot: &cryptoki::slot::Slot| {
            library.get_token_info(*slot).is_ok_and(|token| !token.token_initialized())
        };
        let slot = library.get_all_slots().expect("there are slots").into_iter().find(empty);
        let slot = slot.expect("a slot is free");
        library.init_token(slot, &pin(SO_PIN), &label).expect("a token can be made");
        let slot = slot_of(&library, &label);
        let session = library.open_rw_session(slot).expect("a session can be opened");
        session.login(UserType::So, Some(&pin(SO_PIN))).expect("its PIN is right");
        session.init_pin(&pin(PIN)).expect("a PIN can be set");
        drop(session);
        let folder = tokens().into_iter().find(|folder| !before.contains(folder));
        let pin_file = base().join(format!("{label}.pin"));
        fs::write(&pin_file, PIN).expect("a PIN can be written");
        Self { label, folder: folder.expect("a token has a folder"), pin_file }
    }

    /// The URI of a key in it, with everything that is needed to use it.
    pub(crate) fn uri(&self, key: &str) -> String {
        let (label, module, pin) = (&self.label, module().display(), self.pin_file.display());
        format!("pkcs11:token={label};object={key}?module-path={module}&pin-source=file:{pin}")
    }

    /// The URI of a key in it, where module and PIN come from the environment.
    pub(crate) fn bare_uri(&self, key: &str) -> String {
        format!("pkcs11:token={};object={key}", self.label)
    }

    /// Makes an AES key that wraps.
    pub(crate) fn make_aes(&self, label: &str) {
        self.make_aes_that(label, &[Attribute::Sensitive(true), Attribute::Extractable(false)]);
    }

    /// The same with other attributes.
    pub(crate) fn make_aes_that(&self, label: &str, more: &[Attribute]) {
        let mut template = named(label);
        template.extend([
            Attribute::ValueLen(32.into()),
            Attribute::Wrap(true),
            Attribute::Unwrap(true),
        ]);
        template.extend_from_slice(more);
        self.as_user(|session| {
            session.generate_key(&Mechanism::AesKeyGen, &template).expect("a key can be made");
        });
    }

    /// Makes a key on P-256 that agrees on secrets.
    pub(crate) fn make_p256(&self, label: &str) {
        self.make_pair(label, &Mechanism::EccKeyPairGen, P256.to_vec(), &[Attribute::Derive(true)]);
    }

    /// Makes a key on P-256 that signs.
    pub(crate) fn make_ecdsa(&self, label: &str) {
        self.make_pair(label, &Mechanism::EccKeyPairGen, P256.to_vec(), &[Attribute::Sign(true)]);
    }

    /// Makes an Ed25519 key.
    pub(crate) fn make_ed25519(&self, label: &str) {
        let mechanism = Mechanism::EccEdwardsKeyPairGen;
        self.make_pair(label, &mechanism, ED25519.to_vec(), &[Attribute::Sign(true)]);
    }

    fn make_pair(&self, label: &str, how: &Mechanism<'_>, curve: Vec<u8>, use_: &[Attribute]) {
        let mut public = named(label);
        public.push(Attribute::EcParams(curve));
        let mut private = named(label);
        private.extend([Attribute::Sensitive(true), Attribute::Extractable(false)]);
        private.extend_from_slice(use_);
        self.as_user(|session| {
            session.generate_key_pair(how, &public, &private).expect("a pair can be made");
        });
    }

    /// Destroys the private or secret key of a label.
    pub(crate) fn destroy(&self, label: &str) {
        self.as_user(|session| {
            let label = Attribute::Label(label.as_bytes().to_vec());
            for object in session.find_objects(&[label]).expect("objects can be found") {
                session.destroy_object(object).expect("an object can be destroyed");
            }
        });
    }

    fn as_user(&self, work: impl FnOnce(&Session)) {
        let library = library();
        let session = library.open_rw_session(slot_of(&library, &self.label));
        let session = session.expect("a session can be opened");
        // Somebody of this process may be logged in.
        let _ = session.login(UserType::User, Some(&pin(PIN)));
        work(&session);
    }

    /// Whether the token remembers a wrong PIN since the last right one.
    pub(crate) fn has_seen_a_wrong_pin(&self) -> bool {
        let library = library();
        let token = library.get_token_info(slot_of(&library, &self.label)).expect("it tells");
        token.user_pin_count_low()
    }

    /// The token's serial number.
    pub(crate) fn serial(&self) -> String {
        let library = library();
        let token = library.get_token_info(slot_of(&library, &self.label)).expect("it tells");
        token.serial_number().trim_end().to_owned()
    }

    /// Whether the token lets nobody in any more.
    pub(crate) fn is_locked(&self) -> bool {
        let library = library();
        let token = library.get_token_info(slot_of(&library, &self.label)).expect("it tells");
        token.user_pin_locked()
    }

    /// Logs this process out of the token.
    pub(crate) fn log_out(&self) {
        let library = library();
        let session = library.open_ro_session(slot_of(&library, &self.label));
        let _ = session.expect("a session can be opened").logout(); // nobody may be logged in
    }

    /// Logs in with the right PIN, and out again.
    pub(crate) fn log_in_and_out(&self) {
        self.as_user(|_| {});
        self.log_out();
    }

    /// Takes the token away from other processes, until it is put back.
    pub(crate) fn take_away(&self) {
        fs::create_dir_all(base().join("away")).expect("a folder can be made");
        fs::rename(&self.folder, self.away()).expect("it is there");
    }

    /// Puts it back.
    pub(crate) fn put_back(&self) {
        fs::rename(self.away(), &self.folder).expect("it was there");
    }

    /// Where the token is while it is away: every folder beside the others would be one.
    pub(crate) fn away(&self) -> PathBuf {
        base().join("away").join(self.folder.file_name().expect("it has a name"))
    }

    /// Where the token is, for who takes it away by other means.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The file that this token's PIN is read from.
    pub(crate) fn pin_file(&self) -> &Path {
        &self.pin_file
    }

    /// Writes another PIN where this token's is read from.
    pub(crate) fn write_pin(&self, pin: &str) {
        fs::write(&self.pin_file, pin).expect("a PIN can be written");
    }
}

impl Drop for Hsm {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.pin_file);
        let _ = fs::remove_dir_all(&self.folder);
        let _ = fs::remove_dir_all(self.away());
    }
}

/// The library, as `scripts/test` installs it.
pub(crate) fn module() -> &'static Path {
    const KNOWN: [&str; 3] = [
        "/usr/lib/softhsm/libsofthsm2.so",
        "/usr/lib64/pkcs11/libsofthsm2.so",
        "/usr/local/lib/softhsm/libsofthsm2.so",
    ];
    let found = KNOWN.iter().map(Path::new).find(|path| path.exists());
    found.expect("SoftHSM 2 is not installed: scripts/test does it")
}

fn library() -> MutexGuard<'static, Pkcs11> {
    static LIBRARY: OnceLock<Mutex<Pkcs11>> = OnceLock::new();
    let library = LIBRARY.get_or_init(|| {
        fs::create_dir_all(base().join("tokens")).expect("a folder can be made");
        let conf = std::env::var_os("SOFTHSM2_CONF").expect(".cargo/config.toml sets it");
        let tokens = base().join("tokens");
        let text =
            format!("directories.tokendir = {}\nobjectstore.backend = file\n", tokens.display());
        fs::write(conf, text).expect("a configuration can be written");
        let library = Pkcs11::new(module()).expect("it is a PKCS#11 module");
        // Whoever of this process was first.
        let _ = library.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK));
        Mutex::new(library)
    });
    library.lock().unwrap_or_else(PoisonError::into_inner)
}

fn base() -> PathBuf {
    crate::support::project("target/softhsm")
}

fn tokens() -> Vec<PathBuf> {
    let entries = fs::read_dir(base().join("tokens")).expect("a folder can be listed");
    entries.map(|entry| entry.expect("a folder can be listed").path()).collect()
}

fn slot_of(library: &Pkcs11, label: &str) -> cryptoki::slot::Slot {
    let slots = library.get_slots_with_token().expect("there are slots");
    let is_it = |slot: &cryptoki::slot::Slot| {
        library.get_token_info(*slot).is_ok_and(|token| token.label().trim_end() == label)
    };
    slots.into_iter().find(is_it).expect("the token is there")
}

fn named(label: &str) -> Vec<Attribute> {
    vec![
        Attribute::Token(true),
        Attribute::Private(true),
        Attribute::Label(label.as_bytes().to_vec()),
        Attribute::Id(label.as_bytes().to_vec()),
    ]
}

fn pin(text: &str) -> AuthPin {
    AuthPin::new(text.into())
}

/// Attributes of a key that can be taken out of its token.
pub(crate) fn extractable() -> [Attribute; 2] {
    [Attribute::Sensitive(false), Attribute::Extractable(true)]
}
