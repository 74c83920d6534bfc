//! A server with TLS and with nothing behind it: what a vehicle's requests cost the kernel and TLS
//! alone.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncWriteExt, BufStream};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::certificates;
use crate::http::read_head;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Where to listen
    #[arg(long)]
    listen: SocketAddr,
    /// The CA's folder
    #[arg(long)]
    certificates: PathBuf,
    /// Bytes of a body, as large as a timestamp
    #[arg(long, default_value_t = 550)]
    body: usize,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(certificates::authority_certificate(&args.certificates)?)?;
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()?;
    let (chain, key) = certificates::server(&args.certificates)?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)?;
    config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()?;
    config.send_tls13_tickets = 1;
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind(args.listen).await?;
    let answer: Arc<str> = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{}",
        args.body,
        "x".repeat(args.body)
    )
    .into();
    loop {
        let (stream, _) = listener.accept().await?;
        let (acceptor, answer) = (acceptor.clone(), Arc::clone(&answer));
        tokio::spawn(async move {
            let _ = serve(acceptor, stream, &answer).await; // a client that went away
        });
    }
}

async fn serve(acceptor: TlsAcceptor, stream: TcpStream, answer: &str) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufStream::new(acceptor.accept(stream).await?);
    let mut buffer = Vec::new();
    while let Some((end, length)) = read_head(&mut stream, &mut buffer).await? {
        while buffer.len() < end + length {
            tokio::io::AsyncReadExt::read_buf(&mut stream, &mut buffer).await?;
        }
        let is_put = buffer.starts_with(b"PUT");
        buffer.drain(..end + length);
        let no_content = "HTTP/1.1 204 No Content\r\n\r\n";
        stream.write_all(if is_put { no_content } else { answer }.as_bytes()).await?;
        stream.flush().await?;
    }
    Ok(())
}
