//! The command line as a process: what people and scripts type against a real server.

mod plaintext;
mod push;
mod settings;
mod talk;

use std::process::{Child, Command, Output, Stdio};

use motorcade::model::AccessRole;

use crate::app::TestServer;
use crate::support::motorcade;

impl TestServer {
    /// `motorcade` as an engineer on this server.
    pub(crate) fn motorcade(&self, words: &str) -> Command {
        self.motorcade_as(AccessRole::Engineer, words)
    }

    /// `motorcade` as somebody who has `role` on this server.
    pub(crate) fn motorcade_as(&self, role: AccessRole, words: &str) -> Command {
        let mut command = motorcade(words.split_whitespace());
        command
            .env("MOTORCADE_SERVER", self.url(""))
            .env("MOTORCADE_TOKEN", self.state.tokens.of(role));
        command
    }
}

/// Starts a command with pipes on all sides.
fn start(command: &mut Command) -> Child {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
