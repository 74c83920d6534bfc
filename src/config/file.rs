//! The configuration file. Its keys are the flags of the command, and its values are read as the
//! flags' are: what a flag takes, a file takes, and nothing else.

use std::error::Error as _;
use std::fs;
use std::path::Path;

use clap::builder::Resettable;
use clap::{Arg, ArgAction, Args, Command};
use toml::de::{DeTable, DeValue};

use super::Error;

/// Reads the settings of a file.
///
/// # Errors
///
/// [`Error::File`] if it can't be read; [`Error::Setting`] names the line and the key of what can't
/// be used.
pub(super) fn read<S: Args>(path: &Path) -> Result<S, Error> {
    let text = fs::read_to_string(path);
    let text = text.map_err(|source| Error::File { path: path.display().to_string(), source })?;
    let fault = |at: usize, fault: String| Error::Setting {
        path: path.display().to_string(),
        line: text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1,
        fault,
    };
    let table = DeTable::parse(&text).map_err(|error| {
        fault(error.span().map_or(0, |span| span.start), error.message().to_owned())
    })?;
    let command =
        S::augment_args(Command::new("file").no_binary_name(true).disable_help_flag(true));
    let command = command.mut_args(|arg: Arg| arg.env(Resettable::Reset));
    let mut words = Vec::new();
    for (key, value) in table.get_ref() {
        let name = key.get_ref().as_ref();
        let at = key.span().start;
        let own = flag(&command, name, value.get_ref())
            .map_err(|reason| fault(at, format!("{name}: {reason}")))?;
        let checked = command.clone().try_get_matches_from(&own);
        checked.map_err(|error| fault(at, format!("{name}: {}", reason(&error))))?;
        words.extend(own);
    }
    let matches = command.try_get_matches_from(words);
    let settings = matches.and_then(|matches| S::from_arg_matches(&matches));
    settings.map_err(|error| fault(0, reason(&error)))
}

/// The words that mean the same on the command line.
fn flag(command: &Command, key: &str, value: &DeValue<'_>) -> Result<Vec<String>, String> {
    let arg = command.get_arguments().find(|arg| arg.get_id() == key && key != THE_FILE_ITSELF);
    let long = arg.and_then(|arg| Some((arg, arg.get_long()?)));
    let Some((arg, long)) = long else { return Err("there is no such setting".into()) };
    if matches!(arg.get_action(), ArgAction::SetTrue) {
        return match value.as_bool() {
            Some(true) => Ok(vec![format!("--{long}")]),
            Some(false) => Ok(Vec::new()),
            None => Err("write true or false".into()),
        };
    }
    let values = match value.as_array() {
        Some(values) => values.iter().map(|value| word(value.get_ref())).collect(),
        None => word(value).map(|word| vec![word]),
    };
    let values = values.ok_or("write a text, a number, or a list of them")?;
    Ok(values.into_iter().map(|value| format!("--{long}={value}")).collect())
}

/// A value as one would type it.
fn word(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) if number.radix() == 10 => Some(number.as_str().replace('_', "")),
        DeValue::Integer(number) => {
            Some(i128::from_str_radix(number.as_str(), number.radix()).ok()?.to_string())
        }
        DeValue::Float(number) => Some(number.as_str().to_owned()),
        DeValue::Boolean(_) | DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

/// What is wrong with a value, without the flag that the user didn't type.
fn reason(error: &clap::Error) -> String {
    if let Some(reason) = error.source() {
        return reason.to_string();
    }
    let text = error.to_string();
    let text = text.split("\n\n").next().unwrap_or_default();
    let lines: Vec<&str> = text.trim_start_matches("error: ").lines().map(str::trim).collect();
    lines.join(" ")
}

const THE_FILE_ITSELF: &str = "config";
