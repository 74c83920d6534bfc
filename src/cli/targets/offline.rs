//! Signing a staged targets file where the key is: on a machine that has no network and no state
//! directory.
//!
//! Nothing is read but the file, the key and, if there is one, the signer's own copy of what was
//! published last. What is shown is what is signed: all of it, or how it differs from that copy.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::told::tell_changes;
use crate::api::{NewSignature, TargetsFile};
use crate::cli::new_file::{ensure_new, write_new};
use crate::cli::output::{self, note, print_json, print_line};
use crate::cli::signing::{Signing, command, confirm, open_key, sign};
use crate::keys::Signer;
use crate::model::{RoleKind, RoleName};
use crate::uptane::key::PublicKey;
use crate::uptane::metadata::{Authority, Unsigned};
use crate::uptane::targets_diff::{self, Listing, TargetsDiff};

/// A signature on its way to the server.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SignatureFile {
    pub(super) targets_role: String,
    pub(super) version: u64,
    pub(super) payload_sha256: String,
    pub(super) signatures: Vec<NewSignature>,
}

/// A file to be signed, once it was read.
struct Staged {
    role: RoleName,
    next: Listing,
    unsigned: Unsigned,
    key_ids: Vec<String>,
}

/// Shows what is to be signed, and signs it. A file says its role, and what is signed does not, so the
/// signer does too, by the command: with the key of one role, nothing is signed that is judged as
/// another one's.
pub(super) async fn run(signing: Signing, kind: RoleKind) -> anyhow::Result<ExitCode> {
    let staged = Staged::read(&signing.file)?;
    ensure!(
        staged.role.kind() == kind,
        "{} is for {}: nothing was signed; `motorcade {} sign` signs it",
        signing.file.display(),
        staged.role,
        command(staged.role.as_str())
    );
    let trusted = signing.trusted.as_deref().map(|file| staged.trusted(file)).transpose()?;
    let key = open_key(&signing.key).await?;
    let (id, version) = (key.id(), staged.unsigned.version());
    let role = staged.role.clone();
    ensure!(
        staged.key_ids.contains(&id.to_string()),
        "the key {id} is none of those that sign for {role}: nothing was signed"
    );
    let out = signing
        .out
        .unwrap_or_else(|| format!("{role}-{version}-{:.8}.signature.json", id.to_string()).into());
    ensure_new(&out).context("nothing was signed")?;
    staged.show(trusted.as_ref())?;
    if !signing.yes {
        confirm(version)?;
    }
    let signed = staged.sign(key.as_ref()).await?;
    write_new(&out, &serde_json::to_vec(&signed)?)?;
    if output::is_json() {
        print_json(&signed)?;
    }
    let (out, command) = (out.display(), command(role.as_str()));
    note(format_args!(
        "Signed as {out}\nhint: bring it with `motorcade {command} sign --send {out}`"
    ));
    Ok(ExitCode::SUCCESS)
}

impl Staged {
    fn read(file: &Path) -> anyhow::Result<Self> {
        let name = file.display();
        let text = fs::read(file).with_context(|| format!("failed to read {name}"))?;
        let file: TargetsFile = serde_json::from_slice(&text)
            .with_context(|| format!("{name} is no file of `diff --out`"))?;
        let role: RoleName = file.targets_role.parse().context("the file names no role")?;
        let unsigned = Unsigned::of_file(role.clone(), &serde_json::to_vec(&file.staged)?)?;
        ensure!(
            unsigned.digest().to_string() == file.payload_sha256,
            "{name} is damaged: the digest in it is not that of what is to be signed"
        );
        let next: Listing = serde_json::from_slice(unsigned.text())
            .with_context(|| format!("{name} has no targets file in it"))?;
        ensure!(
            serde_json::to_value(&next)? == serde_json::from_slice::<Value>(unsigned.text())?,
            "{name} says more than could be shown: nothing was signed"
        );
        check_key_ids(&next)?;
        targets_diff::check_order(&role, &next)
            .and_then(|()| targets_diff::check_targets(&next))
            .map_err(|unusual| anyhow::anyhow!("{name}: {unusual}: nothing was signed"))?;
        Ok(Self { role, next, unsigned, key_ids: file.key_ids })
    }

    /// The signer's own copy of what was published last.
    fn trusted(&self, file: &Path) -> anyhow::Result<Listing> {
        let name = file.display();
        let text = fs::read(file).with_context(|| format!("failed to read {name}"))?;
        let trusted = targets_diff::parse(&text)
            .with_context(|| format!("{name} is no targets file: nothing was signed"))?;
        ensure!(
            trusted.version < self.next.version,
            "version {} does not follow {name}, which is version {}: nobody would take it, and nothing was signed",
            self.next.version,
            trusted.version
        );
        Ok(trusted)
    }

    fn show(&self, trusted: Option<&Listing>) -> anyhow::Result<()> {
        if output::is_json() {
            return Ok(());
        }
        tell_changes(&TargetsDiff::between(&self.role, trusted, &self.next).lines())?;
        print_line(format_args!("digest {}", self.unsigned.digest()))?;
        Ok(())
    }

    async fn sign(self, key: &dyn Signer) -> anyhow::Result<SignatureFile> {
        let (version, payload_sha256) =
            (self.unsigned.version(), self.unsigned.digest().to_string());
        let alone = Authority { key_ids: [key.id()].into(), threshold: 1 };
        let authorized = self.unsigned.authorize(&alone, [key.id()])?;
        let signatures = vec![sign(key, &authorized).await?];
        Ok(SignatureFile {
            targets_role: self.role.to_string(),
            version,
            payload_sha256,
            signatures,
        })
    }
}

/// People are shown ids, so that each has to be its key's.
fn check_key_ids(listing: &Listing) -> anyhow::Result<()> {
    let keys = listing.delegations.iter().flat_map(|delegations| &delegations.keys);
    for (id, object) in keys {
        let key = PublicKey::from_object(object.clone());
        let key = key.with_context(|| format!("the key {id} can't be read"))?;
        ensure!(
            key.id() == *id,
            "the key {} is there under the id {id}: nothing was signed",
            key.id()
        );
    }
    Ok(())
}
