//! Registration in bulk: a stream of JSON Lines or CSV, of any length, in constant memory.
//!
//! Each vehicle is registered whole or not at all, and one that is refused does not keep the others
//! out: the answer names the lines. So the same file can be sent again after a connection broke
//! off, or with the faulty lines mended.

use std::cell::Cell;
use std::io::{self, BufRead, BufReader, Read};
use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;
use tokio::sync::mpsc;

use super::Fleet;
use super::bounded::Bounded;
use super::register::{EcuInput, VehicleInput, invalid, refused_registration};
use crate::app::Error;
use crate::app::access::{Principal, check_token_still_valid};
use crate::catalog::Registration;
use crate::model::{KeyInput, NewVehicle, VehicleId};
use crate::uptane::manifest::MAX_ECUS;

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
            match format {
                BulkFormat::JsonLines => parser.read_json_lines(body, &batches),
                BulkFormat::Csv => parser.read_csv(body, &batches),
            }
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
            let mut lines = Vec::with_capacity(batch.len());
            let mut vehicles = Vec::with_capacity(batch.len());
            for Parsed { line, vehicle } in batch {
                match vehicle {
                    Ok(vehicle) => {
                        lines.push(line);
                        vehicles.push(vehicle);
                    }
                    Err(error) => report.refuse(line, &error),
                }
            }
            let now = self.clock.now();
            check_token_still_valid(&self.catalog, &by.id, now).await?; // a stream can take hours
            let outcomes = self.catalog.register_vehicles(&vehicles, &by.author(now)).await?;
            let mut registered: Vec<VehicleId> = Vec::new();
            for ((vehicle, outcome), line) in vehicles.iter().zip(outcomes).zip(lines) {
                match outcome {
                    Registration::Registered => registered.push(vehicle.vin.clone()),
                    Registration::Unchanged => report.unchanged += 1,
                    // Whatever was approved for it: a file that is sent again may have keys of long
                    // ago.
                    other => report.refuse(line, &refused_registration(&vehicle.vin, &other)),
                }
            }
            report.registered += registered.len() as u64;
            self.record_registered(&registered, by).await?;
        }
        tracing::info!(
            registered = report.registered,
            unchanged = report.unchanged,
            refused = report.refused,
            "vehicles registered in bulk"
        );
        Ok(report)
    }

    fn read_json_lines(
        &self,
        mut body: impl BufRead,
        batches: &mpsc::Sender<Vec<Parsed>>,
    ) -> Result<(), Error> {
        let mut batch = Vec::with_capacity(BATCH);
        let mut text = Vec::new();
        for line in 1.. {
            text.clear();
            let count =
                (&mut body).take(MAX_LINE).read_until(b'\n', &mut text).map_err(broken_off)?;
            if count == 0 {
                break;
            }
            if count as u64 == MAX_LINE {
                return Err(invalid(format!(
                    "line {line} has more than {MAX_LINE} bytes: send one vehicle a line"
                )));
            }
            if text.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            // The parser's own message could repeat what was sent, and that may be a private key.
            let vehicle = serde_json::from_slice::<VehicleInput>(&text).map_err(|error| {
                invalid(format!("this is not a vehicle: see column {}", error.column()))
            });
            batch.push(Parsed {
                line,
                vehicle: vehicle.and_then(|input| self.check_vehicle(input)),
            });
            send_full(&mut batch, batches, BATCH)?;
        }
        send_full(&mut batch, batches, 1)
    }

    fn read_csv(&self, body: impl Read, batches: &mpsc::Sender<Vec<Parsed>>) -> Result<(), Error> {
        let allowance = Cell::new(MAX_LINE);
        let mut reader = csv::ReaderBuilder::new()
            .trim(csv::Trim::All)
            .from_reader(Bounded { body, left: &allowance });
        let mut batch = Vec::with_capacity(BATCH);
        let mut vehicle: Option<(u64, VehicleInput)> = None;
        let headers = reader.headers().map_err(|error| broken_csv(error, &allowance, 1))?.clone();
        check_columns(&headers)?;
        let mut record = csv::StringRecord::new();
        loop {
            allowance.set(MAX_LINE);
            let begins = reader.position().line();
            let row = match reader.read_record(&mut record) {
                Ok(false) => break,
                Ok(true) => record.deserialize::<CsvRow>(Some(&headers)),
                Err(error) if error.is_io_error() => {
                    return Err(broken_csv(error, &allowance, begins));
                }
                Err(error) => Err(error),
            };
            let line = record.position().map_or(0, csv::Position::line);
            let row = match row
                .map_err(bad_csv)
                .and_then(|row| Ok((row.vin.clone(), row.token_sha256.clone(), row.into_ecu()?)))
            {
                Ok(row) => row,
                Err(error) => {
                    batch.push(Parsed { line, vehicle: Err(error) });
                    continue;
                }
            };
            let (vin, token_sha256, ecu) = row;
            match &mut vehicle {
                // One more than there may be is enough to refuse it.
                Some((_, known)) if known.vin == vin => {
                    if known.ecus.len() <= MAX_ECUS {
                        known.ecus.push(ecu);
                    }
                }
                known => {
                    let next = VehicleInput { vin, ecus: vec![ecu], token_sha256 };
                    if let Some((line, done)) = known.replace((line, next)) {
                        batch.push(Parsed { line, vehicle: self.check_vehicle(done) });
                    }
                }
            }
            send_full(&mut batch, batches, BATCH)?;
        }
        if let Some((line, done)) = vehicle {
            batch.push(Parsed { line, vehicle: self.check_vehicle(done) });
        }
        send_full(&mut batch, batches, 1)
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

/// One line of CSV.
#[derive(Deserialize)]
struct CsvRow {
    vin: String,
    ecu_serial: String,
    hardware_id: String,
    role: String,
    signing_key: String,
    #[serde(default)]
    encryption_key: Option<String>,
    #[serde(default)]
    token_sha256: Option<String>,
}

impl CsvRow {
    fn into_ecu(self) -> Result<EcuInput, Error> {
        let key = |text: &str| {
            KeyInput::from_text(text).ok_or_else(|| invalid("a key is neither PEM nor JSON"))
        };
        Ok(EcuInput {
            signing_key: key(&self.signing_key)?,
            encryption_key: self
                .encryption_key
                .filter(|key| !key.is_empty())
                .map(|text| key(&text))
                .transpose()?,
            ecu_serial: self.ecu_serial,
            hardware_id: self.hardware_id,
            role: self.role,
        })
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

fn send_full(
    batch: &mut Vec<Parsed>,
    batches: &mpsc::Sender<Vec<Parsed>>,
    at_least: usize,
) -> Result<(), Error> {
    if batch.len() >= at_least {
        let full = std::mem::replace(batch, Vec::with_capacity(BATCH));
        // The other end goes away when it has failed, and then it is the one that says why.
        return batches
            .blocking_send(full)
            .map_err(|_| broken_off(io::Error::other("registration has failed")));
    }
    Ok(())
}

fn broken_off(_: io::Error) -> Error {
    Error::ClientGone
}

fn bad_csv(error: csv::Error) -> Error {
    if error.is_io_error() {
        return Error::ClientGone;
    }
    invalid("this line does not have the columns that the first line names")
}

/// The body ended, or a row doesn't.
fn broken_csv(error: csv::Error, allowance: &Cell<u64>, line: u64) -> Error {
    if error.is_io_error() && allowance.get() == 0 {
        return invalid(format!(
            "the row that begins at line {line} has more than {MAX_LINE} bytes: is a quotation mark missing?"
        ));
    }
    bad_csv(error)
}

fn check_columns(headers: &csv::StringRecord) -> Result<(), Error> {
    let missing = |column: &&&str| !headers.iter().any(|known| known == **column);
    match ["vin", "ecu_serial", "hardware_id", "role", "signing_key"].iter().find(missing) {
        Some(column) => Err(invalid(format!(
            "the first line does not name the column {column}: there are vin, ecu_serial, hardware_id, role, signing_key, \
             encryption_key and, if there is one, token_sha256"
        ))),
        None => Ok(()),
    }
}

/// Most faults that a report tells.
const MAX_FAULTS: usize = 1000;
const MAX_LINE: u64 = 256 * 1024; // 256 KiB: 64 ECUs with RSA keys
const BATCH: usize = 500;
const BATCHES_AHEAD: usize = 2;
const PIECES_AHEAD: usize = 8;
