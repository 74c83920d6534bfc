use serde_json::{Value, json};

use crate::key::SigningKey;
use crate::verify::fixture::{
    Repo, id, image, key_objects, listed_target, load, new_key, set, sign, signed,
};
use crate::verify::{Limits, Search, TargetFile, VerifyError as E};

struct Supplier {
    name: &'static str,
    key: SigningKey,
    targets: Value,
    delegations: Option<Value>,
}

fn supplier(name: &'static str, targets: &[(&str, &[u8])]) -> Supplier {
    let entry = |(path, bytes): &(&str, &[u8])| ((*path).to_owned(), listed_target(bytes));
    let targets = targets.iter().map(entry).collect::<serde_json::Map<_, _>>().into();
    Supplier { name, key: new_key(), targets, delegations: None }
}

fn role(supplier: &Supplier, paths: &[&str], more: Value) -> Value {
    let mut role = json!({
        "name": supplier.name, "keyids": [id(&supplier.key)], "threshold": 1, "paths": paths, "terminating": false
    });
    role.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    role
}

fn delegations(suppliers: &[&Supplier], roles: Value) -> Value {
    json!({ "keys": key_objects(suppliers.iter().map(|supplier| &supplier.key)), "roles": roles })
}

/// Searches with suppliers whose files are there unless they are `withheld`; returns who was
/// loaded, in order, too.
fn search(
    suppliers: &[&Supplier],
    top: Value,
    path: &str,
    hardware: &[&str],
    withheld: &str,
) -> (Vec<String>, Result<Option<TargetFile>, E>) {
    let mut repo = Repo::new(None);
    repo.targets = json!({ "targets": {}, "delegations": top });
    for supplier in suppliers {
        let mut body = json!({ "targets": supplier.targets });
        if let Some(delegations) = &supplier.delegations {
            body["delegations"] = delegations.clone();
        }
        repo.delegated.push((
            supplier.name.into(),
            sign(&signed("targets", 1, body), &[&supplier.key]),
            1,
        ));
    }
    repo.publish(1);
    let mut set = set(&repo, image());
    load(&mut set, &repo, 1).unwrap();
    let hardware: Vec<_> = hardware.iter().map(|id| id.parse().unwrap()).collect();
    let mut visited = Vec::new();
    loop {
        let (role, delegator) = match set.search(path, &hardware) {
            Ok(Search::Found(target)) => return (visited, Ok(Some(target.clone()))),
            Ok(Search::Missing) => return (visited, Ok(None)),
            Ok(Search::Needs { role, delegator }) => (role, delegator),
            Err(error) => return (visited, Err(error)),
        };
        visited.push(role.to_string());
        if role.as_str() == withheld {
            return (visited, Err(E::Withheld { role }));
        }
        if let Err(error) =
            set.update_delegated(&role, &delegator, repo.file(&format!("1.{role}.json")))
        {
            return (visited, Err(error));
        }
    }
}

fn found(bytes: &[u8]) -> Result<Option<TargetFile>, E> {
    Ok(Some(serde_json::from_value(listed_target(bytes)).unwrap()))
}

/// AT-24, AT-46.
#[test]
fn delegations_are_searched_in_order_and_only_for_what_they_cover() {
    let (a, b) = (supplier("a", &[("x/1", b"a")]), supplier("b", &[("x/1", b"b"), ("y/1", b"b")]));
    let both = |a_paths: &[&str], more: Value| {
        delegations(
            &[&a, &b],
            json!([role(&a, a_paths, more), role(&b, &["x/*", "y/*"], json!({}))]),
        )
    };
    let run = |top: Value, path: &str| search(&[&a, &b], top, path, &[], "");
    assert_eq!(run(both(&["x/*"], json!({})), "x/1"), (vec!["a".into()], found(b"a")));
    assert_eq!(run(both(&["z/*"], json!({})), "x/1"), (vec!["b".into()], found(b"b")));
    assert_eq!(run(both(&["*/*"], json!({})), "y/1"), (vec!["a".into(), "b".into()], found(b"b")));
    assert_eq!(
        run(both(&["*/*"], json!({ "terminating": true })), "y/1"),
        (vec!["a".into()], Ok(None))
    );
    assert_eq!(
        search(&[&a, &b], both(&["*/*"], json!({})), "y/1", &[], "a").1,
        Err(E::Withheld { role: "a".parse().unwrap() })
    );
}

#[test]
fn delegations_can_be_for_some_hardware_only() {
    let a = supplier("a", &[("x", b"a")]);
    let top = delegations(
        &[&a],
        json!([role(&a, &["*"], json!({ "hardware_ids": ["gw-mk3", "gw-mk4"] }))]),
    );
    let run = |hardware: &[&str]| search(&[&a], top.clone(), "x", hardware, "").1;
    assert_eq!(run(&["gw-mk3"]), found(b"a"));
    assert_eq!(run(&["gw-mk3", "brake"]), Ok(None));
    assert_eq!(run(&["brake"]), Ok(None));
}

/// AT-17: a cycle, and AMB-11: a role that was visited elsewhere is visited again.
#[test]
fn cycles_end_and_what_was_visited_elsewhere_is_visited_again() {
    let (mut a, mut b) = (supplier("a", &[]), supplier("b", &[]));
    a.delegations = Some(delegations(&[&b], json!([role(&b, &["*"], json!({}))])));
    b.delegations = Some(delegations(&[&a], json!([role(&a, &["*"], json!({}))])));
    let top =
        delegations(&[&a, &b], json!([role(&a, &["*"], json!({})), role(&b, &["*"], json!({}))]));
    assert_eq!(search(&[&a, &b], top, "x", &[], ""), (vec!["a".into(), "b".into()], Ok(None)));
}

#[test]
fn a_search_ends_at_its_limit() {
    let names: Vec<&'static str> =
        (0..40).map(|n| &*Box::leak(format!("r{n:02}").into_boxed_str())).collect();
    let suppliers: Vec<_> = names.iter().map(|name| supplier(name, &[])).collect();
    let all: Vec<_> = suppliers.iter().collect();
    let roles: Vec<_> = all.iter().map(|supplier| role(supplier, &["*"], json!({}))).collect();
    let (visited, outcome) = search(&all, delegations(&all, roles.into()), "x", &[], "");
    assert!(matches!(outcome, Err(E::TooManyDelegations { .. })));
    assert_eq!(visited.len(), Limits::DELEGATIONS + 1);
}

/// A role that two delegate to, one of them with another key: that one does not get to use it.
#[test]
fn each_delegator_s_own_keys_count() {
    let (mut a, b) = (supplier("a", &[]), supplier("b", &[("x", b"b")]));
    let imposter = Supplier { key: new_key(), ..supplier("b", &[]) };
    a.delegations = Some(delegations(&[&imposter], json!([role(&imposter, &["y"], json!({}))])));
    let top =
        delegations(&[&a, &b], json!([role(&b, &["z"], json!({})), role(&a, &["*"], json!({}))]));
    let (_, outcome) = search(&[&a, &b], top, "y", &[], "");
    assert!(matches!(outcome, Err(E::ThresholdNotMet { .. })));
}

/// FV-18m, AT-47.
#[test]
fn several_roles_must_agree_and_none_may_be_withheld() {
    let (a, b, c) = (
        supplier("a", &[("x", b"1")]),
        supplier("b", &[("x", b"2")]),
        supplier("c", &[("x", b"2")]),
    );
    let all = [&a, &b, &c];
    let top = |agreement: u64| {
        let member = |supplier: &&Supplier| json!({ "name": supplier.name, "keyids": [id(&supplier.key)], "threshold": 1 });
        let roles: Vec<_> = all.iter().map(member).collect();
        let entry = json!({ "roles": roles, "min_roles_in_agreement": agreement, "paths": ["*"], "terminating": true });
        delegations(&all, json!([entry]))
    };
    assert_eq!(search(&all, top(1), "x", &[], "").1, found(b"1"), "the earliest, not the most");
    assert_eq!(search(&all, top(2), "x", &[], "").1, found(b"2"));
    assert_eq!(search(&all, top(3), "x", &[], "").1, Ok(None));
    assert_eq!(
        search(&all, top(2), "x", &[], "a").1,
        Err(E::Withheld { role: "a".parse().unwrap() })
    );
    let mut refused = Repo::new(None);
    refused.targets = json!({ "targets": {}, "delegations": top(4) });
    refused.publish(1);
    assert!(matches!(load(&mut set(&refused, image()), &refused, 1), Err(E::Malformed { .. })));
}

#[test]
fn a_delegated_role_is_in_the_snapshot_and_has_a_name_of_its_own() {
    let a = supplier("a", &[]);
    let mut repo = Repo::new(None);
    repo.targets = json!({ "targets": {}, "delegations": delegations(&[&a], json!([role(&a, &["*"], json!({}))])) });
    repo.publish(1);
    let mut set_ = set(&repo, image());
    load(&mut set_, &repo, 1).unwrap();
    assert!(matches!(
        set_.expected_targets(&"a".parse().unwrap()),
        Err(E::MissingFromSnapshot { .. })
    ));
    for name in ["snapshot", "root", ""] {
        let odd = Supplier { key: new_key(), ..supplier("a", &[]) };
        let odd = json!([role(&odd, &["*"], json!({ "name": name }))]);
        repo.targets = json!({ "targets": {}, "delegations": delegations(&[&a], odd) });
        repo.publish(2);
        assert!(
            matches!(load(&mut set(&repo, image()), &repo, 2), Err(E::Malformed { .. })),
            "{name}"
        );
    }
}

/// Where each delegation has its hardware ids, and where the file has all of them (docs/POUF.md).
#[test]
fn a_role_is_asked_for_its_own_hardware_wherever_that_is_said() {
    let acme = supplier("supplier-acme", &[("acme/a", b"acme")]);
    for said_by_file in [true, false] {
        let ids = json!(["gw-mk3", "gw-mk4"]);
        let more = if said_by_file { json!({}) } else { json!({ "hardware_ids": ids }) };
        let mut repo = Repo::new(None);
        repo.targets = json!({
            "targets": {}, "delegations": delegations(&[&acme], json!([role(&acme, &["acme/*"], more)])),
        });
        if said_by_file {
            repo.targets["delegation_hardware_ids"] = json!({ "supplier-acme": ids });
        }
        repo.publish(1);
        let mut set = set(&repo, image());
        load(&mut set, &repo, 1).unwrap();
        let asks = |hardware: &[&str]| {
            let hardware: Vec<_> = hardware.iter().map(|id| id.parse().unwrap()).collect();
            matches!(set.search("acme/a", &hardware), Ok(Search::Needs { .. }))
        };
        assert!(asks(&["gw-mk3"]) && asks(&["gw-mk4", "gw-mk3"]) && asks(&[]));
        assert!(!asks(&["brake-1"]) && !asks(&["gw-mk3", "brake-1"]));
    }
}

#[test]
fn hardware_of_no_delegation_and_hardware_that_is_said_twice_are_refused() {
    let acme = supplier("supplier-acme", &[]);
    for (more, of_file) in [
        (json!({}), json!({ "supplier-other": ["gw-mk3"] })),
        (json!({ "hardware_ids": ["gw-mk3"] }), json!({ "supplier-acme": ["gw-mk3"] })),
    ] {
        let mut repo = Repo::new(None);
        repo.targets = json!({
            "targets": {}, "delegation_hardware_ids": of_file,
            "delegations": delegations(&[&acme], json!([role(&acme, &["acme/*"], more)])),
        });
        repo.publish(1);
        let mut set = set(&repo, image());
        let refused = load(&mut set, &repo, 1);
        assert!(matches!(refused, Err(E::Malformed { .. })), "{refused:?}");
    }
}
