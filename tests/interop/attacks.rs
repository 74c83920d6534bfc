//! Hostile repositories as files, and what somebody else's client makes of them.

use super::hostile::rows::row;
use super::hostile::vehicle::{PRIMARY, SECONDARY, VIN, Vehicle};
use super::hostile::world::{Lab, LabKeys};
use super::hostile::write::write;
use super::support::json;

/// The rows that TUF alone decides. python-tuf knows nothing of Uptane's, and takes roots in which
/// one key stands twice.
const ROWS: [&str; 15] = [
    "AT-6", "AT-13", "AT-17", "AT-18", "AT-21", "AT-23", "AT-25", "AT-27", "AT-28", "AT-29",
    "AT-30", "AT-31", "AT-32", "AT-46", "AT-48",
];

/// So the hostile repositories are hostile in the way that is meant, and otherwise in order, also
/// to others.
#[test]
fn a_stock_tuf_client_accepts_and_refuses_the_same() {
    // In memory where that can be: there are tens of thousands of files.
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let (vehicle, keys) = Vehicle::generate(VIN, [PRIMARY, SECONDARY]);
    let lab = Lab::new(LabKeys::generate(), vehicle);
    for attack in ROWS.iter().flat_map(|id| row(id, &lab)) {
        write(folder.path(), &lab, &keys, &attack).unwrap();
    }
    let seen = json("tests/interop/ngclient_attacks.py", [folder.path()]);
    assert_eq!(seen["differences"], serde_json::json!([]), "{:#}", seen["differences"]);
    assert!(seen["attacks"].as_u64().unwrap() > 200, "{seen}");
}
