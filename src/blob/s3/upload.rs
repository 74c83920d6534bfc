//! A large blob on its way into the store: parts are sent while the next one is filled, each from the
//! memory that it was sealed into, and again from there if that fails.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;

use super::fault::{Fault, Kind};
use super::multipart::{Multipart, Part};
use super::objects::{Described, Objects};
use super::staged::Staged;
use crate::blob::{BlobUpload, Error, StagedBlob};

/// An upload. Nothing is in the store while it is shorter than a part.
pub(super) struct Upload {
    objects: Arc<Objects>,
    /// Under which it is staged.
    name: String,
    /// Parts that may be on their way at once, of all uploads.
    sending: Arc<Semaphore>,
    part: Vec<u8>,
    multipart: Option<Running>,
}

/// A multipart upload that was begun. Dropping it ends it.
struct Running {
    objects: Arc<Objects>,
    /// None once it is whole.
    multipart: Option<Arc<Multipart>>,
    sent: Vec<Part>,
    on_their_way: VecDeque<(mpsc::Receiver<Result<Part, Fault>>, AbortHandle)>,
    next: i32,
}

impl Upload {
    pub(super) fn new(objects: &Arc<Objects>, name: String, sending: &Arc<Semaphore>) -> Self {
        let (objects, sending) = (Arc::clone(objects), Arc::clone(sending));
        Self { objects, name, sending, part: Vec::new(), multipart: None }
    }

    /// Sends what there is of a part, once there is room for it on the way.
    fn send(&mut self) -> Result<(), Fault> {
        let running = match &mut self.multipart {
            Some(running) => running,
            none => none.insert(Running::begin(&self.objects, &self.name)?),
        };
        while running.on_their_way.len() >= AT_ONCE {
            running.await_one()?;
        }
        let sending = Arc::clone(&self.sending);
        let permit = self.objects.wait(async move { sending.acquire_owned().await })?;
        let permit = permit.map_err(|_| Fault::new(Kind::Refused, "the store was closed"))?;
        running.send(std::mem::take(&mut self.part).into(), permit)
    }

    fn failed(&self, fault: Fault) -> Error {
        fault.into_error("write", &self.name)
    }
}

impl BlobUpload for Upload {
    fn write(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        while !bytes.is_empty() {
            let size = part_size(self.multipart.as_ref().map_or(1, |running| running.next));
            if self.part.len() == size {
                self.send().map_err(|fault| self.failed(fault))?; // more has come: it is not the last
                continue;
            }
            let (now, later) = bytes.split_at(bytes.len().min(size - self.part.len()));
            if self.part.is_empty() && self.multipart.is_some() {
                self.part.reserve_exact(size);
            }
            self.part.extend_from_slice(now);
            bytes = later;
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<Box<dyn StagedBlob>, Error> {
        if self.multipart.is_none() {
            let bytes = std::mem::take(&mut self.part).into();
            return Ok(Box::new(Staged::bytes(&self.objects, bytes)));
        }
        let finished = self.send().and_then(|()| match self.multipart.take() {
            Some(running) => running.finish(),
            None => Err(Fault::new(Kind::Refused, "nothing was begun")),
        });
        let length = finished.map_err(|fault| self.failed(fault))?;
        Ok(Box::new(Staged::own(&self.objects, self.name.clone(), length)))
    }
}

impl Running {
    fn begin(objects: &Arc<Objects>, name: &str) -> Result<Self, Fault> {
        let (asked, name) = (Arc::clone(objects), name.to_owned());
        let begin = async move { asked.begin_multipart(&name, Described::INTERNAL).await };
        let multipart = objects.wait(begin)??;
        Ok(Self {
            objects: Arc::clone(objects),
            multipart: Some(Arc::new(multipart)),
            sent: Vec::new(),
            on_their_way: VecDeque::new(),
            next: 1,
        })
    }

    fn send(&mut self, bytes: Bytes, permit: OwnedSemaphorePermit) -> Result<(), Fault> {
        let number = self.next;
        let Some(multipart) = self.multipart.clone().filter(|_| number <= MOST_PARTS) else {
            let reason = format!("a blob has at most {MOST_PARTS} parts: this one is too long");
            return Err(Fault::new(Kind::Refused, reason));
        };
        self.next += 1;
        let (sender, receiver) = mpsc::sync_channel(1);
        let objects = Arc::clone(&self.objects);
        let sending = self.objects.runtime.spawn(async move {
            let sent = objects.put_part(&multipart, number, bytes).await;
            drop(permit);
            let _ = sender.send(sent); // nobody may wait any more
        });
        self.on_their_way.push_back((receiver, sending.abort_handle()));
        Ok(())
    }

    fn await_one(&mut self) -> Result<(), Fault> {
        if let Some((receiver, _)) = self.on_their_way.pop_front() {
            let sent = receiver.recv();
            self.sent.push(sent.map_err(|_| Fault::new(Kind::Refused, "a part broke off"))??);
        }
        Ok(())
    }

    /// Joins the parts, and returns how many bytes they are.
    fn finish(mut self) -> Result<u64, Fault> {
        while !self.on_their_way.is_empty() {
            self.await_one()?;
        }
        let length = self.sent.iter().map(|part| part.length).sum();
        if let Some(multipart) = self.multipart.clone() {
            let (objects, parts) = (Arc::clone(&self.objects), std::mem::take(&mut self.sent));
            self.objects.wait(async move { objects.complete(&multipart, &parts).await })??;
        }
        self.multipart = None;
        Ok(length)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.on_their_way.drain(..).for_each(|(_, sending)| sending.abort());
        let Some(multipart) = self.multipart.take() else { return };
        let objects = Arc::clone(&self.objects);
        self.objects.runtime.spawn(async move {
            // A part that is on its way may come in behind the first one.
            for pause in [Duration::ZERO, LATE] {
                tokio::time::sleep(pause).await;
                if let Err(fault) = objects.abort(&multipart).await {
                    let name = &multipart.name;
                    tracing::warn!(
                        object = name,
                        reason = fault.reason(),
                        "an upload that broke off is left for the next start"
                    );
                }
            }
        });
    }
}

/// Bytes of a part: a few thousand fit most images, and later ones are larger, since there can be
/// only ten thousand.
fn part_size(number: i32) -> usize {
    if number <= FIRST_PARTS { PART } else { LATER_PART }
}

pub(super) const PART: usize = 8 * 1024 * 1024; // 8 MiB
const FIRST_PARTS: i32 = 4000; // 31 GiB
const LATER_PART: usize = 32 * 1024 * 1024; // 32 MiB: 218 GiB at most
pub(super) const MOST_PARTS: i32 = 10_000; // of S3
const AT_ONCE: usize = 4; // and one that is filled
const LATE: Duration = Duration::from_secs(2);
