//! Blobs that come in by parts and outlive processes: multipart uploads, and objects for what is too
//! short for a part of one.
//!
//! What is appended goes into a part once there is enough of it, and before that is the **tail**: an
//! object for each append. An append that may come once more, as others, is short and stays in the
//! tail, since nobody can look into a part.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::PARTS;
use super::fault::{Fault, Kind};
use super::ledger;
use super::multipart::{Multipart, Part};
use super::objects::{Depth, Described, Objects};
use super::staged::Staged;
use super::upload::MOST_PARTS;
use crate::blob::{Parts, PartsSecret, REPLACEABLE};

/// What [`Parts`] keeps.
#[derive(Serialize, Deserialize)]
struct State {
    name: String,
    upload: String,
    /// Parts that are all but the tail, and their bytes.
    parts: i32,
    joined: u64,
    /// Where each object of the tail begins, and its length.
    tail: Vec<(u64, u64)>,
    /// Objects of the tail that went into a part, to be removed once that is kept.
    done: Vec<u64>,
}

impl State {
    fn read(parts: &Parts) -> Result<Self, Fault> {
        let state: Option<Self> = serde_json::from_str(parts.as_str()).ok();
        // Those of a store in a folder, as after a move of blobs alone; or of whoever writes names
        // into the catalog, and must not get at anything else by them.
        state
            .filter(|state| is_name_of_parts(&state.name))
            .ok_or_else(|| Fault::new(Kind::NoSuchUpload, "these parts are of another store"))
    }

    fn text(&self) -> Result<Parts, Fault> {
        let text = serde_json::to_string(self);
        let text = text.map_err(|error| Fault::new(Kind::Refused, error.to_string()))?;
        Ok(Parts::from_text(text))
    }

    fn multipart(&self) -> Multipart {
        Multipart { name: self.name.clone(), id: self.upload.clone() }
    }

    fn tail_length(&self) -> u64 {
        self.tail.iter().map(|(_, length)| length).sum()
    }

    fn end(&self) -> u64 {
        self.joined + self.tail_length()
    }

    fn tail_name(&self, at: u64) -> String {
        format!("{}.{at}", self.name)
    }
}

/// Begins a blob, under a name that nobody else takes.
pub(super) async fn begin(
    objects: &Objects,
    name: String,
    secret: &PartsSecret,
) -> Result<Parts, Fault> {
    ledger::put_secret(objects, &name, secret).await?;
    let Multipart { name, id } = objects.begin_multipart(&name, Described::INTERNAL).await?;
    State { name, upload: id, parts: 0, joined: 0, tail: Vec::new(), done: Vec::new() }.text()
}

/// Appends, and returns what is to be kept from then on.
pub(super) async fn append(
    objects: &Objects,
    parts: &Parts,
    at: u64,
    pieces: Vec<Bytes>,
) -> Result<Parts, Fault> {
    let mut state = State::read(parts)?;
    let new = join(pieces);
    // It may have been joined, and whoever appends once more not have heard of what came of that.
    if at < state.end() && objects.head(&state.name).await?.is_some() {
        return unless_other(objects, &state, parts, (at, &new)).await;
    }
    for at in std::mem::take(&mut state.done) {
        objects.delete(&state.tail_name(at)).await?; // what is kept by now does without them
    }
    match append_to(objects, &mut state, at, new.clone()).await {
        Err(fault) if fault.kind == Kind::NoSuchUpload => {
            unless_other(objects, &state, parts, (at, &new)).await
        }
        appended => appended.and_then(|()| state.text()),
    }
}

/// Leaves a blob that was joined as it is, if it has these bytes there.
async fn unless_other(
    objects: &Objects,
    state: &State,
    parts: &Parts,
    (at, bytes): (u64, &Bytes),
) -> Result<Parts, Fault> {
    match holds(objects, &state.name, at, bytes).await? {
        true => Ok(parts.clone()),
        false => Err(Fault::new(Kind::NoSuchUpload, "its upload has ended")),
    }
}

async fn append_to(objects: &Objects, state: &mut State, at: u64, new: Bytes) -> Result<(), Fault> {
    if at > state.end() {
        return Err(Fault::new(Kind::NoSuchKey, "what comes before it is not there"));
    }
    if at < state.joined {
        return Err(Fault::new(Kind::Refused, "it is in a part, which is not written again"));
    }
    let (at, new) = cut_tail(objects, state, at, new).await?;
    let is_large = new.len() > REPLACEABLE;
    let together = state.tail_length() + if is_large { new.len() as u64 } else { 0 };
    if together < LEAST_PART {
        return put_tail(objects, state, at, new).await;
    }
    let mut part = read_tail(objects, state).await?;
    if is_large {
        part.push(new.clone());
    }
    put_part(objects, state, join(part)).await?;
    if is_large { Ok(()) } else { put_tail(objects, state, at, new).await }
}

/// Takes off the tail what is to be replaced: all from `at` on. What an object of it has before that
/// goes before the new bytes.
async fn cut_tail(
    objects: &Objects,
    state: &mut State,
    at: u64,
    new: Bytes,
) -> Result<(u64, Bytes), Fault> {
    let kept = state.tail.partition_point(|(start, length)| start + length <= at);
    let replaced = state.tail.split_off(kept);
    let Some((start, _)) = replaced.first().copied() else { return Ok((at, new)) };
    state.done.extend(replaced.iter().skip(1).map(|(start, _)| start));
    if start == at {
        return Ok((at, new));
    }
    let before = read(objects, &state.tail_name(start)).await?;
    let before = before.slice(..before.len().min((at - start) as usize));
    Ok((start, join(vec![before, new])))
}

async fn put_tail(objects: &Objects, state: &mut State, at: u64, new: Bytes) -> Result<(), Fault> {
    // An object is taken whether or not the upload is there.
    if !objects.is_open(&state.multipart()).await? {
        return Err(Fault::new(Kind::NoSuchUpload, "its upload has ended"));
    }
    let length = new.len() as u64;
    objects.put(&state.tail_name(at), new, Described::INTERNAL).await?;
    ledger::unless_abandoned(objects, &state.name, &state.tail_name(at)).await?;
    state.done.retain(|done| *done != at);
    state.tail.push((at, length));
    Ok(())
}

/// Sends the next part, which takes the tail's place.
async fn put_part(objects: &Objects, state: &mut State, bytes: Bytes) -> Result<(), Fault> {
    if state.parts >= MOST_PARTS - 1 {
        let reason = format!("a blob has at most {MOST_PARTS} parts: this one is too long");
        return Err(Fault::new(Kind::Refused, reason));
    }
    let length = bytes.len() as u64;
    objects.put_part(&state.multipart(), state.parts + 1, bytes).await?;
    state.parts += 1;
    state.joined += length;
    state.done.extend(state.tail.drain(..).map(|(at, _)| at));
    Ok(())
}

async fn read_tail(objects: &Objects, state: &State) -> Result<Vec<Bytes>, Fault> {
    let mut pieces = Vec::new();
    for (at, length) in &state.tail {
        let piece = read(objects, &state.tail_name(*at)).await?;
        if piece.len() as u64 != *length {
            return Err(Fault::new(Kind::NoSuchKey, "a piece of it has another length"));
        }
        pieces.push(piece);
    }
    Ok(pieces)
}

async fn read(objects: &Objects, name: &str) -> Result<Bytes, Fault> {
    let read = objects.read(name, super::objects::LARGE_ATTEMPT).await?;
    read.ok_or_else(|| Fault::new(Kind::NoSuchKey, "a piece of it is gone"))
}

/// Whether the joined blob has these bytes there.
async fn holds(objects: &Objects, name: &str, at: u64, bytes: &Bytes) -> Result<bool, Fault> {
    let end = at + bytes.len() as u64;
    if bytes.is_empty() || objects.head(name).await?.is_none_or(|found| found.length < end) {
        return Ok(false);
    }
    let got = objects.get(name, Some((at, end - 1)), None).await?;
    let stored = tokio::time::timeout(super::objects::LARGE_ATTEMPT, got.body.collect()).await;
    let stored = stored.ok().and_then(Result::ok).ok_or_else(|| Fault::cut(&objects.store))?;
    Ok(stored.into_bytes() == *bytes)
}

/// Bytes that are there, with those of a part that is not kept yet.
pub(super) async fn length(objects: &Objects, parts: &Parts) -> Result<Option<u64>, Fault> {
    let Ok(state) = State::read(parts) else { return Ok(None) };
    let Some(there) = objects.list_parts(&state.multipart()).await? else {
        return Ok(objects.head(&state.name).await?.map(|found| found.length));
    };
    let begin = format!("{}.", state.name);
    let mut tail: Vec<(u64, u64)> = Vec::new();
    for object in objects.list(&begin, Depth::Here).await? {
        let at = object.name.strip_prefix(&begin).and_then(|at| at.parse().ok());
        tail.extend(at.map(|at| (at, object.length)));
    }
    tail.sort_unstable();
    let joined = there.iter().map(|part| part.length).sum();
    let end = tail.into_iter().fold(
        joined,
        |end, (at, length)| {
            if at <= end { end.max(at + length) } else { end }
        },
    );
    Ok(Some(end))
}

/// Joins all to an object, which stays until the parts are abandoned.
pub(super) async fn finish(
    objects: &Arc<Objects>,
    parts: &Parts,
    length: u64,
) -> Result<Staged, Fault> {
    let state = State::read(parts)?;
    let found = objects.head(&state.name).await?;
    if found.is_none_or(|found| found.length != length) {
        join_all(objects, &state, length).await?;
    }
    Ok(Staged::lent(objects, state.name, length))
}

async fn join_all(objects: &Objects, state: &State, length: u64) -> Result<(), Fault> {
    let lost = || Fault::new(Kind::NoSuchUpload, "not all of it is there");
    if state.end() != length {
        return Err(lost());
    }
    let multipart = state.multipart();
    let there = objects.list_parts(&multipart).await?.ok_or_else(lost)?;
    let tail = join(read_tail(objects, state).await?);
    if state.parts == 0 {
        objects.put(&state.name, tail, Described::INTERNAL).await?;
        return ledger::unless_abandoned(objects, &state.name, &state.name).await;
    }
    let mut parts: Vec<Part> =
        there.into_iter().filter(|part| part.number <= state.parts).collect();
    let joined: u64 = parts.iter().map(|part| part.length).sum();
    if joined != state.joined || parts.len() != state.parts as usize {
        return Err(lost());
    }
    if !tail.is_empty() {
        parts.push(objects.put_part(&multipart, state.parts + 1, tail).await?);
    }
    objects.complete(&multipart, &parts).await
}

/// Removes all that there is of it.
pub(super) async fn abandon(objects: &Objects, parts: &Parts) -> Result<(), Fault> {
    let Ok(state) = State::read(parts) else { return Ok(()) };
    objects.delete(&ledger::secret_name(&state.name)).await?; // before what was recorded
    objects.abort(&state.multipart()).await?;
    for object in objects.list(&format!("{}.", state.name), Depth::Here).await? {
        objects.delete(&object.name).await?;
    }
    objects.delete(&state.name).await // what they were joined to
}

/// The name that all objects of it begin with.
pub(super) fn name(parts: &Parts) -> Option<String> {
    State::read(parts).ok().map(|state| state.name)
}

/// Whether it is a name as this store gives it to parts; none of them begins like another one.
fn is_name_of_parts(name: &str) -> bool {
    let own = name.strip_prefix(PARTS).and_then(|rest| rest.split_once('/'));
    own.is_some_and(|(server, random)| {
        !server.is_empty()
            && !server.contains('.')
            && random.len() == 32
            && random.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    })
}

fn join(pieces: Vec<Bytes>) -> Bytes {
    match <[Bytes; 1]>::try_from(pieces) {
        Ok([one]) => one,
        Err(pieces) => pieces.concat().into(),
    }
}

/// Every part but the last has to have so many (S3).
const LEAST_PART: u64 = 5 * 1024 * 1024; // 5 MiB
