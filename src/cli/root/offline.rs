//! Signing a staged root where the key is: on a machine that has no network and no state directory.
//!
//! Nothing is read but the file, the key and a root that the signer trusts. What the file says is
//! taken for nothing: the published root in it has to be one, what changes is worked out here from
//! both roots, and what is shown is what is signed. For the published root itself nobody vouches but
//! the signer's own copy; without one, its digests are shown to be compared.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail, ensure};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::told::tell_diff;
use crate::api::{CeremonyFile, NewSignature};
use crate::cli::new_file::{ensure_new, write_new};
use crate::cli::output::{self, note, print_json, print_line};
use crate::cli::signing::{Signing, confirm, open_key, sign};
use crate::keys::Signer;
use crate::model::{RoleName, Sha256Digest, Timestamp};
use crate::uptane::metadata::root::{Succession, succession};
use crate::uptane::metadata::{Root, Unsigned};
use crate::uptane::root_diff::RootDiff;
use crate::uptane::verify::{Rules, TrustedSet};
use motorcade_host::shown::printable;

/// A signature on its way to the server.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SignatureFile {
    pub(super) repository: String,
    pub(super) version: u64,
    pub(super) payload_sha256: String,
    pub(super) signatures: Vec<NewSignature>,
}

/// Both roots of a file, once they were read.
struct Staged {
    repository: String,
    published: Root,
    published_digests: Digests,
    next: Root,
    unsigned: Unsigned,
    succession: Succession,
}

/// By what people compare the published root.
struct Digests {
    /// SHA-256 of the file that clients fetch.
    file: Sha256Digest,
    /// What was shown as its digest when it was signed.
    content: Sha256Digest,
}

/// Shows what is to be signed, and signs it.
pub(super) async fn run(signing: Signing) -> anyhow::Result<ExitCode> {
    let staged = Staged::read(&signing.file)?;
    if let Some(trusted) = &signing.trusted {
        staged.compare(trusted)?;
    }
    let key = open_key(&signing.key).await?;
    let place = staged.place_of(key.as_ref())?;
    let out = signing.out.unwrap_or_else(|| {
        let key_id = key.id().to_string();
        format!("root-{}-{key_id:.8}.signature.json", staged.unsigned.version()).into()
    });
    ensure_new(&out).context("nothing was signed")?;
    staged.show(&place)?;
    if signing.trusted.is_none() {
        staged.warn();
    }
    if !signing.yes {
        confirm(staged.unsigned.version())?;
    }
    let signed = staged.sign(key.as_ref()).await?;
    write_new(&out, &serde_json::to_vec(&signed)?)?;
    if output::is_json() {
        print_json(&signed)?;
    }
    note(format_args!(
        "Signed as {}\nhint: bring it with `motorcade root sign --repository {} --send {}`",
        out.display(),
        printable(&signed.repository),
        out.display()
    ));
    Ok(ExitCode::SUCCESS)
}

impl Staged {
    fn read(file: &Path) -> anyhow::Result<Self> {
        let name = file.display();
        let text = fs::read(file).with_context(|| format!("failed to read {name}"))?;
        let file: CeremonyFile = serde_json::from_slice(&text)
            .with_context(|| format!("{name} is no file of `root diff --out`"))?;
        let (published, next) =
            (serde_json::to_vec(&file.published)?, serde_json::to_vec(&file.staged)?);
        TrustedSet::new(&published, Rules::Image, Timestamp::UNIX_EPOCH)
            .with_context(|| format!("the published root in {name} is none"))?;
        let unsigned = Unsigned::of_file(RoleName::Root, &next)?;
        ensure!(
            unsigned.digest().to_string() == file.payload_sha256,
            "{name} is damaged: the digest in it is not that of its root"
        );
        let published_digests = Digests {
            file: Sha256Digest::from_bytes(Sha256::digest(&published).into()),
            content: Unsigned::of_file(RoleName::Root, &published)?.digest(),
        };
        let published = content(&published)?;
        let next: Root = serde_json::from_slice(unsigned.text())?;
        ensure!(
            next.version.get() == published.version.get() + 1,
            "root {} does not follow root {}: nobody could take it",
            next.version,
            published.version
        );
        let succession = succession(&published, &next)?;
        Ok(Self {
            repository: file.repository,
            published,
            published_digests,
            next,
            unsigned,
            succession,
        })
    }

    /// Holds the published root against the signer's own copy.
    fn compare(&self, trusted: &Path) -> anyhow::Result<()> {
        let name = trusted.display();
        let text = fs::read(trusted).with_context(|| format!("failed to read {name}"))?;
        let trusted = content(&text).with_context(|| format!("{name} is no root"))?;
        ensure!(
            trusted == self.published,
            "the published root in the file, version {}, is not the one in {name}, version {}: nothing was signed",
            self.published.version,
            trusted.version
        );
        Ok(())
    }

    /// Says that the file vouches for itself: who made it can have made up the published root, too,
    /// and what that would hide does not show as a change. On stderr, for programs as well.
    fn warn(&self) {
        let (version, Digests { file, content }) =
            (self.published.version, &self.published_digests);
        eprintln!(
            "warning: nobody vouches for the published root {version} in this file, from which the \
             changes are counted: whoever made the file can have made it up.\n\
             Give your own copy of {version}.root.json with `--trusted`. Or compare, with such a copy \
             or another officer, and not with whoever sent the file:\n  \
             SHA-256 of {version}.root.json  {file}\n  \
             digest when it was signed  {content}"
        );
    }

    /// As whose key it counts.
    fn place_of(&self, key: &dyn Signer) -> anyhow::Result<String> {
        let (id, Succession { before, after }) = (key.id(), &self.succession);
        let (old, new) = (self.published.version, self.next.version);
        Ok(match (before.key_ids.contains(&id), after.key_ids.contains(&id)) {
            (true, true) => format!("root key of version {old} and of version {new}"),
            (true, false) => format!("root key of version {old}"),
            (false, true) => format!("root key of version {new}"),
            (false, false) => bail!(
                "the key {id} is no root key, neither of version {old} nor of version {new}: nothing was signed"
            ),
        })
    }

    fn show(&self, place: &str) -> anyhow::Result<()> {
        if output::is_json() {
            return Ok(());
        }
        print_line(format_args!("of the {} repository:", printable(&self.repository)))?;
        let Digests { file, content } = &self.published_digests;
        let version = self.published.version;
        print_line(format_args!("published: root {version}, SHA-256 {file}, digest {content}"))?;
        let diff = RootDiff::between(&self.published, &self.next);
        tell_diff(&diff.lines(), &diff.consequences())?;
        print_line(format_args!("digest {}", self.unsigned.digest()))?;
        print_line(format_args!("to be signed with a {place}"))?;
        Ok(())
    }

    async fn sign(self, key: &dyn Signer) -> anyhow::Result<SignatureFile> {
        let (version, payload_sha256) =
            (self.unsigned.version(), self.unsigned.digest().to_string());
        let authorized = self.unsigned.authorize(&self.succession.either(), [key.id()])?;
        let signatures = vec![sign(key, &authorized).await?];
        Ok(SignatureFile { repository: self.repository, version, payload_sha256, signatures })
    }
}

fn content(file: &[u8]) -> anyhow::Result<Root> {
    Ok(crate::uptane::metadata::root::parse(file)?)
}
