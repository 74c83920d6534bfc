//! A program of `scripts/` that tests talk to: its first line says what it has started, each line
//! that it reads is done when it says so, and it ends with whoever has started it.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Mutex;

/// One that runs.
pub(crate) struct ControlledScript {
    control: Mutex<(ChildStdin, BufReader<ChildStdout>)>,
    _script: Child,
}

impl ControlledScript {
    /// Starts it, and returns the words of its first line.
    pub(crate) fn start<const WORDS: usize>(name: &str) -> (Self, [String; WORDS]) {
        Self::start_in(name, &[])
    }

    /// The same in an environment with more in it.
    pub(crate) fn start_in<const WORDS: usize>(
        name: &str,
        environment: &[(&str, &str)],
    ) -> (Self, [String; WORDS]) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts").join(name);
        let mut script = Command::new(script)
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("scripts/{name} does not start: {error}"));
        let input = script.stdin.take().unwrap();
        let mut output = BufReader::new(script.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let words = words.try_into();
        let words = words.unwrap_or_else(|line| panic!("scripts/{name} does not start: {line:?}"));
        (Self { control: Mutex::new((input, output)), _script: script }, words)
    }

    /// Has it do something.
    pub(crate) fn tell(&self, command: &str) {
        let mut control = self.control.lock().unwrap();
        writeln!(control.0, "{command}").unwrap();
        let mut done = String::new();
        control.1.read_line(&mut done).unwrap();
        assert_eq!(done.trim(), "done");
    }
}
