//! Servers that send too much, too little or too slowly, and ways in that there are not.

use std::process::Command;

use super::rig::{Rig, play_row_together};
use super::vehicle::lab;
use crate::hostile::attack::Behaviour;
use crate::hostile::rows;
use crate::support::vehicle_binary;

#[test]
fn at_05_slow_retrieval() {
    play_row_together("AT-5", &["speed_window_seconds = 2", "stall_timeout_seconds = 2"]);
}

#[test]
fn at_16_endless_data() {
    let attacks = rows::row("AT-16", lab());
    let mut faults = Vec::new();
    for attack in &attacks {
        let mut rig = Rig::new();
        let mut most = 0;
        for (number, step) in (1..).zip(&attack.steps) {
            if let Err(fault) = rig.try_expect(step) {
                faults.push(format!("{}, step {number}: {fault}", attack.id()));
                break;
            }
            most = step
                .serve
                .iter()
                .map(|(path, _)| rig.server.sent(path))
                .max()
                .unwrap_or(0)
                .max(most);
        }
        if most > MOST_BYTES {
            faults.push(format!("{}: {most} bytes were taken", attack.id()));
        }
        let endless = attack.steps.iter().flat_map(|step| &step.serve);
        let without_end = [Behaviour::Endless, Behaviour::EndlessHead, Behaviour::GzipBomb];
        assert!(endless.clone().all(|(_, behaviour)| without_end.contains(behaviour)));
        if endless.count() > 0 && most == 0 {
            faults.push(format!("{}: nothing was asked for", attack.id()));
        }
    }
    assert!(
        faults.is_empty(),
        "{} of {} attacks:\n{}",
        faults.len(),
        attacks.len(),
        faults.join("\n")
    );
}

/// Documented limit: PURE-2's offline bundles are not supported, so there is no way in for an old
/// one.
#[test]
fn at_50_limit_no_offline_bundles() {
    let mut texts = vec![help(&[])];
    for command in ["provision", "update", "run", "tuf"] {
        let text = help(&[command]);
        assert!(text.contains("Usage"), "{command} is a command");
        texts.push(text);
    }
    for word in ["offline", "bundle", "usb", "--from", "--file", "--import", "--repository"] {
        for text in &texts {
            assert!(!text.to_lowercase().contains(word), "{word:?} is in: {text}");
        }
    }
    // A folder in place of a server is refused, too.
    let rig = Rig::new();
    rig.vehicle.change_settings(|text| text.replace(&rig.server.url(), "file:///tmp/bundle"));
    let outcome = rig.vehicle.update();
    assert_eq!((outcome.outcome.as_str(), outcome.attack), ("failed", None));
    rig.check_installed().unwrap();
}

fn help(command: &[&str]) -> String {
    let output = Command::new(vehicle_binary()).args(command).arg("--help").output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// The largest file that a vehicle takes has 8 MiB; the rest is what the sockets of this machine
/// hold, up to some 20 MiB on loopback.
const MOST_BYTES: u64 = 48 * 1024 * 1024;
