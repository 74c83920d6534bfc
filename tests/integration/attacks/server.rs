//! A server of files that does to each path what an attack wants.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use motorcade::uptane::manifest::VehicleManifest;
use serde_json::Value;

use crate::hostile::attack::{Behaviour, Step};

/// Serves one [`Step`] at a time, and keeps what the vehicle says.
pub(crate) struct FileServer {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    stopped: AtomicBool,
}

#[derive(Default)]
struct State {
    files: BTreeMap<String, Arc<Vec<u8>>>,
    behaviours: BTreeMap<String, Behaviour>,
    manifests: Vec<Manifest>,
    /// Why one of them is none.
    fault: Option<String>,
    requests: Vec<String>,
    sent: BTreeMap<String, u64>,
}

/// A manifest that the vehicle sent.
#[derive(Debug, Clone)]
pub(crate) struct Manifest(pub(crate) Value);

impl Manifest {
    /// Whether an ECU reports this attack.
    pub(crate) fn reports(&self, attack: &str) -> bool {
        let reports = self.0["signed"]["ecu_version_reports"].as_object();
        let mut detected = reports
            .into_iter()
            .flat_map(|reports| reports.values())
            .map(|report| &report["signed"]["attacks_detected"]);
        detected.any(|detected| {
            detected.as_str().is_some_and(|list| list.split(',').any(|each| each.trim() == attack))
        })
    }

    /// What an ECU says of itself.
    pub(crate) fn report_of(&self, serial: &str) -> &Value {
        &self.0["signed"]["ecu_version_reports"][serial]["signed"]
    }
}

impl FileServer {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let accepting = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if accepting.stopped.load(Ordering::Relaxed) {
                    return;
                }
                let shared = accepting.clone();
                std::thread::spawn(move || drop(answer(&stream, &shared)));
            }
        });
        Self { address, shared }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Serves this from now on.
    pub(crate) fn serve(&self, step: &Step) {
        let mut state = self.shared.state();
        let under = |folder: &'static str| {
            move |(name, bytes): (&String, &Arc<Vec<u8>>)| {
                (format!("/{folder}/{name}"), bytes.clone())
            }
        };
        let director = step.site.director.iter().map(under("director"));
        state.files = director.chain(step.site.repo.iter().map(under("repo"))).collect();
        state.behaviours = step.serve.iter().cloned().collect();
        state.requests.clear();
        state.sent.clear();
    }

    pub(crate) fn last_manifest(&self) -> Option<Manifest> {
        self.shared.state().manifests.last().cloned()
    }

    /// The Director could read every manifest.
    pub(crate) fn check_manifests(&self) -> Result<(), String> {
        let fault = self.shared.state().fault.clone();
        fault.map_or(Ok(()), |fault| Err(format!("the Director can't read the manifest: {fault}")))
    }

    /// Paths that were asked for since the last step began.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.shared.state().requests.clone()
    }

    /// Bytes of a path's body that were sent since the last step began.
    pub(crate) fn sent(&self, path: &str) -> u64 {
        self.shared.state().sent.get(path).copied().unwrap_or(0)
    }
}

impl Drop for FileServer {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        drop(TcpStream::connect(self.address)); // which wakes it
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request's head, and its body if it has one.
struct Request {
    method: String,
    path: String,
    /// First byte that is wanted.
    start: Option<usize>,
    body: Vec<u8>,
}

impl Request {
    fn read(stream: &TcpStream) -> std::io::Result<Self> {
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let mut words = line.split(' ').map(str::to_owned);
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let (mut length, mut start) = (0, None);
        loop {
            let mut field = String::new();
            if reader.read_line(&mut field)? == 0 || field == "\r\n" {
                break;
            }
            let field = field.to_ascii_lowercase();
            match field.split_once(':').map(|(name, value)| (name, value.trim())) {
                Some(("content-length", value)) => length = value.parse().unwrap_or(0),
                Some(("range", value)) => {
                    start = value
                        .strip_prefix("bytes=")
                        .and_then(|range| range.split('-').next()?.parse().ok());
                }
                _ => {}
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        Ok(Self { method, path, start, body })
    }
}

fn answer(stream: &TcpStream, shared: &Shared) -> std::io::Result<()> {
    stream.set_write_timeout(Some(PATIENCE))?;
    let request = Request::read(stream)?;
    let (file, behaviour) = {
        let mut state = shared.state();
        state.requests.push(request.path.clone());
        let file =
            state.files.get(&request.path).or_else(|| state.files.get(&decoded(&request.path)?));
        (file.cloned(), state.behaviours.get(&request.path).cloned())
    };
    if request.method == "PUT" {
        let manifest = serde_json::from_slice(&request.body).unwrap_or_default();
        let mut state = shared.state();
        if let Err(fault) = VehicleManifest::parse(&request.body) {
            state.fault.get_or_insert(fault.to_string());
        }
        state.manifests.push(Manifest(manifest));
        drop(state);
        return head(stream, "204 No Content", None, "");
    }
    let sender = Sender { stream, shared, path: &request.path };
    match (behaviour, file) {
        (Some(Behaviour::Missing), _) | (None, None) => head(stream, "404 Not Found", Some(0), ""),
        (Some(Behaviour::Redirect(location)), _) => {
            head(stream, "302 Found", Some(0), &format!("location: {location}\r\n"))
        }
        (Some(Behaviour::Endless), file) => sender.endless(&file.unwrap_or_default()),
        (Some(Behaviour::EndlessHead), _) => sender.endless_head(),
        (Some(Behaviour::GzipBomb), file) => sender.gzip_bomb(&file.unwrap_or_default()),
        (Some(Behaviour::Stall), file) => {
            head(stream, "200 OK", Some(file.map_or(1000, |file| file.len())), "")?;
            sender.wait()
        }
        (Some(Behaviour::Drip), file) => {
            sender.drip(&file.unwrap_or_else(|| Arc::new(vec![b' '; 1000])))
        }
        (Some(Behaviour::Cut(length)), file) => {
            let file = file.unwrap_or_default();
            head(stream, "200 OK", Some(file.len()), "")?;
            sender.send(&file[..length.min(file.len())])
        }
        (Some(Behaviour::IgnoreRange), Some(file)) => sender.whole(&file),
        (Some(Behaviour::IgnoreRange), None) => head(stream, "404 Not Found", Some(0), ""),
        (None, Some(file)) => match request.start {
            None | Some(0) => sender.whole(&file),
            Some(start) if start < file.len() => {
                let range =
                    format!("content-range: bytes {start}-{}/{}\r\n", file.len() - 1, file.len());
                head(stream, "206 Partial Content", Some(file.len() - start), &range)?;
                sender.send(&file[start..])
            }
            Some(_) => head(stream, "416 Range Not Satisfiable", Some(0), ""),
        },
    }
}

/// A path without its percent signs.
fn decoded(path: &str) -> Option<String> {
    let mut parts = path.split('%');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        bytes.push(u8::from_str_radix(part.get(..2)?, 16).ok()?);
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    String::from_utf8(bytes).ok()
}

fn head(
    mut stream: &TcpStream,
    status: &str,
    length: Option<usize>,
    fields: &str,
) -> std::io::Result<()> {
    let length = length.map(|length| format!("content-length: {length}\r\n")).unwrap_or_default();
    write!(stream, "HTTP/1.1 {status}\r\nconnection: close\r\n{length}{fields}\r\n")
}

struct Sender<'a> {
    stream: &'a TcpStream,
    shared: &'a Shared,
    path: &'a str,
}

impl Sender<'_> {
    fn send(&self, bytes: &[u8]) -> std::io::Result<()> {
        // Counted first: a vehicle can have read all, and be asked about, before a write returns.
        *self.shared.state().sent.entry(self.path.to_owned()).or_default() += bytes.len() as u64;
        let mut stream = self.stream;
        stream.write_all(bytes)
    }

    fn whole(&self, file: &[u8]) -> std::io::Result<()> {
        head(self.stream, "200 OK", Some(file.len()), "")?;
        self.send(file)
    }

    /// Without a length, until the vehicle hangs up: it ends with an error at the next write.
    fn endless(&self, file: &[u8]) -> std::io::Result<()> {
        head(self.stream, "200 OK", None, "")?;
        self.send(file)?;
        let more = vec![b' '; 64 * 1024];
        while !self.is_stopped() {
            self.send(&more)?;
        }
        Ok(())
    }

    fn endless_head(&self) -> std::io::Result<()> {
        let mut stream = self.stream;
        stream.write_all(b"HTTP/1.1 200 OK\r\n")?;
        while !self.is_stopped() {
            self.send(format!("x: {}\r\n", "x".repeat(1000)).as_bytes())?;
        }
        Ok(())
    }

    fn gzip_bomb(&self, file: &[u8]) -> std::io::Result<()> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(file)?;
        (0..12).try_for_each(|_| encoder.write_all(&[b' '; 1024 * 1024]))?;
        let coded = encoder.finish()?;
        head(self.stream, "200 OK", Some(coded.len()), "content-encoding: gzip\r\n")?;
        self.send(&coded)
    }

    fn drip(&self, file: &[u8]) -> std::io::Result<()> {
        head(self.stream, "200 OK", Some(file.len()), "")?;
        for byte in file {
            if self.is_stopped() {
                break;
            }
            self.send(&[*byte])?;
            std::thread::sleep(Duration::from_secs(1));
        }
        Ok(())
    }

    fn wait(&self) -> std::io::Result<()> {
        self.stream.set_read_timeout(Some(PATIENCE))?;
        let mut stream = self.stream;
        stream.read(&mut [0]).map(|_| ()) // returns once the vehicle hangs up
    }

    fn is_stopped(&self) -> bool {
        self.shared.stopped.load(Ordering::Relaxed)
    }
}

/// Longest that a vehicle is waited for.
const PATIENCE: Duration = Duration::from_secs(60);
