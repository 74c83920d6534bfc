//! Writes hostile Uptane repositories, one folder for each attack: tests/hostile/README.md says
//! what is in them.
//!
//! ```sh
//! cargo run --example hostile -- DIR [--attack AT-13]
//! ```

#![allow(clippy::unwrap_used, reason = "an example that can't go on has failed")]

use std::io::Write;
use std::path::PathBuf;

#[path = "../tests/hostile/mod.rs"]
mod hostile;

use hostile::rows::ROWS;
use hostile::vehicle::{PRIMARY, SECONDARY, VIN, Vehicle};
use hostile::world::{Lab, LabKeys};
use hostile::write::write;

fn main() -> std::io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (folder, only) = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [folder] if !folder.starts_with('-') => (PathBuf::from(folder), None),
        [folder, "--attack", attack] => (PathBuf::from(folder), Some(attack.to_owned())),
        _ => {
            eprintln!("usage: hostile DIR [--attack AT-13]");
            std::process::exit(2);
        }
    };
    let (vehicle, keys) = Vehicle::generate(VIN, [PRIMARY, SECONDARY]);
    let lab = Lab::new(LabKeys::generate(), vehicle);
    let mut count = 0;
    for (row, make) in ROWS {
        let is_wanted = |id: &str| {
            only.as_ref().is_none_or(|only| id == only || id.starts_with(&format!("{only}-")))
        };
        // The row's number alone says that none of its attacks is wanted; the attacks' names are
        // known once made.
        if only.as_ref().is_some_and(|only| only != row && !only.starts_with(&format!("{row}-"))) {
            continue;
        }
        for attack in make(&lab).iter().filter(|attack| is_wanted(&attack.id())) {
            write(&folder, &lab, &keys, attack)?;
            writeln!(std::io::stdout(), "{}", attack.id())?;
            count += 1;
        }
    }
    eprintln!("{count} attacks in {}", folder.display());
    Ok(())
}
