//! Copies that the store makes by itself, so that nothing is sent twice.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::types::MetadataDirective;
use futures_util::{StreamExt, TryStreamExt, stream};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::fault::{Fault, Kind};
use super::objects::{Described, Objects};
use super::timeouts::within;

impl Objects {
    /// Copies an object of `length` bytes to another name, in place of what is there.
    pub(super) async fn copy(
        self: &Arc<Self>,
        from: &str,
        to: &str,
        length: u64,
        described: Described,
    ) -> Result<(), Fault> {
        match self.copy_at_once(from, to, length, described).await {
            // AWS copies at most 5 GiB at once, and others as much as they like.
            Err(fault) if fault.kind == Kind::Refused && length > LEAST_IN_PARTS => {
                self.copy_in_parts(from, to, length, described).await?;
            }
            copied => copied?,
        }
        // There are stores that answer 200 and copy nothing.
        match self.head(to).await? {
            Some(found) if found.length == length => Ok(()),
            found => {
                let found = found.map_or(0, |found| found.length);
                let reason = format!("{} copied {found} of {length} bytes", self.store);
                Err(Fault::new(Kind::Refused, reason))
            }
        }
    }

    async fn copy_at_once(
        &self,
        from: &str,
        to: &str,
        length: u64,
        described: Described,
    ) -> Result<(), Fault> {
        let (sse, kms_key) = self.encrypted();
        let copy = self
            .client
            .copy_object()
            .bucket(&self.url.bucket)
            .key(self.key(to))
            .copy_source(self.source(from))
            .metadata_directive(MetadataDirective::Replace)
            .content_type(described.content_type)
            .cache_control(described.cache_control)
            .set_server_side_encryption(sse)
            .set_ssekms_key_id(kms_key);
        let time = LEAST_TIME + Duration::from_secs(length / SLOWEST);
        let copy = copy.customize().config_override(within(time, time * 2));
        copy.send().await.map(drop).map_err(|error| self.fault(&error))
    }

    async fn copy_in_parts(
        self: &Arc<Self>,
        from: &str,
        to: &str,
        length: u64,
        described: Described,
    ) -> Result<(), Fault> {
        let multipart = self.begin_multipart(to, described).await?;
        let source = self.source(from);
        let parts = stream::iter(ranges(length).zip(1..))
            .map(|(range, number)| self.copy_part(&multipart, number, &source, range))
            .buffered(AT_ONCE)
            .try_collect::<Vec<_>>();
        let copied = match parts.await {
            Ok(parts) => self.complete(&multipart, &parts).await,
            Err(fault) => Err(fault),
        };
        if copied.is_err()
            && let Err(fault) = self.abort(&multipart).await
        {
            tracing::warn!(blob = to, reason = fault.reason(), "failed to end a copy that failed");
        }
        copied
    }

    /// As the header has it: bucket and key, of which nothing else encodes what URLs reserve.
    fn source(&self, name: &str) -> String {
        let key = self.key(name);
        format!("{}/{}", self.url.bucket, utf8_percent_encode(&key, RESERVED))
    }
}

fn ranges(length: u64) -> impl Iterator<Item = (u64, u64)> {
    let starts = (0..length).step_by(COPIED_PART as usize);
    starts.map(move |first| (first, (first + COPIED_PART).min(length) - 1))
}

const RESERVED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');
const COPIED_PART: u64 = 512 * 1024 * 1024; // 512 MiB
const LEAST_IN_PARTS: u64 = COPIED_PART;
const AT_ONCE: usize = 4;
const LEAST_TIME: Duration = Duration::from_secs(60);
const SLOWEST: u64 = 8 * 1024 * 1024; // bytes a second

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_all_of_it_and_nothing_twice() {
        let all = |length| ranges(length).collect::<Vec<_>>();
        assert_eq!(all(1), [(0, 0)]);
        assert_eq!(all(COPIED_PART), [(0, COPIED_PART - 1)]);
        assert_eq!(all(COPIED_PART + 1), [(0, COPIED_PART - 1), (COPIED_PART, COPIED_PART)]);
    }
}
