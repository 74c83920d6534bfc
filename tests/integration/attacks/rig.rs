//! Plays attacks against a vehicle, and holds it to what every step expects.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::attacks::server::FileServer;
use crate::attacks::vehicle::{Outcome, TestVehicle, lab};
use crate::hostile::attack::{Attack, Expect, Step};
use crate::hostile::rows;
use crate::hostile::vehicle::PRIMARY;

/// Plays every attack of one row. All are played, and all that went wrong is told at once.
pub(crate) fn play_row(id: &str) {
    let attacks = rows::row(id, lab());
    assert!(!attacks.is_empty(), "{id} has no attacks");
    let faults: Vec<String> = attacks.iter().flat_map(|attack| Rig::new().play(attack)).collect();
    assert!(
        faults.is_empty(),
        "{} of {} attacks:\n{}",
        faults.len(),
        attacks.len(),
        faults.join("\n")
    );
}

/// Plays every attack of one row at the same time, since each is mostly waited for.
pub(crate) fn play_row_together(id: &str, settings: &[&str]) {
    let attacks = rows::row(id, lab());
    let play = |attack| {
        let mut rig = Rig::new();
        settings.iter().for_each(|line| rig.vehicle.set(line));
        rig.play(attack)
    };
    let faults: Vec<String> = std::thread::scope(|scope| {
        let playing: Vec<_> =
            attacks.iter().map(|attack| scope.spawn(move || play(attack))).collect();
        playing.into_iter().filter_map(|thread| thread.join().unwrap()).collect()
    });
    assert!(
        faults.is_empty(),
        "{} of {} attacks:\n{}",
        faults.len(),
        attacks.len(),
        faults.join("\n")
    );
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
            if let Err(fault) = self.try_expect(step) {
                return Some(format!("{}, step {number}: {fault}", attack.id()));
            }
        }
        None
    }

    /// Plays one step and holds the vehicle to it.
    pub(crate) fn expect(&mut self, step: &Step) {
        if let Err(fault) = self.try_expect(step) {
            panic!("{fault}");
        }
    }

    pub(crate) fn try_expect(&mut self, step: &Step) -> Result<(), String> {
        let outcome = self.update(step);
        self.check(step, &outcome).map_err(|fault| format!("{fault}; it says {outcome}"))
    }

    /// One update cycle.
    pub(crate) fn update(&mut self, step: &Step) -> Outcome {
        self.server.serve(step);
        self.vehicle.set_clock(step.clock);
        self.vehicle.update()
    }

    fn check(&mut self, step: &Step, outcome: &Outcome) -> Result<(), String> {
        let (expected, attack, fault) = match step.expect {
            Expect::Updated => ("updated", None, None),
            Expect::UpToDate => ("up_to_date", None, None),
            Expect::Partial => return self.check_partial(step, outcome),
            Expect::Contained => return self.check_contained(step, outcome),
            Expect::Refused(attack) | Expect::RefusedBy(attack, _) => {
                ("refused", Some(attack), None)
            }
            Expect::Faulted(fault) | Expect::FaultedBy(fault, _) => ("failed", None, Some(fault)),
        };
        let found = (outcome.outcome.as_str(), outcome.attack.as_deref(), outcome.fault.as_deref());
        if found != (expected, attack, fault) {
            return Err(format!("{:?} was expected", step.expect));
        }
        match step.expect {
            Expect::Updated => self.installed = step.site.installed.clone(),
            Expect::RefusedBy(_, victim) | Expect::FaultedBy(_, victim) => {
                self.take_what_others_run(step, victim)?
            }
            _ => {}
        }
        self.check_installed()?;
        fault.map_or(Ok(()), |fault| self.check_fault(fault))?;
        attack.map_or(Ok(()), |attack| self.check_report(attack))
    }

    /// The Director hears of the fault, and of no attack.
    fn check_fault(&self, fault: &str) -> Result<(), String> {
        let manifest = self.server.last_manifest().ok_or("there is no manifest")?;
        let reports = manifest.0["signed"]["ecu_version_reports"]
            .as_object()
            .ok_or("there are no reports")?;
        let reports: Vec<_> = reports.values().map(|report| &report["signed"]).collect();
        let is_told = reports.iter().any(|report| report["faults_detected"] == fault);
        match is_told && reports.iter().all(|report| report["attacks_detected"] == "") {
            true => Ok(()),
            false => {
                Err(format!("the manifest after it does not report {fault} alone: {reports:?}"))
            }
        }
    }

    /// Each ECU runs what it ran or what it was to run, whole, and the Director hears which.
    fn check_partial(&mut self, step: &Step, outcome: &Outcome) -> Result<(), String> {
        if outcome.outcome == "updated" {
            return Err("not all can be installed".into());
        }
        self.take_what_others_run(step, "nobody")?;
        let manifest = self.server.last_manifest().ok_or("there is no manifest")?;
        for (serial, image) in &self.installed {
            let text = String::from_utf8_lossy(image);
            let words: Vec<_> = text.split(' ').take(2).collect();
            let reported = &manifest.report_of(serial)["installed_image"]["filepath"];
            if *reported != format!("{0}/{1}/{0}.bin", words[0], words[1]) {
                return Err(format!("{serial} runs {words:?} and reports {reported}"));
            }
        }
        self.check_installed()
    }

    /// Each ECU but the victim may run what it ran or what it was to run.
    fn take_what_others_run(&mut self, step: &Step, victim: &str) -> Result<(), String> {
        for (serial, image) in
            self.vehicle.images().into_iter().filter(|(serial, _)| serial != victim)
        {
            let image = image.ok_or_else(|| format!("{serial} has lost its image"))?;
            let possible = [self.installed.get(&serial), step.site.installed.get(&serial)];
            let known = possible.into_iter().flatten().find(|known| ***known == image);
            let known = known.ok_or_else(|| format!("{serial} runs what nobody assigned"))?.clone();
            self.installed.insert(serial, known);
        }
        Ok(())
    }

    /// All of it was taken, or nothing.
    fn check_contained(&mut self, step: &Step, outcome: &Outcome) -> Result<(), String> {
        match (outcome.outcome.as_str(), &outcome.attack) {
            ("updated", None) => self.installed = step.site.installed.clone(),
            ("refused", Some(_)) => self.take_what_others_run(step, PRIMARY)?,
            _ => return Err("it is neither accepted nor refused".into()),
        }
        self.check_installed()
    }

    /// Each ECU runs what it should, to the byte.
    pub(crate) fn check_installed(&self) -> Result<(), String> {
        for (serial, image) in self.vehicle.images() {
            let expected = self.installed.get(&serial).map(|image| image.as_slice());
            if image.as_deref() != expected {
                let first_line = |bytes: Option<&[u8]>| {
                    bytes.map(|bytes| {
                        String::from_utf8_lossy(bytes).lines().next().unwrap_or_default().to_owned()
                    })
                };
                let (found, expected) = (first_line(image.as_deref()), first_line(expected));
                return Err(format!("{serial} runs {found:?} where it should run {expected:?}"));
            }
        }
        self.server.check_manifests()?;
        self.vehicle.check_contained()
    }

    /// The Director hears of the attack: at the end of the cycle, or with the next one.
    fn check_report(&mut self, attack: &str) -> Result<(), String> {
        let told = |rig: &Self| {
            rig.server.last_manifest().is_some_and(|manifest| manifest.reports(attack))
        };
        if told(self) {
            return Ok(());
        }
        Err(format!(
            "the manifest after it does not report {attack}: {:?}",
            self.server.last_manifest()
        ))
    }
}
