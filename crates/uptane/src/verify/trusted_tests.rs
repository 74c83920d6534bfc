use motorcade_model::RoleName;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::key::SigningKey;
use crate::verify::fixture::{
    EARLIER, Repo, id, image, listed, listed_target, load, new_key, now, set, sha256, sign, signed,
};
use crate::verify::{
    Fault, Freshness, Limits, Rules, TargetFile, TrustedSet, VerifyError as E, verify_partial,
};

fn director(vin: &str) -> Rules {
    let ecus = [("p-1".parse().unwrap(), "gw-mk3".parse().unwrap())].into();
    Rules::Director { vin: vin.parse().unwrap(), ecus: Some(ecus) }
}

fn published(version: u64) -> Repo {
    let mut repo = Repo::new(None);
    repo.publish(version);
    repo
}

/// Changes a member of `signed` and signs again with the same key.
fn resigned(repo: &Repo, role: &str, file: &str, change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut value: Value = serde_json::from_slice(repo.file(file)).unwrap();
    change(&mut value["signed"]);
    repo.sign(role, &value["signed"])
}

#[test]
fn a_whole_update_is_accepted_and_the_same_timestamp_again_is_nothing_new() {
    let repo = published(3);
    let mut set = set(&repo, image());
    load(&mut set, &repo, 3).unwrap();
    assert_eq!(set.update_timestamp(repo.file("timestamp.json")), Ok(Freshness::Same));
    assert_eq!((set.root_version(), set.targets_version()), (1, Some(3)));
}

/// AT-14: what is stored stays.
#[test]
fn another_timestamp_of_the_same_version_changes_nothing() {
    let repo = published(1);
    let mut set = set(&repo, image());
    load(&mut set, &repo, 1).unwrap();
    let other = resigned(&repo, "timestamp", "timestamp.json", |timestamp| {
        timestamp["meta"]["snapshot.json"]["version"] = 9.into();
    });
    assert_eq!(set.update_timestamp(&other), Ok(Freshness::Same));
    assert_eq!(set.expected_snapshot().unwrap().0, 1);
}

#[test]
fn malformed_files_are_refused() {
    let repo = published(1);
    let text = String::from_utf8(repo.file("timestamp.json").to_vec()).unwrap();
    for broken in [
        text.replacen("\"signed\"", "\"signed\":{},\"signed\"", 1),
        text.replace("\"version\":1", "\"version\":1.0"),
        text.replace("2031-01-01T00:00:00Z", "2031-01-01T00:00:00+00:00"),
        text.replace("\"snapshot.json\"", "\"snapshot.jsom\""),
        text.replace("\"version\":1", "\"version\":0"),
        text.replace("\"version\":1", &format!("\"x\":{}{}", "[".repeat(300), "]".repeat(300))),
        text.clone() + "{}",
    ] {
        let refused = set(&repo, image()).update_timestamp(broken.as_bytes()).unwrap_err();
        assert!(matches!(refused, E::Malformed { .. }), "{broken}: {refused}");
    }
    let latin1 = [b"{\"x\":\"\xff\",", &text.as_bytes()[1..]].concat();
    assert!(matches!(set(&repo, image()).update_timestamp(&latin1), Err(E::Malformed { .. })));
    let other = text.replace("\"1.0.34\"", "\"2.0.0\"");
    assert!(matches!(
        set(&repo, image()).update_timestamp(other.as_bytes()),
        Err(E::SpecVersion { .. })
    ));
}

/// AT-32.
#[test]
fn one_role_is_not_taken_for_another() {
    let repo = published(1);
    let snapshot = repo.file("1.snapshot.json");
    assert!(matches!(set(&repo, image()).update_timestamp(snapshot), Err(E::WrongType { .. })));
}

/// AT-21, and KEY-13 with AT-28.
#[test]
fn a_threshold_of_good_signatures_is_enough_and_less_is_not() {
    let repo = published(1);
    let mut file: Value = serde_json::from_slice(repo.file("timestamp.json")).unwrap();
    let good = file["signatures"][0].clone();
    let try_with = |signatures: Value| {
        let file = json!({ "signatures": signatures, "signed": file["signed"] });
        set(&repo, image()).update_timestamp(file.to_string().as_bytes())
    };
    let (stranger, garbage) =
        (json!({ "keyid": "x", "sig": "" }), json!({ "keyid": "y", "sig": "not hex" }));
    assert_eq!(try_with(json!([stranger, garbage, good])), Ok(Freshness::New));
    assert!(matches!(try_with(json!([])), Err(E::ThresholdNotMet { valid: 0, threshold: 1, .. })));
    assert!(matches!(try_with(json!([stranger])), Err(E::ThresholdNotMet { .. })));
    assert!(matches!(try_with(json!([good, good])), Err(E::DuplicateSignature { .. })));
    file["signed"]["x"] = 1.into();
    let file = file.to_string();
    assert!(matches!(
        set(&repo, image()).update_timestamp(file.as_bytes()),
        Err(E::ThresholdNotMet { .. })
    ));
}

/// AT-26, AT-27, AT-33.
#[test]
fn thresholds_and_key_ids_can_not_be_faked() {
    let repo = Repo::new(None);
    let try_root = |root: &Value, rules: Rules| {
        TrustedSet::new(&repo.sign("root", root), rules, now()).map(drop)
    };
    let root = repo.root(1);
    assert_eq!(try_root(&root, image()), Ok(()));

    let mut zero = root.clone();
    zero["roles"]["targets"]["threshold"] = 0.into();
    assert!(matches!(try_root(&zero, image()), Err(E::ZeroThreshold { .. })));
    let mut negative = root.clone();
    negative["roles"]["targets"]["threshold"] = (-1).into();
    assert!(matches!(try_root(&negative, image()), Err(E::Malformed { .. })));

    let mut twice = root.clone();
    twice["roles"]["root"] =
        json!({ "keyids": [id(&repo.keys["root"]), id(&repo.keys["root"])], "threshold": 2 });
    assert!(matches!(try_root(&twice, image()), Err(E::DuplicateKey { .. })));

    let mut other_id = root.clone();
    let object =
        other_id["keys"].as_object_mut().unwrap().remove(&id(&repo.keys["targets"])).unwrap();
    other_id["keys"]["abc"] = object.clone();
    assert!(matches!(try_root(&other_id, image()), Err(E::KeyIdMismatch { .. })));
    assert_eq!(try_root(&other_id, Rules::Tuf), Ok(()));

    // The same key with one more member has an id of its own, and still is the same key.
    let mut alias = root.clone();
    let mut object = repo.keys["root"].public().object().clone();
    object["x"] = 1.into();
    let alias_id = sha256(&crate::canonical::canonical(&object).unwrap());
    alias["keys"][&alias_id] = object;
    alias["roles"]["root"] =
        json!({ "keyids": [id(&repo.keys["root"]), alias_id], "threshold": 2 });
    assert!(matches!(try_root(&alias, image()), Err(E::DuplicateKey { .. })));
    let mut file: Value = serde_json::from_slice(&repo.sign("root", &alias)).unwrap();
    let second = json!({ "keyid": alias_id, "sig": file["signatures"][0]["sig"] });
    file["signatures"].as_array_mut().unwrap().push(second);
    let refused = TrustedSet::new(file.to_string().as_bytes(), Rules::Tuf, now()).map(drop);
    assert!(matches!(refused, Err(E::ThresholdNotMet { valid: 1, threshold: 2, .. })));
}

#[test]
fn a_key_of_an_unknown_scheme_does_no_harm() {
    let repo = Repo::new(None);
    let mut root = repo.root(1);
    let object =
        json!({ "keytype": "ml-dsa", "scheme": "ml-dsa-65", "keyval": { "public": "ab" } });
    let key_id = sha256(&crate::canonical::canonical(&object).unwrap());
    root["keys"][&key_id] = object;
    root["roles"]["root"]["keyids"].as_array_mut().unwrap().push(key_id.into());
    assert!(TrustedSet::new(&repo.sign("root", &root), image(), now()).is_ok());
}

/// AT-29.
#[test]
fn the_chain_of_roots_has_no_gaps_and_needs_old_and_new_keys() {
    let mut repo = Repo::new(None);
    let old_root = repo.keys.insert("root", new_key()).unwrap();
    let next = repo.root(2);
    let both = |root: &Value, keys: &[&SigningKey]| {
        let mut set = TrustedSet::new(repo.file("1.root.json"), image(), now()).unwrap();
        set.update_root(&sign(root, keys)).map(|()| set.root_version())
    };
    let new_root = &repo.keys["root"];
    assert_eq!(both(&next, &[&old_root, new_root]), Ok(2));
    assert!(matches!(both(&next, &[&old_root]), Err(E::ThresholdNotMet { .. })));
    assert!(matches!(both(&next, &[new_root]), Err(E::ThresholdNotMet { .. })));
    assert_eq!(
        both(&repo.root(3), &[&old_root, new_root]),
        Err(E::RootSkipped { trusted: 1, found: 3 })
    );
    assert!(matches!(both(&repo.root(1), &[&old_root, new_root]), Err(E::Rollback { .. })));
    // AT-30: what the old key signs is no longer taken.
    let mut set = TrustedSet::new(repo.file("1.root.json"), image(), now()).unwrap();
    set.update_root(&sign(&next, &[&old_root, new_root])).unwrap();
    assert!(matches!(
        set.update_root(&sign(&repo.root(3), &[&old_root])),
        Err(E::ThresholdNotMet { .. })
    ));
}

/// AT-6: each of the four roles.
#[test]
fn expired_files_are_refused_but_an_intermediate_root_may_have_expired() {
    let mut repo = published(1);
    let expire = |value: &mut Value| value["expires"] = EARLIER.into();
    let mut root = repo.root(2);
    expire(&mut root);
    let mut set_ = set(&repo, image());
    set_.update_root(&repo.sign("root", &root)).unwrap();
    assert!(matches!(set_.finish_root(), Err(E::Expired { .. })));
    set_.update_root(&repo.sign("root", &repo.root(3))).unwrap();
    assert_eq!(set_.finish_root(), Ok(()));

    let expired = resigned(&repo, "timestamp", "timestamp.json", expire);
    assert!(matches!(set(&repo, image()).update_timestamp(&expired), Err(E::Expired { .. })));

    for (role, file) in [("targets", "1.targets.json"), ("snapshot", "1.snapshot.json")] {
        let expired = resigned(&repo, role, file, expire);
        repo.files.insert(file.into(), expired);
        if role == "targets" {
            let meta = json!({ "targets.json": listed(repo.file("1.targets.json"), 1) });
            let snapshot = repo.sign("snapshot", &signed("snapshot", 1, json!({ "meta": meta })));
            repo.files.insert("1.snapshot.json".into(), snapshot);
        }
        let timestamp =
            json!({ "meta": { "snapshot.json": listed(repo.file("1.snapshot.json"), 1) } });
        let timestamp = repo.sign("timestamp", &signed("timestamp", 1, timestamp));
        repo.files.insert("timestamp.json".into(), timestamp);
        let refused = load(&mut set(&repo, image()), &repo, 1).unwrap_err();
        assert!(
            matches!(&refused, E::Expired { role: found, .. } if found.as_str() == role),
            "{refused}"
        );
    }
}

#[test]
fn an_expired_stored_timestamp_is_the_reference_but_not_up_to_date() {
    let mut repo = published(5);
    let stored = resigned(&repo, "timestamp", "timestamp.json", |timestamp| {
        timestamp["expires"] = EARLIER.into()
    });
    let mut set = set(&repo, image());
    set.load_stored_timestamp(&stored).unwrap();
    assert!(
        matches!(set.update_timestamp(&stored), Err(E::Expired { .. })),
        "nothing new, and out of date"
    );
    repo.publish(4);
    assert!(matches!(set.update_timestamp(repo.file("timestamp.json")), Err(E::Rollback { .. })));
    repo.publish(6);
    assert_eq!(set.update_timestamp(repo.file("timestamp.json")), Ok(Freshness::New));
}

/// AT-13, in each of the roles; AT-48.
#[test]
fn versions_do_not_go_back() {
    let mut repo = published(5);
    let old = repo.files.clone();
    let stored = |repo: &Repo| {
        let mut set = set(repo, image());
        set.load_stored_timestamp(&old["timestamp.json"]).unwrap();
        assert_eq!(set.load_stored_snapshot(&old["5.snapshot.json"]), Ok(true));
        set
    };
    repo.publish(4);
    let refused = stored(&repo).update_timestamp(repo.file("timestamp.json"));
    assert_eq!(refused, Err(E::Rollback { role: RoleName::Timestamp, trusted: 5, found: 4 }));

    let lower_snapshot =
        json!({ "meta": { "snapshot.json": listed(repo.file("4.snapshot.json"), 4) } });
    let lower_snapshot = repo.sign("timestamp", &signed("timestamp", 6, lower_snapshot));
    let refused = stored(&repo).update_timestamp(&lower_snapshot);
    assert_eq!(refused, Err(E::Rollback { role: RoleName::Snapshot, trusted: 5, found: 4 }));

    let lists = |meta: Value| {
        let snapshot = repo.sign("snapshot", &signed("snapshot", 6, json!({ "meta": meta })));
        let timestamp = json!({ "meta": { "snapshot.json": listed(&snapshot, 6) } });
        let mut set = stored(&repo);
        set.update_timestamp(&repo.sign("timestamp", &signed("timestamp", 6, timestamp))).unwrap();
        set.update_snapshot(&snapshot)
    };
    let lower = lists(json!({ "targets.json": { "version": 4 } }));
    assert_eq!(lower, Err(E::Rollback { role: RoleName::Targets, trusted: 5, found: 4 }));
    assert!(matches!(lists(json!({})), Err(E::DroppedFromSnapshot { .. })));
    assert_eq!(lists(json!({ "targets.json": { "version": 5 } })), Ok(()));
}

/// AT-31: a fast-forward attack is over once the keys are replaced.
#[test]
fn stored_files_of_replaced_keys_are_passed_over() {
    let mut repo = published(u64::from(u32::MAX));
    let attacked = repo.files.clone();
    for role in ["timestamp", "snapshot"] {
        repo.keys.insert(role, new_key());
    }
    let root = repo.sign("root", &repo.root(2));
    repo.publish(1);
    let mut set = set(&repo, image());
    set.update_root(&root).unwrap();
    assert!(matches!(
        set.load_stored_timestamp(&attacked["timestamp.json"]),
        Err(E::ThresholdNotMet { .. })
    ));
    load(&mut set, &repo, 1).unwrap();
}

/// What a network makes of a file is refused, and is nobody's attack.
#[test]
fn what_is_no_metadata_or_was_rewritten_on_its_way_is_a_fault() {
    let repo = published(1);
    let text = String::from_utf8(repo.file("timestamp.json").to_vec()).unwrap();
    let page = "<!DOCTYPE html><title>Log in</title>".to_owned();
    let marked = format!("\u{feff}{text}");
    for came in [
        String::new(),
        "\u{0}".into(),
        "[]".into(),
        "[".repeat(10_000),
        page.clone(),
        marked.clone(),
        "0".repeat(64),
    ] {
        let refused = set(&repo, image()).update_timestamp(came.as_bytes()).unwrap_err();
        assert_eq!(refused.finding().fault(), Some(Fault::Garbled), "{came}: {refused}");
    }
    for length in 0..text.len() {
        let refused = set(&repo, image()).update_timestamp(&text.as_bytes()[..length]).unwrap_err();
        assert_eq!(refused.finding().fault(), Some(Fault::Garbled), "{length}: {refused}");
    }
    // Where length and hash are listed, they do not fit; that is no mix of publications yet.
    let mut set_ = set(&repo, image());
    set_.update_timestamp(text.as_bytes()).unwrap();
    let snapshot = String::from_utf8(repo.file("1.snapshot.json").to_vec()).unwrap();
    let cut = snapshot[..snapshot.len() - 1].to_owned();
    for came in [String::new(), page, cut, format!("\u{feff}{snapshot}"), format!("{snapshot}\r\n")]
    {
        let refused = set_.update_snapshot(came.as_bytes()).unwrap_err();
        assert_eq!(refused.finding().fault(), Some(Fault::Garbled), "{came}: {refused}");
    }
    let spaced = snapshot.replace(':', ": ");
    let refused = set_.update_snapshot(spaced.as_bytes()).unwrap_err();
    assert!(refused.finding().attack().is_some(), "{refused}");
    set_.update_snapshot(snapshot.as_bytes()).unwrap();
    let expired = E::Expired { role: RoleName::Root, expires: now() };
    assert_eq!(expired.finding().fault(), Some(Fault::Expired));
}

/// AT-18.
#[test]
fn files_of_different_publications_do_not_mix() {
    let mut repo = published(1);
    let old = repo.files.clone();
    repo.targets =
        json!({ "targets": { "a": { "length": 1, "hashes": { "sha256": sha256(b"a") } } } });
    repo.publish(2);
    let mut set_ = set(&repo, image());
    set_.update_timestamp(repo.file("timestamp.json")).unwrap();
    let refused = set_.update_snapshot(&old["1.snapshot.json"]).unwrap_err();
    assert!(matches!(refused, E::HashMismatch { .. }));
    set_.update_snapshot(repo.file("2.snapshot.json")).unwrap();
    let refused = set_.update_targets(&old["1.targets.json"]).unwrap_err();
    assert!(matches!(refused, E::HashMismatch { .. } | E::TooLarge { .. }));
    // Without hashes it is the version that tells.
    let meta = json!({ "targets.json": { "version": 3 } });
    let snapshot = repo.sign("snapshot", &signed("snapshot", 3, json!({ "meta": meta })));
    let timestamp = json!({ "meta": { "snapshot.json": { "version": 3 } } });
    set_.update_timestamp(&repo.sign("timestamp", &signed("timestamp", 3, timestamp))).unwrap();
    let refused = set_.update_snapshot(repo.file("2.snapshot.json"));
    assert_eq!(
        refused,
        Err(E::VersionMismatch { role: RoleName::Snapshot, expected: 3, found: 2 })
    );
    set_.update_snapshot(&snapshot).unwrap();
    let refused = set_.update_targets(repo.file("2.targets.json"));
    assert_eq!(refused, Err(E::VersionMismatch { role: RoleName::Targets, expected: 3, found: 2 }));
}

/// AT-16.
#[test]
fn more_than_is_listed_or_allowed_is_refused() {
    let repo = published(1);
    let endless = vec![b' '; Limits::TIMESTAMP as usize + 1];
    assert!(matches!(set(&repo, image()).update_timestamp(&endless), Err(E::TooLarge { .. })));
    assert!(matches!(
        set(&repo, image()).update_root(&vec![b' '; Limits::ROOT as usize + 1]),
        Err(E::TooLarge { .. })
    ));
    let huge =
        json!({ "meta": { "snapshot.json": { "version": 1, "length": Limits::SNAPSHOT + 1 } } });
    let mut set = set(&repo, image());
    set.update_timestamp(&repo.sign("timestamp", &signed("timestamp", 1, huge))).unwrap();
    assert!(matches!(set.expected_snapshot(), Err(E::TooLarge { .. })));
}

/// AT-9, AT-10: before anything of another vehicle becomes a reference.
#[test]
fn the_director_s_files_are_for_one_vehicle() {
    let mut repo = Repo::new(Some("VIN1"));
    repo.publish(900);
    load(&mut set(&repo, director("VIN1")), &repo, 900).unwrap();
    let mut other = set(&repo, director("VIN2"));
    assert!(matches!(
        other.update_timestamp(repo.file("timestamp.json")),
        Err(E::WrongVehicle { .. })
    ));
    repo.vin = Some("VIN2");
    repo.publish(5);
    load(&mut other, &repo, 5).unwrap();
    repo.vin = None;
    repo.publish(6);
    assert!(matches!(
        other.update_timestamp(repo.file("timestamp.json")),
        Err(E::WrongVehicle { .. })
    ));
}

/// FV-12, FV-13, FV-14.
#[test]
fn the_director_does_not_delegate_and_names_each_ecu_of_this_vehicle_once() {
    let try_targets = |targets: Value| {
        let mut repo = Repo::new(Some("VIN1"));
        repo.targets = targets;
        repo.publish(1);
        let mut set = set(&repo, director("VIN1"));
        let full = load(&mut set, &repo, 1);
        let partial = verify_partial(&set, 1, repo.file("1.targets.json")).map(drop);
        (full, partial)
    };
    let target = |ecu: &str| {
        let custom = json!({ "ecuIdentifiers": { ecu: { "hardwareId": "gw-mk3" } } });
        json!({ "length": 1, "hashes": { "sha256": sha256(b"a") }, "custom": custom })
    };
    assert_eq!(try_targets(json!({ "targets": { "a": target("p-1") } })), (Ok(()), Ok(())));
    let delegating = json!({ "targets": {}, "delegations": { "keys": {}, "roles": [] } });
    assert_eq!(
        try_targets(delegating),
        (Err(E::DelegationFromDirector), Err(E::DelegationFromDirector))
    );
    let twice = try_targets(json!({ "targets": { "a": target("p-1"), "b": target("p-1") } }));
    assert!(matches!(twice, (Err(E::DuplicateEcu { .. }), Err(E::DuplicateEcu { .. }))));
    let (full, partial) = try_targets(json!({ "targets": { "a": target("x-9") } }));
    assert!(matches!(full, Err(E::UnknownEcu { .. })));
    assert_eq!(partial, Ok(()), "a Secondary does not know its vehicle");
}

fn with_targets() -> &'static Repo {
    static REPO: std::sync::OnceLock<Repo> = std::sync::OnceLock::new();
    REPO.get_or_init(|| {
        let mut repo = Repo::new(None);
        repo.targets = json!({ "targets": { "a/b": listed_target(b"a") } });
        repo.publish(1);
        repo
    })
}

proptest! {
    #[test]
    fn noise_is_refused_and_never_panics(noise in prop::collection::vec(any::<u8>(), 0..500)) {
        let repo = with_targets();
        prop_assert!(TrustedSet::new(&noise, image(), now()).is_err());
        let mut set = set(repo, image());
        prop_assert!(set.update_root(&noise).is_err() && set.update_timestamp(&noise).is_err());
        set.update_timestamp(repo.file("timestamp.json")).unwrap();
        prop_assert!(set.update_snapshot(&noise).is_err());
        set.update_snapshot(repo.file("1.snapshot.json")).unwrap();
        prop_assert!(set.update_targets(&noise).is_err());
    }

    /// A changed byte is refused, or is one that does not count, such as the case of a hexadecimal
    /// digit.
    #[test]
    fn a_changed_byte_changes_nothing_that_is_trusted(at in 0_usize..2000, bit in 0_u8..8) {
        let repo = with_targets();
        for name in ["1.root.json", "timestamp.json", "1.snapshot.json", "1.targets.json"] {
            let mut files = repo.files.clone();
            let file = files.get_mut(name).unwrap();
            let at = at % file.len();
            file[at] ^= 1 << bit;
            let Ok(mut set) = TrustedSet::new(&files["1.root.json"], image(), now()) else { continue };
            let loaded = set.update_timestamp(&files["timestamp.json"])
                .and_then(|_| set.update_snapshot(&files["1.snapshot.json"]))
                .and_then(|()| set.update_targets(&files["1.targets.json"]));
            if loaded.is_ok() {
                let expected: TargetFile = serde_json::from_value(listed_target(b"a")).unwrap();
                prop_assert_eq!(set.targets().unwrap().get("a/b"), Some(&expected));
                prop_assert!(set.update_root(repo.file("1.root.json")).is_err());
            }
        }
    }
}

#[test]
fn what_the_director_asks_for_is_read_and_never_a_reason_to_refuse() {
    for (asked, expected) in [
        (json!(3600), Some(3600)),
        (json!(0), Some(0)),
        (json!(u64::MAX), Some(u64::MAX)),
        (json!(-1), None),
        (json!("1h"), None),
        (json!(null), None),
        (json!([3600]), None),
    ] {
        let mut repo = Repo::new(None);
        repo.targets = json!({ "targets": {}, "report_every": asked });
        repo.publish(1);
        let mut set = set(&repo, image());
        load(&mut set, &repo, 1).unwrap();
        assert_eq!(set.report_every().map(|time| time.as_secs()), expected, "{asked}");
    }
    let repo = published(1);
    let mut set = set(&repo, image());
    assert_eq!(set.report_every(), None, "nothing is read yet");
    load(&mut set, &repo, 1).unwrap();
    assert_eq!(set.report_every(), None);
}
