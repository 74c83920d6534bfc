//! Ceremonies: a root from what is to change to what clients fetch.

mod commands;
mod files;
mod officer;
mod publish;
mod stage;

pub(crate) use commands::Desk;
pub(crate) use officer::{Officer, image_change, officer};
