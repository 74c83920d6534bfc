//! Time: metadata that is out of date, and clocks that lie.

use serde_json::json;

use crate::hostile::attack::{Attack, Behaviour, Expect, Row};
use crate::hostile::draft::Draft;
use crate::hostile::repository::{EXPIRED, Side, file_name};
use crate::hostile::world::Lab;

/// Freeze: each role past its expiry, in each repository. Nobody but the operator may have done it,
/// by signing nothing new: a fault, which the vehicle refuses all the same.
pub(crate) fn at_6(lab: &Lab) -> Vec<Attack> {
    let mut row = Row::new(lab, "AT-6");
    let expire = |draft: &mut Draft| draft.signed["expires"] = json!(EXPIRED);
    for side in Side::BOTH {
        for role in side.roles().iter().filter(|role| **role != "root") {
            let description = format!("The {} repository's {role} has expired.", side.as_str());
            row.fault(
                "freeze",
                "expired",
                format!("expired-{}-{role}", side.as_str()),
                description,
                |world| {
                    world.update_edited(side, role, expire);
                },
            );
        }
        let mut expired = row.honest.clone();
        expired.update_edited(side, "root", expire);
        let mut honest = expired.clone();
        honest.repository(side).publish_root(&[]);
        honest.update();
        let steps = vec![
            row.honest.step(Expect::Updated),
            expired.step(Expect::Faulted("expired")),
            honest.step(Expect::Updated),
        ];
        let description = format!("The {} repository's last root has expired.", side.as_str());
        row.push("freeze", format!("expired-{}-root", side.as_str()), description, steps);
    }
    // The Image repository's own files are looked at when the Director has something new.
    for role in ["timestamp", "snapshot", "targets"] {
        let mut old = row.honest.clone();
        old.update_edited(Side::Director, role, |draft| {
            draft.signed["expires"] = json!("2031-01-01T00:00:00Z")
        });
        let mut honest = old.clone();
        honest.update();
        let steps = vec![
            old.step(Expect::Updated).at("2030-06-01T00:00:00Z"),
            old.step(Expect::Faulted("expired")).at("2031-06-01T00:00:00Z"),
            honest.step(Expect::Updated).at("2031-06-01T00:00:00Z"),
        ];
        let description =
            format!("The Director's files are served until its {role} expires, and after.");
        row.push("freeze", format!("replayed-director-{role}"), description, steps);
    }
    row.attacks
}

/// Freeze by a clock that is held back.
pub(crate) fn at_7(lab: &Lab) -> Vec<Attack> {
    let mut row = Row::new(lab, "AT-7");
    let mut next = row.honest.clone();
    next.update();
    let steps = vec![
        row.honest.step(Expect::Updated).at("2030-06-01T00:00:00Z"),
        next.step(Expect::Faulted("clock")).at("2030-05-01T00:00:00Z"),
        next.step(Expect::Updated).at("2030-06-02T00:00:00Z"),
    ];
    row.push(
        "freeze",
        "time-goes-back",
        "The time is a month before that of the last update.",
        steps,
    );
    row.attacks
}

/// Time in the far future.
pub(crate) fn at_8(lab: &Lab) -> Vec<Attack> {
    let mut row = Row::new(lab, "AT-8");
    let mut next = row.honest.clone();
    next.update();
    for clock in ["2099-01-01T00:00:00Z", "9999-12-30T22:00:00Z"] {
        // A new root of the Director makes what a clock has said forgotten (Deployment Best
        // Practices 3.1.1.4).
        let mut rotated = next.clone();
        rotated.director.publish_root(&[]);
        rotated.update();
        let steps = vec![
            row.honest.step(Expect::Updated).at("2030-06-01T00:00:00Z"),
            next.step(Expect::Faulted("expired")).at(clock),
            rotated.step(Expect::Updated).at("2030-06-02T00:00:00Z"),
        ];
        let description =
            "The time is far ahead, and then right again with a new root of the Director.";
        row.push("freeze", format!("year-{}", &clock[..4]), description, steps);
        // Nor is it believed as long as nothing has verified at that time.
        let steps = vec![
            row.honest.step(Expect::Updated).at("2030-06-01T00:00:00Z"),
            next.step(Expect::Faulted("expired")).at(clock),
            next.step(Expect::Updated).at("2030-06-01T01:00:00Z"),
        ];
        let description = "The time is far ahead once, and then right again.";
        row.push("freeze", format!("year-{}-once", &clock[..4]), description, steps);
    }
    row.attacks
}

/// A mirror that lags behind, or has not got all files yet.
pub(crate) fn at_39(lab: &Lab) -> Vec<Attack> {
    let mut row = Row::new(lab, "AT-39");
    let (old, mut next) = (row.honest.clone(), row.honest.clone());
    next.update();
    let mut after = next.clone();
    after.update();
    for side in Side::BOTH {
        let mut mixed = after.clone();
        *mixed.repository(side) =
            if side == Side::Director { old.director.clone() } else { old.image.clone() };
        let steps = vec![
            next.step(Expect::Updated),
            mixed.step(Expect::Refused("rollback")),
            after.step(Expect::Updated),
        ];
        let description = format!("The {} repository is served as it was before.", side.as_str());
        row.push("rollback", format!("stale-{}", side.as_str()), description, steps);
        for role in ["snapshot", "targets"] {
            let version = if side == Side::Director {
                next.director.version(role)
            } else {
                next.image.version(role)
            };
            let path = format!("/{}/{}", side.folder(), file_name(role, version));
            let step = next.step(Expect::Refused("freeze")).serve(path, Behaviour::Missing);
            let steps = vec![old.step(Expect::Updated), step, next.step(Expect::Updated)];
            let description =
                format!("The {} repository's new {role} is not there yet.", side.as_str());
            row.push("freeze", format!("lagging-{}-{role}", side.as_str()), description, steps);
        }
    }
    row.attacks
}
