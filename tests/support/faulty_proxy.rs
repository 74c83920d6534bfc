//! What stands between a server and its object store, and spoils requests: it takes each one whole,
//! and does with it what it is told.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What happens to a request.
#[derive(Debug, Clone)]
pub(crate) enum Spoil {
    /// Nothing.
    Pass,
    /// It is answered like that, with a code or a whole document, and never gets there.
    Answer(u16, &'static str),
    /// The connection is reset before it gets there.
    Reset,
    /// It gets there, and the answer is lost.
    LoseAnswer,
    /// Of the answer come so many bytes.
    Truncate(usize),
    /// It gets there late, unless whoever asked is gone by then.
    Late(Duration),
    /// It gets there once that is true, unless whoever asked is gone by then.
    Held(watch::Receiver<bool>),
    /// It never gets there, and nobody says so.
    Hang,
}

/// What is known of a request: its method, its path with the query, its number from 0 on, and all lines
/// before its body.
pub(crate) struct Asked<'a> {
    pub(crate) method: &'a str,
    pub(crate) target: &'a str,
    pub(crate) number: usize,
    pub(crate) head: &'a str,
}

type Decide = Box<dyn FnMut(&Asked<'_>) -> Spoil + Send>;

/// Starts one before the store at `endpoint`, and returns where it is.
pub(crate) async fn faulty_proxy(
    endpoint: &str,
    decide: impl FnMut(&Asked<'_>) -> Spoil + Send + 'static,
) -> String {
    let store: SocketAddr = endpoint.strip_prefix("http://").unwrap().parse().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let decide: Arc<Mutex<Decide>> = Arc::new(Mutex::new(Box::new(decide)));
    let count = Arc::new(AtomicUsize::new(0));
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (decide, count) = (Arc::clone(&decide), Arc::clone(&count));
            tokio::spawn(async move { drop(carry(client, store, &decide, &count).await) });
        }
    });
    format!("http://{address}")
}

async fn carry(
    mut client: TcpStream,
    store: SocketAddr,
    decide: &Mutex<Decide>,
    count: &AtomicUsize,
) -> io::Result<()> {
    let Some((head, body)) = request(&mut client).await? else { return Ok(()) };
    let spoil = {
        let mut words = head.split(' ');
        let (method, target) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        let number = count.fetch_add(1, Ordering::Relaxed);
        let asked = Asked { method, target, number, head: &head };
        (*decide.lock().unwrap())(&asked)
    };
    match spoil {
        Spoil::Answer(status, code) => {
            let text = match code.starts_with('<') {
                true => code.to_owned(),
                false => format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code></Error>"),
            };
            let answer = format!(
                "HTTP/1.1 {status} Spoilt\r\nDate: {DATE}\r\nContent-Type: application/xml\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}",
                text.len()
            );
            return client.write_all(answer.as_bytes()).await;
        }
        Spoil::Reset => return client.set_zero_linger(),
        Spoil::Hang => return std::future::pending().await,
        Spoil::Late(time) => {
            unless_gone(&mut client, tokio::time::sleep(time)).await?;
        }
        Spoil::Held(ref go) => {
            let mut go = go.clone();
            let going = async { drop(go.wait_for(|go| *go).await) };
            unless_gone(&mut client, going).await?;
        }
        Spoil::Pass | Spoil::LoseAnswer | Spoil::Truncate(_) => {}
    }
    let mut there = TcpStream::connect(store).await?;
    let head = head.replacen("\r\n", "\r\nConnection: close\r\n", 1);
    there.write_all(head.as_bytes()).await?;
    there.write_all(&body).await?;
    let limit = match spoil {
        Spoil::LoseAnswer => {
            there.read_to_end(&mut Vec::new()).await?; // it was done
            return client.set_zero_linger();
        }
        Spoil::Truncate(bytes) => bytes as u64,
        _ => u64::MAX,
    };
    tokio::io::copy(&mut (&mut there).take(limit), &mut client).await?;
    client.shutdown().await
}

/// Waits for something, and fails if nobody is left to be told of it.
async fn unless_gone<T>(client: &mut TcpStream, wait: impl Future<Output = T>) -> io::Result<T> {
    tokio::select! {
        done = wait => Ok(done),
        _ = client.read_u8() => Err(io::ErrorKind::ConnectionReset.into()), // nothing more is sent
    }
}

/// Head and body of a request; none if none comes.
async fn request(client: &mut TcpStream) -> io::Result<Option<(String, Vec<u8>)>> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        if client.read_buf(&mut bytes).await? == 0 {
            return Ok(None);
        }
    };
    let mut body = bytes.split_off(end);
    let head = String::from_utf8_lossy(&bytes).into_owned();
    let field = |wanted: &str| {
        head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case(wanted).then(|| value.trim().to_owned())
        })
    };
    if field("expect").is_some() {
        client.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
    }
    let length: usize = field("content-length").map_or(0, |length| length.parse().unwrap());
    while body.len() < length {
        if client.read_buf(&mut body).await? == 0 {
            return Ok(None);
        }
    }
    let lines = head.lines().filter(|line| !line.to_ascii_lowercase().starts_with("connection:"));
    let lines: Vec<&str> =
        lines.filter(|line| !line.to_ascii_lowercase().starts_with("expect:")).collect();
    Ok(Some((lines.join("\r\n") + "\r\n", body)))
}

/// When canned answers are from.
pub(crate) const DATE: &str = "Thu, 26 Nov 2026 12:00:00 GMT";
