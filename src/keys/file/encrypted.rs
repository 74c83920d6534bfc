//! Key files that are encrypted with a passphrase: PKCS#8 `ENCRYPTED PRIVATE KEY` (RFC 5958), by
//! PBES2 (RFC 8018) with scrypt or PBKDF2 and AES.
//!
//! The passphrase comes from `MOTORCADE_KEY_PASSPHRASE`, or from the file that
//! `MOTORCADE_KEY_PASSPHRASE_FILE` names, and is the same for all of `keys/`.

use std::env;
use std::path::Path;

use pkcs8::der::pem::LineEnding;
use pkcs8::{EncryptedPrivateKeyInfoRef, PrivateKeyInfoRef, SecretDocument};
use zeroize::Zeroizing;

use super::super::BackendError;
use super::read_secret;

/// The text of a key file, decrypted if it is encrypted.
///
/// # Errors
///
/// What is wrong, or that the passphrase is.
pub(super) fn decrypted(text: Zeroizing<String>) -> Result<Zeroizing<String>, BackendError> {
    if !text.contains("-----BEGIN ENCRYPTED PRIVATE KEY-----") {
        return Ok(text);
    }
    let passphrase = passphrase()?.ok_or(
        "it is encrypted, and no passphrase is there: set MOTORCADE_KEY_PASSPHRASE_FILE or MOTORCADE_KEY_PASSPHRASE",
    )?;
    decrypt(&text, &passphrase)
}

/// A key as it is to be written: encrypted if there is a passphrase.
///
/// # Errors
///
/// Whatever keeps it from being encrypted.
pub(super) fn if_wanted(pem: Zeroizing<String>) -> Result<Zeroizing<String>, BackendError> {
    match passphrase()? {
        Some(passphrase) => encrypt(&pem, &passphrase),
        None => Ok(pem),
    }
}

fn decrypt(text: &str, passphrase: &str) -> Result<Zeroizing<String>, BackendError> {
    let (_, document) =
        SecretDocument::from_pem(text.trim()).map_err(|_| "it is no PEM of an encrypted key")?;
    let encrypted = EncryptedPrivateKeyInfoRef::try_from(document.as_bytes())
        .map_err(|_| "it is no encrypted PKCS#8 key")?;
    let key = encrypted
        .decrypt(passphrase)
        .map_err(|_| "the passphrase does not open it, or its encryption is unknown here")?;
    Ok(key.to_pem("PRIVATE KEY", LineEnding::LF)?)
}

fn encrypt(pem: &str, passphrase: &str) -> Result<Zeroizing<String>, BackendError> {
    let (_, document) = SecretDocument::from_pem(pem)?;
    let key = PrivateKeyInfoRef::try_from(document.as_bytes())?;
    Ok(key.encrypt(passphrase)?.to_pem("ENCRYPTED PRIVATE KEY", LineEnding::LF)?)
}

fn passphrase() -> Result<Option<Zeroizing<String>>, BackendError> {
    if let Some(file) = env::var_os("MOTORCADE_KEY_PASSPHRASE_FILE") {
        let text = read_secret(Path::new(&file))?;
        return Ok(Some(Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned())));
    }
    match env::var("MOTORCADE_KEY_PASSPHRASE") {
        Ok(text) if !text.is_empty() => Ok(Some(Zeroizing::new(text))),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use motorcade_uptane::key::{Scheme, SigningKey};

    /// Made by `openssl pkcs8 -topk8`, once with `-scrypt` and once with `-v2prf hmacWithSHA256`.
    #[test]
    fn opens_what_openssl_has_encrypted() {
        for text in [
            include_str!("../../../tests/vectors/keys/snakeoil_ed25519_scrypt.pem"),
            include_str!("../../../tests/vectors/keys/snakeoil_ed25519_pbkdf2.pem"),
        ] {
            let key = SigningKey::from_pem(&decrypt(text, "snakeoil").unwrap()).unwrap();
            let public = key.public().object()["keyval"]["public"].as_str().unwrap();
            assert_eq!(public, "046e9092a68415cb8fd2e2022568c0e9d07b1f78918c363a972b72451e7be7ed");
            let refused = decrypt(text, "snakeoi").unwrap_err().to_string();
            assert!(refused.contains("passphrase does not open it"), "{refused}");
        }
    }

    #[test]
    fn opens_what_it_has_encrypted() {
        for scheme in Scheme::ALL {
            let pem = SigningKey::generate_pem(scheme).unwrap();
            let encrypted = encrypt(&pem, "a passphrase").unwrap();
            assert!(encrypted.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----\n"));
            assert_eq!(*decrypt(&encrypted, "a passphrase").unwrap(), *pem);
            decrypt(&encrypted, "another").unwrap_err();
        }
    }

    #[test]
    fn what_is_no_encrypted_key_is_refused() {
        let broken =
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
        let refused = decrypt(broken, "x").unwrap_err().to_string();
        assert_eq!(refused, "it is no PEM of an encrypted key");
    }
}
