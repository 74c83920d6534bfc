//! Versions that go back, stay or run away, and files that never were together.

use serde_json::json;

use crate::hostile::attack::{Attack, Behaviour, Expect, Row};
use crate::hostile::repository::{BINS, Side, file_name};
use crate::hostile::world::{Lab, World, edit};

/// Metadata rollback: an older version of each role, in each repository.
pub(crate) fn at_13(lab: &Lab) -> Vec<Attack> {
    let mut row = Row::new(lab, "AT-13");
    for side in Side::BOTH {
        let name = side.as_str();
        let description =
            format!("The {name} repository's root 2 has version 1 in it, and valid signatures.");
        row.refuse("rollback", format!("{name}-root"), description, |world| {
            world.update_edited(side, "root", |draft| draft.signed["version"] = json!(1));
        });
        let description = format!("The {name} repository's first timestamp is served again.");
        row.refuse_keyless("rollback", format!("{name}-timestamp"), description, |world| {
            let old = World::new(lab).repository(side).tree["timestamp.json"].clone();
            world.repository(side).tree.insert("timestamp.json".into(), old);
        });
        let description = format!(
            "The {name} repository's new timestamp lists the first snapshot, which is not there."
        );
        let attack =
            row.refuse("rollback", format!("{name}-snapshot-withheld"), description, |world| {
                let old = world.repository(side).listing("snapshot", 1);
                world.update_edited(side, "timestamp", move |draft| {
                    draft.signed["meta"]["snapshot.json"] = old.clone()
                });
            });
        let path = format!("/{}/1.snapshot.json", side.folder());
        attack.steps[1].serve.push((path, Behaviour::Missing));
        for (role, file) in [("snapshot", "timestamp"), ("targets", "snapshot")] {
            let description = format!("The {name} repository's new {file} lists the first {role}.");
            row.refuse("rollback", format!("{name}-{role}"), description, |world| {
                let old = world.repository(side).listing(role, 1);
                world.update_edited(side, file, move |draft| {
                    draft.signed["meta"][format!("{role}.json")] = old.clone();
                });
            });
        }
    }
    let description = "The Image repository's new snapshot lists the first bins.";
    row.refuse("rollback", "image-bins", description, |world| {
        let bins = world.image.delegated();
        let old: Vec<_> = bins
            .into_iter()
            .map(|bin| (format!("{bin}.json"), world.image.listing(&bin, 1)))
            .collect();
        world.update_edited(Side::Image, "snapshot", move |draft| {
            for (file, listing) in &old {
                draft.signed["meta"][file] = listing.clone();
            }
        });
    });
    row.attacks
}

/// The same version with other bytes.
pub(crate) fn at_14(lab: &Lab) -> Vec<Attack> {
    let mut row = Row::new(lab, "AT-14");
    // What is listed under a version that the vehicle has is not fetched again, whatever it lists.
    let mut honest = row.honest.clone();
    honest.update();
    let mut again = honest.clone();
    let version = row.honest.director.version("timestamp");
    again.director = row.honest.director.clone();
    again.director.targets.clone_from(&honest.director.targets);
    again
        .director
        .publish(&[("timestamp", edit(move |draft| draft.signed["version"] = json!(version)))]);
    let steps = vec![
        row.honest.step(Expect::Updated),
        again.step(Expect::UpToDate),
        honest.step(Expect::Updated),
    ];
    let description = "The Director's timestamp lists a new snapshot and keeps its version.";
    row.push("rollback", "director-timestamp", description, steps);

    let description =
        "The Image repository's timestamp lists a new snapshot and keeps its version.";
    row.refuse("arbitrary-software", "image-timestamp", description, |world| {
        let version = world.image.version("timestamp");
        world.update_edited(Side::Image, "timestamp", move |draft| {
            draft.signed["version"] = json!(version)
        });
    });
    for side in Side::BOTH {
        for role in ["snapshot", "targets"] {
            let mut changed = row.honest.clone();
            let repository = changed.repository(side);
            let file = file_name(role, repository.version(role));
            let mut bytes = repository.tree[&file].to_vec();
            bytes.push(b'\n');
            repository.store(&file, bytes);
            let mut honest = row.honest.clone();
            honest.update();
            let steps = vec![
                row.honest.step(Expect::Updated),
                changed.step(Expect::UpToDate),
                honest.step(Expect::Updated),
            ];
            let description = format!(
                "The {} repository's {role} has other bytes under its version.",
                side.as_str()
            );
            row.push("mix-and-match", format!("{}-{role}", side.as_str()), description, steps);
        }
    }
    row.attacks
}

/// Image rollback by who holds the Director's keys.
pub(crate) fn at_15(lab: &Lab) -> Vec<Attack> {
    let mut row = Row::new(lab, "AT-15");
    let olds = World::new(lab).assigned;
    let mut with_old = row.honest.clone();
    for image in olds.values() {
        with_old.release(image);
    }
    row.honest = with_old;
    row.honest.publish();
    for ecu in &lab.vehicle.ecus {
        let old = olds[&ecu.serial].clone();
        let description = format!(
            "The Director assigns the first image, which is still signed, to the {}.",
            ecu.role
        );
        row.refuse("image-rollback", format!("older-{}", ecu.role), description, |world| {
            world.release_next();
            world.assign(&ecu.serial, &old);
            world.publish();
        });
        let description =
            format!("The Director raises the counter of the first image for the {}.", ecu.role);
        row.refuse("image-rollback", format!("raised-{}", ecu.role), description, |world| {
            world.release_next();
            world.assign(&ecu.serial, &old);
            world.director_entry(&ecu.serial)["custom"]["releaseCounter"] = json!(99);
            world.publish();
        });
        let description =
            format!("The Director assigns nothing, and then the first image to the {}.", ecu.role);
        let attack =
            row.refuse("image-rollback", format!("forgotten-{}", ecu.role), description, |world| {
                world.publish(); // the empty one
                world.assign(&ecu.serial, &old);
                world.publish();
            });
        let mut step = attack.steps[0].clone();
        let mut world = World::clone(&row.honest);
        world.director.top().targets.clear();
        world.publish();
        step.site = world.site();
        step.expect = Expect::UpToDate;
        row.attacks.last_mut().unwrap().steps.insert(1, step);
    }
    row.attacks
}

/// Mix-and-match of metadata.
pub(crate) fn at_18(lab: &Lab) -> Vec<Attack> {
    let mut row = Row::new(lab, "AT-18");
    for side in Side::BOTH {
        for role in side.roles().iter().filter(|role| !["root", "timestamp"].contains(role)) {
            let name = side.as_str();
            let description = format!(
                "The {name} repository's {role} is another one of its version, signed as well."
            );
            row.refuse("mix-and-match", format!("other-{name}-{role}"), description, |world| {
                let mut other = world.clone();
                // Of one length, so that it is the hash that tells.
                other.update_edited(side, role, |draft| draft.signed["which"] = json!(2));
                world.update_edited(side, role, |draft| draft.signed["which"] = json!(1));
                take_files(world, &other, side, role, 0);
            });
            let description = format!(
                "The {name} repository's {role} is a newer one, and its hash is not listed."
            );
            row.refuse("mix-and-match", format!("newer-{name}-{role}"), description, |world| {
                let mut other = world.clone();
                other.update();
                other.update();
                let listing_file = if *role == "snapshot" { "timestamp" } else { "snapshot" };
                world.update_edited(side, listing_file, |draft| {
                    for listing in draft.signed["meta"].as_object_mut().unwrap().values_mut() {
                        *listing = json!({ "version": listing["version"] });
                    }
                });
                take_files(world, &other, side, role, 1);
            });
        }
    }
    row.attacks
}

/// Serves the files of another world, `newer` versions on, under the versions of this one.
fn take_files(world: &mut World, other: &World, side: Side, role: &str, newer: u64) {
    let other = if side == Side::Director { &other.director } else { &other.image };
    let repository = world.repository(side);
    let roles = if role == BINS { repository.delegated() } else { vec![role.to_owned()] };
    for role in roles {
        let version = repository.version(&role);
        let bytes = other.tree[&file_name(&role, version + newer)].to_vec();
        repository.store(&file_name(&role, version), bytes);
    }
}

/// Fast-forward, and what recovers from it.
pub(crate) fn at_31(lab: &Lab) -> Vec<Attack> {
    let mut row = Row::new(lab, "AT-31");
    for side in Side::BOTH {
        for role in side.roles().iter().filter(|role| **role != "root") {
            let mut stolen = row.honest.clone();
            let roles =
                if *role == BINS { stolen.image.delegated() } else { vec![(*role).to_owned()] };
            for role in roles {
                stolen.repository(side).versions.insert(role, MAX_VERSION - 1);
            }
            stolen.update();
            let mut honest = row.honest.clone();
            honest.update();
            honest.update();
            let mut rotated = honest.clone();
            rotated.repository(side).rotate("timestamp");
            rotated.repository(side).rotate("snapshot");
            rotated.repository(side).publish_root(&[]);
            rotated.update();
            let steps = vec![
                row.honest.step(Expect::Updated),
                stolen.step(Expect::Updated),
                honest.step(Expect::Refused("rollback")),
                rotated.step(Expect::Updated),
            ];
            let description = format!(
                "The {} repository's {role} gets the last version there is.",
                side.as_str()
            );
            row.push("rollback", format!("{}-{role}", side.as_str()), description, steps);
        }
    }
    row.attacks
}

const MAX_VERSION: u64 = i64::MAX as u64;
