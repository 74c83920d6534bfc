//! Vehicles in JSON Lines or CSV: lines are numbered upwards, a vehicle has an ECU more than there
//! may be at most, and each list comes to an end.
#![no_main]

use libfuzzer_sys::fuzz_target;
use motorcade_fuzz::lines::{Line, read_csv, read_json_lines};
use motorcade_fuzz::uptane::manifest::MAX_ECUS;

fuzz_target!(|input: &[u8]| {
    let mut last = 0;
    let _ = read_json_lines(input, |line: Line| {
        assert!(line.number > last);
        last = line.number;
        Ok(())
    });
    let _ = read_csv(input, |line: Line| {
        let Ok(vehicle) = line.vehicle else { return Ok(()) };
        assert!((1..=MAX_ECUS + 1).contains(&vehicle.ecus.len()));
        for ecu in &vehicle.ecus {
            let _ = ecu.signing_key.text();
        }
        Ok(())
    });
});
