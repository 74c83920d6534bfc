//! A line between client and server that breaks.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Forwards connections, and cuts each of the first ones after so many bytes to the server. Counts
/// what goes there.
pub(crate) async fn cutting_proxy(
    server: SocketAddr,
    cuts: Vec<usize>,
) -> (SocketAddr, Arc<AtomicUsize>) {
    let (address, sent, _) = switching_proxy(vec![server], cuts).await;
    (address, sent)
}

/// The same with each connection to the next one of several servers. Also keeps from where on each
/// request goes on with an upload.
pub(crate) async fn switching_proxy(
    servers: Vec<SocketAddr>,
    cuts: Vec<usize>,
) -> (SocketAddr, Arc<AtomicUsize>, Arc<Mutex<Vec<usize>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let sent = Arc::new(AtomicUsize::new(0));
    let offsets = Arc::new(Mutex::new(Vec::new()));
    let (counted, noted) = (Arc::clone(&sent), Arc::clone(&offsets));
    tokio::spawn(async move {
        let cuts = Arc::new(Mutex::new(cuts.into_iter()));
        for server in servers.into_iter().cycle() {
            let (client, _) = listener.accept().await.unwrap();
            let (cuts, counted, noted) =
                (Arc::clone(&cuts), Arc::clone(&counted), Arc::clone(&noted));
            tokio::spawn(async move {
                let Ok(server) = TcpStream::connect(server).await else { return };
                let (mut from_client, mut to_client) = client.into_split();
                let (mut from_server, mut to_server) = server.into_split();
                let back = tokio::spawn(async move {
                    drop(tokio::io::copy(&mut from_server, &mut to_client).await);
                });
                let (mut here, mut limit, mut bytes) = (0, None, vec![0; 64 * 1024]);
                while let Ok(count @ 1..) = from_client.read(&mut bytes).await {
                    here += count;
                    counted.fetch_add(count, Ordering::Relaxed);
                    noted.lock().unwrap().extend(offset(&bytes[..count]));
                    if to_server.write_all(&bytes[..count]).await.is_err() {
                        break;
                    }
                    // Only of a connection that brings an image.
                    if here > 100_000 && limit.is_none() {
                        limit = Some(cuts.lock().unwrap().next().unwrap_or(usize::MAX));
                    }
                    if limit.is_some_and(|limit| here >= limit) {
                        back.abort();
                        return;
                    }
                }
                drop(to_server);
                let _ = back.await;
            });
        }
    });
    (address, sent, offsets)
}

/// From where on a request goes on with an upload, if these are its first bytes.
fn offset(bytes: &[u8]) -> Option<usize> {
    let head = bytes.strip_prefix(b"PATCH ")?;
    let head = String::from_utf8_lossy(&head[..head.len().min(8192)]).to_lowercase();
    let (_, value) = head.split_once("\r\nupload-offset: ")?;
    value.split_once("\r\n")?.0.parse().ok()
}
