//! The bytes of sealed images and envelopes, and the two names of each.

use futures_util::TryStreamExt;
use sha2::{Digest, Sha256};

use super::{Check, Damaged, named};
use crate::app::Error;
use crate::app::listing::ListedTarget;
use crate::blob::{self, Blob, Names, SecondName};
use crate::model::Sha256Digest;

/// What is wrong with the bytes under a name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    Missing,
    WrongLength,
    Unreadable,
    Damaged,
}

impl Fault {
    fn text(self) -> &'static str {
        match self {
            Self::Missing => "is missing",
            Self::WrongLength => "has the wrong length",
            Self::Unreadable => "can't be read",
            Self::Damaged => "is damaged",
        }
    }
}

impl Check {
    /// Reads some targets after the one called `after`, of all in the order of their names;
    /// returns after which to go on, if there are more.
    pub(super) async fn targets(
        &mut self,
        targets: &[ListedTarget],
        after: &str,
    ) -> Result<Option<String>, Error> {
        let first = targets.partition_point(|target| target.key.name().as_str() <= after);
        let (mut files, mut bytes) = (0, 0);
        for target in targets.get(first..).unwrap_or_default() {
            let fault = find_fault(self.store.open(&target.key).await, target).await?;
            self.findings.files += 1;
            match fault {
                None => {
                    self.findings.bytes += target.length;
                    self.alias(target).await?;
                }
                Some(fault) => self.faulty(target, fault).await?,
            }
            files += 1;
            bytes += target.length;
            if files >= FILES_A_STEP || bytes >= BYTES_A_STEP {
                return Ok(Some(target.key.name()));
            }
        }
        Ok(None)
    }

    async fn faulty(&mut self, target: &ListedTarget, fault: Fault) -> Result<(), Error> {
        let (key, name, text) = (&target.key, named(&target.key), fault.text());
        let copy = match self.store.open_alias(key).await {
            Some(alias) if self.damaged == Damaged::Repair => {
                find_fault(alias, target).await?.is_none()
            }
            _ => false,
        };
        if copy {
            self.store.link_again(key, Names::FromAlias).await?;
            self.findings
                .repaired
                .push(format!("{name} {text}; it is what its other name stood for now"));
        } else if self.damaged == Damaged::Quarantine && fault != Fault::Missing {
            let moved_to = self.store.quarantine(key).await?;
            self.problem(format!("{name} {text}; moved to {moved_to}"));
        } else {
            self.problem(format!("{name} {text}"));
        }
        Ok(())
    }

    /// Both names of an intact target have to stand for the same bytes, and in a folder for one file:
    /// `cp -r` makes two of it, which cost twice the space and may rot apart.
    async fn alias(&mut self, target: &ListedTarget) -> Result<(), Error> {
        let key = &target.key;
        let second = self.store.second_name(key).await?;
        if second == SecondName::Same {
            return Ok(());
        }
        let alias = key.alias().unwrap_or_default();
        let text = match self.store.open_alias(key).await {
            Some(opened) => match find_fault(opened, target).await? {
                None if second == SecondName::Copy => {
                    self.findings.bytes += target.length;
                    return Ok(());
                }
                None => format!(
                    "{} is intact, and {alias} is a copy of it, not the same file",
                    named(key)
                ),
                Some(fault) => format!(
                    "{} is intact, but not for clients that ask for {alias}, which {}",
                    named(key),
                    fault.text()
                ),
            },
            None => return Ok(()),
        };
        if self.damaged == Damaged::Repair {
            self.store.link_again(key, Names::FromName).await?;
            self.findings.repaired.push(text);
        } else {
            self.problem(format!("{text}: `motorcade fsck --repair` links it again"));
        }
        Ok(())
    }
}

async fn find_fault(
    opened: Result<Blob, blob::Error>,
    target: &ListedTarget,
) -> Result<Option<Fault>, Error> {
    let blob = match opened {
        Err(blob::Error::NotFound(_)) => return Ok(Some(Fault::Missing)),
        opened => opened?,
    };
    if blob.length != target.length {
        return Ok(Some(Fault::WrongLength));
    }
    let mut hasher = Sha256::new();
    let mut pieces = blob.read(0..blob.length);
    loop {
        match pieces.try_next().await {
            Ok(Some(piece)) => hasher.update(&piece),
            Ok(None) => break,
            Err(_) => return Ok(Some(Fault::Unreadable)),
        }
    }
    let found = Sha256Digest::from_bytes(hasher.finalize().into());
    Ok((found != target.sha256).then_some(Fault::Damaged))
}

const FILES_A_STEP: u32 = 200;
const BYTES_A_STEP: u64 = 64 * 1024 * 1024; // 64 MiB
