//! Images and envelopes that are not what they should be.

use serde_json::{Value, json};

use crate::hostile::attack::{Attack, Row};
use crate::hostile::image::Image;
use crate::hostile::repository::Side;
use crate::hostile::vehicle::{PRIMARY, PRIMARY_HARDWARE, SECONDARY, SECONDARY_HARDWARE};
use crate::hostile::world::{Lab, World};

/// Encryption downgrade.
pub(crate) fn at_2(lab: &Lab) -> Vec<Attack> {
    let mut row = Row::new(lab, "AT-2");
    let description = "On its way, the word `sealed` is taken out of the Director's targets.";
    row.refuse_keyless("mix-and-match", "stripped-on-the-way", description, |world| {
        let file = format!("{}.targets.json", world.director.version("targets"));
        let mut targets: Value = serde_json::from_slice(&world.director.tree[&file]).unwrap();
        for target in targets["signed"]["targets"].as_object_mut().unwrap().values_mut() {
            target["custom"].as_object_mut().unwrap().remove("sealed");
        }
        world.director.store(&file, targets.to_string().into_bytes());
    });
    type Change = (&'static str, &'static str, fn(&mut Value));
    let changes: [Change; 4] = [
        ("no-sealed", "nothing of sealing", |custom| {
            drop(custom.as_object_mut().unwrap().remove("sealed"))
        }),
        ("no-algorithm", "no algorithm", |custom| {
            drop(custom["sealed"].as_object_mut().unwrap().remove("alg"))
        }),
        ("algorithm-none", "the algorithm NONE", |custom| custom["sealed"]["alg"] = json!("NONE")),
        ("algorithm-cbc", "an algorithm that nobody knows", |custom| {
            custom["sealed"]["alg"] = json!("AES128_CBC")
        }),
    ];
    for (variant, what, change) in changes {
        let description = format!("The Director, by its keys, says {what}.");
        row.refuse("encryption-downgrade", format!("{variant}-director"), description, |world| {
            world.release_next();
            change(&mut world.director_entry(PRIMARY)["custom"]);
            world.publish();
        });
        let description =
            format!("Both repositories, by their keys, say {what}, and the file is not sealed.");
        row.refuse("encryption-downgrade", format!("{variant}-both"), description, |world| {
            plain_release(world, |image| image.with_custom(change));
        });
    }
    let description = "Both repositories say that it is sealed by another algorithm that is known.";
    row.refuse("wrong-software", "algorithm-other", description, |world| {
        world.release_next();
        let image = world.assigned[PRIMARY].clone();
        let image =
            image.with_custom(|custom| custom["sealed"]["alg"] = json!("AES256_GCM_HKDF_1MB"));
        world.release(&image);
        world.assign(PRIMARY, &image);
        world.publish();
    })
    .on(PRIMARY);
    let description = "Both repositories say that a file is sealed which is not.";
    row.refuse("wrong-software", "plain-file", description, |world| {
        plain_release(world, |image| image)
    })
    .on(PRIMARY);
    let description =
        "The Director has no envelope for the Primary, and there is none for its hardware.";
    row.refuse("arbitrary-software", "no-envelope", description, |world| {
        world.release_next();
        let ecu = &mut world.director_entry(PRIMARY)["custom"]["ecuIdentifiers"][PRIMARY];
        ecu.as_object_mut().unwrap().remove("envelope");
        world.publish();
    });
    for (variant, alg) in
        [("dir", "dir"), ("rsa1-5", "RSA1_5"), ("none", "none"), ("a128kw", "ECDH-ES+A128KW")]
    {
        let description = format!("The Director's envelope says that its key is wrapped by {alg}.");
        row.refuse("wrong-software", format!("envelope-{variant}"), description, |world| {
            world.release_next();
            let envelope =
                &mut world.director_entry(PRIMARY)["custom"]["ecuIdentifiers"][PRIMARY]["envelope"];
            envelope["header"]["alg"] = json!(alg);
            world.publish();
        })
        .on(PRIMARY);
    }
    row.attacks
}

/// Releases an image for the Primary whose file is its plaintext, changed.
fn plain_release(world: &mut World, change: impl FnOnce(Image) -> Image) {
    world.release_next();
    let image = Image::seal("gateway", PRIMARY_HARDWARE, world.counter);
    let plaintext = image.plaintext.to_vec();
    let image = change(image.with_sealed(|sealed| *sealed = plaintext));
    world.release(&image);
    world.assign(PRIMARY, &image);
    world.publish();
}

/// Data keys and sealed bytes that were put in other places.
pub(crate) fn at_3(lab: &Lab) -> Vec<Attack> {
    let mut row = Row::new(lab, "AT-3");
    let description = "The Director gives each ECU the other one's envelope.";
    row.refuse("wrong-software", "other-ecu", description, |world| {
        world.release_next();
        let envelope = |world: &mut World, serial: &str| {
            world.director_entry(serial)["custom"]["ecuIdentifiers"][serial]["envelope"].take()
        };
        let (first, second) = (envelope(world, PRIMARY), envelope(world, SECONDARY));
        world.director_entry(PRIMARY)["custom"]["ecuIdentifiers"][PRIMARY]["envelope"] = second;
        world.director_entry(SECONDARY)["custom"]["ecuIdentifiers"][SECONDARY]["envelope"] = first;
        world.publish();
    });
    let theirs = lab.stranger.primary().clone();
    let description = "The Director gives the Primary the envelope of another vehicle's Primary.";
    row.refuse("wrong-software", "other-vehicle", description, |world| {
        world.release_next();
        let envelope = world.assigned[PRIMARY].envelope_for(&theirs);
        world.director_entry(PRIMARY)["custom"]["ecuIdentifiers"][PRIMARY]["envelope"] = envelope;
        world.publish();
    })
    .on(PRIMARY);
    for (serial, name, hardware_id) in
        [(PRIMARY, "gateway", PRIMARY_HARDWARE), (SECONDARY, "brake", SECONDARY_HARDWARE)]
    {
        let description = format!("The envelope for {serial} has the data key of another image.");
        row.refuse("wrong-software", format!("other-data-key-{name}"), description, |world| {
            world.release_next();
            let other = Image::seal(name, hardware_id, 7);
            let image = world.assigned[serial].clone().with_key_of(&other);
            world.assign(serial, &image);
            world.publish();
        })
        .on(serial);
    }
    type Change = (&'static str, &'static str, fn(&mut Vec<u8>));
    let changes: [Change; 5] = [
        ("swapped", "two segments that changed places", |sealed| {
            let (first, second) = sealed[SEGMENT..3 * SEGMENT].split_at_mut(SEGMENT);
            first.swap_with_slice(second);
        }),
        ("flipped", "one bit changed", |sealed| sealed[2 * SEGMENT + 100] ^= 1),
        ("truncated", "its last segments cut off", |sealed| sealed.truncate(5 * SEGMENT)),
        ("repeated", "a segment twice", |sealed| {
            let segment = sealed[SEGMENT..2 * SEGMENT].to_vec();
            sealed.splice(SEGMENT..SEGMENT, segment);
        }),
        ("extended", "bytes after its end", |sealed| sealed.extend([0; 100])),
    ];
    for (variant, what, change) in changes {
        let description =
            format!("Both repositories, by their keys, list a sealed image with {what}.");
        row.refuse("wrong-software", format!("signed-{variant}"), description, |world| {
            world.release_next();
            for serial in [PRIMARY, SECONDARY] {
                let image = world.assigned[serial].clone().with_sealed(change);
                world.release(&image);
                world.assign(serial, &image);
            }
            world.publish();
        });
        let description = format!("On its way, a sealed image gets {what}.");
        let attack = if ["extended", "repeated"].contains(&variant) {
            "endless-data"
        } else {
            "arbitrary-software"
        };
        if variant != "truncated" {
            row.refuse_keyless(attack, format!("on-the-way-{variant}"), description, |world| {
                change_file(world, PRIMARY, change);
            })
            .on(PRIMARY);
        }
    }
    type Claim = (&'static str, &'static str, fn(&mut Value));
    let claims: [Claim; 2] = [
        ("hash", "hash", |plaintext| plaintext["hashes"]["sha256"] = json!("ab".repeat(32))),
        ("length", "length", |plaintext| {
            plaintext["length"] = json!(plaintext["length"].as_u64().unwrap() - 1)
        }),
    ];
    for (variant, what, change) in claims {
        let description =
            format!("Both repositories sign another {what} of the plaintext than comes out.");
        row.refuse("wrong-software", format!("plaintext-{variant}"), description, |world| {
            world.release_next();
            let image = world.assigned[PRIMARY]
                .clone()
                .with_custom(|custom| change(&mut custom["sealed"]["plaintext"]));
            world.release(&image);
            world.assign(PRIMARY, &image);
            world.publish();
        })
        .on(PRIMARY);
    }
    row.attacks
}

fn change_file(world: &mut World, serial: &str, change: fn(&mut Vec<u8>)) {
    let file = world.assigned[serial].file();
    let mut bytes = world.image.tree[&file].to_vec();
    change(&mut bytes);
    world.image.store(&file, bytes);
}

/// Images for other hardware, assigned by who holds the Director's keys.
pub(crate) fn at_36(lab: &Lab) -> Vec<Attack> {
    let mut row = Row::new(lab, "AT-36");
    let foreign = Image::seal("brake", SECONDARY_HARDWARE, 9);
    let description = "The Director assigns the brake's image to the gateway.";
    row.refuse("wrong-hardware", "foreign-image", description, |world| {
        world.release_next();
        world.release(&foreign);
        world.assign(PRIMARY, &foreign);
        world.publish();
    });
    let description =
        "The Director assigns the brake's image to the gateway, and says that it is for both.";
    row.refuse("wrong-hardware", "ids-changed", description, |world| {
        world.release_next();
        world.release(&foreign);
        world.assign(PRIMARY, &foreign);
        let both = json!([PRIMARY_HARDWARE, SECONDARY_HARDWARE]);
        world.director_entry(PRIMARY)["custom"]["hardwareIds"] = both;
        world.publish();
    });
    let description = "The Director says that the gateway is of the brake's hardware.";
    row.refuse("wrong-hardware", "ecu-changed", description, |world| {
        world.release_next();
        world.release(&foreign);
        world.assign(PRIMARY, &foreign);
        world.director_entry(PRIMARY)["custom"]["ecuIdentifiers"][PRIMARY]["hardwareId"] =
            json!(SECONDARY_HARDWARE);
        world.publish();
    });
    let description =
        "The Director says that the gateway, which gets its own image, is of the brake's hardware.";
    row.refuse("wrong-hardware", "ecu-renamed", description, |world| {
        world.release_next();
        world.director_entry(PRIMARY)["custom"]["ecuIdentifiers"][PRIMARY]["hardwareId"] =
            json!(SECONDARY_HARDWARE);
        world.publish();
    });
    row.attacks
}

/// Images under each other's names.
pub(crate) fn at_37(lab: &Lab) -> Vec<Attack> {
    let mut row = Row::new(lab, "AT-37");
    for side in Side::BOTH {
        let description =
            format!("The {} repository lists two images under each other's names.", side.as_str());
        row.refuse(
            "arbitrary-software",
            format!("names-{}", side.as_str()),
            description,
            |world| {
                world.release_next();
                let other = Image::seal("gateway", PRIMARY_HARDWARE, 9);
                world.release(&other);
                let entry = match side {
                    Side::Director => world.director_entry(PRIMARY),
                    Side::Image => world.image_entry(PRIMARY),
                };
                entry["length"] = json!(other.sealed.len());
                entry["hashes"] = other.entry()["hashes"].clone();
                world.publish();
            },
        );
    }
    let description =
        "The file of one image is served under the name of another of the same length.";
    row.refuse_keyless("arbitrary-software", "files", description, |world| {
        let image = &world.assigned[PRIMARY];
        let other =
            Image::seal_bytes("gateway", PRIMARY_HARDWARE, 9, vec![9; image.plaintext.len()]);
        let file = image.file();
        world.image.store(&file, other.sealed.to_vec());
    })
    .on(PRIMARY);
    let description = "The files of two ECUs are served under each other's names.";
    row.refuse_keyless("arbitrary-software", "ecus", description, |world| {
        let (first, second) = (world.assigned[PRIMARY].clone(), world.assigned[SECONDARY].clone());
        world.image.store(&first.file(), second.sealed.to_vec());
        world.image.store(&second.file(), first.sealed.to_vec());
    });
    row.attacks
}

const SEGMENT: usize = 4096; // sealed, that of AES256_GCM_HKDF_4KB
