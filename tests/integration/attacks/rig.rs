//! Plays attacks against a vehicle, and holds it to what every step expects.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::attacks::server::FileServer;
use crate::attacks::vehicle::{Outcome, TestVehicle, lab};
use crate::hostile::attack::{Attack, Expect, Step};
use crate::hostile::rows;

/// Plays every attack of one row. All are played, and all that went wrong is told at once.
pub(crate) fn play_row(id: &str) {
    let attacks = rows::row(id, lab());
    assert!(!attacks.is_empty(), "{id} has no attacks");
    let faults: Vec<String> = attacks.iter().flat_map(|attack| Rig::new().play(attack)).collect();
    assert!(faults.is_empty(), "{} of {} attacks:\n{}", faults.len(), attacks.len(), faults.join("\n"));
}

/// A vehicle and the server that it talks to.
pub(crate) struct Rig {
    pub(crate) server: FileServer,
    pub(crate) vehicle: TestVehicle,
    installed: BTreeMap<String, Arc<Vec<u8>>>,
}

impl Rig {
    pub(crate) fn new() -> Self {
        let server = FileServer::start();
        let vehicle = TestVehicle::new(&server.url());
        Self { server, vehicle, installed: BTreeMap::new() }
    }

    /// Plays an attack, and returns the first thing that went wrong, with its name.
    pub(crate) fn play(&mut self, attack: &Attack) -> Option<String> {
        for (number, step) in (1..).zip(&attack.steps) {
            let outcome = self.update(step);
            if let Err(fault) = self.check(step, &outcome) {
                return Some(format!("{}, step {number}: {fault}; it says {outcome}", attack.id()));
            }
        }
        None
    }

    /// Plays one step and holds the vehicle to it.
    pub(crate) fn expect(&mut self, step: &Step) -> Outcome {
        let outcome = self.update(step);
        if let Err(fault) = self.check(step, &outcome) {
            panic!("{fault}; it says {outcome}");
        }
        outcome
    }

    /// One update cycle.
    pub(crate) fn update(&mut self, step: &Step) -> Outcome {
        self.server.serve(step);
        self.vehicle.set_clock(step.clock);
        self.vehicle.update()
    }

    fn check(&mut self, step: &Step, outcome: &Outcome) -> Result<(), String> {
        let (expected, attack) = match step.expect {
            Expect::Updated => ("updated", None),
            Expect::UpToDate => ("up_to_date", None),
            Expect::Partial => return self.check_partial(step, outcome),
            Expect::Refused(attack) => ("refused", Some(attack)),
        };
        if outcome.outcome != expected || outcome.attack.as_deref() != attack {
            return Err(format!("{:?} was expected", step.expect));
        }
        if step.expect == Expect::Updated {
            self.installed = step.site.installed.clone();
        }
        self.check_installed()?;
        attack.map_or(Ok(()), |attack| self.check_report(attack))
    }

    /// Each ECU runs what it ran or what it was to run, whole, and the Director hears which.
    fn check_partial(&mut self, step: &Step, outcome: &Outcome) -> Result<(), String> {
        if outcome.outcome == "updated" {
            return Err("not all can be installed".into());
        }
        let manifest = self.server.last_manifest().ok_or("there is no manifest")?;
        for (serial, image) in self.vehicle.images() {
            let image = image.ok_or_else(|| format!("{serial} has lost its image"))?;
            let possible = [self.installed.get(&serial), step.site.installed.get(&serial)];
            let known = possible.into_iter().flatten().find(|known| ***known == image);
            let known = known.ok_or_else(|| format!("{serial} runs what nobody assigned"))?.clone();
            self.installed.insert(serial.clone(), known);
            let text = String::from_utf8_lossy(&image);
            let words: Vec<_> = text.split(' ').take(2).collect();
            let reported = &manifest.report_of(&serial)["installed_image"]["filepath"];
            if *reported != format!("{0}/{1}/{0}.bin", words[0], words[1]) {
                return Err(format!("{serial} runs {words:?} and reports {reported}"));
            }
        }
        self.vehicle.check_contained()
    }

    /// Each ECU runs what it should, to the byte.
    pub(crate) fn check_installed(&self) -> Result<(), String> {
        for (serial, image) in self.vehicle.images() {
            let expected = self.installed.get(&serial).map(|image| image.as_slice());
            if image.as_deref() != expected {
                let first_line = |bytes: Option<&[u8]>| {
                    bytes.map(|bytes| String::from_utf8_lossy(bytes).lines().next().unwrap_or_default().to_owned())
                };
                let (found, expected) = (first_line(image.as_deref()), first_line(expected));
                return Err(format!("{serial} runs {found:?} where it should run {expected:?}"));
            }
        }
        self.vehicle.check_contained()
    }

    /// The Director hears of the attack: at the end of the cycle, or with the next one.
    fn check_report(&mut self, attack: &str) -> Result<(), String> {
        let told = |rig: &Self| rig.server.last_manifest().is_some_and(|manifest| manifest.reports(attack));
        if told(self) {
            return Ok(());
        }
        Err(format!("the manifest after it does not report {attack}: {:?}", self.server.last_manifest()))
    }
}
