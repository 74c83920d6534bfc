//! What is to change of a root, as arguments.

use std::fs;
use std::path::Path;

use anyhow::{Context, bail};

use crate::api::{NewRoot, NewRootRole};
use crate::model::KeyInput;
use crate::uptane::key::PublicKey;

/// How the next root differs from the published one; without any of it, it is only good for longer.
#[derive(Debug, clap::Args)]
pub(super) struct ChangeArgs {
    /// How many keys of a role have to sign; repeat for more roles
    #[arg(long, value_name = "ROLE=N")]
    threshold: Vec<String>,
    /// Give a role a public key, PEM or a key object; repeat for more
    #[arg(long, value_name = "ROLE=FILE")]
    add: Vec<String>,
    /// Take a key away from a role, by its id; repeat for more
    #[arg(long, value_name = "ROLE=KEY_ID")]
    remove: Vec<String>,
    /// Days for which the root is good; as the policy says without it
    #[arg(long, value_name = "DAYS")]
    expires_days: Option<u16>,
}

impl ChangeArgs {
    /// What is sent.
    ///
    /// # Errors
    ///
    /// If an argument or a file can't be used; a private key that was named by mistake stays here.
    pub(super) fn body(&self) -> anyhow::Result<NewRoot> {
        let mut body = NewRoot { expires_days: self.expires_days, roles: Vec::new() };
        for argument in &self.threshold {
            let (role, number) = split(argument)?;
            let number = number.parse().with_context(|| format!("{argument:?}: no number"))?;
            role_of(&mut body, role).threshold = Some(number);
        }
        for argument in &self.add {
            let (role, file) = split(argument)?;
            role_of(&mut body, role).add.push(public_key(Path::new(file))?);
        }
        for argument in &self.remove {
            let (role, id) = split(argument)?;
            role_of(&mut body, role).remove.push(id.to_owned());
        }
        Ok(body)
    }
}

fn split(argument: &str) -> anyhow::Result<(&str, &str)> {
    match argument.split_once('=') {
        Some((role, value)) if !role.is_empty() && !value.is_empty() => Ok((role, value)),
        _ => bail!("{argument:?} names no role: write it as ROLE=…, such as root=…"),
    }
}

fn role_of<'a>(body: &'a mut NewRoot, name: &str) -> &'a mut NewRootRole {
    let found = body.roles.iter().position(|role| role.name == name);
    let index = found.unwrap_or_else(|| {
        let (add, remove) = (Vec::new(), Vec::new());
        body.roles.push(NewRootRole { name: name.to_owned(), threshold: None, add, remove });
        body.roles.len() - 1
    });
    &mut body.roles[index]
}

/// Reads a public key from a file.
///
/// # Errors
///
/// If it can't be used; a private key that was named by mistake stays here.
pub(in crate::cli) fn public_key(file: &Path) -> anyhow::Result<KeyInput> {
    let text =
        fs::read_to_string(file).with_context(|| format!("failed to read {}", file.display()))?;
    PublicKey::parse(&text).with_context(|| format!("failed to use {}", file.display()))?;
    KeyInput::from_text(&text).context("a key object is a JSON object")
}
