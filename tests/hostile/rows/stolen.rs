//! Stolen keys: which of them gain what.

use serde_json::json;

use crate::hostile::attack::{Attack, Row};
use crate::hostile::draft::Draft;
use crate::hostile::image::{Image, sha256_hex};
use crate::hostile::keys::RoleKeys;
use crate::hostile::repository::{BINS, Delegation, Side, TargetsRole};
use crate::hostile::vehicle::{PRIMARY, PRIMARY_HARDWARE, SECONDARY, SECONDARY_HARDWARE};
use crate::hostile::world::{Lab, World, edit};

/// The Director's keys.
pub(crate) fn at_22(lab: &Lab) -> Vec<Attack> {
    let mut row = Row::new(lab, "AT-22");
    let description = "The Director assigns a file that the Image repository does not list.";
    row.refuse("arbitrary-software", "unknown-file", description, |world| {
        world.release_next();
        let evil = Image::seal("evil", PRIMARY_HARDWARE, 9);
        world.image.store(&evil.file(), evil.sealed.to_vec());
        world.assign(PRIMARY, &evil);
        world.publish();
    });
    let description =
        "The Director assigns another file under a name that the Image repository lists.";
    row.refuse("arbitrary-software", "other-file", description, |world| {
        world.release_next();
        let path = world.assigned[PRIMARY].path.clone();
        let evil = Image::seal("evil", PRIMARY_HARDWARE, 3).at(&path);
        world.image.store(&evil.file(), evil.sealed.to_vec());
        world.assign(PRIMARY, &evil);
        world.publish();
    });
    type Forgery = (&'static str, fn(&mut serde_json::Value));
    let changes: [Forgery; 7] = [
        ("length", |entry| entry["length"] = json!(entry["length"].as_u64().unwrap() + 1)),
        ("one-more-hash", |entry| entry["hashes"]["sha512"] = json!("ab".repeat(64))),
        ("hash", |entry| entry["hashes"]["sha256"] = json!(sha256_hex(b"evil"))),
        ("version", |entry| entry["custom"]["version"] = json!("9.0.0")),
        ("plaintext-hash", |entry| {
            entry["custom"]["sealed"]["plaintext"]["hashes"]["sha256"] = json!(sha256_hex(b""))
        }),
        ("plaintext-length", |entry| entry["custom"]["sealed"]["plaintext"]["length"] = json!(1)),
        ("one-more-member", |entry| entry["custom"]["installer"] = json!("/bin/sh")),
    ];
    for (variant, change) in changes {
        let description = format!(
            "The Director says something else of an image than the Image repository: {variant}."
        );
        row.refuse("arbitrary-software", format!("other-{variant}"), description, |world| {
            world.release_next();
            change(world.director_entry(PRIMARY));
            world.publish();
        });
    }
    row.attacks
}

/// The Image repository's online keys, those of timestamp and snapshot, together with the
/// Director's.
pub(crate) fn at_23(lab: &Lab) -> Vec<Attack> {
    let mut row = Row::new(lab, "AT-23");
    let description = "The Image repository's snapshot no longer lists the bins.";
    row.refuse("rollback", "bins-dropped", description, |world| {
        world.update_edited(Side::Image, "snapshot", |draft| {
            draft.signed["meta"]
                .as_object_mut()
                .unwrap()
                .retain(|file, _| !file.starts_with("bin-"));
        });
    });
    let description = "The Image repository's snapshot no longer lists the top-level targets.";
    row.refuse("rollback", "targets-dropped", description, |world| {
        world.update_edited(Side::Image, "snapshot", |draft| {
            draft.signed["meta"].as_object_mut().unwrap().remove("targets.json");
        });
    });
    let description = "The Image repository's snapshot lists a hash that the bins do not have.";
    row.refuse("mix-and-match", "bins-changed", description, |world| {
        world.update_edited(Side::Image, "snapshot", |draft| {
            for (_, meta) in draft.signed["meta"].as_object_mut().unwrap() {
                meta["hashes"]["sha256"] = json!(sha256_hex(b"evil"));
            }
        });
    });
    for role in ["targets", BINS] {
        let description = format!(
            "The Image repository's snapshot lists {role} with an evil image, signed by its own keys."
        );
        row.refuse("arbitrary-software", format!("forged-{role}"), description, |world| {
            evil_release(world);
            let online = world.image.keys("snapshot").signers();
            let signers = edit(move |draft: &mut Draft| draft.signers.clone_from(&online));
            world.publish_with(&[(Side::Image, role, signers)]);
        });
    }
    let description = "The Image repository's snapshot lists a new role, to which nobody delegates, with an evil image.";
    row.refuse("arbitrary-software", "role-added", description, |world| {
        world.release_next();
        let evil = Image::seal("evil", PRIMARY_HARDWARE, 9);
        world.image.add_role("evil", TargetsRole::new(&RoleKeys::generate()));
        world.release_in("evil", &evil);
        world.assign(PRIMARY, &evil);
        world.publish();
    });
    row.attacks
}

fn evil_release(world: &mut World) {
    world.release_next();
    let evil = Image::seal("evil", PRIMARY_HARDWARE, 9);
    world.release(&evil);
    world.assign(PRIMARY, &evil);
}

/// A supplier's keys together with the Director's, and with those of timestamp and snapshot.
pub(crate) fn at_24(lab: &Lab) -> Vec<Attack> {
    let mut row = Row::new(lab, "AT-24");
    let (acme, brakes) = (RoleKeys::generate(), RoleKeys::generate());
    let mut honest = row.honest.clone();
    let to_acme = Delegation::to("acme", &acme).paths(&["acme/*/*"]).hardware(&[PRIMARY_HARDWARE]);
    let to_brakes =
        Delegation::to("brakes", &brakes).paths(&["brakes/*/*"]).hardware(&[SECONDARY_HARDWARE]);
    honest.image.top().delegations.splice(0..0, [to_acme, to_brakes]);
    honest.image.add_role("acme", TargetsRole::new(&acme));
    honest.image.add_role("brakes", TargetsRole::new(&brakes));
    honest.publish();
    row.honest = honest;
    let mut stolen = |variant: &str, what: &str, serial: &'static str, image: Image| {
        let description = format!("The supplier acme signs {what}.");
        row.refuse("arbitrary-software", variant, description, |world| {
            world.release_next();
            world.release_in("acme", &image);
            world.assign(serial, &image);
            world.publish();
        });
    };
    let foreign_path = Image::seal("brakes", SECONDARY_HARDWARE, 9);
    stolen("foreign-path", "an image below the path of another supplier", SECONDARY, foreign_path);
    let own_path = Image::seal("brakes", PRIMARY_HARDWARE, 9);
    stolen(
        "foreign-path-own-hardware",
        "its own hardware's image below another supplier's path",
        PRIMARY,
        own_path,
    );
    let unscoped = Image::seal("gateway", PRIMARY_HARDWARE, 9);
    stolen("path-of-nobody", "an image that only bins may list", PRIMARY, unscoped);
    let deep = Image::seal("acme", PRIMARY_HARDWARE, 9).at("acme/9/more/acme.bin");
    stolen("deeper-path", "an image deeper than its pattern goes", PRIMARY, deep);
    let foreign_hardware = Image::seal("acme", SECONDARY_HARDWARE, 9);
    stolen(
        "foreign-hardware",
        "an image for another supplier's hardware",
        SECONDARY,
        foreign_hardware,
    );
    let both = Image::seal("acme", SECONDARY_HARDWARE, 9).with_custom(|custom| {
        custom["hardwareIds"] = json!([PRIMARY_HARDWARE, SECONDARY_HARDWARE])
    });
    stolen(
        "more-hardware",
        "an image for its own and for another supplier's hardware",
        SECONDARY,
        both,
    );
    let description = "The supplier acme delegates another supplier's path to itself.";
    row.refuse("arbitrary-software", "delegated-on", description, |world| {
        world.release_next();
        let thief = RoleKeys::generate();
        let role = world.image.targets.get_mut("acme").unwrap();
        role.delegations.push(Delegation::to("thief", &thief).paths(&["brakes/*/*", "*/*/*"]));
        world.image.add_role("thief", TargetsRole::new(&thief));
        let evil = Image::seal("brakes", SECONDARY_HARDWARE, 9);
        world.release_in("thief", &evil);
        world.assign(SECONDARY, &evil);
        world.publish();
    });
    let honest = Image::seal("acme", PRIMARY_HARDWARE, 9);
    row.accept("none", "own-path", "The supplier acme signs what it may.", |world| {
        world.release_next();
        world.release_in("acme", &honest);
        world.assign(PRIMARY, &honest);
        world.publish();
    });
    row.attacks
}

/// The Director's keys and those of the Image repository's targets: nothing is left that could
/// tell.
pub(crate) fn at_25(lab: &Lab) -> Vec<Attack> {
    let mut row = Row::new(lab, "AT-25");
    for serial in [PRIMARY, SECONDARY] {
        let ecu = lab.vehicle.ecus.iter().find(|ecu| ecu.serial == serial).unwrap();
        let description =
            format!("Both repositories list an evil image for the {}. It is accepted.", ecu.role);
        row.accept("arbitrary-software", format!("limit-{}", ecu.role), description, |world| {
            world.release_next();
            let evil = Image::seal("evil", &ecu.hardware_id, 9);
            world.release(&evil);
            world.assign(serial, &evil);
            world.publish();
        });
    }
    row.attacks
}
