//! Dependencies and conflicts between the images of one vehicle (Uptane 2.1.0, 5.3.2.1 step 5;
//! Deployment Best Practices 8.0.6).
//!
//! They are signed with the image, so that the Director resolves them and a Primary checks them
//! again (AT-19).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{EcuSerial, ImageName, ReleaseCounter};

/// Images by name, or by a glob of names, and release counter: `gateway`, `gateway>=42`,
/// `brake-*<7`.
///
/// In a glob `*` stands for any characters and `?` for one. The text form is what is signed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Constraint {
    name: String,
    counter: Option<(Comparison, ReleaseCounter)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Comparison {
    AtLeast,
    AtMost,
    Above,
    Below,
    Equal,
}

impl Comparison {
    /// Longer ones first, as they are looked for.
    const ALL: [(Self, &'static str); 5] = [
        (Self::AtLeast, ">="),
        (Self::AtMost, "<="),
        (Self::Above, ">"),
        (Self::Below, "<"),
        (Self::Equal, "="),
    ];

    fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(comparison, _)| *comparison == self).map_or("=", |(_, text)| text)
    }
}

impl Constraint {
    /// Whether an image is one of these.
    pub fn matches(&self, name: &ImageName, counter: ReleaseCounter) -> bool {
        let right_counter = self.counter.is_none_or(|(comparison, limit)| match comparison {
            Comparison::AtLeast => counter >= limit,
            Comparison::AtMost => counter <= limit,
            Comparison::Above => counter > limit,
            Comparison::Below => counter < limit,
            Comparison::Equal => counter == limit,
        });
        right_counter && glob_matches(self.name.as_bytes(), name.as_str().as_bytes())
    }
}

/// Linear in time and space for each star, whatever the pattern: both sides may come from a
/// stranger.
fn glob_matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(byte) if *byte == b'?' || *byte == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, taken)) => {
                    star = Some((at, taken + 1));
                    p = at + 1;
                    t = taken + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

impl FromStr for Constraint {
    type Err = ParseConstraintError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseConstraintError(text.chars().take(64).collect());
        let (name, counter) = match text.find(['<', '>', '=']) {
            None => (text, None),
            Some(at) => {
                let (name, rest) = text.split_at(at);
                let (comparison, sign) = Comparison::ALL
                    .into_iter()
                    .find(|(_, sign)| rest.starts_with(sign))
                    .ok_or_else(error)?;
                let counter = rest[sign.len()..].trim().parse().map_err(|_| error())?;
                (name, Some((comparison, counter)))
            }
        };
        let name: ImageName = name.trim().parse().map_err(|_| error())?;
        Ok(Self { name: name.into(), counter })
    }
}

impl fmt::Display for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        match self.counter {
            Some((comparison, counter)) => write!(f, "{}{counter}", comparison.as_str()),
            None => Ok(()),
        }
    }
}

impl From<Constraint> for String {
    fn from(constraint: Constraint) -> Self {
        constraint.to_string()
    }
}

impl TryFrom<String> for Constraint {
    type Error = ParseConstraintError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

/// The text isn't a constraint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no constraint: use a name or glob, and a release counter if it matters, as in `gateway>=42` or `brake-*<7`"
)]
pub struct ParseConstraintError(String);

/// An image that an ECU may be running by now, or would be given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Name of the software.
    pub name: ImageName,
    /// Its release counter.
    pub release_counter: ReleaseCounter,
    /// Its dependencies in the same vehicle.
    pub requires: Vec<Constraint>,
    /// Its conflicts in the same vehicle.
    pub conflicts: Vec<Constraint>,
}

/// A constraint that does not hold in every state that the vehicle may be in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// Nothing in the vehicle is sure to match what an image requires.
    #[error(
        "{name} {release_counter} on {ecu} requires {constraint}, which no other ECU is sure to run"
    )]
    Missing {
        /// Where the image is, or would be.
        ecu: EcuSerial,
        /// The image.
        name: ImageName,
        /// Its counter.
        release_counter: ReleaseCounter,
        /// What it requires.
        constraint: Constraint,
    },
    /// An ECU may be running what an image conflicts with.
    #[error(
        "{name} {release_counter} on {ecu} conflicts with {constraint}: {other} may be running {other_name} {other_counter}"
    )]
    Conflict {
        /// Where the image is, or would be.
        ecu: EcuSerial,
        /// The image.
        name: ImageName,
        /// Its counter.
        release_counter: ReleaseCounter,
        /// What it conflicts with.
        constraint: Constraint,
        /// The ECU that may run it.
        other: EcuSerial,
        /// What that ECU may run.
        other_name: ImageName,
        /// Its counter.
        other_counter: ReleaseCounter,
    },
}

impl Violation {
    /// The ECUs that it is about.
    pub fn ecus(&self) -> Vec<&EcuSerial> {
        match self {
            Self::Missing { ecu, .. } => vec![ecu],
            Self::Conflict { ecu, other, .. } => vec![ecu, other],
        }
    }
}

/// Checks a bundle against everything that the vehicle may be running by now (Deployment Best
/// Practices 8.0.6.2).
///
/// `possible` has, for each ECU, what it was last confirmed to run and whatever it was offered
/// since; `bundle` has what it is to run next. A requirement holds if another ECU gets a match in
/// this bundle, or can't be running anything but a match. A conflict is one if any ECU may be
/// running a match, before or after the bundle.
pub fn violations(
    possible: &BTreeMap<EcuSerial, Vec<Candidate>>,
    bundle: &BTreeMap<EcuSerial, Candidate>,
) -> Vec<Violation> {
    let vehicle = Vehicle { possible, bundle };
    let mut found = Vec::new();
    for ecu in vehicle.ecus() {
        for (image, is_new) in vehicle.states(ecu) {
            found.extend(vehicle.missing(ecu, image, is_new));
            found.extend(vehicle.conflicting(ecu, image, is_new));
        }
    }
    found.dedup();
    found
}

struct Vehicle<'a> {
    possible: &'a BTreeMap<EcuSerial, Vec<Candidate>>,
    bundle: &'a BTreeMap<EcuSerial, Candidate>,
}

impl<'a> Vehicle<'a> {
    fn ecus(&self) -> BTreeSet<&'a EcuSerial> {
        self.possible.keys().chain(self.bundle.keys()).collect()
    }

    /// What an ECU may run, before or after the bundle, and whether it is the bundle's.
    fn states(&self, ecu: &EcuSerial) -> impl Iterator<Item = (&'a Candidate, bool)> + use<'a> {
        let before = self.possible.get(ecu).into_iter().flatten().map(|image| (image, false));
        before.chain(self.bundle.get(ecu).map(|image| (image, true)))
    }

    /// Requirements of a new image that don't hold, and those of an old one that the bundle would
    /// break.
    fn missing(&self, ecu: &EcuSerial, image: &'a Candidate, is_new: bool) -> Vec<Violation> {
        let is_broken = |constraint: &&Constraint| {
            let mut others = self.ecus().into_iter().filter(|other| *other != ecu);
            if is_new {
                !others.any(|other| match self.bundle.get(other) {
                    Some(coming) => constraint.matches(&coming.name, coming.release_counter),
                    None => self.is_sure(other, constraint),
                })
            } else {
                let sure: Vec<_> = others.filter(|other| self.is_sure(other, constraint)).collect();
                let stays = |other: &&&EcuSerial| {
                    self.bundle
                        .get(**other)
                        .is_none_or(|new| constraint.matches(&new.name, new.release_counter))
                };
                !sure.is_empty() && !sure.iter().any(|other| stays(&other)) // was it broken before, it is not our doing
            }
        };
        let violation = |constraint: &Constraint| Violation::Missing {
            ecu: ecu.clone(),
            name: image.name.clone(),
            release_counter: image.release_counter,
            constraint: constraint.clone(),
        };
        image.requires.iter().filter(is_broken).map(violation).collect()
    }

    /// Whether an ECU can't be running anything but a match.
    fn is_sure(&self, ecu: &EcuSerial, constraint: &Constraint) -> bool {
        let images = self.possible.get(ecu).map_or(&[][..], Vec::as_slice);
        !images.is_empty()
            && images.iter().all(|image| constraint.matches(&image.name, image.release_counter))
    }

    /// Matches of an image's conflicts on other ECUs, where one of the two is new.
    fn conflicting(&self, ecu: &EcuSerial, image: &'a Candidate, is_new: bool) -> Vec<Violation> {
        let mut found = Vec::new();
        for constraint in &image.conflicts {
            for other in self.ecus().into_iter().filter(|other| *other != ecu) {
                for (beside, beside_is_new) in self.states(other) {
                    let matches = constraint.matches(&beside.name, beside.release_counter);
                    if (is_new || beside_is_new) && matches {
                        found.push(Violation::Conflict {
                            ecu: ecu.clone(),
                            name: image.name.clone(),
                            release_counter: image.release_counter,
                            constraint: constraint.clone(),
                            other: other.clone(),
                            other_name: beside.name.clone(),
                            other_counter: beside.release_counter,
                        });
                    }
                }
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(name: &str, counter: u64) -> Candidate {
        let (name, release_counter) = (name.parse().unwrap(), counter.try_into().unwrap());
        Candidate { name, release_counter, requires: Vec::new(), conflicts: Vec::new() }
    }

    fn requiring(name: &str, counter: u64, requires: &str) -> Candidate {
        Candidate { requires: vec![requires.parse().unwrap()], ..image(name, counter) }
    }

    fn conflicting(name: &str, counter: u64, conflicts: &str) -> Candidate {
        Candidate { conflicts: vec![conflicts.parse().unwrap()], ..image(name, counter) }
    }

    fn check(possible: &[(&str, &[Candidate])], bundle: &[(&str, Candidate)], expected: &[&str]) {
        let possible =
            possible.iter().map(|(ecu, images)| (ecu.parse().unwrap(), images.to_vec())).collect();
        let bundle =
            bundle.iter().map(|(ecu, image)| (ecu.parse().unwrap(), image.clone())).collect();
        let found: Vec<String> =
            violations(&possible, &bundle).iter().map(ToString::to_string).collect();
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.contains(expected), "{found}");
        }
    }

    #[test]
    fn text_form_round_trips() {
        for text in ["gateway", "gateway>=42", "brake-*<7", "a b?=0", "*>9007199254740991", "x<=1"]
        {
            assert_eq!(text.parse::<Constraint>().unwrap().to_string(), text);
        }
        for text in ["", ">=4", "a>=", "a>=-1", "a=>1", "a>=1.5", "gät"] {
            assert!(text.parse::<Constraint>().is_err(), "{text}");
        }
    }

    #[test]
    fn globs_match_names_and_counters() {
        let matches = |constraint: &str, name: &str, counter: u64| {
            let constraint: Constraint = constraint.parse().unwrap();
            constraint.matches(&name.parse().unwrap(), counter.try_into().unwrap())
        };
        assert!(matches("brake-*<7", "brake-rear", 6) && !matches("brake-*<7", "brake-rear", 7));
        assert!(matches("g?teway>=42", "gateway", 42) && !matches("g?teway", "gteway", 1));
        assert!(matches("*a*b*", "xxaxxbxx", 1) && !matches("*a*b", "abx", 1));
        assert!(!matches(&"*a".repeat(40), &"a".repeat(39), 1));
    }

    #[test]
    fn a_requirement_holds_in_every_state_or_comes_with_the_bundle() {
        let brake = requiring("brake", 8, "gateway>=43");
        check(&[("gw", &[image("gateway", 43)])], &[("br", brake.clone())], &[]);
        check(
            &[("gw", &[image("gateway", 42)])],
            &[("br", brake.clone())],
            &["requires gateway>=43"],
        );
        // DIR-30: it was offered 43 and has not confirmed it.
        let unsure = [image("gateway", 42), image("gateway", 43)];
        check(&[("gw", &unsure)], &[("br", brake.clone())], &["requires gateway>=43"]);
        let both = [("br", brake.clone()), ("gw", image("gateway", 43))];
        check(&[("gw", &[image("gateway", 42)])], &both, &[]);
        check(&[], &[("br", brake)], &["requires"]);
    }

    #[test]
    fn a_bundle_must_not_take_away_what_another_image_relies_on() {
        let brake = requiring("brake", 8, "gateway>=43");
        let possible = [("br", &[brake][..]), ("gw", &[image("gateway", 43)][..])];
        check(&possible, &[("gw", image("gateway", 44))], &[]);
        check(&possible, &[("gw", image("other", 44))], &["requires gateway>=43"]);
    }

    #[test]
    fn a_conflict_counts_in_either_direction_and_in_every_state() {
        let old_and_new = [image("gateway", 42), image("gateway", 43)];
        let brake = conflicting("brake", 8, "gateway<43");
        check(&[("gw", &old_and_new)], &[("br", brake.clone())], &["gw may be running gateway 42"]);
        check(&[("gw", &old_and_new[1..])], &[("br", brake.clone())], &[]);
        check(
            &[("br", &[brake])],
            &[("gw", image("gateway", 42))],
            &["br conflicts with gateway<43"],
        );
    }

    #[test]
    fn what_was_broken_before_does_not_block_an_unrelated_bundle() {
        let possible = [("a", &[conflicting("x", 1, "y")][..]), ("b", &[image("y", 1)][..])];
        check(&possible, &[("c", image("z", 1))], &[]);
        check(&[("a", &[requiring("x", 1, "y")])], &[("c", image("z", 1))], &[]);
    }
}
