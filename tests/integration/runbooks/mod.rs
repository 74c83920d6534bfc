//! Each page of docs/runbooks/ is carried out from its own text against a running server, and
//! clients that knew the repository before go on afterwards.

mod drill;
mod escrow;
mod fleet;
mod hsm;
mod lost;
mod roots;
mod stolen;
mod supplier;
mod versions;
