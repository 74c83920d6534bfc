//! Multipart uploads.

use aws_sdk_s3::primitives::{ByteStream, DateTime};
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use bytes::Bytes;
use std::time::Duration;

use super::fault::{Fault, Kind};
use super::objects::{Described, LARGE_ATTEMPT, LARGE_OPERATION, Objects};
use super::timeouts::{patiently, within};

/// An upload that was begun: which, and of which object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Multipart {
    pub(super) name: String,
    pub(super) id: String,
}

/// A part that the store has.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub(super) number: i32,
    pub(super) etag: String,
    pub(super) length: u64,
}

/// An upload in a list.
pub(super) struct Begun {
    pub(super) multipart: Multipart,
    pub(super) at: Option<DateTime>,
}

impl Objects {
    pub(super) async fn begin_multipart(
        &self,
        name: &str,
        described: Described,
    ) -> Result<Multipart, Fault> {
        let (sse, kms_key) = self.encrypted();
        let begin = self
            .client
            .create_multipart_upload()
            .bucket(&self.url.bucket)
            .key(self.key(name))
            .content_type(described.content_type)
            .cache_control(described.cache_control)
            .set_server_side_encryption(sse)
            .set_ssekms_key_id(kms_key);
        let begun = begin.send().await.map_err(|error| self.fault(&error))?;
        let id = begun.upload_id().filter(|id| !id.is_empty()).ok_or_else(|| {
            Fault::new(Kind::Refused, format!("{} gave a multipart upload no id", self.store))
        })?;
        Ok(Multipart { name: name.to_owned(), id: id.to_owned() })
    }

    /// Sends a part, in place of one of that number that is there.
    pub(super) async fn put_part(
        &self,
        multipart: &Multipart,
        number: i32,
        bytes: Bytes,
    ) -> Result<Part, Fault> {
        let length = bytes.len();
        let put = self
            .client
            .upload_part()
            .bucket(&self.url.bucket)
            .key(self.key(&multipart.name))
            .upload_id(&multipart.id)
            .part_number(number)
            .content_length(i64::try_from(length).unwrap_or(i64::MAX))
            .body(ByteStream::from(bytes));
        let put = put.customize().config_override(patiently(LARGE_ATTEMPT, LARGE_OPERATION));
        let answer = put.send().await.map_err(|error| self.fault(&error))?;
        self.part(number, answer.e_tag(), length as u64)
    }

    /// Has the store copy bytes of another object, `first` to `last`, to a part.
    pub(super) async fn copy_part(
        &self,
        multipart: &Multipart,
        number: i32,
        source: &str,
        (first, last): (u64, u64),
    ) -> Result<Part, Fault> {
        let copy = self
            .client
            .upload_part_copy()
            .bucket(&self.url.bucket)
            .key(self.key(&multipart.name))
            .upload_id(&multipart.id)
            .part_number(number)
            .copy_source(source)
            .copy_source_range(format!("bytes={first}-{last}"));
        let copy = copy.customize().config_override(within(COPY_ATTEMPT, COPY_OPERATION));
        let answer = copy.send().await.map_err(|error| self.fault(&error))?;
        let etag = answer.copy_part_result().and_then(|result| result.e_tag());
        self.part(number, etag, last + 1 - first)
    }

    fn part(&self, number: i32, etag: Option<&str>, length: u64) -> Result<Part, Fault> {
        let etag = etag.filter(|etag| !etag.is_empty()).ok_or_else(|| {
            Fault::new(Kind::Refused, format!("{} gave a part no ETag", self.store))
        })?;
        Ok(Part { number, etag: etag.to_owned(), length })
    }

    /// Joins parts to the object, of which they **must** be all. Whether it is there is asked, and not
    /// what the answer says: answers get lost, and some stores leave out what they should say.
    pub(super) async fn complete(
        &self,
        multipart: &Multipart,
        parts: &[Part],
    ) -> Result<(), Fault> {
        let listed = parts.iter().map(|part| {
            CompletedPart::builder().part_number(part.number).e_tag(&part.etag).build()
        });
        let listed = CompletedMultipartUpload::builder().set_parts(Some(listed.collect())).build();
        let complete = self
            .client
            .complete_multipart_upload()
            .bucket(&self.url.bucket)
            .key(self.key(&multipart.name))
            .upload_id(&multipart.id)
            .multipart_upload(listed);
        let complete =
            complete.customize().config_override(patiently(JOIN_ATTEMPT, JOIN_OPERATION));
        let answered = complete.send().await.map(drop).map_err(|error| self.fault(&error));
        let length: u64 = parts.iter().map(|part| part.length).sum();
        match self.head(&multipart.name).await {
            Ok(Some(found)) if found.length == length => Ok(()),
            Ok(found) => answered.and_then(|()| {
                let found =
                    found.map_or_else(|| "none".to_owned(), |found| found.length.to_string());
                let reason = format!("{} made {found} of {length} bytes in parts", self.store);
                Err(Fault::new(Kind::Refused, reason))
            }),
            Err(fault) => answered.and(Err(fault)),
        }
    }

    /// Ends an upload, if it is not ended, and has its parts removed.
    pub(super) async fn abort(&self, multipart: &Multipart) -> Result<(), Fault> {
        let abort = self
            .client
            .abort_multipart_upload()
            .bucket(&self.url.bucket)
            .key(self.key(&multipart.name))
            .upload_id(&multipart.id);
        match abort.send().await.map_err(|error| self.fault(&error)) {
            Err(fault) if !matches!(fault.kind, Kind::NoSuchUpload | Kind::NoSuchKey) => Err(fault),
            _ => Ok(()),
        }
    }

    /// The parts that the store has, by their numbers; none if there is no such upload.
    pub(super) async fn list_parts(
        &self,
        multipart: &Multipart,
    ) -> Result<Option<Vec<Part>>, Fault> {
        let (mut all, mut marker) = (Vec::new(), None);
        loop {
            let list = self
                .client
                .list_parts()
                .bucket(&self.url.bucket)
                .key(self.key(&multipart.name))
                .upload_id(&multipart.id)
                .set_part_number_marker(marker);
            let page = match list.send().await.map_err(|error| self.fault(&error)) {
                Err(fault) if matches!(fault.kind, Kind::NoSuchUpload | Kind::NoSuchKey) => {
                    return Ok(None);
                }
                page => page?,
            };
            for part in page.parts() {
                let (Some(number), Some(etag)) = (part.part_number(), part.e_tag()) else {
                    continue;
                };
                let length = part.size().and_then(|size| size.try_into().ok()).unwrap_or(0);
                all.push(Part { number, etag: etag.to_owned(), length });
            }
            marker = page.next_part_number_marker().map(str::to_owned);
            if page.is_truncated() != Some(true) || marker.is_none() {
                all.sort_by_key(|part| part.number);
                return Ok(Some(all));
            }
        }
    }

    /// Whether there is such an upload, that was not ended.
    pub(super) async fn is_open(&self, multipart: &Multipart) -> Result<bool, Fault> {
        let list = self
            .client
            .list_parts()
            .bucket(&self.url.bucket)
            .key(self.key(&multipart.name))
            .upload_id(&multipart.id)
            .max_parts(1);
        match list.send().await.map_err(|error| self.fault(&error)) {
            Err(fault) if matches!(fault.kind, Kind::NoSuchUpload | Kind::NoSuchKey) => Ok(false),
            listed => listed.map(|_| true),
        }
    }

    /// Uploads that were begun, and not ended, of objects whose names begin like that.
    pub(super) async fn list_multiparts(&self, begin: &str) -> Result<Vec<Begun>, Fault> {
        let (mut all, mut markers) = (Vec::new(), (None, None));
        loop {
            let list = self
                .client
                .list_multipart_uploads()
                .bucket(&self.url.bucket)
                .prefix(self.key(begin))
                .set_key_marker(markers.0)
                .set_upload_id_marker(markers.1);
            let page = list.send().await.map_err(|error| self.fault(&error))?;
            for upload in page.uploads() {
                let name = upload.key().and_then(|key| self.name(key));
                let (Some(name), Some(id)) = (name, upload.upload_id()) else { continue };
                let multipart = Multipart { name: name.to_owned(), id: id.to_owned() };
                all.push(Begun { multipart, at: upload.initiated().copied() });
            }
            let next = page.next_key_marker().filter(|marker| !marker.is_empty());
            if page.is_truncated() != Some(true) || next.is_none() {
                return Ok(all);
            }
            let id = page.next_upload_id_marker().filter(|marker| !marker.is_empty());
            markers = (next.map(str::to_owned), id.map(str::to_owned));
        }
    }
}

/// Of a few hundred megabytes that the store copies by itself.
const COPY_ATTEMPT: Duration = Duration::from_secs(180);
const COPY_OPERATION: Duration = Duration::from_secs(600);
/// Some stores look at each part.
const JOIN_ATTEMPT: Duration = Duration::from_secs(120);
const JOIN_OPERATION: Duration = Duration::from_secs(400);
