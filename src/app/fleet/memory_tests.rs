//! What a vehicle takes of the memory, block by block as glibc's malloc hands them out.

use std::mem::{size_of, size_of_val};

use serde_json::json;

use super::*;
use crate::model::{
    Bundle, CurrentAssignment, EcuMap, EcuRole, EcuStatus, InstalledImage, Offer, Timestamp,
    VehicleStatus, VerifiedUnder,
};

fn block(bytes: usize) -> usize {
    if bytes == 0 { 0 } else { (bytes + size_of::<usize>()).next_multiple_of(16).max(32) }
}

/// What a reference count of its own adds to what is in it.
const SHARED: usize = 2 * size_of::<usize>();

/// A name's own block, which is shared by all who have it.
fn name(text: &str) -> usize {
    block(SHARED + text.len())
}

fn map<T: Clone>(map: &EcuMap<T>, of_value: impl Fn(&T) -> usize) -> usize {
    let entries = map.values().map(of_value);
    let (count, more) = entries.fold((0, 0), |(count, sum), entry| (count + 1, sum + entry));
    block(SHARED + count * size_of::<(EcuSerial, T)>()) + more
}

fn of_status(ecu: &EcuStatus) -> usize {
    let image = |image: &InstalledImage| block(image.path.capacity());
    let offered = ecu.offered.iter().map(|offer| block(offer.path.as_str().len()));
    let assigned = ecu.assigned.as_ref().map_or(0, |assigned| {
        block(size_of::<CurrentAssignment>())
            + block(assigned.id.capacity())
            + block(assigned.path.as_str().len())
    });
    ecu.installed.as_ref().map_or(0, image)
        + ecu.factory.as_ref().map_or(0, |each| block(size_of::<InstalledImage>()) + image(each))
        + block(ecu.offered.capacity() * size_of::<Offer>())
        + offered.sum::<usize>()
        + assigned
}

fn of_bundle(bundle: &Bundle) -> usize {
    let texts = [&bundle.timestamp, &bundle.snapshot, &bundle.targets];
    block(SHARED + size_of::<Bundle>())
        + texts.iter().map(|text| block(text.capacity())).sum::<usize>()
        + block(size_of_val(&*bundle.lists))
}

/// All of a vehicle, and its entries in the lists by id and by token.
fn footprint(vehicle: &Vehicle) -> usize {
    let record = &vehicle.record;
    let ecu = |ecu: &EcuRecord| {
        name(ecu.serial.as_str())
            + name(ecu.hardware_id.as_str())
            + block(ecu.signing_key.text().len())
            + ecu.encryption_key.as_ref().map_or(0, |key| block(key.text().len()))
    };
    // Each of the two is a table of pointers, at least seven sixteenths full, and linked entries.
    let slots = 2 * (size_of::<[usize; 2]>() + 1) * 16 / 7;
    let links = size_of::<[usize; 2]>();
    let by_vin = block(size_of::<(VehicleId, Arc<Vehicle>)>() + links);
    let by_token = block(size_of::<(Sha256Digest, VehicleId)>() + links);
    slots
        + by_vin
        + by_token
        + block(SHARED + size_of::<Vehicle>())
        + name(record.vin.as_str())
        + block(record.created_by.capacity())
        + block(SHARED + size_of_val(&*record.ecus))
        + record.ecus.iter().map(ecu).sum::<usize>()
        + block(SHARED + size_of_val(&*vehicle.keys))
        + map(&record.status.counters, |_| 0)
        + map(&record.status.ecus, of_status)
        + record.status.bundle.as_deref().map_or(0, of_bundle)
}

/// A vehicle as a fleet has many, idle, with the lengths that ids, keys and signed files have.
fn vehicle() -> Vehicle {
    let serials =
        ["WVWZZZ1JZXW000001-0", "WVWZZZ1JZXW000001-1"].map(|serial| serial.parse().unwrap());
    let ecu = |(number, serial): (u8, &EcuSerial)| EcuRecord {
        serial: serial.clone(),
        hardware_id: format!("gateway-mk{number}").parse().unwrap(),
        role: if number == 0 { EcuRole::Primary } else { EcuRole::Secondary },
        signing_key: json!({
            "keytype": "ed25519", "keyval": { "public": "07".repeat(32) }, "scheme": "ed25519",
        })
        .into(),
        encryption_key: Some(
            json!({ "crv": "P-256", "kty": "EC", "x": "x".repeat(43), "y": "y".repeat(43) }).into(),
        ),
    };
    let status = || EcuStatus {
        installed: Some(InstalledImage {
            path: "gateway/4.2.0/gateway.bin".into(),
            length: 1,
            sha256: Sha256Digest::from_bytes([1; 32]),
        }),
        ..EcuStatus::default()
    };
    let bundle = Bundle {
        version: 1,
        expires_at: Timestamp::UNIX_EPOCH,
        lists: Vec::new(),
        targets: "t".repeat(SIGNED_FILE),
        snapshot: "s".repeat(SIGNED_FILE),
        timestamp: "t".repeat(SIGNED_FILE),
        verified: Some(Sha256Digest::from_bytes([2; 32])),
        verified_under: VerifiedUnder::default(),
    };
    let record = VehicleRecord {
        id: 1,
        vin: "WVWZZZ1JZXW000001".parse().unwrap(),
        ecus: (0..).zip(&serials).map(ecu).collect(),
        created_at: Timestamp::UNIX_EPOCH,
        created_by: "0123456789ab".into(),
        status: VehicleStatus {
            revision: 9,
            counters: serials.iter().map(|serial| (serial.clone(), 1 << 50)).collect(),
            ecus: serials.iter().map(|serial| (serial.clone(), status())).collect(),
            seen_at: Some(Timestamp::UNIX_EPOCH),
            quarantine: None,
            bundle: Some(Arc::new(bundle)),
        },
    };
    Vehicle::new(record).unwrap()
}

#[test]
fn an_idle_vehicle_with_two_ecus_takes_little_memory() {
    let vehicle = vehicle();
    let (status, ecu) = (&vehicle.record.status, &vehicle.record.ecus[0]);
    let counted = status.counters.keys().next().unwrap();
    assert!(std::ptr::eq(counted.as_str(), ecu.serial.as_str()), "shared, as is counted here");
    let bytes = footprint(&vehicle);
    assert!(bytes <= MAX_KEPT_BYTES, "{bytes}");
}

/// Bytes of the longest file that is signed for an idle vehicle.
const SIGNED_FILE: usize = 500;
