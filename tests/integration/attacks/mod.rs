//! The attack matrix: a test for each row, named after it, against the real `motorcade-vehicle`.
//!
//! What is served comes from `tests/hostile`. Each attack is a table of steps: the vehicle must end
//! each with what the step expects, must install nothing that it refuses, must say so to the
//! Director, and must get the next honest update.

mod bundles;
mod coverage;
mod delegations;
mod director;
mod encodings;
mod freeze;
mod images;
mod rig;
mod rollback;
mod roots;
mod server;
mod service;
mod signatures;
mod stolen;
mod transport;
mod vehicle;
