//! Delegations of the Image repository: their number, order, and who has to agree.

use serde_json::json;

use crate::hostile::attack::{Attack, Behaviour, Row};
use crate::hostile::image::Image;
use crate::hostile::keys::RoleKeys;
use crate::hostile::repository::{Delegation, Side, TargetsRole, file_name};
use crate::hostile::vehicle::{PRIMARY, PRIMARY_HARDWARE};
use crate::hostile::world::{Lab, World, edit};

/// Delegation graphs without end.
pub(crate) fn at_17(lab: &Lab) -> Vec<Attack> {
    let mut row = Row::new(lab, "AT-17");
    let description =
        "10000 roles are asked before the one that lists the image, and a few of them are there.";
    row.refuse("arbitrary-software", "wide", description, |world| {
        world.release_next();
        let keys = RoleKeys::single();
        let names: Vec<_> = (0..10_000).map(|number| format!("wide-{number:04}")).collect();
        let delegations = names.iter().map(|name| Delegation::to(name, &keys).paths(&["*/*/*"]));
        world.image.top().delegations.splice(0..0, delegations);
        for name in &names[..100] {
            world.image.add_role(name, TargetsRole::new(&keys));
        }
        let others: Vec<_> = names[100..].iter().map(|name| format!("{name}.json")).collect();
        let snapshot = edit(move |draft| {
            for file in &others {
                draft.signed["meta"][file] = json!({ "version": 1 });
            }
        });
        world.publish_with(&[(Side::Image, "snapshot", snapshot)]);
    });
    let description = "100 roles delegate each to the next, and the last one lists the image.";
    row.refuse("arbitrary-software", "deep", description, |world| {
        world.release_next();
        let (keys, deep) = (RoleKeys::single(), Image::seal("gateway", PRIMARY_HARDWARE, 9));
        chain(world, &keys, 100, None);
        world.release_in("deep-99", &deep);
        world.assign(PRIMARY, &deep);
        world.publish();
    });
    let description = "Three roles delegate to each other in a circle, and none lists the image.";
    row.refuse("arbitrary-software", "cycle-alone", description, |world| {
        world.release_next();
        let (keys, evil) = (RoleKeys::single(), Image::seal("evil", PRIMARY_HARDWARE, 9));
        chain(world, &keys, 3, Some("deep-0"));
        world.assign(PRIMARY, &evil);
        world.publish();
    });
    let description = "Three roles delegate to each other in a circle, before the bins.";
    row.accept("none", "cycle", description, |world| {
        world.release_next();
        chain(world, &RoleKeys::single(), 3, Some("deep-0"));
        world.publish();
    });
    let description = "A role delegates to the top-level targets.";
    row.refuse("malformed", "back-to-the-top", description, |world| {
        world.release_next();
        let keys = RoleKeys::single();
        chain(world, &keys, 1, Some("targets"));
        world.publish();
    });
    row.attacks
}

/// Roles `deep-0`, `deep-1`, … before the bins, each of which delegates to the next, and the last
/// one to `last`.
fn chain(world: &mut World, keys: &RoleKeys, length: usize, last: Option<&str>) {
    let to = |name: &str| Delegation::to(name, keys).paths(&["*/*/*"]);
    world.image.top().delegations.insert(0, to("deep-0"));
    for number in 0..length {
        let mut role = TargetsRole::new(keys);
        let next = if number + 1 < length {
            Some(format!("deep-{}", number + 1))
        } else {
            last.map(str::to_owned)
        };
        role.delegations.extend(next.map(|next| to(&next)));
        world.image.add_role(&format!("deep-{number}"), role);
    }
}

/// Two roles that may list the same path.
struct Two {
    world: World,
    image: Image,
    other: Image,
}

impl Two {
    /// `first` comes before `second`, and both before the bins.
    fn new(world: &World, first: fn(Delegation) -> Delegation) -> Self {
        let mut world = world.clone();
        world.release_next();
        let keys = (RoleKeys::generate(), RoleKeys::generate());
        let to_first = first(Delegation::to("first", &keys.0).paths(&["acme/*/*"]));
        let to_second = Delegation::to("second", &keys.1).paths(&["acme/*/*"]);
        world.image.top().delegations.splice(0..0, [to_first, to_second]);
        world.image.add_role("first", TargetsRole::new(&keys.0));
        world.image.add_role("second", TargetsRole::new(&keys.1));
        let image = Image::seal("acme", PRIMARY_HARDWARE, 9);
        let other = Image::seal("acme", PRIMARY_HARDWARE, 9);
        Self { world, image, other }
    }

    /// Lists the images in roles, lets the Director assign one, and publishes.
    fn publish(mut self, listed: &[&str], assign: impl Fn(&Self) -> Image) -> World {
        for (role, image) in listed.iter().zip([self.image.clone(), self.other.clone()]) {
            self.world.release_in(role, &image);
        }
        let image = assign(&self);
        self.world.assign(PRIMARY, &image);
        self.world.publish();
        self.world
    }
}

/// Which role counts when several list a path.
pub(crate) fn at_46(lab: &Lab) -> Vec<Attack> {
    let mut row = Row::new(lab, "AT-46");
    let none: fn(Delegation) -> Delegation = |delegation| delegation;
    let description =
        "Two roles list a path differently, and the Director has the second one's image.";
    row.refuse("arbitrary-software", "second", description, |world| {
        *world = Two::new(world, none).publish(&["first", "second"], |two| two.other.clone());
    });
    let description =
        "Two roles list a path differently, and the Director has the first one's image.";
    row.accept("none", "first", description, |world| {
        *world = Two::new(world, none).publish(&["first", "second"], |two| two.image.clone());
    });
    let description =
        "The second role alone lists a path, and the first one's delegation ends the search.";
    row.refuse("arbitrary-software", "terminating", description, |world| {
        *world =
            Two::new(world, Delegation::terminating).publish(&["second"], |two| two.image.clone());
    });
    let description = "The second role alone lists a path, and the first one's delegation does not end the search.";
    row.accept("none", "not-terminating", description, |world| {
        *world = Two::new(world, none).publish(&["second"], |two| two.image.clone());
    });
    let description = "The first role ends the search by a delegation to a third one, before the second lists the path.";
    row.refuse("arbitrary-software", "terminating-below", description, |world| {
        let mut two = Two::new(world, none);
        let keys = RoleKeys::generate();
        let to_third = Delegation::to("third", &keys).paths(&["acme/*/*"]).terminating();
        two.world.image.targets.get_mut("first").unwrap().delegations.push(to_third);
        two.world.image.add_role("third", TargetsRole::new(&keys));
        *world = two.publish(&["second"], |two| two.image.clone());
    });
    let description = "The first role's file is withheld, and the second lists the path.";
    let attack = row.refuse("freeze", "first-withheld", description, |world| {
        *world = Two::new(world, none).publish(&["second"], |two| two.image.clone());
    });
    let hostile = &mut attack.steps[1];
    hostile.serve.push(("/repo/1.first.json".to_owned(), Behaviour::Missing));
    row.attacks
}

/// Roles that have to agree.
pub(crate) fn at_47(lab: &Lab) -> Vec<Attack> {
    let mut row = Row::new(lab, "AT-47");
    let description = "Two roles of two have to agree, and do.";
    row.accept("none", "agreed", description, |world| several(world, 2, &["a", "b"]));
    let description = "One role of two has to agree, and does.";
    row.accept("none", "one-of-two", description, |world| several(world, 1, &["a"]));
    let description = "Two roles of two have to agree, and one does not list the image.";
    row.refuse("arbitrary-software", "one-is-silent", description, |world| {
        several(world, 2, &["a"])
    });
    let description = "Two roles of two have to agree, and one lists another image.";
    row.refuse("arbitrary-software", "one-differs", description, |world| {
        several(world, 2, &["a"]);
        let other = Image::seal("acme", PRIMARY_HARDWARE, 9);
        world.release_in("b", &other);
        world.publish();
    });
    let description =
        "Two roles of two have to agree, and one says something else of the same file.";
    row.refuse("arbitrary-software", "custom-differs", description, |world| {
        several(world, 2, &["a"]);
        let other = world.assigned[PRIMARY]
            .clone()
            .with_custom(|custom| custom["version"] = json!("8.0.0"));
        world.release_in("b", &other);
        world.publish();
    });
    for (min, variant) in [(2, "withheld-of-two"), (1, "withheld-of-one")] {
        for role in ["a", "b"] {
            let description = format!(
                "{min} of two roles must agree, and {role} is withheld; a third one lists the image."
            );
            let attack = row.refuse("freeze", format!("{variant}-{role}"), description, |world| {
                let keys = RoleKeys::generate();
                world
                    .image
                    .top()
                    .delegations
                    .insert(0, Delegation::to("third", &keys).paths(&["acme/*/*"]));
                world.image.add_role("third", TargetsRole::new(&keys));
                several(world, min, &["a", "b", "third"]);
            });
            let path = format!("/repo/{}", file_name(role, 1));
            attack.steps[1].serve.push((path, Behaviour::Missing));
        }
    }
    for min in [0, 3] {
        let description = format!("{min} roles of two have to agree.");
        row.refuse("malformed", format!("agreement-{min}"), description, |world| {
            several(world, min, &["a", "b"])
        });
    }
    row.attacks
}

/// Delegates acme's paths to the roles `a` and `b` together, and assigns an image that `listed`
/// list.
fn several(world: &mut World, min: u64, listed: &[&str]) {
    world.release_next();
    let (a, b) = (RoleKeys::generate(), RoleKeys::generate());
    let to_both = Delegation::to_several(min, &[("a", &a), ("b", &b)]).paths(&["acme/*/*"]);
    world.image.top().delegations.insert(0, to_both);
    world.image.add_role("a", TargetsRole::new(&a));
    world.image.add_role("b", TargetsRole::new(&b));
    let image = Image::seal("acme", PRIMARY_HARDWARE, 9);
    for role in listed {
        world.release_in(role, &image);
    }
    world.assign(PRIMARY, &image);
    world.publish();
}

/// A role that was delegated to, and is no longer.
pub(crate) fn at_48(lab: &Lab) -> Vec<Attack> {
    let mut row = Row::new(lab, "AT-48");
    let acme = RoleKeys::generate();
    row.honest
        .image
        .top()
        .delegations
        .insert(0, Delegation::to("acme", &acme).paths(&["acme/*/*"]));
    row.honest.image.add_role("acme", TargetsRole::new(&acme));
    row.honest.publish();
    let description = "The delegation is gone, and the snapshot no longer lists the role.";
    row.refuse("rollback", "dropped", description, |world| {
        world.image.top().delegations.remove(0);
        world.image.targets.remove("acme");
        world.update();
    });
    let description = "The delegation is gone, and the snapshot still lists the role.";
    row.accept("none", "listed", description, |world| {
        world.image.top().delegations.remove(0);
        world.update();
    });
    let description = "The delegation is gone, the keys of timestamp and snapshot are new, and the role is not listed.";
    row.accept("none", "rotated", description, |world| {
        world.image.top().delegations.remove(0);
        world.image.targets.remove("acme");
        world.image.rotate("timestamp");
        world.image.rotate("snapshot");
        world.image.publish_root(&[]);
        world.update();
    });
    row.attacks
}
