//! One connection, from its first byte to its last.

use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;

use actix_http::body::MessageBody;
use actix_server::GracefulShutdownSignal;
use actix_service::Service;
use actix_web::dev::ServiceResponse;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch::Receiver;
use tokio_rustls::TlsAcceptor;

use super::bridge::Bridge;
use super::connections::{Admitted, Connections, Kind};
use super::stream::WatchedStream;
use super::tls::{Refusals, Tls};
use crate::http::PeerCertificate;

/// What all connections of one port have in common.
#[derive(Clone)]
pub(super) struct Port {
    pub(super) connections: Arc<Connections>,
    pub(super) tls: Option<(Arc<Tls>, Arc<Refusals>)>,
    pub(super) stopping: GracefulShutdownSignal,
}

/// Serves a connection for as long as there is one.
pub(super) async fn serve<S, B>(port: Port, routes: Rc<S>, stream: TcpStream)
where
    S: Service<actix_http::Request, Response = ServiceResponse<B>, Error = actix_web::Error>
        + 'static,
    B: MessageBody + 'static,
{
    let Ok(client) = stream.peer_addr() else { return }; // it is gone already
    let kind = if port.tls.is_some() { Kind::Tls } else { Kind::Plain };
    let Some(admitted) = port.connections.admit(client.ip(), kind) else {
        port.connections.count_refused();
        return refuse(stream, kind).await;
    };
    let _ = stream.set_nodelay(true); // slower without, and no worse
    let watched = WatchedStream::new(stream, Arc::clone(admitted.watch()));
    // On the heap, since there are many: a plain connection has no room for the state of a
    // handshake.
    let serving: Pin<Box<dyn Future<Output = ()> + '_>> = match &port.tls {
        None => Box::pin(serve_http(&port, &admitted, routes, watched, client, None, None)),
        Some((tls, refusals)) => {
            Box::pin(serve_tls(&port, &admitted, routes, watched, client, tls, refusals))
        }
    };
    tokio::select! {
        () = serving => {}
        () = admitted.watch().is_over() => {}
    }
}

async fn serve_tls<S, B>(
    port: &Port,
    admitted: &Admitted,
    routes: Rc<S>,
    stream: WatchedStream,
    client: SocketAddr,
    tls: &Tls,
    refusals: &Refusals,
) where
    S: Service<actix_http::Request, Response = ServiceResponse<B>, Error = actix_web::Error>
        + 'static,
    B: MessageBody + 'static,
{
    let replaced = tls.replaced(); // before the configuration is taken, so that no replacement is missed
    let mut gone = Told { refusals, client, is_over: false };
    let accepted = tokio::select! {
        accepted = Box::pin(TlsAcceptor::from(tls.current()).accept(stream)) => Some(accepted),
        () = port.stopping.notified() => None,
    };
    gone.is_over = true;
    let Some(accepted) = accepted else { return };
    let stream = match accepted {
        Ok(stream) => stream,
        Err(error) => return refusals.add(client.ip(), &error),
    };
    if let Err(error) = tls.check_resumed(stream.get_ref().1) {
        return refusals.add(client.ip(), &io::Error::other(error));
    }
    admitted.watch().expect_first_head();
    let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let certificate = certificate.map(|certificate| PeerCertificate::new(certificate));
    Box::pin(serve_http(
        port,
        admitted,
        routes,
        Box::new(stream),
        client,
        certificate,
        Some(replaced),
    ))
    .await;
}

/// Tells of a handshake that was ended because it took too long.
struct Told<'a> {
    refusals: &'a Refusals,
    client: SocketAddr,
    is_over: bool,
}

impl Drop for Told<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            self.refusals.add(self.client.ip(), &io::Error::from(io::ErrorKind::TimedOut));
        }
    }
}

async fn serve_http<S, B, T>(
    port: &Port,
    admitted: &Admitted,
    routes: Rc<S>,
    stream: T,
    client: SocketAddr,
    certificate: Option<PeerCertificate>,
    replaced: Option<Receiver<()>>,
) where
    S: Service<actix_http::Request, Response = ServiceResponse<B>, Error = actix_web::Error>
        + 'static,
    B: MessageBody + 'static,
    T: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let bridge = Bridge { routes, watch: Arc::clone(admitted.watch()), client, certificate };
    let mut http = http1::Builder::new();
    http.half_close(true).max_buf_size(MAX_BUFFER).header_read_timeout(None);
    let mut connection = Box::pin(http.serve_connection(TokioIo::new(stream), bridge));
    let mut leaving = pin!(leave(port, replaced));
    let mut is_leaving = false;
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    port.connections.count_refused_head(&error);
                    tracing::debug!(error = &error as &dyn std::error::Error, "connection broken off");
                }
                return;
            }
            () = leaving.as_mut(), if !is_leaving => {
                if admitted.watch().is_silent() {
                    return;
                }
                is_leaving = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

/// Waits until connections are to end with the request that they are at.
async fn leave(port: &Port, replaced: Option<Receiver<()>>) {
    let replaced = async {
        let Some(mut replaced) = replaced else { return std::future::pending().await };
        if replaced.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        () = port.stopping.notified() => {}
        () = replaced => {}
    }
}

/// Says that there is no room, if that can be said without a handshake.
async fn refuse(mut stream: TcpStream, kind: Kind) {
    if kind == Kind::Plain {
        let _ = stream.write_all(NO_ROOM).await; // into an empty buffer, which takes it at once
        let _ = stream.shutdown().await;
    }
}

/// For what a client can make a connection hold, the largest head among it.
const MAX_BUFFER: usize = 64 * 1024;
const NO_ROOM: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 10\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn without_room_the_answer_is_503() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        refuse(stream, Kind::Plain).await;
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 503 ") && answer.contains("Retry-After: "),
            "{answer}"
        );
    }
}
