//! Signing what is staged where the key is, and naming a staging to the server, whichever role it is.

use std::io::{self, BufRead, IsTerminal};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::ensure;
use reqwest::RequestBuilder;
use reqwest::header::IF_MATCH;

use super::output::print_line;
use crate::api::{NewSignature, SignatureBody};
use crate::keys::source::KeySource;
use crate::keys::{self, Signer};
use crate::model::RoleName;
use crate::uptane::metadata::Authorized;
use motorcade_host::shown::printable;

/// What is signed, with what, and where the signature goes.
pub(super) struct Signing {
    pub(super) file: PathBuf,
    pub(super) key: String,
    pub(super) trusted: Option<PathBuf>,
    pub(super) out: Option<PathBuf>,
    pub(super) yes: bool,
}

/// Opens the signer's key: a file, or a source as the metadata policy names them.
pub(super) async fn open_key(key: &str) -> anyhow::Result<Arc<dyn Signer>> {
    let source = key.parse().unwrap_or_else(|_| KeySource::File(key.into()));
    Ok(keys::open(Path::new("."), &source).await?)
}

/// Asks the person at the terminal.
pub(super) fn confirm(version: u64) -> anyhow::Result<()> {
    ensure!(
        io::stdin().is_terminal(),
        "nobody is there to be asked: look at what was shown, and say `--yes` to sign it"
    );
    eprint!("Sign it? Type the version that is signed: ");
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    ensure!(answer.trim() == version.to_string(), "nothing was signed");
    Ok(())
}

/// Signs what a key may sign.
pub(super) async fn sign(
    key: &dyn Signer,
    authorized: &Authorized,
) -> anyhow::Result<NewSignature> {
    let signature = key.sign(authorized.message()).await;
    let sig = hex::encode(signature.map_err(|error| anyhow::anyhow!(error))?);
    Ok(NewSignature { keyid: key.id().to_string(), sig })
}

/// Has the server do it only to this staging.
pub(super) fn if_match(request: RequestBuilder, revision: Option<u64>) -> RequestBuilder {
    match revision {
        Some(revision) => request.header(IF_MATCH, format!("\"{revision}\"")),
        None => request,
    }
}

/// Who has signed, and who brought it.
pub(super) fn tell_signatures(signatures: &[SignatureBody]) -> anyhow::Result<()> {
    for SignatureBody { key_id, signed_at, signed_by } in signatures {
        let (key, by, at) = (printable(key_id), printable(signed_by), printable(signed_at));
        print_line(format_args!("  signed by {key}, brought by {by} at {at}"))?;
    }
    Ok(())
}

/// The command of a role that its owner signs.
pub(super) fn command(role: &str) -> &'static str {
    if role == RoleName::Targets.as_str() { "targets" } else { "supplier" }
}
