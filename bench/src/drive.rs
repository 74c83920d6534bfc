//! Vehicles that wake, ask over a TLS connection with their certificate, and sleep.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::ValueEnum;
use rustls::client::Resumption;
use rustls::{ClientConfig, HandshakeKind, RootCertStore};
use rustls_pki_types::ServerName;
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::certificates;
use crate::http::ask;
use crate::vehicles::Vehicle;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The server's TLS address
    #[arg(long)]
    address: SocketAddr,
    /// The CA's folder
    #[arg(long)]
    certificates: PathBuf,
    /// Vehicles of the fleet, each of which asks in its turn
    #[arg(long)]
    vehicles: u64,
    /// ECUs of each
    #[arg(long, default_value_t = 1)]
    ecus: u64,
    /// Vehicles that ask at one time
    #[arg(long, default_value_t = 16)]
    concurrency: u64,
    /// For so long, after every vehicle has asked once
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// What is asked for
    #[arg(long, value_enum)]
    work: Work,
    /// Over which connections
    #[arg(long, value_enum)]
    connection: Connection,
    /// Tell when the first round is over and wait for a line on stdin, so that what follows can be
    /// measured alone
    #[arg(long)]
    pause: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Work {
    /// One small file that is served from memory
    Get,
    /// A manifest, and the timestamp that is signed for the vehicle
    Poll,
    /// The timestamp, unless it is the one that the vehicle has
    Check,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Connection {
    /// A new one each time, by a full handshake
    Fresh,
    /// A new one each time, by a ticket of the one before
    Resumed,
    /// One that is kept
    Kept,
}

/// A vehicle with its certificate.
struct Driven {
    vehicle: Vehicle,
    tls: TlsConnector,
    kept: Option<TlsStream<TcpStream>>,
    /// Entity tag of the timestamp that it has.
    tag: Option<String>,
}

#[derive(Default)]
struct Results {
    times: Vec<Duration>,
    full: u64,
    resumed: u64,
    bytes: usize,
    /// Answers with a file.
    changed: u64,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let args = Arc::new(args);
    let workers = args.concurrency.min(args.vehicles);
    let mut fleets: Vec<Vec<Driven>> = (0..workers).map(|_| Vec::new()).collect();
    let (issuer, roots) = (certificates::issuer(&args.certificates)?, roots(&args)?);
    for number in 0..args.vehicles {
        let vehicle = Vehicle::new(number, args.ecus)?;
        let tls = connector(&args, certificates::vehicle(&issuer, vehicle.vin.as_str())?, &roots)?;
        let driven = Driven { vehicle, tls, kept: None, tag: None };
        fleets[usize::try_from(number % workers)?].push(driven);
    }
    let (fleets, _) = round(&args, fleets, Duration::ZERO).await?;
    if args.pause {
        println!("warm");
        std::io::stdin().read_line(&mut String::new())?;
    }
    let started = Instant::now();
    let (_fleets, mut results) = round(&args, fleets, Duration::from_secs(args.seconds)).await?;
    let seconds = started.elapsed().as_secs_f64();
    results.times.sort_unstable();
    let at = |share: f64| {
        let index = (results.times.len().saturating_sub(1) as f64 * share).round() as usize;
        results.times.get(index).map_or(0.0, |time| time.as_secs_f64() * 1e3)
    };
    let (count, full, resumed) = (results.times.len(), results.full, results.resumed);
    let changed = results.changed;
    let ms = json!({ "p50": at(0.5), "p99": at(0.99), "max": at(1.0) });
    let bytes = results.bytes as f64 / count.max(1) as f64;
    println!(
        "{}",
        json!({ "count": count, "seconds": seconds, "full": full, "resumed": resumed, "ms": ms, "bytes": bytes, "changed": changed })
    );
    Ok(())
}

/// Has every vehicle ask in its turn for so long, and at least once.
async fn round(
    args: &Arc<Args>,
    fleets: Vec<Vec<Driven>>,
    time: Duration,
) -> anyhow::Result<(Vec<Vec<Driven>>, Results)> {
    let started = Instant::now();
    let tasks: Vec<_> = fleets
        .into_iter()
        .map(|mut fleet| {
            let args = Arc::clone(args);
            tokio::spawn(async move {
                let mut results = Results::default();
                'all: loop {
                    for driven in &mut fleet {
                        driven.ask(&args, &mut results).await?;
                        if !time.is_zero() && started.elapsed() >= time {
                            break 'all;
                        }
                    }
                    if time.is_zero() {
                        break;
                    }
                }
                anyhow::Ok((fleet, results))
            })
        })
        .collect();
    let (mut fleets, mut all) = (Vec::new(), Results::default());
    for task in tasks {
        let (fleet, results) = task.await??;
        fleets.push(fleet);
        all.times.extend(results.times);
        all.full += results.full;
        all.resumed += results.resumed;
        all.bytes += results.bytes;
        all.changed += results.changed;
    }
    Ok((fleets, all))
}

impl Driven {
    async fn ask(&mut self, args: &Args, results: &mut Results) -> anyhow::Result<()> {
        let body = match args.work {
            Work::Get | Work::Check => String::new(),
            Work::Poll => self.vehicle.manifest()?,
        };
        let started = Instant::now();
        let mut stream = match self.kept.take() {
            Some(stream) => stream,
            None => self.connect(args, results).await?,
        };
        if args.work == Work::Poll {
            let head = "PUT /director/manifest HTTP/1.1\r\nHost: bench\r\n";
            let (status, _) = ask(&mut stream, head, body.as_bytes()).await?;
            ensure!(status == 204, "the manifest got {status}");
        }
        let path = match args.work {
            Work::Get => "/director/1.root.json",
            Work::Poll | Work::Check => "/director/timestamp.json",
        };
        let known = self.tag.as_ref().map(|tag| format!("If-None-Match: \"{tag}\"\r\n"));
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: bench\r\n{}",
            known.as_deref().unwrap_or_default()
        );
        let (status, file) = ask(&mut stream, &head, b"").await?;
        match (status, args.work) {
            (304, Work::Check) if known.is_some() => {}
            (200, Work::Check) => self.tag = Some(hex::encode(Sha256::digest(&file))),
            _ => ensure!(status == 200, "{path} got {status}"),
        }
        results.changed += u64::from(status == 200);
        results.bytes += body.len() + file.len();
        if args.connection == Connection::Kept {
            self.kept = Some(stream);
        }
        results.times.push(started.elapsed());
        Ok(())
    }

    async fn connect(
        &self,
        args: &Args,
        results: &mut Results,
    ) -> anyhow::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(args.address).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from("localhost")?;
        let stream = self.tls.connect(name, stream).await.context("the handshake failed")?;
        match stream.get_ref().1.handshake_kind() {
            Some(HandshakeKind::Resumed) => results.resumed += 1,
            _ => results.full += 1,
        }
        Ok(stream)
    }
}

fn roots(args: &Args) -> anyhow::Result<Arc<RootCertStore>> {
    let mut roots = RootCertStore::empty();
    roots.add(certificates::authority_certificate(&args.certificates)?)?;
    Ok(Arc::new(roots))
}

fn connector(
    args: &Args,
    (chain, key): (
        Vec<rustls_pki_types::CertificateDer<'static>>,
        rustls_pki_types::PrivateKeyDer<'static>,
    ),
    roots: &Arc<RootCertStore>,
) -> anyhow::Result<TlsConnector> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(Arc::clone(roots))
        .with_client_auth_cert(chain, key)?;
    config.resumption = match args.connection {
        Connection::Resumed => Resumption::in_memory_sessions(2),
        Connection::Fresh | Connection::Kept => Resumption::disabled(),
    };
    Ok(TlsConnector::from(Arc::new(config)))
}
