//! What the Director says to which vehicle and to which of its ECUs.

use serde_json::{Value, json};

use crate::hostile::attack::{Attack, Behaviour, Expect, Row, Step};
use crate::hostile::draft::Draft;
use crate::hostile::image::Image;
use crate::hostile::keys::RoleKeys;
use crate::hostile::repository::{Delegation, Side, TOP_ROLES};
use crate::hostile::vehicle::{PRIMARY_HARDWARE, SECONDARY, SECONDARY_HARDWARE};
use crate::hostile::world::{Lab, Site, World, edit, software_of};

/// Another vehicle's metadata, signed by the same keys for the other vehicle.
pub(crate) fn at_9(lab: &Lab) -> Vec<Attack> {
    let mut row = Row::new(lab, "AT-9");
    let mut other = stranger_at(lab, 4);
    other.director.top().targets.clear();
    other.publish();
    let description = "Another vehicle's Director metadata, which lists nothing.";
    let theirs = other.director.clone();
    row.refuse_keyless("wrong-vehicle", "empty", description, |world| world.director = theirs);
    let theirs = stranger_at(lab, 4).director;
    let description = "Another vehicle's Director metadata with images.";
    row.refuse_keyless("wrong-vehicle", "bundle", description, |world| world.director = theirs);
    for role in &TOP_ROLES[1..] {
        let changes: [(&str, Value); 3] = [
            ("other", json!(lab.stranger.vin)),
            ("no", Value::Null),
            ("lower-case", json!(lab.vehicle.vin.to_lowercase())),
        ];
        for (variant, vin) in changes {
            let description =
                format!("The Director's {role} lists nothing and has {variant} vehicle's id.");
            row.refuse("wrong-vehicle", format!("{variant}-vin-{role}"), description, |world| {
                world.director.top().targets.clear();
                let change = edit(move |draft: &mut Draft| match &vin {
                    Value::Null => drop(draft.signed.as_object_mut().unwrap().remove("vin")),
                    vin => draft.signed["vin"] = vin.clone(),
                });
                world.publish_with(&[(Side::Director, role, change)]);
            });
        }
    }
    row.attacks
}

/// Another vehicle's Director, at some version.
fn stranger_at(lab: &Lab, version: u64) -> World {
    let mut other = World::of(lab, &lab.stranger);
    for role in &TOP_ROLES[1..] {
        other.director.versions.insert((*role).to_owned(), version);
    }
    other.update();
    other
}

/// A version jump by another vehicle's metadata: the vehicle's own next version is far below.
pub(crate) fn at_10(lab: &Lab) -> Vec<Attack> {
    let mut row = Row::new(lab, "AT-10");
    let other = stranger_at(lab, 900).director;
    for files in
        [&["timestamp"][..], &["timestamp", "snapshot"], &["timestamp", "snapshot", "targets"]]
    {
        let theirs =
            other.tree.iter().filter(|(name, _)| files.iter().any(|file| name.contains(file)));
        let theirs: Vec<_> = theirs.map(|(name, bytes)| (name.clone(), bytes.clone())).collect();
        let description = format!(
            "Version 900 of another vehicle's {}, and the vehicle's own.",
            files.join(", ")
        );
        row.refuse_keyless("wrong-vehicle", files.join("-"), description, |world| {
            world.director.tree.extend(theirs);
        });
    }
    row.attacks
}

/// A bundle of which one image does not arrive.
pub(crate) fn at_11(lab: &Lab) -> Vec<Attack> {
    let mut row = Row::new(lab, "AT-11");
    for ecu in &lab.vehicle.ecus {
        let mut next = row.honest.clone();
        next.update();
        let path = format!("/repo/{}", next.assigned[&ecu.serial].file());
        let redirect = Behaviour::Redirect(path.clone());
        for (variant, behaviour) in [
            ("missing", Behaviour::Missing),
            ("cut", Behaviour::Cut(5000)),
            ("redirect-loop", redirect),
        ] {
            // What is installed of the rest is the vehicle's choice; that it says so and ends whole
            // is not.
            let step = next.step(Expect::Partial).serve(path.clone(), behaviour);
            let last = next.step(Expect::Updated).serve(path.clone(), Behaviour::IgnoreRange);
            let steps = vec![row.honest.step(Expect::Updated), step, last];
            let description = format!("The image of the {} does not arrive.", ecu.role);
            row.push("partial-bundle", format!("{variant}-{}", ecu.role), description, steps);
        }
    }
    // An image whose condition does not arrive must not be installed either.
    for (missing, other) in [(0, 1), (1, 0)] {
        let (missing, other) = (&lab.vehicle.ecus[missing], &lab.vehicle.ecus[other]);
        let mut next = row.honest.clone();
        next.release_next();
        let condition = format!("{}>=3", software_of(missing));
        let image = Image::seal(software_of(other), &other.hardware_id, 3);
        let image = image.with_custom(|custom| custom["requires"] = json!([condition]));
        next.release(&image);
        next.assign(&other.serial, &image);
        next.publish();
        let path = format!("/repo/{}", next.assigned[&missing.serial].file());
        let step = Step::new(
            Site { installed: row.honest.site().installed, ..next.site() },
            Expect::Partial,
        );
        let steps = vec![
            row.honest.step(Expect::Updated),
            step.serve(path, Behaviour::Missing),
            next.step(Expect::Updated),
        ];
        let description =
            format!("The {}'s image does not arrive, which the other one requires.", missing.role);
        row.push("partial-bundle", format!("required-{}", missing.role), description, steps);
    }
    row.attacks
}

/// Images that must not be together, put together by who holds the Director's keys.
pub(crate) fn at_19(lab: &Lab) -> Vec<Attack> {
    let mut row = Row::new(lab, "AT-19");
    let (primary, secondary) = (lab.vehicle.primary(), lab.vehicle.secondary());
    let rules: [(&str, &str, &str); 3] = [
        ("conflict", "conflicts", "brake>=3"),
        ("missing", "requires", "brake>=99"),
        ("absent", "requires", "steering"),
    ];
    for (variant, member, constraint) in rules {
        let description = format!("The Primary's image {member} {constraint}, beside brake 3.");
        row.refuse("mix-and-match", variant, description, |world| {
            world.release_next();
            let image = Image::seal("gateway", PRIMARY_HARDWARE, 3);
            let image = image.with_custom(|custom| custom[member] = json!([constraint]));
            world.release(&image);
            world.assign(&primary.serial, &image);
            world.publish();
        });
    }
    let description = "The Secondary's image conflicts with what the Primary runs and keeps.";
    row.refuse("mix-and-match", "conflict-with-installed", description, |world| {
        let image = Image::seal("brake", SECONDARY_HARDWARE, 3);
        let image = image.with_custom(|custom| custom["conflicts"] = json!(["gateway=2"]));
        world.release(&image);
        world.assign(&secondary.serial, &image);
        world.publish();
    });
    let description = "The Primary's image requires what comes with it.";
    row.accept("none", "met", description, |world| {
        world.release_next();
        let image = Image::seal("gateway", PRIMARY_HARDWARE, 3);
        let image = image.with_custom(|custom| custom["requires"] = json!(["brake>=3"]));
        world.release(&image);
        world.assign(&primary.serial, &image);
        world.publish();
    });
    row.attacks
}

/// A Director that delegates.
pub(crate) fn at_34(lab: &Lab) -> Vec<Attack> {
    let mut row = Row::new(lab, "AT-34");
    let description = "The Director's targets delegate everything to a thief.";
    row.refuse("arbitrary-software", "everything", description, |world| {
        world
            .director
            .top()
            .delegations
            .push(Delegation::to("thief", &RoleKeys::generate()).paths(&["*"]));
        world.update();
    });
    let description = "The Director's targets have delegations, and none in them.";
    row.refuse("arbitrary-software", "nothing", description, |world| {
        world.update_edited(Side::Director, "targets", |draft| {
            draft.signed["delegations"] = json!({ "keys": {}, "roles": [] });
        });
    });
    row.attacks
}

/// ECUs that are there twice, or not in the vehicle.
pub(crate) fn at_35(lab: &Lab) -> Vec<Attack> {
    let mut row = Row::new(lab, "AT-35");
    for ecu in &lab.vehicle.ecus {
        let description = format!("The Director has two images for the {}.", ecu.role);
        row.refuse("mixed-bundles", format!("twice-{}", ecu.role), description, |world| {
            world.release_next();
            let second = Image::seal("second", &ecu.hardware_id, 3);
            world.release(&second);
            world.director.top().targets.insert(second.path.clone(), second.entry_for(&[ecu]));
            world.publish();
        });
    }
    let stranger = lab.stranger.primary().clone();
    let description =
        "The Director has an image for an ECU of another vehicle, beside the vehicle's own.";
    row.refuse("wrong-vehicle", "foreign", description, |world| {
        world.release_next();
        let foreign = Image::seal("foreign", &stranger.hardware_id, 3);
        world.release(&foreign);
        world.director.top().targets.insert(foreign.path.clone(), foreign.entry_for(&[&stranger]));
        world.publish();
    });
    let stranger = lab.stranger.primary().clone();
    let description = "The Director's image for the Primary is for an ECU of another vehicle, too.";
    row.refuse("wrong-vehicle", "foreign-beside", description, |world| {
        world.release_next();
        let primary = world.vehicle.primary().clone();
        let both = world.assigned[&primary.serial].entry_for(&[&primary, &stranger]);
        *world.director_entry(&primary.serial) = both;
        world.publish();
    });
    row.attacks
}

/// Images that are on the Image repository, and that nobody assigned.
pub(crate) fn at_38(lab: &Lab) -> Vec<Attack> {
    let mut row = Row::new(lab, "AT-38");
    row.accept(
        "none",
        "not-listed",
        "The Image repository has more than the Director lists.",
        |world| {
            world.release_next();
            for (name, hardware_id) in [("extra", PRIMARY_HARDWARE), ("other", SECONDARY_HARDWARE)]
            {
                world.release(&Image::seal(name, hardware_id, 9));
            }
            world.publish();
        },
    );
    row.accept("none", "for-nobody", "The Director lists an image for no ECU.", |world| {
        world.release_next();
        let extra = Image::seal("extra", PRIMARY_HARDWARE, 9);
        world.release(&extra);
        world.director.top().targets.insert(extra.path.clone(), extra.entry_for(&[]));
        world.publish();
    });
    row.accept(
        "none",
        "one-of-two",
        "The Director lists an image for the Primary alone.",
        |world| {
            let kept = world.assigned[SECONDARY].clone();
            world.release_next();
            world.assign(SECONDARY, &kept);
            world.director.top().targets.remove(&kept.path);
            world.publish();
        },
    );
    row.attacks
}
