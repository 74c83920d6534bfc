//! Whether the blobs and the catalog agree: each file that the catalog lists is there and has its
//! length, and each target that is there is an image's; and whether the envelopes in the catalog are
//! those that are published, and for nobody whose key was revoked. What is in files is fsck's.

use std::collections::HashSet;

use super::Examination;
use crate::app::Error;
use crate::app::trust::read_envelope;
use crate::blob::{self, BlobKey};
use crate::model::{ENVELOPE_SUFFIX, ImageRecord, RoleName};

/// Problems of one kind, of which only the first are said.
#[derive(Default)]
struct Problems {
    lines: Vec<String>,
    more: usize,
}

impl Problems {
    fn add(&mut self, line: String) {
        if self.lines.len() < MOST {
            self.lines.push(line);
        } else {
            self.more += 1;
        }
    }

    fn into_lines(self) -> Vec<String> {
        let more = (self.more > 0).then(|| format!("{} more are like that", self.more));
        self.lines.into_iter().chain(more).collect()
    }
}

impl Examination {
    pub(super) async fn blobs(&mut self) -> Result<String, Error> {
        // First: what is stored meanwhile belongs to no image yet.
        let files = self.store.list().await?;
        let mut problems = Problems::default();
        let mut images = HashSet::new();
        let mut after = String::new();
        loop {
            let page = self.catalog.list_images(&after, PAGE).await?;
            for image in &page.items {
                self.look_at_image(image, &mut problems).await?;
                images.insert(image.path.to_string());
            }
            let Some(next) = page.next else { break };
            after = next;
        }
        self.look_at_metadata(&mut problems).await?;
        for problem in problems.into_lines() {
            self.error(
                problem,
                "run `motorcade fsck --repair`; put back from a backup what it can't mend",
            );
        }
        self.look_for_revoked_keys().await?;
        let strays = self.strays(&files, &images).await?;
        for problem in strays.into_lines() {
            self.warn(problem, "if it is from after a restored backup, upload it again; `motorcade fsck` lists all of them");
        }
        Ok(format!("{} images and {} files of metadata", images.len(), self.roles.len()))
    }

    async fn look_at_image(
        &self,
        image: &ImageRecord,
        problems: &mut Problems,
    ) -> Result<(), Error> {
        if image.yanked_at.is_some() {
            return Ok(()); // it is listed no more
        }
        let path = image.path.to_string();
        let key = BlobKey::target(path, image.sealed.sha256);
        self.look_at(&key, image.sealed.length, problems).await?;
        match self.catalog.find_target(&image.path.envelope_path()).await? {
            None => problems.add(format!("the catalog lists no envelope of {}", image.path)),
            Some(entry) => {
                let key = BlobKey::target(entry.path, entry.sha256);
                self.look_at(&key, entry.length, problems).await?;
            }
        }
        if let Err(fault) = read_envelope(&self.catalog, image).await? {
            problems.add(format!("the envelope of {}, in the catalog: {fault}", image.path));
        }
        Ok(())
    }

    /// A revocation takes off what it can; what nobody else could open is left to a person.
    async fn look_for_revoked_keys(&mut self) -> Result<(), Error> {
        for (kid, images) in self.catalog.count_sealed_for_revoked().await? {
            let problem = format!("{images} images are still sealed for {kid}, which was revoked");
            let action = format!(
                "see that its job ends (`motorcade job list`); what it could not do is wrapped for another key with \
                 `motorcade recipient rotate {kid} NEW.pem`, or sealed again with `motorcade image reseal`"
            );
            self.warn(problem, action);
        }
        Ok(())
    }

    async fn look_at_metadata(&self, problems: &mut Problems) -> Result<(), Error> {
        for state in self.roles.iter().filter(|state| state.version > 0) {
            // What is shown under the timestamp's one name may be newer than what was read.
            if state.name != RoleName::Timestamp {
                let key = BlobKey::Metadata { version: state.version, role: state.name.clone() };
                self.look_at(&key, state.length, problems).await?;
            }
        }
        Ok(())
    }

    async fn look_at(
        &self,
        key: &BlobKey,
        length: u64,
        problems: &mut Problems,
    ) -> Result<(), Error> {
        match self.store.open(key).await {
            Err(blob::Error::NotFound(_)) => problems.add(format!("{key} is missing")),
            Ok(blob) if blob.length != length => {
                let found = blob.length;
                problems
                    .add(format!("{key} is {found} bytes long, and was recorded with {length}"));
            }
            opened => drop(opened?),
        }
        Ok(())
    }

    async fn strays(
        &self,
        files: &[(String, Option<BlobKey>)],
        images: &HashSet<String>,
    ) -> Result<Problems, Error> {
        let pending = self.catalog.pending_blobs().await?;
        let mut problems = Problems::default();
        for (name, key) in files {
            let Some(key @ BlobKey::Target { path, .. }) = key else { continue };
            let image = path.strip_suffix(ENVELOPE_SUFFIX).unwrap_or(path);
            if !images.contains(image) && !pending.contains(&key.name()) {
                problems.add(format!("{name} belongs to no image"));
            }
        }
        Ok(problems)
    }
}

const PAGE: u32 = 500;
const MOST: usize = 20; // lines; a disk that is lost is said once
