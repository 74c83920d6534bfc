//! Decisions over made-up vehicles and images.

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::model::{
    CurrentAssignment, EcuRecord, EcuRole, ImageDescription, Offer, Quarantine, SealAlgorithm,
    SealedImage, Sha256Digest, TargetFormat, VehicleStatus,
};

fn digest(of: &str) -> Sha256Digest {
    use sha2::Digest;
    Sha256Digest::from_bytes(sha2::Sha256::digest(of).into())
}

fn image(path: &str, hardware_id: &str, counter: u64) -> ImageRecord {
    ImageRecord {
        path: path.parse().unwrap(),
        description: ImageDescription {
            name: path.split('/').next().unwrap().parse().unwrap(),
            version: counter.to_string().parse().unwrap(),
            hardware_ids: vec![hardware_id.parse().unwrap()],
            release_counter: counter.try_into().unwrap(),
            target_format: TargetFormat::Binary,
            requires: Vec::new(),
            conflicts: Vec::new(),
        },
        sealed: SealedImage {
            algorithm: SealAlgorithm::default(),
            length: 100,
            sha256: digest(path),
            plaintext_length: 90,
            plaintext_sha256: digest("plaintext"),
        },
        created_at: Timestamp::UNIX_EPOCH,
        created_by: "t".into(),
        yanked_at: None,
    }
}

fn listed(records: impl IntoIterator<Item = ImageRecord>) -> Images {
    let mut images = Images::default();
    records.into_iter().for_each(|record| images.insert(record, true));
    images
}

fn installed(record: &ImageRecord) -> InstalledImage {
    let SealedImage { length, sha256, .. } = record.sealed;
    InstalledImage { path: record.path.to_string(), length, sha256 }
}

/// A vehicle with ECUs `a`, which is a `gw`, and `b`, which is a `cam`.
fn vehicle() -> VehicleRecord {
    let ecu = |serial: &str, hardware_id: &str, role| EcuRecord {
        serial: serial.parse().unwrap(),
        hardware_id: hardware_id.parse().unwrap(),
        role,
        signing_key: json!({}).into(),
        encryption_key: None,
    };
    VehicleRecord {
        id: 1,
        vin: "VIN-1".parse().unwrap(),
        ecus: Arc::new([ecu("a", "gw", EcuRole::Primary), ecu("b", "cam", EcuRole::Secondary)]),
        created_at: Timestamp::UNIX_EPOCH,
        created_by: "t".into(),
        status: VehicleStatus::default(),
    }
}

fn with(vehicle: &mut VehicleRecord, serial: &str, change: impl FnOnce(&mut EcuStatus)) {
    change(vehicle.status.ecus.entry(&serial.parse().unwrap()));
}

fn wish<'a>(wished: impl IntoIterator<Item = (&'a str, &'a str)>) -> Wish {
    let assignment = |(at, (serial, path)): (usize, (&str, &str))| AssignmentRecord {
        id: format!("id-{at}"),
        ecu_serial: serial.parse().unwrap(),
        image_path: path.parse().unwrap(),
        rollback_reason: None,
        created_at: Timestamp::UNIX_EPOCH,
        created_by: "t".into(),
        ended_at: None,
        outcome: None,
    };
    let assignments = wished.into_iter().enumerate().map(assignment).collect();
    let by = Actor { id: "t".into(), request_id: Some("r".into()) };
    Wish { assignments, by, at: Timestamp::UNIX_EPOCH }
}

fn codes(decided: Result<VehicleChange, Vec<Problem>>) -> Vec<&'static str> {
    decided.unwrap_err().iter().map(|problem| problem.code).collect()
}

#[test]
fn what_can_run_is_assigned_and_recorded() {
    let images = listed([image("gw/2", "gw", 2)]);
    let change = decide(&vehicle(), &wish([("a", "gw/2")]), &images).unwrap();
    assert_eq!(change.ecu(&"a".parse().unwrap()).assigned.unwrap().path.as_str(), "gw/2");
    let event = &change.events()[0];
    assert_eq!((event.kind, event.request_id.as_deref()), (EventKind::Assigned, Some("r")));
}

#[test]
fn everything_that_speaks_against_it_is_said() {
    let mut vehicle = vehicle();
    let (since, reason, kinds) = (Timestamp::UNIX_EPOCH, "r".to_owned(), BTreeSet::new());
    vehicle.status.quarantine = Some(Quarantine { since, reason, kinds });
    let mut images = listed([image("gw/1", "gw", 1)]);
    images.insert(image("gw/2", "gw", 2), false);
    let yanked = ImageRecord { yanked_at: Some(Timestamp::UNIX_EPOCH), ..image("gw/3", "gw", 3) };
    images.insert(yanked, false);
    for (serial, path, code) in [
        ("c", "gw/1", "ecu_not_found"),
        ("a", "gw/9", "image_not_found"),
        ("a", "gw/3", "image_yanked"),
        ("a", "gw/2", "image_not_published"),
        ("b", "gw/1", "wrong_hardware"),
    ] {
        let decided = decide(&vehicle, &wish([(serial, path)]), &images);
        assert_eq!(codes(decided), ["vehicle_quarantined", code], "{serial} {path}");
    }
}

#[test]
fn a_counter_goes_down_for_a_reason_alone() {
    let (old, new) = (image("gw/1", "gw", 1), image("gw/2", "gw", 2));
    let images = listed([old.clone(), new.clone()]);
    let states: [fn(&mut EcuStatus); 4] = [
        |ecu| ecu.highest_counter = Some(2.try_into().unwrap()),
        |ecu| ecu.installed = Some(installed(&image("gw/2", "gw", 2))),
        |ecu| ecu.offered.push(Offer { path: "gw/2".parse().unwrap(), last_version: 1 }),
        |ecu| {
            let path = "gw/2".parse().unwrap();
            ecu.assigned = Some(Box::new(CurrentAssignment { id: "x".into(), path }));
        },
    ];
    for state in states {
        let mut vehicle = vehicle();
        with(&mut vehicle, "a", state);
        let mut wish = wish([("a", "gw/1")]);
        assert_eq!(codes(decide(&vehicle, &wish, &images)), ["release_counter_rollback"]);
        wish.assignments[0].rollback_reason = Some("a broken sensor".into());
        assert!(decide(&vehicle, &wish, &images).is_ok());
    }
}

#[test]
fn an_assignment_that_another_relies_on_is_not_taken_back() {
    let mut camera = image("cam/1", "cam", 1);
    camera.description.requires = vec!["gw>=2".parse().unwrap()];
    let images = listed([camera, image("gw/2", "gw", 2)]);
    let mut vehicle = vehicle();
    vehicle.status =
        decide(&vehicle, &wish([("a", "gw/2"), ("b", "cam/1")]), &images).unwrap().status().clone();
    let cancel = |serial: &str| {
        let serial = serial.parse().unwrap();
        decide_cancellation(&vehicle, &serial, &Actor::server(), Timestamp::UNIX_EPOCH, &images)
    };
    assert_eq!(codes(cancel("a")), ["constraint_violated"]);
    assert_eq!(cancel("b").unwrap().ended()[0].0, "id-1");
}

/// Images of two kinds of hardware, some of them not listed, some with constraints.
fn any_image() -> impl Strategy<Value = (ImageRecord, bool)> {
    (0..4_u64, any::<bool>(), any::<bool>(), 0..4_u64, 0..6_u8).prop_map(
        |(counter, is_camera, is_listed, other, constraint)| {
            let (kind, other_kind) = if is_camera { ("cam", "gw") } else { ("gw", "cam") };
            let mut record = image(&format!("{kind}/{counter}"), kind, counter);
            let on_other = format!("{other_kind}>={other}").parse().unwrap();
            match constraint {
                0 => record.description.requires.push(on_other),
                1 => record.description.conflicts.push(on_other),
                _ => {}
            }
            (record, is_listed)
        },
    )
}

fn any_path() -> impl Strategy<Value = ImagePath> {
    (any::<bool>(), 0..5_u64).prop_map(|(is_camera, counter)| {
        format!("{}/{counter}", if is_camera { "cam" } else { "gw" }).parse().unwrap()
    })
}

fn any_state() -> impl Strategy<Value = EcuStatus> {
    let installed = proptest::option::of((any_path(), any::<bool>()));
    let offered = proptest::collection::vec((any_path(), 1..9_u64), 0..3);
    (installed, offered, proptest::option::of(any_path()), proptest::option::of(0..4_u64)).prop_map(
        |(runs, offered, assigned, highest)| EcuStatus {
            installed: runs.map(|(path, is_same)| InstalledImage {
                sha256: digest(if is_same { path.as_str() } else { "other" }),
                length: 100,
                path: path.to_string(),
            }),
            offered: offered
                .into_iter()
                .map(|(path, last_version)| Offer { path, last_version })
                .collect(),
            assigned: assigned
                .map(|path| Box::new(CurrentAssignment { id: format!("old-{path}"), path })),
            highest_counter: highest.map(|counter| counter.try_into().unwrap()),
            ..EcuStatus::default()
        },
    )
}

fn any_case() -> impl Strategy<Value = (VehicleRecord, Wish, Vec<(ImageRecord, bool)>)> {
    let images = proptest::collection::vec(any_image(), 0..10);
    let states = (proptest::option::of(any_state()), proptest::option::of(any_state()));
    let wishes = (proptest::option::of(any_path()), proptest::option::of(any_path()));
    (images, states, wishes).prop_map(|(images, states, wishes)| {
        let mut vehicle = vehicle();
        let states = [("a", states.0), ("b", states.1)].into_iter();
        let states = states.filter_map(|(serial, state)| Some((serial.parse().unwrap(), state?)));
        vehicle.status.ecus = states.collect();
        let wished = [("a", &wishes.0), ("b", &wishes.1)];
        let wished = wished.iter().filter_map(|(serial, path)| Some((*serial, path.as_ref()?)));
        let wish = wish(wished.map(|(serial, path)| (serial, path.as_str())));
        (vehicle, wish, images)
    })
}

fn load(records: &[(ImageRecord, bool)]) -> Images {
    let mut images = Images::default();
    records.iter().for_each(|(record, is_listed)| images.insert(record.clone(), *is_listed));
    images
}

proptest! {
    #[test]
    fn a_decision_takes_no_more_than_it_asks_for((vehicle, wish, records) in any_case()) {
        let mut asked = images_of(&vehicle);
        asked.extend(wish.assignments.iter().map(|assignment| assignment.image_path.clone()));
        let some: Vec<_> =
            records.iter().filter(|(record, _)| asked.contains(&record.path)).cloned().collect();
        let outcome = |images: &Images| match decide(&vehicle, &wish, images) {
            Ok(change) => Ok(change.status().clone()),
            Err(problems) => Err(problems.iter().map(|each| each.detail.clone()).collect::<Vec<_>>()),
        };
        prop_assert_eq!(outcome(&load(&records)), outcome(&load(&some)));
    }

    #[test]
    fn who_gets_something_gets_that_and_nothing_else_changes((vehicle, wish, records) in any_case()) {
        let images = load(&records);
        match decide(&vehicle, &wish, &images) {
            Err(problems) => prop_assert!(!problems.is_empty()),
            Ok(change) => {
                for ecu in vehicle.ecus.iter() {
                    let wished = wish.assignments.iter().find(|each| each.ecu_serial == ecu.serial);
                    let (before, after) = (vehicle.status.ecu(&ecu.serial), change.ecu(&ecu.serial));
                    match wished {
                        None => prop_assert_eq!(before, after),
                        Some(wished) => {
                            let record = images.find(&wished.image_path).unwrap();
                            let counter = record.description.release_counter;
                            prop_assert!(before.highest_counter.is_none_or(|old| old <= counter));
                            prop_assert!(record.description.hardware_ids.contains(&ecu.hardware_id));
                            let path = after.assigned.as_ref().map(|assigned| &assigned.path);
                            prop_assert_eq!(path, Some(&wished.image_path));
                            let now = EcuStatus { assigned: before.assigned.clone(), ..after };
                            prop_assert_eq!(&now, &before);
                            let superseded = before
                                .assigned
                                .map(|old| (old.id, AssignmentOutcome::Superseded));
                            let is_ended = superseded.is_none_or(|old| change.ended().contains(&old));
                            prop_assert!(is_ended);
                        }
                    }
                }
                prop_assert_eq!(change.assigned().len(), wish.assignments.len());
            }
        }
    }

    #[test]
    fn nothing_is_decided_for_a_vehicle_in_quarantine((mut vehicle, wish, records) in any_case()) {
        let (since, reason, kinds) = (Timestamp::UNIX_EPOCH, String::new(), BTreeSet::new());
        vehicle.status.quarantine = Some(Quarantine { since, reason, kinds });
        let decided = decide(&vehicle, &wish, &load(&records));
        prop_assert_eq!(codes(decided)[0], "vehicle_quarantined");
    }
}
