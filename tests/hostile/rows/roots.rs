//! Roots: the chain, and keys that were rotated out.

use serde_json::json;

use crate::hostile::attack::{Attack, Expect, Row};
use crate::hostile::draft::Draft;
use crate::hostile::keys::RoleKeys;
use crate::hostile::repository::{BINS, Side};
use crate::hostile::rows::signatures::replace_keys;
use crate::hostile::world::{Lab, World, edit};

/// Roots that do not follow on each other.
pub(crate) fn at_29(lab: &Lab) -> Vec<Attack> {
    let mut row = Row::new(lab, "AT-29");
    for side in Side::BOTH {
        let name = side.as_str();
        let mut refuse = |attack, variant: &str, what: &str, hostile: fn(&mut World, Side)| {
            let description = format!("The {name} repository's {what}.");
            row.refuse(attack, format!("{variant}-{name}"), description, |world| {
                hostile(world, side);
                world.update();
            });
        };
        refuse("rollback", "skipped", "root 2 has version 3 in it", |world, side| {
            world
                .repository(side)
                .publish_root(&[("root", edit(|draft| draft.signed["version"] = json!(3)))]);
        });
        refuse("rollback", "unchanged", "root 2 is root 1 again", |world, side| {
            let first = world.repository(side).tree["1.root.json"].to_vec();
            world.repository(side).store("2.root.json", first);
        });
        refuse("rollback", "reordered", "roots 2 and 3 have changed places", |world, side| {
            let repository = world.repository(side);
            repository.publish_root(&[]);
            repository.publish_root(&[]);
            let (second, third) =
                (repository.tree["2.root.json"].to_vec(), repository.tree["3.root.json"].to_vec());
            repository.store("2.root.json", third);
            repository.store("3.root.json", second);
        });
        refuse(
            "arbitrary-software",
            "without-old",
            "root 2 lacks the old keys' signatures",
            |world, side| {
                signed_by(world, side, |draft| draft.signers.drain(..2).for_each(drop));
            },
        );
        refuse(
            "arbitrary-software",
            "without-new",
            "root 2 lacks the new keys' signatures",
            |world, side| {
                signed_by(world, side, |draft| draft.signers.truncate(2));
            },
        );
        refuse(
            "arbitrary-software",
            "too-few-old",
            "root 2 has one signature of the old keys",
            |world, side| {
                signed_by(world, side, |draft| drop(draft.signers.remove(0)));
            },
        );
        refuse(
            "arbitrary-software",
            "too-few-new",
            "root 2 has one signature of the new keys",
            |world, side| {
                signed_by(world, side, |draft| drop(draft.signers.pop()));
            },
        );
        refuse(
            "arbitrary-software",
            "jump",
            "root 3 is signed by those of root 3 and of root 1",
            |world, side| {
                let old = world.repository(side).keys("root").signers();
                let repository = world.repository(side);
                repository.rotate("root");
                repository.publish_root(&[]);
                repository.rotate("root");
                let by = edit(move |draft| {
                    let new = draft.signers.split_off(2);
                    draft.signers = [old.clone(), new].concat();
                });
                repository.publish_root(&[("root", by)]);
            },
        );
    }
    row.attacks
}

/// A root with other keys for itself, whose signers are changed: two of the old ones, and two of
/// the new ones.
fn signed_by(world: &mut World, side: Side, change: fn(&mut Draft)) {
    let repository = world.repository(side);
    repository.rotate("root");
    repository.publish_root(&[("root", edit(change))]);
}

/// Keys that were stolen and then rotated out.
pub(crate) fn at_30(lab: &Lab) -> Vec<Attack> {
    let mut row = Row::new(lab, "AT-30");
    for side in Side::BOTH {
        for role in side.roles() {
            let mut rotated = row.honest.clone();
            let key_of = if *role == BINS { "bin-0" } else { role };
            let old = rotated.repository(side).keys(key_of).signers();
            replace_keys(&mut rotated, side, role, &RoleKeys::generate());
            rotated.update();
            let mut stolen = rotated.clone();
            stolen.update_edited(side, role, move |draft| draft.signers.clone_from(&old));
            let mut honest = rotated.clone();
            honest.update();
            honest.update();
            let steps = vec![
                row.honest.step(Expect::Updated),
                rotated.step(Expect::Updated),
                stolen.step(Expect::Refused("arbitrary-software")),
                honest.step(Expect::Updated),
            ];
            let description =
                format!("The {} repository's {role} is signed with keys of before.", side.as_str());
            row.push("arbitrary-software", format!("{}-{role}", side.as_str()), description, steps);
        }
    }
    row.attacks
}
