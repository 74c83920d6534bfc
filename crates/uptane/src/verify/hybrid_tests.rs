//! Roots and targets that are hybrid by threshold, for vehicles that know a classical root.

use motorcade_model::RoleName;
use serde_json::{Value, json};

use crate::key::{Scheme, SigningKey};
use crate::verify::VerifyError as E;
use crate::verify::fixture::{Repo, id, image, load, set, sign, signed};

/// A repository whose first root is classical, and a key of ML-DSA-65 each for root and targets.
struct Hybrid {
    repo: Repo,
    root: SigningKey,
    targets: SigningKey,
}

impl Hybrid {
    fn new() -> Self {
        let key = || SigningKey::from_pem(&SigningKey::generate_pem(Scheme::MlDsa65).unwrap());
        Self { repo: Repo::new(None), root: key().unwrap(), targets: key().unwrap() }
    }

    /// The content of a root that names both kinds, and needs both.
    fn content(&self, version: u64) -> Value {
        let mut root = self.repo.root(version);
        for (role, key) in [("root", &self.root), ("targets", &self.targets)] {
            root["keys"][id(key)] = key.public().object().clone();
            root["roles"][role]["keyids"].as_array_mut().unwrap().push(json!(id(key)));
            root["roles"][role]["threshold"] = json!(2);
        }
        root
    }

    fn root(&self, version: u64, keys: &[&SigningKey]) -> Vec<u8> {
        sign(&self.content(version), keys)
    }

    fn both(&self) -> [&SigningKey; 2] {
        [&self.repo.keys["root"], &self.root]
    }
}

fn is_unmet(error: &E, of: &RoleName) -> bool {
    matches!(error, E::ThresholdNotMet { role, valid: 1, threshold: 2 } if role == of)
}

#[test]
fn a_vehicle_follows_from_a_classical_root_to_a_hybrid_one_and_on() {
    let hybrid = Hybrid::new();
    let mut set = set(&hybrid.repo, image());
    set.update_root(&hybrid.root(2, &hybrid.both())).unwrap();
    set.update_root(&hybrid.root(3, &hybrid.both())).unwrap();
    assert_eq!(set.root_version(), 3);
}

#[test]
fn neither_kind_of_key_signs_a_hybrid_root_alone() {
    let hybrid = Hybrid::new();
    let mut set = set(&hybrid.repo, image());
    let classical = hybrid.root(2, &[&hybrid.repo.keys["root"]]);
    assert!(is_unmet(&set.update_root(&classical).unwrap_err(), &RoleName::Root));
    set.update_root(&hybrid.root(2, &hybrid.both())).unwrap();
    for alone in hybrid.both() {
        let error = set.update_root(&hybrid.root(3, &[alone])).unwrap_err();
        assert!(is_unmet(&error, &RoleName::Root), "{error}");
    }
    assert_eq!(set.root_version(), 2);
}

#[test]
fn the_way_back_to_a_classical_root_takes_both_keys_too() {
    let hybrid = Hybrid::new();
    let mut set = set(&hybrid.repo, image());
    set.update_root(&hybrid.root(2, &hybrid.both())).unwrap();
    let classical = hybrid.repo.root(3);
    let error = set.update_root(&hybrid.repo.sign("root", &classical)).unwrap_err();
    assert!(is_unmet(&error, &RoleName::Root), "{error}");
    set.update_root(&sign(&classical, &hybrid.both())).unwrap();
}

#[test]
fn hybrid_targets_need_both_signatures() {
    let mut hybrid = Hybrid::new();
    hybrid.repo.publish(1);
    let mut set = set(&hybrid.repo, image());
    set.update_root(&hybrid.root(2, &hybrid.both())).unwrap();
    let error = load(&mut set, &hybrid.repo, 1).unwrap_err();
    assert!(is_unmet(&error, &RoleName::Targets), "{error}");
    // What snapshot lists is the file with all of its signatures.
    let content = signed("targets", 2, hybrid.repo.targets.clone());
    let file = sign(&content, &[&hybrid.repo.keys["targets"], &hybrid.targets]);
    hybrid.repo.publish_with_targets(2, file);
    load(&mut set, &hybrid.repo, 2).unwrap();
    assert_eq!(set.targets_version(), Some(2));
}
