//! Signatures that are missing, wrong, too few or too many.

use motorcade::uptane::key::Scheme;
use serde_json::json;

use crate::hostile::attack::{Attack, Expect, Row};
use crate::hostile::draft::Draft;
use crate::hostile::keys::{Key, RoleKeys};
use crate::hostile::repository::{BINS, Side};
use crate::hostile::world::{Lab, World};

type Change = (&'static str, &'static str, fn(&mut Draft));

/// Arbitrary software: metadata without enough signatures, in each role of each repository.
pub(crate) fn at_21(lab: &Lab) -> Vec<Attack> {
    let forgeries: [Change; 5] = [
        ("unsigned", "has no signature", |draft| draft.signers.clear()),
        ("wrong-keys", "is signed with keys that nobody trusts", |draft| {
            draft.signers = vec![Key::generate(), Key::generate()];
        }),
        ("borrowed-ids", "is signed with other keys under the ids of the right ones", |draft| {
            draft.signers =
                draft.signers.iter().map(|key| Key::generate().named(&key.id)).collect();
        }),
        ("too-few", "has one signature where two are needed", |draft| draft.signers.truncate(1)),
        ("changed", "was changed after it was signed", |draft| {
            draft.tamper(|signed| signed["changed"] = json!(true));
        }),
    ];
    let mut row = Row::new(lab, "AT-21");
    for_each_role(|side, role| {
        for (variant, what, forge) in forgeries {
            let variant = format!("{variant}-{}-{role}", side.as_str());
            let description = format!("The {} repository's {role} {what}.", side.as_str());
            row.refuse("arbitrary-software", variant, description, |world| {
                world.update_edited(side, role, forge)
            });
        }
    });
    row.attacks
}

fn for_each_role(mut each: impl FnMut(Side, &'static str)) {
    for side in Side::BOTH {
        side.roles().iter().for_each(|role| each(side, role));
    }
}

/// A threshold that one key meets alone.
pub(crate) fn at_26(lab: &Lab) -> Vec<Attack> {
    let mut row = Row::new(lab, "AT-26");
    for_each_role(|side, role| {
        let name = side.as_str();
        let description = format!("The {name} repository's {role} has one signature twice.");
        row.refuse("malformed", format!("same-signature-{name}-{role}"), description, |world| {
            world.update_edited(side, role, |draft| {
                draft.signers = vec![draft.signers[0].clone(); 2]
            });
        });
        let description =
            format!("The {name} repository's {role} has one key's signature under two keys' ids.");
        row.refuse("arbitrary-software", format!("two-ids-{name}-{role}"), description, |world| {
            world.update_edited(side, role, |draft| {
                let second = draft.signers[1].id.clone();
                draft.signers[1] = draft.signers[0].named(&second);
            });
        });
        let description =
            format!("One key stands twice for the {name} repository's {role}, as two key objects.");
        row.refuse("arbitrary-software", format!("alias-{name}-{role}"), description, |world| {
            let key = Key::generate();
            let keys = RoleKeys { keys: vec![key.clone(), key.alias()], threshold: json!(2) };
            replace_keys(world, side, role, &keys);
            world.update();
        });
        let description = format!("One key id stands twice for the {name} repository's {role}.");
        row.refuse(
            "arbitrary-software",
            format!("listed-twice-{name}-{role}"),
            description,
            |world| {
                let key = Key::generate();
                let keys = RoleKeys { keys: vec![key.clone(), key], threshold: json!(2) };
                replace_keys(world, side, role, &keys);
                world.update();
            },
        );
    });
    // One key in two encodings: what a supplier might hand in as two.
    for scheme in [Scheme::EcdsaSha2Nistp256, Scheme::RsassaPssSha256] {
        let key = Key::generate_of(scheme);
        for (encoding, other) in key.other_encodings() {
            for (side, role) in
                [(Side::Director, "targets"), (Side::Image, "root"), (Side::Image, BINS)]
            {
                let name = side.as_str();
                let description =
                    format!("One key stands twice for the {name} repository's {role}: {encoding}.");
                row.refuse(
                    "arbitrary-software",
                    format!("{encoding}-{name}-{role}"),
                    description,
                    |world| {
                        let keys = RoleKeys {
                            keys: vec![key.clone(), other.clone()],
                            threshold: json!(2),
                        };
                        replace_keys(world, side, role, &keys);
                        world.update();
                    },
                );
            }
        }
    }
    row.attacks
}

/// Gives a role other keys, and tells in a new root, or in the targets that delegate to bins.
pub(crate) fn replace_keys(world: &mut World, side: Side, role: &str, keys: &RoleKeys) {
    let repository = world.repository(side);
    if role == BINS {
        for bin in repository.delegated() {
            *repository.keys_mut(&bin) = keys.clone();
        }
        for delegation in &mut repository.top().delegations {
            delegation.object["keyids"] = json!(keys.key_ids());
            delegation.object["threshold"] = keys.threshold.clone();
            delegation.keys.clone_from(&keys.keys);
        }
        return;
    }
    *repository.keys_mut(role) = keys.clone();
    repository.publish_root(&[]);
}

/// Thresholds that protect nothing, or that nobody can meet.
pub(crate) fn at_27(lab: &Lab) -> Vec<Attack> {
    let mut row = Row::new(lab, "AT-27");
    for_each_role(|side, role| {
        let name = side.as_str();
        let mut honest = row.honest.clone();
        for (variant, threshold, attack) in [
            ("zero", 0, "arbitrary-software"),
            ("negative", -1, "malformed"),
            ("unmeetable", 4, "arbitrary-software"),
        ] {
            let description = format!(
                "The {name} repository's {role} has the threshold {threshold} and three keys."
            );
            let attack =
                row.refuse(attack, format!("{variant}-{name}-{role}"), description, |world| {
                    let keys = RoleKeys { threshold: json!(threshold), ..RoleKeys::generate() };
                    replace_keys(world, side, role, &keys);
                    world.update();
                    honest = world.clone();
                });
            // A root with a threshold that nobody meets is a root all the same, so it takes another
            // one.
            if variant == "unmeetable" && !["root", BINS].contains(&role) {
                replace_keys(&mut honest, side, role, &RoleKeys::generate());
                honest.update();
                attack.steps[2] = honest.step(Expect::Updated);
            }
        }
    });
    row.attacks
}

/// Signatures that are of no use, beside enough that are.
pub(crate) fn at_28(lab: &Lab) -> Vec<Attack> {
    let additions: [Change; 4] = [
        ("unknown-key", "a signature of an unknown key", |draft| {
            draft.signatures(|all| all.insert(0, Key::generate().sign(b"something else")));
        }),
        ("no-hex", "a signature that is not even hexadecimal", |draft| {
            draft.signatures(|all| {
                all.insert(0, json!({ "keyid": "0".repeat(64), "sig": "zz\u{e9}" }))
            });
        }),
        ("empty", "an empty signature", |draft| {
            draft.signatures(|all| all.push(json!({ "keyid": "", "sig": "" })));
        }),
        ("more-members", "a signature with a member that nobody knows", |draft| {
            draft.signatures(|all| all.iter_mut().for_each(|each| each["method"] = json!("none")));
        }),
    ];
    let mut row = Row::new(lab, "AT-28");
    for_each_role(|side, role| {
        for (variant, what, add) in additions {
            let variant = format!("{variant}-{}-{role}", side.as_str());
            let description = format!("The {} repository's {role} has {what}, too.", side.as_str());
            row.accept("none", variant, description, |world| world.update_edited(side, role, add));
        }
        let variant = format!("third-key-{}-{role}", side.as_str());
        let description = format!(
            "The {} repository's {role} has a wrong one of its third key, too.",
            side.as_str()
        );
        row.accept("none", variant, description, |world| {
            let third = match role {
                BINS => world.image.keys("bin-0").keys[2].clone(),
                _ => world.repository(side).keys(role).keys[2].clone(),
            };
            world.update_edited(side, role, move |draft| {
                let wrong = third.sign(b"something else");
                draft.signatures(move |all| all.insert(0, wrong));
            });
        });
    });
    row.attacks
}

/// Key ids that are not their keys' own.
pub(crate) fn at_33(lab: &Lab) -> Vec<Attack> {
    let mut row = Row::new(lab, "AT-33");
    for_each_role(|side, role| {
        let name = side.as_str();
        let description = format!(
            "A key of the {name} repository's {role} is listed under an id that is not its own."
        );
        row.refuse(
            "arbitrary-software",
            format!("foreign-id-{name}-{role}"),
            description,
            |world| {
                let mut keys = RoleKeys::generate();
                keys.keys[0] = keys.keys[0].named(&"ab".repeat(32));
                replace_keys(world, side, role, &keys);
                world.update();
            },
        );
    });
    for side in Side::BOTH {
        let name = side.as_str();
        let description = format!(
            "A thief's key stands under the id of a key in the {name} repository's root, too."
        );
        row.refuse("malformed", format!("two-keys-one-id-{name}"), description, |world| {
            let key = world.repository(side).keys("targets").keys[0].clone();
            world.update_edited(side, "root", move |draft| {
                let second = format!("\"{}\":{},", key.id, Key::generate().object);
                draft.bytes(move |bytes| insert_after(bytes, "\"keys\":{", &second));
            });
        });
    }
    row.attacks
}

/// Puts text into a file, behind the first place where `place` is.
pub(crate) fn insert_after(bytes: &mut Vec<u8>, place: &str, text: &str) {
    let whole = String::from_utf8(std::mem::take(bytes)).unwrap();
    assert!(whole.contains(place), "{place} is not in {whole}");
    *bytes = whole.replacen(place, &format!("{place}{text}"), 1).into_bytes();
}
