//! An attack as data: what is served, step by step, and what the vehicle has to make of it.

use super::world::{Lab, Site, World};

/// One hostile repository, or several in turn.
pub(crate) struct Attack {
    /// Row of the attack matrix: `AT-13`.
    pub(crate) row: &'static str,
    /// Which way of doing it: `director-timestamp`.
    pub(crate) variant: String,
    /// The class of the attack, by the names that a vehicle reports.
    pub(crate) name: &'static str,
    pub(crate) description: String,
    pub(crate) steps: Vec<Step>,
}

impl Attack {
    /// Says that it is aimed at one ECU.
    pub(crate) fn on(&mut self, serial: &'static str) {
        for step in &mut self.steps {
            step.expect = match step.expect {
                Expect::Refused(name) => Expect::RefusedBy(name, serial),
                Expect::Faulted(name) => Expect::FaultedBy(name, serial),
                other => other,
            };
        }
    }

    /// `AT-13-director-timestamp`
    pub(crate) fn id(&self) -> String {
        format!("{}-{}", self.row, self.variant)
    }
}

/// What is served during one update cycle.
#[derive(Clone)]
pub(crate) struct Step {
    pub(crate) site: Site,
    pub(crate) expect: Expect,
    /// Paths such as `/director/timestamp.json` that are not served as they should be.
    pub(crate) serve: Vec<(String, Behaviour)>,
    /// What time it is for the vehicle, in RFC 3339; else what it is.
    pub(crate) clock: Option<&'static str>,
}

/// What an update cycle has to come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expect {
    /// Every ECU runs what the Director assigned.
    Updated,
    /// Nothing is refused and nothing is installed.
    UpToDate,
    /// Not all is installed, and what is not stays as it was.
    Partial,
    /// Nothing is installed, and this is reported.
    Refused(&'static str),
    /// This is reported, and the ECU keeps what it runs. What others get is the vehicle's choice.
    RefusedBy(&'static str, &'static str),
    /// Nothing is installed, and this is reported as a fault and not as an attack: it takes no
    /// attacker.
    Faulted(&'static str),
    /// The same of one ECU.
    FaultedBy(&'static str, &'static str),
    /// Accepted or refused, but nothing gets where it must not, and the vehicle can still speak.
    Contained,
}

/// How a server can misbehave at one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Behaviour {
    /// What should be there, and after it bytes without end.
    Endless,
    /// Fields of a head without end.
    EndlessHead,
    /// What should be there and 12 MiB of spaces after it, all in some 12 KiB of gzip (RFC 1952),
    /// asked for or not.
    GzipBomb,
    /// One byte a second.
    Drip,
    /// A head, and then nothing.
    Stall,
    /// The connection closes after so many bytes of the body.
    Cut(usize),
    /// 404.
    Missing,
    /// The whole file for every Range.
    IgnoreRange,
    /// 302 to another place.
    Redirect(String),
}

impl Step {
    pub(crate) fn new(site: Site, expect: Expect) -> Self {
        Self { site, expect, serve: Vec::new(), clock: None }
    }

    pub(crate) fn serve(mut self, path: impl Into<String>, behaviour: Behaviour) -> Self {
        self.serve.push((path.into(), behaviour));
        self
    }

    pub(crate) fn at(mut self, clock: &'static str) -> Self {
        self.clock = Some(clock);
        self
    }
}

/// Collects the attacks of one row. All begin with the same honest update.
pub(crate) struct Row {
    row: &'static str,
    /// The honest repositories, as the vehicle sees them first.
    pub(crate) honest: World,
    pub(crate) attacks: Vec<Attack>,
}

impl Row {
    pub(crate) fn new(lab: &Lab, row: &'static str) -> Self {
        let mut honest = World::new(lab);
        honest.update(); // so that there is a version before
        Self { row, honest, attacks: Vec::new() }
    }

    /// An attack by someone who holds keys: it is refused, and the vehicle goes on with the honest
    /// repositories, whose versions have passed the attacker's.
    pub(crate) fn refuse(
        &mut self,
        name: &'static str,
        variant: impl Into<String>,
        description: impl Into<String>,
        hostile: impl FnOnce(&mut World),
    ) -> &mut Attack {
        self.stage(name, variant, description, Expect::Refused(name), hostile)
    }

    /// What a vehicle may take or not.
    pub(crate) fn contain(
        &mut self,
        variant: impl Into<String>,
        description: impl Into<String>,
        hostile: impl FnOnce(&mut World),
    ) -> &mut Attack {
        self.stage("none", variant, description, Expect::Contained, hostile)
    }

    fn stage(
        &mut self,
        name: &'static str,
        variant: impl Into<String>,
        description: impl Into<String>,
        expect: Expect,
        hostile: impl FnOnce(&mut World),
    ) -> &mut Attack {
        let mut world = self.honest.clone();
        hostile(&mut world);
        let honest = self.recovered(&world);
        let steps = vec![
            self.honest.step(Expect::Updated),
            world.step(expect),
            honest.step(Expect::Updated),
        ];
        self.push(name, variant, description, steps)
    }

    /// The honest repositories once somebody has noticed. Roles that a thief put into the snapshot
    /// can be taken out of it by new keys for it alone (IMG-21).
    fn recovered(&self, world: &World) -> World {
        let mut honest = self.honest.clone();
        if world.image.delegated() != honest.image.delegated() {
            honest.image.rotate("timestamp");
            honest.image.rotate("snapshot");
            honest.image.publish_root(&[]);
        }
        (0..3).for_each(|_| honest.update());
        honest
    }

    /// An attack by someone who holds no key: the next honest update, changed on its way. The
    /// vehicle then takes it as it is.
    pub(crate) fn refuse_keyless(
        &mut self,
        name: &'static str,
        variant: impl Into<String>,
        description: impl Into<String>,
        hostile: impl FnOnce(&mut World),
    ) -> &mut Attack {
        self.refuse_step(name, variant, description, |world| {
            hostile(world);
            world.step(Expect::Refused(name))
        })
    }

    /// The same, where the vehicle has to refuse, and must not speak of an attack.
    pub(crate) fn fault(
        &mut self,
        name: &'static str,
        fault: &'static str,
        variant: impl Into<String>,
        description: impl Into<String>,
        hostile: impl FnOnce(&mut World),
    ) -> &mut Attack {
        self.stage(name, variant, description, Expect::Faulted(fault), hostile)
    }

    /// The same, with a step that is made by hand.
    pub(crate) fn refuse_step(
        &mut self,
        name: &'static str,
        variant: impl Into<String>,
        description: impl Into<String>,
        hostile: impl FnOnce(&mut World) -> Step,
    ) -> &mut Attack {
        let mut honest = self.honest.clone();
        honest.update();
        let hostile = hostile(&mut honest.clone());
        let steps = vec![self.honest.step(Expect::Updated), hostile, honest.step(Expect::Updated)];
        self.push(name, variant, description, steps)
    }

    /// What looks like an attack and is none, or is one that Uptane does not stop.
    pub(crate) fn accept(
        &mut self,
        name: &'static str,
        variant: impl Into<String>,
        description: impl Into<String>,
        hostile: impl FnOnce(&mut World),
    ) -> &mut Attack {
        let mut world = self.honest.clone();
        hostile(&mut world);
        let steps = vec![self.honest.step(Expect::Updated), world.step(Expect::Updated)];
        self.push(name, variant, description, steps)
    }

    pub(crate) fn push(
        &mut self,
        name: &'static str,
        variant: impl Into<String>,
        description: impl Into<String>,
        steps: Vec<Step>,
    ) -> &mut Attack {
        let (variant, description) = (variant.into(), description.into());
        self.attacks.push(Attack { row: self.row, variant, name, description, steps });
        self.attacks.last_mut().unwrap()
    }
}
