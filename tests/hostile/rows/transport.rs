//! Servers that send too little, too much or too slowly.

use serde_json::json;

use crate::hostile::attack::{Attack, Behaviour, Expect, Row};
use crate::hostile::repository::{Side, file_name};
use crate::hostile::vehicle::PRIMARY;
use crate::hostile::world::{Lab, World, bin_of};

/// Slow retrieval: a byte a second, each time it is tried. None at all is what a tunnel or a server
/// that was paused gives, too.
pub(crate) fn at_5(lab: &Lab) -> Vec<Attack> {
    let mut row = Row::new(lab, "AT-5");
    for (variant, behaviour) in [("drip", Behaviour::Drip), ("stall", Behaviour::Stall)] {
        let how = format!("comes a byte a second, or not at all after the head ({variant}).");
        let everywhere = places(&row.honest);
        refuse_each(&mut row, "slow-retrieval", variant, &behaviour, &how, everywhere);
    }
    for attack in row.attacks.iter_mut().filter(|attack| attack.variant.starts_with("stall")) {
        attack.steps[1].expect = match attack.steps[1].expect {
            Expect::RefusedBy(_, serial) => Expect::FaultedBy("stalled", serial),
            _ => Expect::Faulted("stalled"),
        };
    }
    row.attacks
}

/// Everything that an update fetches, by a name for it.
fn places(world: &World) -> Vec<(String, String)> {
    let mut places = Vec::new();
    for side in Side::BOTH {
        let (folder, name) = (side.folder(), side.as_str());
        let repository = if side == Side::Director { &world.director } else { &world.image };
        places.push((format!("{name}-root"), format!("/{folder}/2.root.json")));
        places.push((format!("{name}-timestamp"), format!("/{folder}/timestamp.json")));
        for role in ["snapshot", "targets"] {
            let file = file_name(role, repository.version(role));
            places.push((format!("{name}-{role}"), format!("/{folder}/{file}")));
        }
    }
    let image = &world.assigned[PRIMARY];
    let bin = bin_of(&image.path);
    places.push((
        "image-bin".to_owned(),
        format!("/repo/{}", file_name(&bin, world.image.version(&bin))),
    ));
    places.push(("image".to_owned(), format!("/repo/{}", image.file())));
    places
}

fn path_of(world: &World, place: &str) -> String {
    places(world).into_iter().find(|(name, _)| *name == place).unwrap().1
}

/// The server misbehaves at one of these places in turn, each time with an update to fetch.
fn refuse_each(
    row: &mut Row,
    attack: &'static str,
    variant: &str,
    behaviour: &Behaviour,
    how: &str,
    places: Vec<(String, String)>,
) {
    for (place, path) in places {
        row.refuse_step(attack, format!("{variant}-{place}"), format!("{path} {how}"), |world| {
            world.step(refused(attack, &place)).serve(path_of(world, &place), behaviour.clone())
        });
    }
}

/// Metadata stops everything, and an image its own ECU.
fn refused(attack: &'static str, place: &str) -> Expect {
    if place == "image" { Expect::RefusedBy(attack, PRIMARY) } else { Expect::Refused(attack) }
}

/// Endless data at each place that an update fetches.
pub(crate) fn at_16(lab: &Lab) -> Vec<Attack> {
    let mut row = Row::new(lab, "AT-16");
    let everywhere = places(&row.honest);
    refuse_each(
        &mut row,
        "endless-data",
        "endless",
        &Behaviour::Endless,
        "goes on without end.",
        everywhere,
    );
    for place in ["director-root", "director-timestamp", "image-snapshot", "image"] {
        let mut next = row.honest.clone();
        next.update();
        let path = path_of(&next, place);
        let description = format!("The head before {path} goes on without end.");
        // That the connection is of no use is all that a vehicle can say: no byte of a file has
        // come.
        let step = next.step(Expect::Partial).serve(path, Behaviour::EndlessHead);
        let steps = vec![row.honest.step(Expect::Updated), step, next.step(Expect::Updated)];
        row.push("endless-data", format!("endless-head-{place}"), description, steps);
    }
    let metadata = places(&row.honest).into_iter().filter(|(place, _)| *place != "image").collect();
    let how = "is short in gzip, and without end when that is undone.";
    refuse_each(&mut row, "endless-data", "bomb", &Behaviour::GzipBomb, how, metadata);
    for side in Side::BOTH {
        let name = side.as_str();
        let description =
            format!("The {name} repository's timestamp, well signed, has a megabyte.");
        row.refuse("endless-data", format!("large-{name}-timestamp"), description, |world| {
            world.update_edited(side, "timestamp", |draft| {
                draft.signed["more"] = json!("x".repeat(1024 * 1024))
            });
        });
        let description =
            format!("The {name} repository's root 2, well signed, has ten megabytes.");
        row.refuse("endless-data", format!("large-{name}-root"), description, |world| {
            world.update_edited(side, "root", |draft| {
                draft.signed["more"] = json!("x".repeat(10 * 1024 * 1024))
            });
        });
        for (role, file) in [("snapshot", "timestamp"), ("targets", "snapshot")] {
            let description =
                format!("The {name} repository's {file} lists a {role} of a terabyte.");
            row.refuse("endless-data", format!("listed-{name}-{role}"), description, |world| {
                world.update_edited(side, file, move |draft| {
                    draft.signed["meta"][format!("{role}.json")]["length"] = json!(1_u64 << 40);
                });
            });
        }
    }
    // TUF 1.0.34, 5.3.3: one update takes a bounded number of roots, and what comes after works
    // with the last of them.
    let description =
        "The Director's root has 1500 successors, each well signed: more than one update takes.";
    row.accept("none", "roots", description, |world| {
        (0..1500).for_each(|_| world.director.publish_root(&[]));
        world.update();
    });
    row.attacks
}
