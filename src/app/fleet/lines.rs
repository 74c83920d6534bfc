//! Vehicles in JSON Lines or CSV, as anybody may write them: a list of any length, in constant
//! memory.
//!
//! Pure: bytes in, descriptions of vehicles out. A line that is wrong does not keep the others out.

use std::cell::Cell;
use std::io::{BufRead, Read};

use serde::Deserialize;

use super::bounded::Bounded;
use super::input::{EcuInput, VehicleInput};
use crate::model::KeyInput;
use crate::uptane::manifest::MAX_ECUS;

/// A vehicle of the list, or why it is none.
#[derive(Debug)]
pub struct Line {
    /// Line of the list with which it begins, from 1.
    pub number: u64,
    /// What it says.
    pub vehicle: Result<VehicleInput, String>,
}

/// Why a list could not be read to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListError {
    /// It broke off, or nobody wants more of it.
    BrokenOff,
    /// The rest can't be told apart into lines, for this reason.
    Invalid(String),
}

/// Reads a vehicle a line.
///
/// # Errors
///
/// [`ListError`], and whatever `each` returns.
pub fn read_json_lines(
    mut body: impl BufRead,
    mut each: impl FnMut(Line) -> Result<(), ListError>,
) -> Result<(), ListError> {
    let mut text = Vec::new();
    for number in 1.. {
        text.clear();
        let read = (&mut body).take(MAX_LINE).read_until(b'\n', &mut text);
        let count = read.map_err(|_| ListError::BrokenOff)?;
        if count == 0 {
            break;
        }
        if count as u64 == MAX_LINE {
            return Err(ListError::Invalid(format!(
                "line {number} has more than {MAX_LINE} bytes: send one vehicle a line"
            )));
        }
        if text.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        // The parser's own message could repeat what was sent, and that may be a private key.
        let vehicle = serde_json::from_slice::<VehicleInput>(&text)
            .map_err(|error| format!("this is not a vehicle: see column {}", error.column()));
        each(Line { number, vehicle })?;
    }
    Ok(())
}

/// Reads an ECU a line; the lines of a vehicle follow each other.
///
/// # Errors
///
/// [`ListError`], and whatever `each` returns.
pub fn read_csv(
    body: impl Read,
    mut each: impl FnMut(Line) -> Result<(), ListError>,
) -> Result<(), ListError> {
    let allowance = Cell::new(MAX_LINE);
    let mut reader = csv::ReaderBuilder::new()
        .trim(csv::Trim::All)
        .from_reader(Bounded { body, left: &allowance });
    let headers = reader.headers().map_err(|error| broken(&error, &allowance, 1))?.clone();
    check_columns(&headers)?;
    let mut open: Option<(u64, VehicleInput)> = None;
    let mut record = csv::StringRecord::new();
    loop {
        allowance.set(MAX_LINE);
        let begins = reader.position().line();
        let row = match reader.read_record(&mut record) {
            Ok(false) => break,
            Ok(true) => record.deserialize::<CsvRow>(Some(&headers)).map_err(|_| other_columns()),
            Err(error) if error.is_io_error() => return Err(broken(&error, &allowance, begins)),
            Err(_) => Err(other_columns()),
        };
        let number = record.position().map_or(0, csv::Position::line);
        match row.and_then(CsvRow::read) {
            Ok(row) => {
                if let Some(done) = join(&mut open, number, row) {
                    each(done)?;
                }
            }
            Err(rule) => each(Line { number, vehicle: Err(rule) })?,
        }
    }
    let last = open.map(|(number, vehicle)| Line { number, vehicle: Ok(vehicle) });
    last.map_or(Ok(()), each)
}

/// Adds a row to the vehicle that is open; returns that one if the row begins another.
fn join(open: &mut Option<(u64, VehicleInput)>, number: u64, row: VehicleInput) -> Option<Line> {
    match open {
        Some((_, known)) if known.vin == row.vin => {
            // One more than there may be is enough to refuse it.
            if known.ecus.len() <= MAX_ECUS {
                known.ecus.extend(row.ecus);
            }
            None
        }
        known => {
            let done = known.replace((number, row));
            done.map(|(number, vehicle)| Line { number, vehicle: Ok(vehicle) })
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
    /// The vehicle, with this ECU alone.
    fn read(self) -> Result<VehicleInput, String> {
        let key = |text: &str| {
            KeyInput::from_text(text).ok_or_else(|| "a key is neither PEM nor JSON".to_owned())
        };
        let encryption_key = self.encryption_key.filter(|key| !key.is_empty());
        let ecu = EcuInput {
            signing_key: key(&self.signing_key)?,
            encryption_key: encryption_key.map(|text| key(&text)).transpose()?,
            ecu_serial: self.ecu_serial,
            hardware_id: self.hardware_id,
            role: self.role,
        };
        Ok(VehicleInput { vin: self.vin, ecus: vec![ecu], token_sha256: self.token_sha256 })
    }
}

fn other_columns() -> String {
    "this line does not have the columns that the first line names".to_owned()
}

/// The body ended, or a row doesn't.
fn broken(error: &csv::Error, allowance: &Cell<u64>, line: u64) -> ListError {
    match (error.is_io_error(), allowance.get()) {
        (true, 0) => ListError::Invalid(format!(
            "the row that begins at line {line} has more than {MAX_LINE} bytes: is a quotation mark missing?"
        )),
        (true, _) => ListError::BrokenOff,
        (false, _) => ListError::Invalid(other_columns()),
    }
}

fn check_columns(headers: &csv::StringRecord) -> Result<(), ListError> {
    let missing = |column: &&&str| !headers.iter().any(|known| known == **column);
    match ["vin", "ecu_serial", "hardware_id", "role", "signing_key"].iter().find(missing) {
        Some(column) => Err(ListError::Invalid(format!(
            "the first line does not name the column {column}: there are vin, ecu_serial, hardware_id, role, signing_key, \
             encryption_key and, if there is one, token_sha256"
        ))),
        None => Ok(()),
    }
}

const MAX_LINE: u64 = 256 * 1024; // 256 KiB: 64 ECUs with RSA keys
