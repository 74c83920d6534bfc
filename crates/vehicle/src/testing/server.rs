//! A web server for tests that misbehaves in the ways that a bad link or a hostile server does.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use motorcade_uptane::verify::fixture::sha256;

/// How a file is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    Well,
    /// The connection is cut after so many bytes, once.
    CutOnce(usize),
    /// The same, each time.
    CutAfter(usize),
    /// The same, and `Range` is ignored.
    WholeCutAfter(usize),
    /// Nothing comes after so many bytes.
    StallAfter(usize),
    /// The same, once.
    StallOnce(usize),
    /// It is not there, once.
    MissingOnce,
    /// Somebody else answers, once: a login page with 200.
    PortalOnce,
    /// The file says where to go instead.
    Redirect,
    /// One byte, and a pause, again and again.
    Drip,
    /// Bytes without end.
    Endless,
    /// `Range` is ignored.
    Whole,
    /// Another file than was there before: `If-Range` does not match.
    Replaced,
    /// The file is said to have this content coding.
    Coded(&'static str),
    /// Its entity tag is its digest, and who has it does not get it again.
    Tagged,
    /// Whoever has one with an entity tag is told that it is the same, whatever it is.
    Unchanged,
    /// This head and body, instead of the file.
    Says(&'static str),
    /// What is kept for it in [`Content::next`] is published just before it is served, once.
    PublishedBefore,
}

#[derive(Debug, Default)]
pub(crate) struct Content {
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    pub(crate) manners: BTreeMap<String, Manner>,
    /// Method, path and `Range` of each request.
    pub(crate) requests: Vec<(String, String, Option<String>)>,
    /// `If-None-Match` of each request.
    pub(crate) etags: Vec<Option<String>>,
    /// `Authorization` of each request.
    pub(crate) tokens: Vec<Option<String>>,
    /// Bodies of `PUT` and `POST`.
    pub(crate) bodies: Vec<Vec<u8>>,
    /// What they are answered with, if not 204.
    pub(crate) answer: Option<&'static str>,
    /// The files that are there after the next publication.
    pub(crate) next: BTreeMap<String, Vec<u8>>,
    /// How they are served then.
    pub(crate) next_manners: BTreeMap<String, Manner>,
}

pub(crate) struct Server {
    pub(crate) url: String,
    pub(crate) content: Arc<Mutex<Content>>,
}

impl Server {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let content = Arc::new(Mutex::new(Content::default()));
        let shared = Arc::clone(&content);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let content = Arc::clone(&shared);
                std::thread::spawn(move || serve(stream, &content));
            }
        });
        Self { url, content }
    }

    pub(crate) fn put(&self, path: &str, bytes: &[u8]) {
        self.content.lock().unwrap().files.insert(path.to_owned(), bytes.to_vec());
    }

    pub(crate) fn behave(&self, path: &str, manner: Manner) {
        self.content.lock().unwrap().manners.insert(path.to_owned(), manner);
    }

    pub(crate) fn requests(&self) -> Vec<(String, String, Option<String>)> {
        std::mem::take(&mut self.content.lock().unwrap().requests)
    }

    pub(crate) fn tokens(&self) -> Vec<Option<String>> {
        std::mem::take(&mut self.content.lock().unwrap().tokens)
    }

    pub(crate) fn etags(&self) -> Vec<Option<String>> {
        std::mem::take(&mut self.content.lock().unwrap().etags)
    }

    /// Answers reports with this from now on: status, fields and body.
    pub(crate) fn answer_reports(&self, answer: Option<&'static str>) {
        self.content.lock().unwrap().answer = answer;
    }

    pub(crate) fn bodies(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.content.lock().unwrap().bodies)
    }
}

/// One request a connection.
fn serve(mut stream: TcpStream, content: &Mutex<Content>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut line = String::new();
    reader.read_line(&mut line).unwrap_or_default();
    let mut words = line.split_whitespace().map(str::to_owned);
    let (Some(method), Some(path)) = (words.next(), words.next()) else { return };
    let (mut range, mut if_range, mut token, mut length) = (None, None, None, 0);
    let mut if_none_match = None;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).unwrap_or_default();
        let Some((name, value)) = header.trim().split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "range" => range = Some(value.to_owned()),
            "if-none-match" => if_none_match = Some(value.to_owned()),
            "if-range" => if_range = Some(value.to_owned()),
            "authorization" => token = Some(value.to_owned()),
            "content-length" => length = value.parse().unwrap(),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let (file, manner) = {
        let mut content = content.lock().unwrap();
        content.requests.push((method.clone(), path.clone(), range.clone()));
        content.tokens.push(token);
        content.etags.push(if_none_match.clone());
        let manner = content.manners.get(&path).copied().unwrap_or(Manner::Well);
        if manner == Manner::PublishedBefore {
            content.manners.remove(&path);
            content.files = std::mem::take(&mut content.next);
            let manners = std::mem::take(&mut content.next_manners);
            content.manners.extend(manners);
        }
        if method != "GET" && manner != Manner::Redirect {
            content.bodies.push(body);
            let answer = content.answer.unwrap_or("204 No Content\r\nconnection: close\r\n\r\n");
            let _ = write!(stream, "HTTP/1.1 {answer}");
            return;
        }
        if matches!(
            manner,
            Manner::CutOnce(_) | Manner::StallOnce(_) | Manner::PortalOnce | Manner::MissingOnce
        ) {
            content.manners.remove(&path);
        }
        (content.files.get(&path).filter(|_| manner != Manner::MissingOnce).cloned(), manner)
    };
    let Some(file) = file else {
        let _ = stream
            .write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        return;
    };
    let is_same = match manner {
        Manner::Unchanged => if_none_match.is_some(),
        Manner::Tagged => if_none_match == Some(format!("\"{}\"", sha256(&file))),
        _ => false,
    };
    if is_same {
        let _ = stream.write_all(b"HTTP/1.1 304 Not Modified\r\nconnection: close\r\n\r\n");
        return;
    }
    let _ = answer(&mut stream, &file, manner, range, if_range);
}

fn answer(
    stream: &mut TcpStream,
    file: &[u8],
    manner: Manner,
    range: Option<String>,
    if_range: Option<String>,
) -> std::io::Result<()> {
    let etag = if manner == Manner::Replaced { "\"two\"" } else { "\"one\"" };
    let from = range
        .and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
    let from = from.filter(|_| {
        !matches!(manner, Manner::Whole | Manner::WholeCutAfter(_))
            && if_range.is_none_or(|known| known == etag)
    });
    let body = &file[from.unwrap_or(0).min(file.len())..];
    let head = match from {
        Some(from) => format!(
            "206 Partial Content\r\ncontent-range: bytes {from}-{}/{}",
            file.len() - 1,
            file.len()
        ),
        None => "200 OK".to_owned(),
    };
    match manner {
        Manner::Redirect => {
            let to = String::from_utf8_lossy(file);
            return write!(
                stream,
                "HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            );
        }
        Manner::PortalOnce => return write!(stream, "HTTP/1.1 {PORTAL}"),
        Manner::Says(answer) => return write!(stream, "HTTP/1.1 {answer}"),
        Manner::Endless => write!(stream, "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n")?,
        Manner::Coded(coding) => write!(
            stream,
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\ncontent-encoding: {coding}\r\nconnection: close\r\n\r\n",
            body.len()
        )?,
        _ => write!(
            stream,
            "HTTP/1.1 {head}\r\ncontent-length: {}\r\netag: {etag}\r\nconnection: close\r\n\r\n",
            body.len()
        )?,
    }
    match manner {
        Manner::Well
        | Manner::Whole
        | Manner::Replaced
        | Manner::Coded(_)
        | Manner::Tagged
        | Manner::PublishedBefore
        | Manner::Unchanged => stream.write_all(body),
        Manner::CutOnce(after) | Manner::CutAfter(after) | Manner::WholeCutAfter(after) => {
            stream.write_all(&body[..after.min(body.len())])
        }
        Manner::PortalOnce | Manner::Redirect | Manner::MissingOnce | Manner::Says(_) => Ok(()), // answered above
        Manner::StallAfter(after) | Manner::StallOnce(after) => {
            stream.write_all(&body[..after.min(body.len())])?;
            let _ = stream.read(&mut [0]); // until the client gives up
            Ok(())
        }
        Manner::Drip => body.iter().try_for_each(|byte| {
            stream.write_all(&[*byte])?;
            stream.flush()?;
            std::thread::sleep(std::time::Duration::from_millis(100));
            Ok(())
        }),
        Manner::Endless => loop {
            stream.write_all(&[b'['; 8192])?;
        },
    }
}

/// What a hotel's network says to everything.
pub(crate) const PORTAL: &str = "200 OK\r\ncontent-type: text/html; charset=utf-8\r\nconnection: close\r\n\r\n<html><title>Log in</title></html>";
