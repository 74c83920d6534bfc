//! Both repositories of one vehicle, and what an honest server does with them.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::attack::{Expect, Step};
use super::draft::{Draft, Edit};
use super::image::Image;
use super::keys::RoleKeys;
use super::repository::{Delegation, HostileRepository, Side, TOP_ROLES, TargetsRole, Tree};
use super::vehicle::{Ecu, Vehicle};

/// Role keys of both repositories, whose first roots the vehicle trusts.
#[derive(Clone)]
pub(crate) struct LabKeys {
    director: BTreeMap<String, RoleKeys>,
    image: BTreeMap<String, RoleKeys>,
    bins: RoleKeys,
}

impl LabKeys {
    pub(crate) fn generate() -> Self {
        let keys =
            || TOP_ROLES.iter().map(|role| ((*role).to_owned(), RoleKeys::generate())).collect();
        Self { director: keys(), image: keys(), bins: RoleKeys::generate() }
    }

    /// The root that the vehicle is built with.
    pub(crate) fn first_root(&self, side: Side) -> Arc<Vec<u8>> {
        HostileRepository::new(None, self.of(side)).tree["1.root.json"].clone()
    }

    fn of(&self, side: Side) -> &BTreeMap<String, RoleKeys> {
        match side {
            Side::Director => &self.director,
            Side::Image => &self.image,
        }
    }
}

/// What all attacks start from: keys, and the vehicle that trusts them.
pub(crate) struct Lab {
    pub(crate) keys: LabKeys,
    pub(crate) vehicle: Vehicle,
    /// Another vehicle of the same fleet.
    pub(crate) stranger: Vehicle,
}

impl Lab {
    pub(crate) fn new(keys: LabKeys, vehicle: Vehicle) -> Self {
        let (stranger, _) = Vehicle::generate("SNAKEOIL000000002", ["prim-0002", "sec-0002"]);
        Self { keys, vehicle, stranger }
    }
}

/// What is served at one time, and what an honest vehicle has installed once it saw it.
#[derive(Clone)]
pub(crate) struct Site {
    pub(crate) director: Tree,
    pub(crate) repo: Tree,
    pub(crate) installed: BTreeMap<String, Arc<Vec<u8>>>,
}

/// Both repositories, in the hands of whoever holds all their keys.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) director: HostileRepository,
    pub(crate) image: HostileRepository,
    pub(crate) vehicle: Vehicle,
    /// Release counter of what is assigned now.
    pub(crate) counter: u64,
    /// What the Director assigns, by ECU serial.
    pub(crate) assigned: BTreeMap<String, Image>,
}

impl World {
    /// Repositories with a first release for every ECU, published once.
    pub(crate) fn new(lab: &Lab) -> Self {
        Self::of(lab, &lab.vehicle)
    }

    /// The same Image repository's keys, and the Director's word for this vehicle.
    pub(crate) fn of(lab: &Lab, vehicle: &Vehicle) -> Self {
        let director = HostileRepository::new(Some(&vehicle.vin), &lab.keys.director);
        let mut image = HostileRepository::new(None, &lab.keys.image);
        for (name, prefixes) in bins() {
            image.top().delegations.push(Delegation::to(&name, &lab.keys.bins).prefixes(&prefixes));
            image.add_role(&name, TargetsRole::new(&lab.keys.bins));
        }
        let mut world = Self {
            director,
            image,
            vehicle: vehicle.clone(),
            counter: 0,
            assigned: BTreeMap::new(),
        };
        world.update();
        world
    }

    pub(crate) fn repository(&mut self, side: Side) -> &mut HostileRepository {
        match side {
            Side::Director => &mut self.director,
            Side::Image => &mut self.image,
        }
    }

    /// Seals a next release for every ECU, lists it in both repositories, and publishes.
    pub(crate) fn update(&mut self) {
        self.update_with(&[]);
    }

    /// The next release, with one file changed; a changed root is published before.
    pub(crate) fn update_edited(
        &mut self,
        side: Side,
        role: &str,
        edit: impl Fn(&mut Draft) + 'static,
    ) {
        let edit: Edit = Rc::new(edit);
        if role == "root" {
            self.repository(side).publish_root(&[("root", edit)]);
            return self.update();
        }
        self.update_with(&[(side, role, edit)]);
    }

    pub(crate) fn update_with(&mut self, edits: &[(Side, &str, Edit)]) {
        self.release_next();
        self.publish_with(edits);
    }

    /// Seals a next release for every ECU and lists it in both repositories, without publishing
    /// them.
    pub(crate) fn release_next(&mut self) {
        self.counter += 1;
        for ecu in self.vehicle.ecus.clone() {
            let image = Image::seal(software_of(&ecu), &ecu.hardware_id, self.counter);
            self.release(&image);
            self.assign(&ecu.serial, &image);
        }
    }

    /// Publishes both repositories as they are.
    pub(crate) fn publish(&mut self) {
        self.publish_with(&[]);
    }

    pub(crate) fn publish_with(&mut self, edits: &[(Side, &str, Edit)]) {
        for side in [Side::Image, Side::Director] {
            let edits: Vec<_> = edits
                .iter()
                .filter(|edit| edit.0 == side)
                .map(|edit| (edit.1, edit.2.clone()))
                .collect();
            self.repository(side).publish(&edits);
        }
    }

    /// Lists an image in its bin of the Image repository and stores its file.
    pub(crate) fn release(&mut self, image: &Image) {
        let bin = bin_of(&image.path);
        self.release_in(&bin, image);
    }

    /// Lists an image in some role of the Image repository and stores its file.
    pub(crate) fn release_in(&mut self, role: &str, image: &Image) {
        self.image.targets.get_mut(role).unwrap().targets.insert(image.path.clone(), image.entry());
        self.image.store(&image.file(), image.sealed.to_vec());
    }

    /// Lets the Director assign an image to an ECU, in place of the one before.
    pub(crate) fn assign(&mut self, serial: &str, image: &Image) {
        self.assigned.insert(serial.to_owned(), image.clone());
        let mut targets = Map::new();
        for image in self.assigned.values() {
            let is_for = |ecu: &&Ecu| {
                self.assigned.get(&ecu.serial).is_some_and(|other| other.path == image.path)
            };
            let ecus: Vec<_> = self.vehicle.ecus.iter().filter(is_for).collect();
            targets.insert(image.path.clone(), image.entry_for(&ecus));
        }
        self.director.top().targets = targets;
    }

    /// The Director's entry for an ECU's image, to be changed.
    pub(crate) fn director_entry(&mut self, serial: &str) -> &mut Value {
        let path = self.assigned[serial].path.clone();
        self.director.top().targets.get_mut(&path).unwrap()
    }

    /// The Image repository's entry for an ECU's image, to be changed.
    pub(crate) fn image_entry(&mut self, serial: &str) -> &mut Value {
        let path = self.assigned[serial].path.clone();
        self.image.targets.get_mut(&bin_of(&path)).unwrap().targets.get_mut(&path).unwrap()
    }

    pub(crate) fn site(&self) -> Site {
        let installed =
            self.assigned.iter().map(|(serial, image)| (serial.clone(), image.plaintext.clone()));
        let (director, repo) = (self.director.tree.clone(), self.image.tree.clone());
        Site { director, repo, installed: installed.collect() }
    }

    pub(crate) fn step(&self, expect: Expect) -> Step {
        Step::new(self.site(), expect)
    }
}

/// The software that an ECU runs.
pub(crate) fn software_of(ecu: &Ecu) -> &'static str {
    if ecu.role == "primary" { "gateway" } else { "brake" }
}

/// Bins by name, each with the first digits of the digests of its paths.
fn bins() -> impl Iterator<Item = (String, Vec<String>)> {
    let prefixes = |bin: u32| (bin * 4..bin * 4 + 4).map(|digit| format!("{digit:x}")).collect();
    (0..4).map(move |bin| (format!("bin-{bin}"), prefixes(bin)))
}

/// The bin that lists a path.
pub(crate) fn bin_of(path: &str) -> String {
    format!("bin-{}", Sha256::digest(path.as_bytes())[0] >> 6)
}

/// An edit as [`World::update_with`] takes it.
pub(crate) fn edit(change: impl Fn(&mut Draft) + 'static) -> Edit {
    Rc::new(change)
}
