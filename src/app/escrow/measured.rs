//! Escrow keys whose use is counted, and of which it is known whether they can be used.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;

use crate::envelope::key::{Cek, Kid};
use crate::envelope::wrap::WrappedKey;
use crate::keys::{BackendError, Escrow, EscrowKeys};
use crate::telemetry::{Chain, KeyOperation, Metrics};

/// Which escrow keys can't be used at the moment.
#[derive(Debug, Default)]
pub(in crate::app) struct EscrowHealth {
    /// By key and what it could not do: a public half wraps while its token is away.
    faults: Mutex<BTreeMap<(Kid, KeyOperation), Fault>>,
}

#[derive(Debug, Clone)]
struct Fault {
    place: String,
    reason: String,
    /// When it was tried last.
    tried: Instant,
}

impl EscrowHealth {
    /// What is wrong with the keys, a line each.
    pub(in crate::app) fn faults(&self) -> Vec<String> {
        let faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        let line = |((kid, _), fault): (&(Kid, KeyOperation), &Fault)| {
            format!("the escrow key {kid} ({}) can't be used: {}", fault.place, fault.reason)
        };
        faults.iter().map(line).collect()
    }

    /// The keys that failed and were not tried for a while.
    pub(super) fn untried(&self) -> Vec<Kid> {
        let faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = |fault: &Fault| fault.tried.elapsed() >= TRY_INTERVAL;
        faults.iter().filter(|(_, fault)| is_due(fault)).map(|((kid, _), _)| kid.clone()).collect()
    }

    fn note<T>(
        &self,
        key: &dyn Escrow,
        operation: KeyOperation,
        outcome: &Result<T, BackendError>,
    ) {
        let name = (key.kid().clone(), operation);
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        match outcome {
            Ok(_) => {
                if faults.remove(&name).is_some() {
                    tracing::info!(key = key.place(), "an escrow key can be used again");
                }
            }
            Err(error) => {
                let reason = Chain(error.as_ref()).to_string();
                let (place, tried) = (key.place(), Instant::now());
                faults.insert(name, Fault { place, reason, tried });
            }
        }
    }
}

/// An escrow key whose use is counted.
#[derive(Debug)]
struct Measured {
    key: Arc<dyn Escrow>,
    metrics: Arc<Metrics>,
    health: Arc<EscrowHealth>,
}

/// Has the use of a ring's keys counted.
pub(in crate::app) fn measured(
    keys: EscrowKeys,
    metrics: &Arc<Metrics>,
    health: &Arc<EscrowHealth>,
) -> EscrowKeys {
    let measured = |key| -> Arc<dyn Escrow> {
        let (metrics, health) = (Arc::clone(metrics), Arc::clone(health));
        Arc::new(Measured { key, metrics, health })
    };
    EscrowKeys {
        wrapping: measured(keys.wrapping),
        former: keys.former.into_iter().map(measured).collect(),
    }
}

impl Measured {
    fn note<T>(
        &self,
        operation: KeyOperation,
        started: Instant,
        outcome: Result<T, BackendError>,
    ) -> Result<T, BackendError> {
        self.metrics.keys().add(operation, started.elapsed());
        if outcome.is_err() {
            self.metrics.keys().add_failure(operation);
        }
        self.health.note(self.key.as_ref(), operation, &outcome);
        outcome
    }
}

#[async_trait]
impl Escrow for Measured {
    fn place(&self) -> String {
        self.key.place()
    }

    fn kid(&self) -> &Kid {
        self.key.kid()
    }

    async fn wrap_key(&self, cek: &Cek) -> Result<WrappedKey, BackendError> {
        let started = Instant::now();
        self.note(KeyOperation::Wrap, started, self.key.wrap_key(cek).await)
    }

    async fn unwrap_key(&self, escrowed: &WrappedKey) -> Result<Option<Cek>, BackendError> {
        let started = Instant::now();
        self.note(KeyOperation::Unwrap, started, self.key.unwrap_key(escrowed).await)
    }
}

/// A key that failed is tried again when somebody asks for readiness, and not more often: an HSM
/// that comes back has enough to do.
const TRY_INTERVAL: Duration = Duration::from_secs(5);
