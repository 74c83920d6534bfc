//! A line to a server that breaks, hangs or gets slow when a test says so.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// How a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Line {
    Good,
    /// Connections are closed, and new ones at once.
    Cut,
    /// Nothing comes through, and nobody is told.
    Silent,
    /// Each piece takes that long.
    Slow(Duration),
}

/// Forwards connections to a server.
pub(crate) struct FaultyLine {
    pub(crate) address: SocketAddr,
    state: Arc<watch::Sender<Line>>,
}

impl FaultyLine {
    pub(crate) async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(watch::Sender::new(Line::Good));
        let told = Arc::clone(&state);
        tokio::spawn(async move {
            loop {
                let Ok((client, _)) = listener.accept().await else { continue };
                tokio::spawn(forward(client, server, told.subscribe()));
            }
        });
        Self { address, state }
    }

    pub(crate) fn is(&self, line: Line) {
        self.state.send_replace(line);
    }
}

async fn forward(client: TcpStream, server: SocketAddr, state: watch::Receiver<Line>) {
    let mut cut = state.clone();
    let both = async {
        let Ok(server) = TcpStream::connect(server).await else { return };
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        tokio::select! {
            () = copy(from_client, to_server, state.clone()) => {}
            () = copy(from_server, to_client, state) => {}
        }
    };
    tokio::select! {
        () = both => {}
        _ = cut.wait_for(|line| *line == Line::Cut) => {}
    }
}

async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut state: watch::Receiver<Line>) {
    let mut bytes = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        let line = *state.borrow();
        match line {
            Line::Good | Line::Cut => {}
            Line::Silent => drop(state.wait_for(|line| *line != Line::Silent).await),
            Line::Slow(pause) => tokio::time::sleep(pause).await,
        }
        if to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}
