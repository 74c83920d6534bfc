//! Registration in bulk: a stream of JSON Lines or CSV, of any length, in constant memory.
//!
//! Each vehicle is registered whole or not at all, and one that is refused does not keep the others
//! out: the answer names the lines. So the same file can be sent again after a connection broke
//! off, or with the faulty lines mended.

use std::io::{self, BufReader, Read};
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::Fleet;
use super::lines::{self, Line, ListError};
use super::register::{invalid, refused_registration};
use super::revoked::refuse_revoked;
use crate::app::Error;
use crate::app::access::{Principal, check_token_still_valid};
use crate::catalog::Registration;
use crate::model::NewVehicle;

/// How the vehicles are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BulkFormat {
    /// A vehicle a line, as for a single registration.
    JsonLines,
    /// An ECU a line; the lines of a vehicle follow each other. Columns: `vin`, `ecu_serial`,
    /// `hardware_id`, `role`, `signing_key`, `encryption_key`, and `token_sha256` if there is one.
    Csv,
}

/// What came of a bulk registration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BulkReport {
    /// Vehicles that are new.
    pub registered: u64,
    /// Vehicles that were registered before, the same.
    pub unchanged: u64,
    /// Vehicles that were refused.
    pub refused: u64,
    /// Why, for the first 1000.
    pub faults: Vec<LineFault>,
}

/// Why a vehicle was not registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineFault {
    /// Line of the request's body, from 1.
    pub line: u64,
    /// Stable, for programs.
    pub code: &'static str,
    /// For people.
    pub detail: String,
}

/// Where the body's pieces go; dropping it ends the body.
pub type LineSink = mpsc::Sender<io::Result<Bytes>>;

/// What one line, or several, said.
struct Parsed {
    line: u64,
    vehicle: Result<NewVehicle, Error>,
}

impl Fleet {
    /// Starts a bulk registration. The body goes into the sink, and the report comes when the body
    /// has ended.
    pub fn register_in_bulk(
        self: &Arc<Self>,
        format: BulkFormat,
        by: Principal,
    ) -> (LineSink, impl Future<Output = Result<BulkReport, Error>> + use<>) {
        let (sink, pieces) = mpsc::channel(PIECES_AHEAD);
        let (batches, parsed) = mpsc::channel(BATCHES_AHEAD);
        let parser = Arc::clone(self);
        let reading = tokio::task::spawn_blocking(move || {
            let body = BufReader::new(Body { pieces, piece: Bytes::new() });
            let mut batch = Vec::with_capacity(BATCH);
            let mut each = |line: Line| {
                let vehicle = line.vehicle.map_err(invalid);
                let vehicle = vehicle.and_then(|input| parser.check_vehicle(input));
                batch.push(Parsed { line: line.number, vehicle });
                if batch.len() < BATCH { Ok(()) } else { send(&mut batch, &batches) }
            };
            let read = match format {
                BulkFormat::JsonLines => lines::read_json_lines(body, &mut each),
                BulkFormat::Csv => lines::read_csv(body, &mut each),
            };
            read.and_then(|()| send(&mut batch, &batches)).map_err(|error| match error {
                ListError::BrokenOff => Error::ClientGone,
                ListError::Invalid(rule) => invalid(rule),
            })
        });
        let fleet = Arc::clone(self);
        (sink, async move {
            let report = fleet.register_batches(parsed, &by).await?;
            reading.await.map_err(Error::internal("read a list of vehicles"))?.map(|()| report)
        })
    }

    async fn register_batches(
        &self,
        mut batches: mpsc::Receiver<Vec<Parsed>>,
        by: &Principal,
    ) -> Result<BulkReport, Error> {
        let mut report = BulkReport::default();
        while let Some(batch) = batches.recv().await {
            let revoked = self.catalog.list_revoked().await?;
            let mut refused: Vec<(u64, Error)> = Vec::new();
            let mut lines = Vec::with_capacity(batch.len());
            let mut vehicles = Vec::with_capacity(batch.len());
            for Parsed { line, vehicle } in batch {
                let usable = |vehicle: &NewVehicle| refuse_revoked(&vehicle.ecus, &revoked);
                match vehicle.and_then(|vehicle| usable(&vehicle).map(|()| vehicle)) {
                    Ok(vehicle) => {
                        lines.push(line);
                        vehicles.push(vehicle);
                    }
                    Err(error) => refused.push((line, error)),
                }
            }
            let now = self.clock.now();
            check_token_still_valid(&self.catalog, &by.id, now).await?; // a stream can take hours
            let outcomes = self.catalog.register_vehicles(&vehicles, &by.author(now)).await?;
            for ((vehicle, outcome), line) in vehicles.iter().zip(outcomes).zip(lines) {
                match outcome {
                    Registration::Registered => report.registered += 1,
                    Registration::Unchanged => report.unchanged += 1,
                    // Whatever was approved for it: a file that is sent again may have keys of long
                    // ago.
                    other => refused.push((line, refused_registration(&vehicle.vin, &other))),
                }
            }
            refused.sort_by_key(|(line, _)| *line);
            refused.iter().for_each(|(line, error)| report.refuse(*line, error));
        }
        tracing::info!(
            registered = report.registered,
            unchanged = report.unchanged,
            refused = report.refused,
            "vehicles registered in bulk"
        );
        Ok(report)
    }
}

impl BulkReport {
    fn refuse(&mut self, line: u64, error: &Error) {
        self.refused += 1;
        if self.faults.len() < MAX_FAULTS {
            let code = match error {
                Error::Invalid { code, .. }
                | Error::Unprocessable { code, .. }
                | Error::Conflict { code, .. } => code,
                _ => "refused",
            };
            self.faults.push(LineFault { line, code, detail: error.to_string() });
        }
    }
}

/// A body that comes in pieces, for readers that block.
struct Body {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    piece: Bytes,
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.pieces.blocking_recv() {
                Some(piece) => self.piece = piece?,
                None => return Ok(0),
            }
        }
        let taken = self.piece.split_to(buffer.len().min(self.piece.len()));
        buffer[..taken.len()].copy_from_slice(&taken);
        Ok(taken.len())
    }
}

/// The other end goes away when it has failed, and then it is the one that says why.
fn send(batch: &mut Vec<Parsed>, batches: &mpsc::Sender<Vec<Parsed>>) -> Result<(), ListError> {
    if batch.is_empty() {
        return Ok(());
    }
    let full = std::mem::replace(batch, Vec::with_capacity(BATCH));
    batches.blocking_send(full).map_err(|_| ListError::BrokenOff)
}

/// Most faults that a report tells.
const MAX_FAULTS: usize = 1000;
/// Vehicles that are registered in one transaction: it has to reach the disk, and meanwhile others
/// wait that write.
const BATCH: usize = 1000;
const BATCHES_AHEAD: usize = 2;
const PIECES_AHEAD: usize = 8;
