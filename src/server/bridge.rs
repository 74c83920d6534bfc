//! Between hyper, which speaks HTTP/1.1 (RFC 9112), and actix-web, which has the routes.
//!
//! hyper takes one request at a time from a connection: the next one is looked at once the response
//! is out. It asks for a body (`100 Continue`) when a handler first reads it.

use std::cell::Cell;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use actix_http::body::{BodySize, BoxBody, MessageBody};
use actix_http::error::PayloadError;
use actix_http::{BoxedPayloadStream, HttpMessage, Payload};
use actix_service::Service as ActixService;
use actix_web::dev::ServiceResponse;
use actix_web::http::{self, header as actix_header};
use bytes::Bytes;
use futures_util::Stream;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{CONNECTION, HeaderName, HeaderValue};
use hyper::service::Service;
use hyper::{Request, Response, StatusCode, Version};

use super::connections::Watch;
use crate::http::PeerCertificate;

/// One connection's way to the routes.
pub(super) struct Bridge<S> {
    pub(super) routes: Rc<S>,
    pub(super) watch: Arc<Watch>,
    pub(super) client: SocketAddr,
    pub(super) certificate: Option<PeerCertificate>,
}

impl<S, B> Service<Request<Incoming>> for Bridge<S>
where
    S: ActixService<actix_http::Request, Response = ServiceResponse<B>, Error = actix_web::Error>
        + 'static,
    B: MessageBody + 'static,
{
    type Response = Response<Answer>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>>>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let watch = Arc::clone(&self.watch);
        watch.begin_request();
        let is_read = Rc::new(Cell::new(request.body().is_end_stream()));
        let length = request.body().size_hint().exact();
        let request = self.to_actix(request, &is_read);
        let answering = request.map(|request| self.routes.call(request));
        Box::pin(async move {
            let mut response = match answering {
                None => bad_request(),
                Some(answering) => match answering.await {
                    Ok(response) => from_actix(response.into()),
                    Err(error) => from_actix(error.error_response().into()),
                },
            };
            if !is_read.get() {
                // The client may be sending for a long time yet, and waits for no answer meanwhile.
                watch.leave_unread(length);
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            response.body_mut().watch = Some(Ended(watch));
            Ok(response)
        })
    }
}

impl<S> Bridge<S> {
    /// `None` if a part of it means nothing to actix-web.
    fn to_actix(
        &self,
        request: Request<Incoming>,
        is_read: &Rc<Cell<bool>>,
    ) -> Option<actix_http::Request> {
        let (parts, body) = request.into_parts();
        let payload = if is_read.get() {
            Payload::None
        } else {
            let watch = Arc::clone(&self.watch);
            let body: BoxedPayloadStream =
                Box::pin(RequestBody { body, watch, is_read: Rc::clone(is_read) });
            Payload::from(body)
        };
        let mut request = actix_http::Request::with_payload(payload);
        let head = request.head_mut();
        head.method = http::Method::from_bytes(parts.method.as_str().as_bytes()).ok()?;
        let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
        head.uri = target.parse().ok()?;
        head.version = if parts.version == Version::HTTP_10 {
            http::Version::HTTP_10
        } else {
            http::Version::HTTP_11
        };
        head.peer_addr = Some(self.client);
        head.headers = actix_header::HeaderMap::with_capacity(parts.headers.len());
        for (name, value) in &parts.headers {
            let name = actix_header::HeaderName::from_bytes(name.as_str().as_bytes()).ok()?;
            let value = actix_header::HeaderValue::from_bytes(value.as_bytes()).ok()?;
            head.headers.append(name, value);
        }
        if let Some(certificate) = &self.certificate {
            request.extensions_mut().insert(certificate.clone());
        }
        Some(request)
    }
}

fn from_actix<B: MessageBody + 'static>(response: actix_http::Response<B>) -> Response<Answer> {
    let (head, body) = response.map_into_boxed_body().into_parts();
    let mut answer = Response::new(Answer { body, watch: None });
    *answer.status_mut() =
        StatusCode::from_u16(head.status().as_u16()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = answer.headers_mut();
    headers.reserve(head.headers().len() + 1);
    for (name, value) in head.headers() {
        let name = HeaderName::from_bytes(name.as_str().as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value.as_bytes())) {
            headers.append(name, value);
        }
    }
    answer
}

fn bad_request() -> Response<Answer> {
    from_actix(actix_http::Response::bad_request().set_body(()))
}

/// The body of a request, for its handler.
struct RequestBody {
    body: Incoming,
    watch: Arc<Watch>,
    is_read: Rc<Cell<bool>>,
}

impl Stream for RequestBody {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            let polled = Pin::new(&mut this.body).poll_frame(cx);
            if polled.is_pending() {
                this.watch.wait_for_body();
            }
            let frame = match ready!(polled) {
                Some(Ok(frame)) => frame,
                Some(Err(error)) => {
                    this.watch.body_came(0);
                    return Poll::Ready(Some(Err(payload_error(error))));
                }
                None => {
                    this.watch.body_came(0);
                    this.is_read.set(true);
                    return Poll::Ready(None);
                }
            };
            if let Ok(bytes) = frame.into_data() {
                this.watch.body_came(bytes.len());
                this.is_read.set(this.body.is_end_stream());
                return Poll::Ready(Some(Ok(bytes)));
            } // else it is trailers, which mean nothing here
        }
    }
}

/// Chunks that are none are the client's mistake; anything else is a connection that broke off.
fn payload_error(error: hyper::Error) -> PayloadError {
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData) {
                return PayloadError::EncodingCorrupted;
            }
            break;
        }
        cause = error.source();
    }
    PayloadError::Incomplete(None)
}

/// The body of a response.
pub(super) struct Answer {
    body: BoxBody,
    watch: Option<Ended>,
}

/// Tells when a response is out, or will never be.
struct Ended(Arc<Watch>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.end_request();
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = BodyFailed;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        if this.watch.as_ref().is_some_and(|watch| watch.0.is_client_behind(cx)) {
            return Poll::Pending; // else hyper would take more than it can send, and hold it for a slow reader
        }
        let piece = ready!(Pin::new(&mut this.body).poll_next(cx));
        Poll::Ready(piece.map(|piece| match piece {
            Ok(bytes) => Ok(Frame::data(bytes)),
            Err(error) => {
                tracing::error!(%error, "response broken off: its body can't be read");
                Err(BodyFailed)
            }
        }))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.body.size(), BodySize::None | BodySize::Sized(0))
    }

    fn size_hint(&self) -> SizeHint {
        match self.body.size() {
            BodySize::None => SizeHint::with_exact(0),
            BodySize::Sized(length) => SizeHint::with_exact(length),
            BodySize::Stream => SizeHint::default(),
        }
    }
}

/// A response that can't be finished; the log has why.
#[derive(Debug, thiserror::Error)]
#[error("the body of the response can't be read")]
pub(super) struct BodyFailed;
