//! Everything that can be tested in one process: a real server on a free port, real clients, a
//! temporary state directory.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod answer;
mod app;
mod attacks;
mod audit;
mod auth;
#[path = "../support/authority.rs"]
mod authority;
mod backup;
mod bins;
mod bounds;
mod ca;
mod ceremony;
mod circles;
mod client;
mod collection;
mod commands;
mod connections;
#[path = "../support/cutting_proxy.rs"]
mod cutting_proxy;
mod damage;
mod director;
mod doctor;
mod documented;
mod early_answers;
mod escrow;
mod expect;
mod export;
mod footing;
mod fsck_trust;
#[path = "../hostile/mod.rs"]
mod hostile;
mod inodes;
mod jobs;
mod layering;
mod lifecycle;
mod links;
mod log;
mod nginx;
mod observe;
mod offline_targets;
mod own_keys;
mod own_keys_by_hand;
mod own_keys_faults;
mod packaging;
mod parked;
mod paths;
mod publication;
mod publication_faults;
mod publication_restore;
mod publication_time;
mod read_only;
mod recipients;
mod removed_suppliers;
mod repo;
mod repo_ranges;
mod reseal;
mod retention;
mod roles;
mod roles_rotate;
mod rotations;
mod runbooks;
#[path = "../support/s_client.rs"]
mod s_client;
mod secrets;
mod signals;
#[path = "../support/small_disk.rs"]
mod small_disk;
mod state;
mod static_files;
mod supplier_restore;
mod suppliers;
#[path = "../support/mod.rs"]
mod support;
mod tls;
mod tls_post_quantum;
mod tls_tickets;
#[path = "../support/hsm.rs"]
mod token;
mod upload;
mod upload_bodies;
mod upload_fields;
mod upload_races;
mod uploads;
mod waiting_targets;
mod weak_keys;
mod wrong_keys;
