//! What a store of blobs is asked, in requests to the object store.

use std::any::Any;
use std::io;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;

use super::fault::{Fault, Kind};
use super::kept::Kept;
use super::objects::{Depth, Described};
use super::signed::Wanted;
use super::staged::{self, Staged};
use super::upload::{PART, Upload};
use super::{PARTS, QUARANTINE, S3BlobStore, STAGING, ledger, parts, reading, sweep};
use crate::blob::{
    Blob, BlobKey, BlobStore, BlobUpload, Error, Names, Parts, PartsSecret, ReadVerb, SecondName,
    StagedBlob,
};
use crate::model::Sha256Digest;

#[async_trait]
impl BlobStore for S3BlobStore {
    fn begin(&self, _keep_free: u64) -> Result<Box<dyn BlobUpload>, Error> {
        let name = self.new_name(STAGING);
        Ok(Box::new(Upload::new(&self.objects, name, &self.sending)))
    }

    fn free_space(&self) -> Result<Option<u64>, Error> {
        Ok(None)
    }

    async fn begin_parts(&self, secret: &PartsSecret) -> Result<Parts, Error> {
        let (name, secret) = (self.new_name(PARTS), secret.clone());
        self.run(("begin", "an upload"), move |objects| async move {
            parts::begin(&objects, name, &secret).await
        })
        .await
    }

    async fn parts_secret(&self, parts: &Parts) -> Result<Option<PartsSecret>, Error> {
        let Some(name) = parts::name(parts) else { return Ok(None) };
        self.run(("read", "the secret of an upload"), move |objects| async move {
            ledger::find_secret(&objects, &name).await
        })
        .await
    }

    async fn record_blocks(
        &self,
        parts: &Parts,
        first: u64,
        digests: &[Sha256Digest],
    ) -> Result<Vec<Sha256Digest>, Error> {
        let Some(name) = parts::name(parts) else {
            return Err(Error::NotFound(parts.as_str().to_owned()));
        };
        let digests = digests.to_vec();
        self.run(("record", "the blocks of an upload"), move |objects| async move {
            ledger::record(&objects, &name, first, &digests).await
        })
        .await
    }

    /// What is less than 5 MiB is no part of a multipart upload.
    fn best_part(&self) -> usize {
        PART
    }

    async fn append_part(
        &self,
        parts: &mut Parts,
        at: u64,
        bytes: Vec<Bytes>,
        _keep_free: u64,
    ) -> Result<(), Error> {
        let before = parts.clone();
        let appended = self.run(("write", "a part of an upload"), move |objects| async move {
            parts::append(&objects, &before, at, bytes).await
        });
        *parts = appended.await?;
        Ok(())
    }

    async fn parts_length(&self, parts: &Parts) -> Result<Option<u64>, Error> {
        let parts = parts.clone();
        self.run(("look at", "the parts of an upload"), move |objects| async move {
            parts::length(&objects, &parts).await
        })
        .await
    }

    async fn finish_parts(&self, parts: &Parts, length: u64) -> Result<Box<dyn StagedBlob>, Error> {
        let parts = parts.clone();
        let staged = self.run(("join", "the parts of an upload"), move |objects| async move {
            parts::finish(&objects, &parts, length).await
        });
        Ok(Box::new(staged.await?))
    }

    async fn abandon_parts(&self, parts: &Parts) -> Result<(), Error> {
        let parts = parts.clone();
        self.run(("remove", "the parts of an upload"), move |objects| async move {
            parts::abandon(&objects, &parts).await
        })
        .await
    }

    async fn sweep_parts(&self, kept: &[Parts]) -> Result<usize, Error> {
        let (begin, kept) = (format!("{PARTS}{}/", self.server), names_of(kept));
        self.run(("sweep", "the parts of uploads"), move |objects| async move {
            sweep::sweep(&objects, &begin, &kept, |_| false).await
        })
        .await
    }

    /// They stay in memory until they are promoted: a store that is asked twice takes twice as long.
    async fn stage_all(&self, files: Vec<Bytes>) -> Result<Vec<Box<dyn StagedBlob>>, Error> {
        let staged = files.into_iter().map(|bytes| Staged::bytes(&self.objects, bytes));
        Ok(staged.map(|staged| Box::new(staged) as Box<dyn StagedBlob>).collect())
    }

    async fn promote_all(&self, blobs: Vec<(Box<dyn StagedBlob>, BlobKey)>) -> Result<(), Error> {
        let own = |(staged, key): (Box<dyn StagedBlob>, BlobKey)| match (staged as Box<dyn Any>)
            .downcast::<Staged>()
        {
            Ok(staged) => Ok((*staged, key)),
            Err(_) => Err(Error::new(
                "store",
                key.name(),
                io::Error::other("another store has staged it"),
            )),
        };
        let blobs = blobs.into_iter().map(own).collect::<Result<Vec<_>, _>>()?;
        self.run_named(staged::promote_all(blobs)).await
    }

    async fn put(&self, key: &BlobKey, bytes: Bytes) -> Result<(), Error> {
        let staged = Staged::bytes(&self.objects, bytes.clone());
        let stored = self.run_named(staged::promote_all(vec![(staged, key.clone())])).await;
        let Err(Error::AlreadyExists(name)) = stored else { return stored };
        let there = self.open_name(key.name()).await?;
        let read = |source| Error::new("read", key.name(), source);
        let is_same = there.length == bytes.len() as u64
            && there.read_all(there.length).await.map_err(read)? == bytes;
        if !is_same {
            return Err(Error::AlreadyExists(name));
        }
        match self.second_name(key).await? {
            SecondName::Apart => self.link_again(key, Names::FromName).await,
            SecondName::Same | SecondName::Copy => Ok(()),
        }
    }

    async fn replace(&self, key: &BlobKey, bytes: Bytes) -> Result<(), Error> {
        let (name, described) = (key.name(), Described::as_blob(key));
        let put = name.clone();
        self.run(("replace", &name), move |objects| async move {
            objects.put(&put, bytes, described).await
        })
        .await
    }

    async fn second_name(&self, key: &BlobKey) -> Result<SecondName, Error> {
        let (name, Some(alias)) = (key.name(), key.alias()) else { return Ok(SecondName::Same) };
        self.run(("look at", &key.name()), move |objects| async move {
            let (one, other) = (objects.head(&name).await?, objects.head(&alias).await?);
            let lengths = [one, other].map(|found| found.map(|found| found.length));
            let is_copy = lengths[0].is_some() && lengths[0] == lengths[1];
            Ok(if is_copy { SecondName::Copy } else { SecondName::Apart })
        })
        .await
    }

    async fn open_alias(&self, key: &BlobKey) -> Option<Result<Blob, Error>> {
        Some(self.open_name(key.alias()?).await)
    }

    async fn link_again(&self, key: &BlobKey, names: Names) -> Result<(), Error> {
        let (name, Some(alias)) = (key.name(), key.alias()) else { return Ok(()) };
        let described = Described::as_blob(key);
        let (from, to) = match names {
            Names::FromName => (name, alias),
            Names::FromAlias => (alias, name),
        };
        self.run(("copy", &key.name()), move |objects| async move {
            match objects.head(&from).await? {
                Some(found) => objects.copy(&from, &to, found.length, described).await,
                None => Err(Fault::new(Kind::NoSuchKey, "there is nothing to copy")),
            }
        })
        .await
    }

    async fn quarantine(&self, key: &BlobKey) -> Result<String, Error> {
        let (name, names) = (key.name(), [key.alias(), Some(key.name())]);
        let to = format!("{QUARANTINE}{name}");
        let place = format!("{}{to}", self.objects.url);
        self.run(("move", &key.name()), move |objects| async move {
            if let Some(found) = objects.head(&name).await? {
                objects.copy(&name, &to, found.length, Described::INTERNAL).await?;
            }
            for name in names.iter().flatten() {
                objects.delete(name).await?;
            }
            Ok(())
        })
        .await?;
        Ok(place)
    }

    async fn claim(&self, installation: &str) -> Result<String, Error> {
        let claimed = installation.to_owned();
        let owner = self.run(("claim", "the bucket"), move |objects| async move {
            objects.claim(&claimed).await
        });
        let owner = owner.await?;
        if owner == installation {
            let _ = self.owner.set(owner.clone()); // it is the same each time
        }
        Ok(owner)
    }

    async fn find_owner(&self) -> Result<Option<String>, Error> {
        self.run(("open", "the bucket"), |objects| async move { objects.find_owner().await }).await
    }

    async fn check(&self) -> Result<(), Error> {
        let found = self.find_owner().await?;
        match self.owner.get() {
            Some(owner) if found.as_ref() != Some(owner) => {
                let found =
                    found.map_or_else(|| "none".into(), |found| format!("installation {found}"));
                let url = &self.objects.url;
                let reason = format!("{url} is of {found} now, and this is installation {owner}");
                Err(Error::Unavailable { verb: "use", name: url.to_string(), reason })
            }
            _ => Ok(()),
        }
    }

    fn is_remote(&self) -> bool {
        true
    }

    async fn presign(
        &self,
        key: &BlobKey,
        verb: ReadVerb,
        valid_for: Duration,
    ) -> Result<Option<String>, Error> {
        let (wanted, now) = (Wanted { name: key.name(), verb, valid_for }, SystemTime::now());
        if let Some(url) = self.signed.find(&wanted, now) {
            return Ok(Some(url));
        }
        let presigned = self.objects.presign(&wanted.name, verb, valid_for).await;
        let url = presigned.map_err(|fault| fault.into_error("sign a URL for", &wanted.name))?;
        self.signed.keep(wanted, &url, now);
        Ok(Some(url))
    }

    async fn open(&self, key: &BlobKey) -> Result<Blob, Error> {
        let name = key.name();
        let can_be_kept = Kept::takes(key);
        if can_be_kept && let Some(blob) = self.kept.find(&name) {
            return Ok(blob);
        }
        let blob = self.open_name(name.clone()).await?;
        if can_be_kept && blob.length <= reading::METADATA {
            self.kept.keep(&name, &blob);
        }
        Ok(blob)
    }

    async fn delete(&self, key: &BlobKey) -> Result<(), Error> {
        let names = [key.alias(), Some(key.name())];
        self.kept.forget(&key.name());
        self.run(("remove", &key.name()), move |objects| async move {
            for name in names.iter().flatten() {
                objects.delete(name).await?;
            }
            Ok(())
        })
        .await
    }

    async fn sweep(&self) -> Result<usize, Error> {
        let begin = format!("{STAGING}{}/", self.server);
        self.run(("sweep", "staged blobs"), move |objects| async move {
            sweep::sweep(&objects, &begin, &[], |_| false).await
        })
        .await
    }

    async fn sweep_abandoned(&self, kept: &[Parts], age: Duration) -> Result<usize, Error> {
        let kept = names_of(kept);
        self.run(("sweep", "abandoned uploads"), move |objects| async move {
            let is_young = |at| sweep::is_young(at, age);
            let staged = sweep::sweep(&objects, STAGING, &[], is_young).await?;
            let parts = sweep::sweep(&objects, PARTS, &kept, is_young).await?;
            Ok(staged + parts + sweep::sweep_copies(&objects, age).await?)
        })
        .await
    }

    async fn list_metadata(&self) -> Result<Vec<BlobKey>, Error> {
        let names = self.list_names(Depth::Here).await?;
        Ok(names.iter().filter_map(|name| BlobKey::named(name)).collect())
    }

    async fn list(&self) -> Result<Vec<(String, Option<BlobKey>)>, Error> {
        let identify = |name: String| {
            let key = BlobKey::named(&name);
            (name, key)
        };
        Ok(self.list_names(Depth::All).await?.into_iter().map(identify).collect())
    }
}

fn names_of(parts: &[Parts]) -> Vec<String> {
    parts.iter().filter_map(parts::name).collect()
}
