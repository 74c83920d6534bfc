//! Puts an image on an ECU (Uptane 2.1.0, 5.4.3.4 and 5.4.3.5).
//!
//! The plaintext goes straight to where it is installed and nowhere else.

use std::fs::File;
use std::io;
use std::path::Path;

use motorcade_envelope::jwe::Envelope;
use motorcade_envelope::key::RecipientPrivateKey;
use motorcade_uptane::verify::Assignment;

use super::Error;
use super::config::InstallTarget;
use super::pipeline;
use super::sink::Sink;
use super::sink::command::{CommandPatience, CommandSink};
use super::sink::device::DeviceSink;
use super::sink::file::FileSink;
use super::stop::Stop;

/// Whether an interrupted installation leaves the old image in place.
pub(super) fn is_atomic(target: &InstallTarget) -> bool {
    match target {
        InstallTarget::File(_) => true,
        InstallTarget::Device(_) | InstallTarget::Command(_) => false,
    }
}

/// Opens the envelope with the ECU's key and the image into the ECU's target.
pub(super) fn install(
    folder: &Path,
    target: &InstallTarget,
    assignment: &Assignment,
    envelope: &[u8],
    key: &RecipientPrivateKey,
    sealed: &Path,
    patience: CommandPatience,
) -> Result<(), Error> {
    let wrong = |source: Option<Box<dyn std::error::Error + Send + Sync>>| {
        let path = assignment.path.clone();
        Error::WrongImage { path, source }
    };
    let opened = Envelope::parse(envelope).and_then(|envelope| {
        envelope.check_image(&assignment.sha256)?;
        envelope.open(key)
    });
    let (data_key, algorithm) = opened.map_err(|error| wrong(Some(Box::new(error))))?;
    let signed = &assignment.custom.image.sealed;
    if algorithm != signed.alg {
        return Err(wrong(Some("the envelope names another algorithm".into())));
    }
    let file = File::open(sealed).map_err(Error::file("read", sealed))?;
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Error::file("install", sealed)(error)
        }
        _ => Error::Install { ecu: assignment.ecu.clone(), reason: error.to_string() },
    };
    // What has no way back goes on to its end; a program is asked to end by itself.
    let stop = if is_atomic(target) { patience.stop.clone() } else { Stop::never() };
    let mut sink = sink(folder, target, assignment, patience).map_err(failed)?;
    let (data_key, plaintext) = (&data_key, &signed.plaintext);
    let opened = pipeline::open_into(file, data_key, algorithm, plaintext, &mut *sink, &stop);
    opened.map_err(|failure| failure.into_error(&assignment.path, failed))?;
    sink.commit(&signed.plaintext).map_err(failed)
}

fn sink(
    folder: &Path,
    target: &InstallTarget,
    assignment: &Assignment,
    patience: CommandPatience,
) -> io::Result<Box<dyn Sink>> {
    Ok(match target {
        InstallTarget::File(path) => Box::new(FileSink::new(folder.join(path))?),
        InstallTarget::Device(path) => Box::new(DeviceSink::new(&folder.join(path))?),
        InstallTarget::Command(command) => {
            Box::new(CommandSink::new(folder, command, assignment, patience)?)
        }
    })
}

#[cfg(test)]
#[path = "install_tests.rs"]
mod tests;
