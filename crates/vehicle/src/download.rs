//! Downloads of targets, in bounds and resumed where they were cut (Uptane 2.1.0, 5.4.3.3 and
//! 5.4.2.4).
//!
//! What has come stays in a partial file, also over a reboot. Its bytes are hashed again before
//! more are asked for, so that what is trusted in the end is what was read back. One thread fetches
//! and writes, another one hashes.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use reqwest::StatusCode;
use reqwest::header::{CONTENT_TYPE, HeaderValue};

use super::Error;
use super::files::replace;
use super::http::{Http, Request, Token};
use super::http_error::HttpError;
use super::redirect::Redirects;
use super::response::Response;
use super::stop::Stop;
use super::tries::Tries;
use motorcade_host::shown::place;
use motorcade_uptane::verify::{Hasher, Hashes, TargetFile};

/// A file to download.
pub(super) struct Wanted<'a> {
    /// Target path, for messages.
    pub(super) name: &'a str,
    pub(super) url: &'a str,
    pub(super) token: Option<&'a Token>,
    /// Length in bytes; not one more is taken.
    pub(super) length: u64,
    pub(super) hashes: &'a Hashes,
}

/// Downloads into `partial`, which is complete, verified and synced afterwards. After an error it
/// has what came until then, unless that is known to be wrong, or there is no room.
///
/// # Errors
///
/// [`HttpError::Network`], [`HttpError::Stalled`] and [`HttpError::TooSlow`] after some tries in a
/// row that brought little or nothing, [`HttpError::TooLarge`] at once, [`Error::WrongTarget`] for
/// other bytes than were signed.
pub(super) fn fetch(http: &Http, wanted: &Wanted<'_>, partial: &Path) -> Result<(), Error> {
    let fetched = fetch_parts(http, wanted, partial);
    if fetched.is_err() && fs::metadata(partial).is_ok_and(|metadata| metadata.len() == 0) {
        remove(partial); // nothing came that could be resumed
    }
    fetched
}

fn fetch_parts(http: &Http, wanted: &Wanted<'_>, partial: &Path) -> Result<(), Error> {
    let (mut tries, mut most, mut restarts) = (Tries::of_download(), 0, 0);
    let mut had_prefix = false;
    loop {
        let mut state = Partial::open(partial, wanted, http.stop())?;
        had_prefix |= state.length > 0;
        let cut = match state.length == wanted.length {
            true => None,
            false => state.fill(http, wanted).err(),
        };
        // A link that is cut loses nothing. How often it may be is bounded: a server could cut it
        // after each byte, or begin again from the start each time.
        if state.length >= most + PROGRESS {
            tries.forget();
            most = state.length;
        }
        match cut {
            Some(Error::Http(failure)) if tries.again(&failure, |time| http.sleep(time))? => {
                continue;
            }
            // What is here can't be used, and keeps others from writing.
            Some(error) if error.is_full() => {
                remove(partial);
                return Err(error);
            }
            Some(error) => return Err(error),
            None => {}
        }
        if wanted.hashes.match_hasher(state.hasher) {
            return state.file.sync_all().map_err(Error::file("sync", partial));
        }
        remove(partial);
        restarts += 1;
        // Bytes from an earlier day may be of another file, or may not have survived a power cut.
        if !std::mem::take(&mut had_prefix) || restarts > MAX_RESTARTS {
            return Err(Error::WrongTarget { name: wanted.name.to_owned() });
        }
    }
}

/// Whether a file is what was signed.
pub(super) fn is_whole(path: &Path, target: &TargetFile) -> bool {
    let Ok(mut file) = File::open(path) else { return false };
    if file.metadata().is_ok_and(|metadata| metadata.len() != target.length) {
        return false;
    }
    let mut hasher = target.hashes.hasher();
    let mut block = vec![0; BLOCK_SIZE];
    loop {
        match file.read(&mut block) {
            Ok(0) => return target.hashes.match_hasher(hasher),
            Ok(read) => hasher.update(&block[..read]),
            Err(_) => return false,
        }
    }
}

/// Forgets a download.
pub(super) fn remove(partial: &Path) {
    let _ = fs::remove_file(partial); // what is left is overwritten
    let _ = fs::remove_file(etag_path(partial));
}

struct Partial<'p> {
    path: &'p Path,
    file: File,
    length: u64,
    hasher: Hasher,
}

impl<'p> Partial<'p> {
    /// Opens what there is, and hashes it.
    fn open(path: &'p Path, wanted: &Wanted<'_>, stop: &Stop) -> Result<Self, Error> {
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let file = file.map_err(Error::file("write", path))?;
        let mut partial = Self { path, file, length: 0, hasher: wanted.hashes.hasher() };
        if partial.file.metadata().map_err(Error::file("read", path))?.len() > wanted.length {
            partial.restart(wanted)?;
        }
        let mut block = vec![0; BLOCK_SIZE];
        loop {
            let read = partial.file.read(&mut block).map_err(Error::file("read", path))?;
            if read == 0 {
                return Ok(partial);
            }
            if stop.is_asked() {
                return Err(HttpError::Stopped.into());
            }
            partial.hasher.update(&block[..read]);
            partial.length += read as u64;
        }
    }

    fn restart(&mut self, wanted: &Wanted<'_>) -> Result<(), Error> {
        let _ = fs::remove_file(etag_path(self.path)); // it may not be there
        self.file
            .set_len(0)
            .and_then(|()| self.file.seek(SeekFrom::Start(0)))
            .map_err(Error::file("write", self.path))?;
        (self.length, self.hasher) = (0, wanted.hashes.hasher());
        Ok(())
    }

    /// Fetches what is missing.
    fn fill(&mut self, http: &Http, wanted: &Wanted<'_>) -> Result<(), Error> {
        let (etag, redirects) =
            (fs::read_to_string(etag_path(self.path)).ok(), Redirects::Followed);
        let request = Request {
            token: wanted.token,
            from: self.length,
            if_range: etag.as_deref(),
            redirects,
            ..Request::default()
        };
        let mut response = http.send(wanted.url, request)?;
        if response.status().is_success() {
            response.check_identity()?;
            check_kind(&response, wanted)?;
        }
        match response.status() {
            StatusCode::PARTIAL_CONTENT if self.length > 0 && starts_at(&response, self.length) => {
            }
            StatusCode::OK => self.restart(wanted)?,
            // Not the part that was asked for, or no such part: what is here is of another file.
            StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE => {
                self.restart(wanted)?;
                return Err(cut(wanted, "it has no such part").into());
            }
            StatusCode::NOT_FOUND => return Err(Error::NotFound { name: wanted.name.to_owned() }),
            _ => return Err(response.refusal().into()),
        }
        self.keep_etag(&response)?;
        let missing = wanted.length - self.length;
        if response.content_length().is_some_and(|length| length > missing) {
            return Err(too_large(wanted));
        }
        self.receive(&mut response, wanted)
    }

    /// Keeps a strong entity tag, so that a part of another file is never asked for (RFC 9110,
    /// 13.1.5).
    fn keep_etag(&self, response: &Response<'_>) -> Result<(), Error> {
        let etag = response.headers().get("etag").and_then(|etag| etag.to_str().ok());
        match etag.filter(|etag| etag.starts_with('"')) {
            Some(etag) if self.length == 0 => replace(&etag_path(self.path), etag.as_bytes()),
            _ => Ok(()),
        }
    }

    fn receive(&mut self, response: &mut Response<'_>, wanted: &Wanted<'_>) -> Result<(), Error> {
        let (to_hash, blocks) = mpsc::sync_channel::<Vec<u8>>(BLOCKS);
        let (give_back, empty) = mpsc::channel::<Vec<u8>>();
        let mut hasher = self.hasher.clone();
        std::thread::scope(|scope| {
            let hashing = scope.spawn(move || {
                for mut block in blocks {
                    hasher.update(&block);
                    block.clear();
                    let _ = give_back.send(block); // the fetching thread may be done
                }
                hasher
            });
            let received = self.write_body(response, wanted, &to_hash, &empty);
            drop(to_hash);
            self.hasher = hashing.join().expect("hashing does not panic");
            received
        })
    }

    /// Whatever came is written, also if more does not come.
    fn write_body(
        &mut self,
        response: &mut Response<'_>,
        wanted: &Wanted<'_>,
        to_hash: &mpsc::SyncSender<Vec<u8>>,
        empty: &mpsc::Receiver<Vec<u8>>,
    ) -> Result<(), Error> {
        let mut block = Vec::with_capacity(BLOCK_SIZE);
        loop {
            let chunk = response.chunk();
            let chunk_length =
                chunk.as_ref().map_or(0, |chunk| chunk.as_ref().map_or(0, |chunk| chunk.len()));
            let is_full = block.len() + chunk_length > BLOCK_SIZE || chunk_length == 0;
            if is_full && !block.is_empty() {
                self.file.write_all(&block).map_err(Error::file("write", self.path))?;
                self.length += block.len() as u64;
                response.progress().came(wanted.name, self.length, wanted.length);
                let _ = to_hash.send(std::mem::take(&mut block)); // the hashing thread ends after this one
                block = empty.try_recv().unwrap_or_else(|_| Vec::with_capacity(BLOCK_SIZE));
            }
            match chunk? {
                Some(chunk) if self.length + (block.len() + chunk.len()) as u64 > wanted.length => {
                    return Err(too_large(wanted));
                }
                Some(chunk) => block.extend_from_slice(&chunk),
                None if self.length < wanted.length => {
                    return Err(cut(wanted, "it ended too early").into());
                }
                None => return Ok(()),
            }
        }
    }
}

/// A login page is no image, and what is here already is not thrown away for it.
fn check_kind(response: &Response<'_>, wanted: &Wanted<'_>) -> Result<(), Error> {
    let is_page =
        |kind: &HeaderValue| kind.as_bytes().to_ascii_lowercase().starts_with(b"text/html");
    let is_unexpected = response.headers().get(CONTENT_TYPE).is_some_and(is_page);
    if is_unexpected && !wanted.name.ends_with(".html") && !wanted.name.ends_with(".htm") {
        return Err(response.unexpected("with a page in the place of a file").into());
    }
    Ok(())
}

fn too_large(wanted: &Wanted<'_>) -> Error {
    HttpError::TooLarge { url: place(wanted.url), limit: wanted.length }.into()
}

fn cut(wanted: &Wanted<'_>, how: &str) -> HttpError {
    HttpError::Network { url: place(wanted.url), source: how.into() }
}

/// Whether the part that comes is the one that was asked for (RFC 9110, 14.4).
fn starts_at(response: &Response<'_>, from: u64) -> bool {
    let range = response.headers().get("content-range").and_then(|range| range.to_str().ok());
    range.is_some_and(|range| range.starts_with(&format!("bytes {from}-")))
}

fn etag_path(partial: &Path) -> PathBuf {
    let mut name = partial.as_os_str().to_owned();
    name.push(".etag");
    PathBuf::from(name)
}

const BLOCK_SIZE: usize = 1024 * 1024; // 1 MiB
const BLOCKS: usize = 2; // waiting to be hashed
const PROGRESS: u64 = 1024 * 1024; // 1 MiB: with as much, a link is of use
const MAX_RESTARTS: u32 = 2; // of a file that came whole and was not the one that was signed

#[cfg(test)]
#[path = "download_tests.rs"]
mod tests;
