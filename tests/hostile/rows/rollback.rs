//! Rollback, mix-and-match, fast-forward: versions and digests that don't fit.

use serde_json::json;

use crate::hostile::attack::{Attack, Row};
use crate::hostile::repository::Side;
use crate::hostile::world::{Lab, World};

/// Metadata rollback: an older version of each role, in each repository.
pub(crate) fn at_13(lab: &Lab) -> Vec<Attack> {
    let mut row = Row::new(lab, "AT-13");
    for side in Side::BOTH {
        let name = side.as_str();
        let description = format!("The {name} repository's root 2 has version 1 in it, and valid signatures.");
        row.refuse("rollback", format!("{name}-root"), description, |world| {
            world.update_edited(side, "root", |draft| draft.signed["version"] = json!(1));
        });
        let description = format!("The {name} repository's first timestamp is served again.");
        row.refuse_keyless("rollback", format!("{name}-timestamp"), description, |world| {
            world.update();
            let old = World::new(lab).repository(side).tree["timestamp.json"].clone();
            world.repository(side).tree.insert("timestamp.json".into(), old);
        });
        let description = format!("The {name} repository's new timestamp lists the first snapshot.");
        row.refuse("rollback", format!("{name}-snapshot"), description, |world| {
            let old = world.repository(side).listing("snapshot", 1);
            world.update_edited(side, "timestamp", move |draft| draft.signed["meta"]["snapshot.json"] = old.clone());
        });
        let description = format!("The {name} repository's new snapshot lists the first targets.");
        row.refuse("rollback", format!("{name}-targets"), description, |world| {
            let old = world.repository(side).listing("targets", 1);
            world.update_edited(side, "snapshot", move |draft| draft.signed["meta"]["targets.json"] = old.clone());
        });
    }
    row.refuse("rollback", "image-delegated", "The Image repository's new snapshot lists the first bins.", |world| {
        let old: Vec<_> =
            world.image.delegated().iter().map(|bin| (bin.clone(), world.image.listing(bin, 1))).collect();
        world.update_edited(Side::Image, "snapshot", move |draft| {
            for (bin, listing) in &old {
                draft.signed["meta"][format!("{bin}.json")] = listing.clone();
            }
        });
    });
    row.attacks
}
