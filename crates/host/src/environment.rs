//! Variables that stand for flags. An empty one is unset, a flag wins over it, and an error that
//! comes from one names it.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::{Resettable, StyledStr};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Command, Parser};
use serde_json::json;
use zeroize::Zeroizing;

/// Reads the command line of this process, or ends it with a message; as a problem (RFC 9457) to
/// whoever wants JSON.
pub fn parse<P: Parser>() -> P {
    let words: Vec<OsString> = std::env::args_os().collect();
    let is_json = words.iter().any(|word| word == "--json");
    try_parse(words).unwrap_or_else(|error| {
        if !is_json || !error.use_stderr() {
            error.exit();
        }
        let detail = error.to_string();
        let detail = detail.trim_start_matches("error: ").trim_end();
        let problem = json!({ "type": "about:blank", "title": "Bad usage", "detail": detail, "code": "bad_usage" });
        eprintln!("{problem}");
        std::process::exit(error.exit_code())
    })
}

/// Where systemd listens for a service that says when it is ready, if it runs this one as such.
pub fn notify_socket() -> Option<OsString> {
    std::env::var_os("NOTIFY_SOCKET").filter(|socket| !socket.is_empty())
}

/// What the environment says of PKCS#11, where no flag can: a PIN does not belong on a command line.
#[derive(Default)]
pub struct Pkcs11Variables {
    /// `MOTORCADE_PKCS11_MODULE`: the library that speaks to tokens.
    pub module: Option<PathBuf>,
    /// `MOTORCADE_PKCS11_PIN`: the PIN itself.
    pub pin: Option<Zeroizing<String>>,
    /// `MOTORCADE_PKCS11_PIN_FILE`: the file with the PIN, which wins.
    pub pin_file: Option<PathBuf>,
}

impl Pkcs11Variables {
    /// Reads them. A PIN that is not UTF-8 is none.
    pub fn read() -> Self {
        let find = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let pin = find("MOTORCADE_PKCS11_PIN").and_then(|pin| pin.into_string().ok());
        Self {
            module: find("MOTORCADE_PKCS11_MODULE").map(PathBuf::from),
            pin: pin.map(Zeroizing::new),
            pin_file: find("MOTORCADE_PKCS11_PIN_FILE").map(PathBuf::from),
        }
    }
}

/// Reads a command line.
///
/// # Errors
///
/// What clap finds wrong with it, and the variable that it comes from.
pub fn try_parse<P: Parser>(words: Vec<OsString>) -> Result<P, clap::Error> {
    let command = without_variables(P::command(), &|name| {
        std::env::var_os(name).is_none_or(|value| value.is_empty())
    });
    let read = |command: Command| {
        let mut matches = command.try_get_matches_from(&words)?;
        P::from_arg_matches_mut(&mut matches)
    };
    let mut error = match read(command.clone()) {
        Err(error) if error.use_stderr() => error,
        read => return read,
    };
    // A variable that makes a difference is at fault.
    let without = |name: &str| read(without_variables(command.clone(), &|other| other == name));
    let mut at_fault: Vec<(String, Result<P, clap::Error>)> = Vec::new();
    for name in variables(&command) {
        let read = without(&name);
        if !matches!(&read, Err(other) if first_words(other) == first_words(&error)) {
            at_fault.push((name, read));
        }
    }
    if let [(_, read)] = &mut at_fault[..]
        && error.kind() == ErrorKind::ArgumentConflict
        && read.is_ok()
    {
        return at_fault.remove(0).1; // what a flag excludes
    }
    hide_secrets(&mut error);
    if !at_fault.is_empty() {
        let names: Vec<&str> = at_fault.iter().map(|(name, _)| name.as_str()).collect();
        let tip =
            format!("this comes from the environment: see the variable {}", names.join(" or "));
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![StyledStr::from(tip)]));
    }
    Err(error)
}

/// What is wrong, without hints and usage, which depend on what is set.
fn first_words(error: &clap::Error) -> String {
    error.to_string().split("\n\n").next().unwrap_or_default().to_owned()
}

/// A URL that is refused because it has a password is not shown with it.
fn hide_secrets(error: &mut clap::Error) {
    if let Some(ContextValue::String(value)) = error.get(ContextKind::InvalidValue)
        && let Some((scheme, rest)) = value.split_once("://")
        && let Some((_, host)) = rest.rsplit_once('@')
    {
        let shown = format!("{scheme}://…@{host}");
        error.insert(ContextKind::InvalidValue, ContextValue::String(shown));
    }
}

/// The command line as if the variables that `is_unset` names were not there.
fn without_variables(command: Command, is_unset: &dyn Fn(&str) -> bool) -> Command {
    let reset = |arg: Arg| match arg.get_env().is_some_and(|name| is_unset(&name.to_string_lossy()))
    {
        true => arg.env(Resettable::Reset),
        false => arg,
    };
    command.mut_args(reset).mut_subcommands(|command| without_variables(command, is_unset))
}

/// Names of the variables that a command line would read.
fn variables(command: &Command) -> BTreeSet<String> {
    let own = command
        .get_arguments()
        .filter_map(|arg| Some(arg.get_env()?.to_string_lossy().into_owned()));
    own.chain(command.get_subcommands().flat_map(variables)).collect()
}
