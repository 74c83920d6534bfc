//! Vehicles: their registration, and changes of their status.

use std::sync::Arc;

use futures_util::future::join_all;
use serde_json::json;

use super::{author, digest, now, seconds_later};
use crate::catalog::{
    AuditFilter, Catalog, KeyPermission, ReEnrolment, Registration, Renewal, StatusWriter,
    VehicleFilter,
};
use crate::model::{
    Actor, AssignmentOutcome, AssignmentRecord, AuditKind, EcuRecord, EcuRole, EventKind, NewEvent,
    NewVehicle, VehicleChange, VehicleId, VehicleRecord,
};

fn vin(text: &str) -> VehicleId {
    text.parse().unwrap()
}

fn ecu(serial: &str, role: EcuRole) -> EcuRecord {
    EcuRecord {
        serial: serial.parse().unwrap(),
        hardware_id: "gw-mk3".parse().unwrap(),
        role,
        signing_key: serde_json::from_value(json!({ "keyval": { "public": serial } })).unwrap(),
        encryption_key: None,
    }
}

fn new_vehicle(id: &str, serials: &[&str]) -> NewVehicle {
    let role = |number| if number == 0 { EcuRole::Primary } else { EcuRole::Secondary };
    let ecus = serials.iter().enumerate().map(|(number, serial)| ecu(serial, role(number)));
    NewVehicle { vin: vin(id), ecus: ecus.collect(), token_sha256: None }
}

async fn register(catalog: &Catalog, vehicles: &[NewVehicle]) -> Vec<Registration> {
    catalog.register_vehicles(vehicles, &author()).await.unwrap()
}

async fn find(catalog: &Catalog, id: &str) -> VehicleRecord {
    catalog.find_vehicle(&vin(id)).await.unwrap().unwrap()
}

fn event(id: &str, kind: EventKind) -> NewEvent {
    let by = Actor { id: "engineer".into(), request_id: Some("r".into()) };
    NewEvent::new(&vin(id), kind, now(), &by)
}

/// What happened to a vehicle, the last first.
async fn happened(catalog: &Catalog, id: &str) -> Vec<EventKind> {
    let events = catalog.list_events(&vin(id), i64::MAX, 10).await.unwrap();
    events.into_iter().map(|event| event.event.kind).collect()
}

async fn apply(catalog: &Catalog, change: VehicleChange) -> bool {
    let mut writer = StatusWriter::new(catalog.clone());
    writer.apply(&[Arc::new(change)], 0).await.unwrap().0[0]
}

pub(super) async fn the_first_registration_of_an_id_or_a_serial_stands(catalog: &Catalog) {
    use Registration::{Different, EcuTaken, Registered, Unchanged};
    let first = [new_vehicle("VIN1", &["a", "b"]), new_vehicle("VIN2", &["c"])];
    assert_eq!(register(catalog, &first).await, [Registered, Registered]);
    let again = [
        new_vehicle("VIN1", &["a", "b"]),
        new_vehicle("VIN2", &["other"]),
        new_vehicle("VIN3", &["d", "b"]),
        new_vehicle("VIN4", &["e"]),
        new_vehicle("VIN4", &["f"]),
    ];
    let taken = EcuTaken("b".parse().unwrap());
    assert_eq!(
        register(catalog, &again).await,
        [Unchanged, Different, taken, Registered, Different]
    );
    assert!(catalog.find_vehicle(&vin("VIN3")).await.unwrap().is_none());
    let freed = [new_vehicle("VIN5", &["d"])];
    assert_eq!(register(catalog, &freed).await, [Registered], "nothing is left of a refused one");
    assert_eq!(find(catalog, "VIN1").await.ecus.len(), 2);
}

/// More than go into one statement, of either engine, as each would be by itself.
pub(super) async fn thousands_are_registered_together_as_each_would_be(catalog: &Catalog) {
    use Registration::{Different, EcuTaken, Registered, Unchanged};
    let vehicle = |number: usize| {
        let serials = [format!("{number}-a"), format!("{number}-b")];
        new_vehicle(&format!("V{number}"), &[&serials[0], &serials[1]])
    };
    let fleet: Vec<NewVehicle> = (0..4500).map(vehicle).collect();
    assert_eq!(register(catalog, &fleet).await, vec![Registered; fleet.len()]);
    for number in [0, 49, 50, 1999, 2000, 4499] {
        let (id, of) = (format!("V{number}"), &fleet[number]);
        assert_eq!(find(catalog, &id).await.ecus[..], of.ecus[..]);
        assert_eq!(happened(catalog, &id).await, [EventKind::Registered]);
    }
    let mut again: Vec<NewVehicle> = (0..4600).map(vehicle).collect();
    again[7].ecus.pop();
    again[4550] = new_vehicle("V4550", &["new", "4499-b"]);
    again.push(vehicle(4501));
    let mut expected = vec![Unchanged; 4500];
    expected[7] = Different;
    expected.extend(vec![Registered; 100]);
    expected[4550] = EcuTaken("4499-b".parse().unwrap());
    expected.push(Unchanged);
    assert_eq!(register(catalog, &again).await, expected);
    assert!(catalog.find_vehicle(&vin("V4550")).await.unwrap().is_none());
    assert_eq!(happened(catalog, "V4550").await, []);
    assert_eq!(happened(catalog, "V4501").await, [EventKind::Registered]);
    assert_eq!(happened(catalog, "V7").await, [EventKind::Registered]);
}

pub(super) async fn a_removed_vehicle_gives_its_number_to_nobody(catalog: &Catalog) {
    register(catalog, &[new_vehicle("VIN1", &["a"])]).await;
    let number = find(catalog, "VIN1").await.id;
    let removed = event("VIN1", EventKind::Removed);
    assert!(catalog.remove_vehicle(&vin("VIN1"), &removed).await.unwrap());
    assert!(!catalog.remove_vehicle(&vin("VIN1"), &removed).await.unwrap());
    register(catalog, &[new_vehicle("VIN1", &["a"])]).await;
    assert!(find(catalog, "VIN1").await.id > number);
    let all = [EventKind::Registered, EventKind::Removed, EventKind::Registered];
    assert_eq!(happened(catalog, "VIN1").await, all, "what happened before stays");
}

pub(super) async fn a_status_changes_only_from_the_revision_on_which_it_was_decided(
    catalog: &Catalog,
) {
    register(catalog, &[new_vehicle("VIN1", &["a"])]).await;
    let vehicle = find(catalog, "VIN1").await;
    let serial = "a".parse().unwrap();
    let polls = (1..=8).map(|counter| {
        let mut change = VehicleChange::of(&vehicle, now());
        change.hear(&serial, counter);
        apply(catalog, change)
    });
    let made = join_all(polls).await;
    assert_eq!(made.iter().filter(|made| **made).count(), 1, "{made:?}");
    let after = find(catalog, "VIN1").await;
    assert_eq!(after.status.revision, vehicle.status.revision + 1);
    let mut late = VehicleChange::of(&vehicle, now());
    late.record(event("VIN1", EventKind::QuarantineCleared));
    assert!(!apply(catalog, late).await);
    assert_eq!(happened(catalog, "VIN1").await, [EventKind::Registered]);
}

pub(super) async fn a_change_is_read_as_it_was_made(catalog: &Catalog) {
    register(catalog, &[new_vehicle("VIN1", &["a", "b"])]).await;
    let serial = "a".parse().unwrap();
    let mut change = VehicleChange::of(&find(catalog, "VIN1").await, now());
    change.hear(&serial, 7);
    change.assign(AssignmentRecord {
        id: "1".into(),
        ecu_serial: "b".parse().unwrap(),
        image_path: "gw/1/a.bin".parse().unwrap(),
        rollback_reason: Some("no reason".into()),
        created_at: now(),
        created_by: "engineer".into(),
        ended_at: None,
        outcome: None,
    });
    change.quarantine(["rollback".to_owned()].into(), "a reported: rollback");
    let expected = change.status().clone();
    assert!(apply(catalog, change).await);
    let vehicle = find(catalog, "VIN1").await;
    assert_eq!(vehicle.status, expected);
    let filter = VehicleFilter { quarantined: true, ..VehicleFilter::default() };
    let listed = catalog.list_vehicles("", 10, filter).await.unwrap();
    assert_eq!(listed.items.iter().map(|each| each.id).collect::<Vec<_>>(), [vehicle.id]);
    let counts = catalog.count_vehicles(seconds_later(1)).await.unwrap();
    assert_eq!((counts.registered, counts.quarantined), (1, 1));

    let mut change = VehicleChange::of(&vehicle, now());
    change.end(&"b".parse().unwrap(), AssignmentOutcome::Cancelled);
    change.release();
    assert!(apply(catalog, change).await);
    let vehicle = find(catalog, "VIN1").await;
    assert_eq!(vehicle.status.quarantine, None);
    let assignments = catalog.list_assignments(vehicle.id, 10).await.unwrap();
    assert_eq!(assignments[0].outcome, Some(AssignmentOutcome::Cancelled));
    assert_eq!(assignments[0].ended_at, Some(now()));
}

pub(super) async fn a_quarantine_is_in_the_audit_log_once(catalog: &Catalog) {
    register(catalog, &[new_vehicle("VIN1", &["a"])]).await;
    for kind in ["rollback", "freeze"] {
        let mut change = VehicleChange::of(&find(catalog, "VIN1").await, now());
        change.quarantine([kind.to_owned()].into(), kind);
        assert!(apply(catalog, change).await);
    }
    let kind = Some(AuditKind::VehicleQuarantined);
    let filter = AuditFilter { kind, ..AuditFilter::default() };
    let entries = catalog.list_audit(&filter, i64::MAX, 10).await.unwrap().items;
    assert_eq!(entries.len(), 1);
    assert_eq!((entries[0].subject.as_str(), entries[0].actor_kind.as_str()), ("VIN1", "server"));
}

pub(super) async fn events_that_are_alike_are_counted_as_one(catalog: &Catalog) {
    let refused = || {
        let hour = std::time::Duration::from_secs(60 * 60);
        event("VIN1", EventKind::ManifestRefused).once_in(hour, "counter")
    };
    catalog.insert_events(&[refused(), event("VIN1", EventKind::Registered)]).await.unwrap();
    catalog.insert_events(&[refused()]).await.unwrap();
    catalog.insert_events(&[refused(), refused()]).await.unwrap();
    let events = catalog.list_events(&vin("VIN1"), i64::MAX, 10).await.unwrap();
    let counted: Vec<_> = events.iter().map(|event| (event.event.kind, event.count)).collect();
    assert_eq!(counted, [(EventKind::Registered, 1), (EventKind::ManifestRefused, 4)]);
}

pub(super) async fn an_approval_is_used_once_and_in_time(catalog: &Catalog) {
    register(catalog, &[new_vehicle("VIN1", &["a"]), new_vehicle("VIN2", &["b", "c"])]).await;
    let approve = async |seconds: u64| {
        let approval = ReEnrolment {
            vin: vin("VIN1"),
            ecu_serials: ["c".parse().unwrap()].into(),
            approved_at: now(),
            approved_by: "engineer".into(),
            expires_at: seconds_later(seconds),
        };
        let approved = event("VIN1", EventKind::ReEnrolmentApproved);
        catalog.approve_re_enrolment(&approval, &approved).await.unwrap();
    };
    let enrol = async |serials: &[&str], at: u64| {
        let change = VehicleChange::of(&find(catalog, "VIN1").await, seconds_later(at));
        let lost = |vin: &VehicleId, _: &_| {
            NewEvent::new(vin, EventKind::EcuTaken, now(), &Actor::vehicle())
        };
        let new = new_vehicle("VIN1", serials);
        catalog.re_enrol(&new, change, "vehicle", lost).await.unwrap()
    };
    assert_eq!(enrol(&["a"], 0).await, Renewal::NotApproved);
    approve(10).await;
    assert_eq!(enrol(&["a"], 11).await, Renewal::NotApproved, "it has expired");
    assert_eq!(enrol(&["a", "b"], 1).await, Renewal::EcuTaken("b".parse().unwrap()));
    assert_eq!(enrol(&["x", "c"], 1).await, Renewal::Done);
    assert_eq!(enrol(&["x", "c"], 2).await, Renewal::NotApproved, "it is used up");
    assert_eq!(find(catalog, "VIN1").await.ecus.len(), 2);
    assert_eq!(find(catalog, "VIN2").await.ecus.len(), 1);
}

pub(super) async fn an_ecu_key_is_changed_once_in_time_and_to_the_key_that_was_approved(
    catalog: &Catalog,
) {
    register(catalog, &[new_vehicle("VIN1", &["a", "b"])]).await;
    let (serial, id) = ("a".parse().unwrap(), find(catalog, "VIN1").await.id);
    let approve = async |kid: &str| {
        let approved = event("VIN1", EventKind::KeyChangeApproved);
        let until = seconds_later(10);
        catalog.approve_key_change(id, &serial, kid, until, &approved).await.unwrap();
    };
    let change = async |kid: &str, permission: &KeyPermission, at: u64| {
        let known = find(catalog, "VIN1").await;
        let mut ecus = known.ecus.to_vec();
        ecus[0].encryption_key = Some(json!({ "kid": kid }).into());
        let mut change = VehicleChange::of(&known, seconds_later(at));
        change.record(event("VIN1", EventKind::EncryptionKeyChanged));
        catalog.change_encryption_key(&ecus, permission, &change).await.unwrap()
    };
    let by_approval =
        |kid: &str| KeyPermission::Approval { serial: "a".parse().unwrap(), kid: kid.to_owned() };
    assert!(!change("k1", &by_approval("k1"), 0).await, "nobody has approved it");
    approve("k1").await;
    assert!(catalog.is_key_change_approved(id, &serial, "k1", now()).await.unwrap());
    assert!(!catalog.is_key_change_approved(id, &serial, "k2", now()).await.unwrap());
    assert!(!change("k2", &by_approval("k2"), 1).await, "another key was approved");
    assert!(!change("k1", &by_approval("k1"), 11).await, "it has expired");
    assert_eq!(find(catalog, "VIN1").await.ecus[0].encryption_key, None);
    assert!(change("k1", &by_approval("k1"), 1).await);
    assert!(!change("k1", &by_approval("k1"), 2).await, "it is used up");
    assert!(change("k2", &KeyPermission::Policy, 3).await);
    let known = find(catalog, "VIN1").await;
    assert_eq!(known.ecus[0].encryption_key, Some(json!({ "kid": "k2" }).into()));
    let filter =
        AuditFilter { kind: Some(AuditKind::EncryptionKeyChanged), ..AuditFilter::default() };
    assert_eq!(catalog.list_audit(&filter, i64::MAX, 10).await.unwrap().items.len(), 2);
    approve("k3").await;
    catalog.remove_vehicle(&vin("VIN1"), &event("VIN1", EventKind::Removed)).await.unwrap();
    assert!(!catalog.is_key_change_approved(id, &serial, "k3", now()).await.unwrap());
}

pub(super) async fn vehicles_are_found_by_a_part_of_a_key(catalog: &Catalog) {
    let mut first = new_vehicle("VIN1", &["a", "b"]);
    first.ecus[1].signing_key = json!({ "keyval": { "public": "0123ABcd" } }).into();
    let mut second = new_vehicle("VIN2", &["c"]);
    second.ecus[0].encryption_key = Some(json!({ "x": "some-Number" }).into());
    register(catalog, &[first, second, new_vehicle("VIN3", &["d"])]).await;
    let found = async |texts: [&str; 2], limit: u32| {
        let found = catalog.list_vehicles_with_key(texts, limit).await.unwrap();
        found.into_iter().map(|vehicle| vehicle.vin.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(found(["0123abCD", "none"], 9).await, ["VIN1"]);
    assert_eq!(found(["0123abcd", "some-number"], 9).await, ["VIN1", "VIN2"]);
    assert_eq!(found(["0123abcd", "some-number"], 1).await, ["VIN1"]);
    assert_eq!(found(["none", "neither"], 9).await, [""; 0]);
}

pub(super) async fn a_token_is_one_vehicles(catalog: &Catalog) {
    register(catalog, &[new_vehicle("VIN1", &["a"]), new_vehicle("VIN2", &["b"])]).await;
    let issued = event("VIN1", EventKind::TokenIssued);
    assert!(catalog.set_vehicle_token(&vin("VIN1"), &digest(1), &issued).await.unwrap());
    assert!(catalog.set_vehicle_token(&vin("VIN2"), &digest(1), &issued).await.is_err());
    assert!(!catalog.set_vehicle_token(&vin("NONE"), &digest(2), &issued).await.unwrap());
    let owner = catalog.find_vehicle_of_token(&digest(1)).await.unwrap().unwrap();
    assert_eq!(owner.vin, vin("VIN1"));
    assert!(catalog.find_vehicle_of_token(&digest(2)).await.unwrap().is_none());
    let all = [EventKind::TokenIssued, EventKind::Registered];
    assert_eq!(happened(catalog, "VIN1").await, all);
}
