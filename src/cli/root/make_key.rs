//! `motorcade root make-key`: a key for an officer, where the officer is.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::ValueEnum;
use serde_json::json;

use crate::cli::new_file::{ensure_new, write_new};
use crate::cli::output;
use crate::keys::Signer;
use crate::keys::file::{FileSigner, write_secret};
use crate::uptane::key::{Scheme, SigningKey};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where the private key goes, as PKCS#8 with mode 0600; nothing may be there
    key: PathBuf,
    /// Where its public half goes, for `root stage --add`; nothing may be there
    #[arg(long, value_name = "FILE")]
    public: PathBuf,
    /// How it signs; clients that can't read ML-DSA-65 are in docs/POST-QUANTUM.md
    #[arg(long, value_enum, default_value_t = KeyScheme::Ed25519)]
    scheme: KeyScheme,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum KeyScheme {
    Ed25519,
    #[value(name = "ml-dsa-65")]
    MlDsa65,
}

impl From<KeyScheme> for Scheme {
    fn from(scheme: KeyScheme) -> Self {
        match scheme {
            KeyScheme::Ed25519 => Self::Ed25519,
            KeyScheme::MlDsa65 => Self::MlDsa65,
        }
    }
}

/// Makes a key, without a network and a state directory.
pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Args { key: file, public, scheme } = args;
    ensure_new(&file)?;
    ensure_new(&public)?;
    write_secret(&file, SigningKey::generate_pem(scheme.into())?.as_bytes())?;
    let key = match write_public(&file, &public) {
        Ok(key) => key,
        Err(error) => {
            // So that the same command can be given again.
            fs::remove_file(&file)
                .with_context(|| format!("{error:#}; failed to remove {}", file.display()))?;
            return Err(error.context("no key was made"));
        }
    };
    let line = format!("Made the key {} in {}", key.id(), file.display());
    output::done(line, json!({ "key_id": key.id().to_string() }))
}

/// Writes the public half of the key in `file`.
fn write_public(file: &Path, public: &Path) -> anyhow::Result<FileSigner> {
    let key = FileSigner::read(file)?;
    let object = serde_json::to_string_pretty(key.public().object())?;
    write_new(public, (object + "\n").as_bytes())?;
    Ok(key)
}
