//! Middleware around every route: request id, span, metrics and one log line a request.
//!
//! Only the plumbing is here; what is reported, and how loudly, is in `exchange`.

mod client_address;
mod exchange;
pub mod request_id;

use std::future::{Future, Ready, ready};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready as ready_or_pending};

use actix_web::HttpMessage;
use actix_web::dev::{Service, ServiceRequest, ServiceResponse, Transform, forward_ready};
use actix_web::error::Error;
use pin_project_lite::pin_project;
use tracing::instrument::{Instrument, Instrumented};

use crate::telemetry::{Metrics, TraceExport};
use exchange::{Exchange, Worker};

/// The middleware; **must** be the outermost, to see what the others answer.
#[derive(Clone, Debug)]
pub struct Observe {
    metrics: Arc<Metrics>,
    export: TraceExport,
}

impl Observe {
    /// Counts into `metrics`, and ties spans to the caller's trace.
    pub fn new(metrics: Arc<Metrics>, export: TraceExport) -> Self {
        Self { metrics, export }
    }
}

impl<S, B> Transform<S, ServiceRequest> for Observe
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error>,
{
    type Response = ServiceResponse<B>;
    type Error = Error;
    type Transform = ObserveService<S>;
    type InitError = ();
    type Future = Ready<Result<Self::Transform, ()>>;

    fn new_transform(&self, service: S) -> Self::Future {
        let worker = Rc::new(Worker::new(Arc::clone(&self.metrics), self.export));
        ready(Ok(ObserveService { service, worker }))
    }
}

/// The middleware at work in one worker thread.
#[derive(Debug)]
pub struct ObserveService<S> {
    service: S,
    worker: Rc<Worker>,
}

impl<S, B> Service<ServiceRequest> for ObserveService<S>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error>,
{
    type Response = ServiceResponse<B>;
    type Error = Error;
    type Future = Observed<S::Future>;

    forward_ready!(service);

    fn call(&self, request: ServiceRequest) -> Self::Future {
        let exchange = Exchange::begin(&self.worker, &request);
        request.extensions_mut().insert(exchange.request_id());
        let span = exchange.span().clone();
        let response = exchange.request_id().enter(|| span.in_scope(|| self.service.call(request)));
        Observed { response: response.instrument(span), exchange }
    }
}

pin_project! {
    /// The response to come of an observed request.
    #[derive(Debug)]
    pub struct Observed<F> {
        #[pin]
        response: Instrumented<F>,
        exchange: Exchange,
    }
}

impl<F, B> Future for Observed<F>
where
    F: Future<Output = Result<ServiceResponse<B>, Error>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let request_id = this.exchange.request_id();
        let result = ready_or_pending!(request_id.enter(|| this.response.poll(cx)));
        Poll::Ready(match result {
            Ok(response) => Ok(this.exchange.end(response)),
            Err(error) => Err(this.exchange.end_with_error(error)),
        })
    }
}

#[cfg(test)]
#[path = "observe_tests.rs"]
mod tests;
