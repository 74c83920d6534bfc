//! Signatures that are missing, wrong, or too few.

use serde_json::json;

use crate::hostile::attack::{Attack, Row};
use crate::hostile::draft::Draft;
use crate::hostile::keys::Key;
use crate::hostile::repository::Side;
use crate::hostile::world::Lab;

/// Arbitrary software: metadata without enough signatures, in each role of each repository.
pub(crate) fn at_21(lab: &Lab) -> Vec<Attack> {
    type Forgery = (&'static str, &'static str, fn(&mut Draft));
    let forgeries: [Forgery; 4] = [
        ("unsigned", "has no signature", |draft| draft.signers.clear()),
        ("wrong-keys", "is signed with keys that nobody trusts", |draft| {
            draft.signers = vec![Key::generate(), Key::generate()];
        }),
        ("too-few", "has one signature where two are needed", |draft| draft.signers.truncate(1)),
        ("changed", "was changed after it was signed", |draft| {
            draft.tamper(|signed| signed["changed"] = json!(true));
        }),
    ];
    let mut row = Row::new(lab, "AT-21");
    for side in Side::BOTH {
        for role in side.roles() {
            for (variant, what, forge) in forgeries {
                let variant = format!("{variant}-{}-{role}", side.as_str());
                let description = format!("The {} repository's {role} {what}.", side.as_str());
                row.refuse("arbitrary-software", variant, description, |world| {
                    world.update_edited(side, role, forge);
                });
            }
        }
    }
    row.attacks
}
