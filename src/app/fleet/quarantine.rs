//! Quarantine: what a vehicle is kept from new assignments for, until a person has looked into it
//! (DIR-32).
//!
//! Neither the Standard nor the Deployment Best Practices says what the Director does about an
//! attack that a vehicle reports. Every report is an event; quarantine is for those that no bad
//! link, wrong clock or captive portal brings about.

use std::collections::BTreeSet;
use std::str::FromStr;

use crate::model::VehicleChange;
use crate::uptane::verify::Attack;

/// Why a vehicle may have to be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Suspicion {
    /// An ECU reported this attack.
    Attack(Attack),
    /// An ECU reported an attack by a name that is not known here.
    OtherAttack,
    /// An ECU runs an image that it neither had nor was given.
    UnexpectedImage,
}

impl Suspicion {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        Attack::ALL.into_iter().map(Self::Attack).chain([Self::OtherAttack, Self::UnexpectedImage])
    }

    /// Its name in settings, in the API and in the catalog.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Attack(attack) => attack.as_str(),
            Self::OtherAttack => "other",
            Self::UnexpectedImage => "unexpected-image",
        }
    }

    /// The suspicion of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::all().find(|known| known.as_str() == name)
    }

    /// What a report says by a word of its `attacks_detected`.
    pub(in crate::app) fn of_report(word: &str) -> Self {
        match Self::from_name(word) {
            Some(known @ Self::Attack(_)) => known,
            _ => Self::OtherAttack,
        }
    }
}

/// What puts a vehicle into quarantine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuarantinePolicy(BTreeSet<Suspicion>);

impl QuarantinePolicy {
    /// Puts a vehicle into quarantine for what the policy includes of `suspicions`. Returns whether
    /// there is any.
    pub(in crate::app) fn apply(
        &self,
        suspicions: &BTreeSet<Suspicion>,
        reason: &str,
        change: &mut VehicleChange,
    ) -> bool {
        let kinds: BTreeSet<String> = suspicions
            .intersection(&self.0)
            .map(|suspicion| suspicion.as_str().to_owned())
            .collect();
        let is_any = !kinds.is_empty();
        if is_any {
            change.quarantine(kinds, reason);
        }
        is_any
    }
}

/// Not what a vehicle with a wrong clock, behind a captive portal or on a bad link reports as well:
/// `freeze`, `slow-retrieval`, `endless-data` and `malformed`.
impl Default for QuarantinePolicy {
    fn default() -> Self {
        let is_weak = |suspicion: &Suspicion| match suspicion {
            Suspicion::Attack(attack) => {
                matches!(
                    attack,
                    Attack::Freeze
                        | Attack::SlowRetrieval
                        | Attack::EndlessData
                        | Attack::Malformed
                )
            }
            Suspicion::OtherAttack | Suspicion::UnexpectedImage => false,
        };
        Self(Suspicion::all().filter(|suspicion| !is_weak(suspicion)).collect())
    }
}

/// A list that can't be a policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParsePolicyError {
    /// A name that nothing has.
    #[error("nothing is called {name:?}: use {names}, or `none` alone", names = names())]
    Unknown {
        /// The name.
        name: String,
    },
    /// Slow retrieval, which never quarantines by itself: a tunnel or a busy cell looks the same.
    #[error("`slow-retrieval` never puts a vehicle into quarantine: a slow link looks the same")]
    SlowRetrieval,
    /// `none` and something else.
    #[error("`none` stands alone")]
    NoneAndMore,
}

impl FromStr for QuarantinePolicy {
    type Err = ParsePolicyError;

    /// Reads names separated by commas, or `none`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let names: Vec<&str> = text.split(',').map(str::trim).collect();
        if names.contains(&"none") {
            return if names.len() == 1 {
                Ok(Self(BTreeSet::new()))
            } else {
                Err(ParsePolicyError::NoneAndMore)
            };
        }
        let suspicion = |name: &&str| match Suspicion::from_name(name) {
            Some(Suspicion::Attack(Attack::SlowRetrieval)) => Err(ParsePolicyError::SlowRetrieval),
            Some(known) => Ok(known),
            None => Err(ParsePolicyError::Unknown { name: (*name).to_owned() }),
        };
        names.iter().map(suspicion).collect::<Result<_, _>>().map(Self)
    }
}

fn names() -> String {
    let can_quarantine =
        |suspicion: &Suspicion| *suspicion != Suspicion::Attack(Attack::SlowRetrieval);
    Suspicion::all().filter(can_quarantine).map(Suspicion::as_str).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_a_list_of_names_and_a_wrong_one_is_named() {
        let policy: QuarantinePolicy = "rollback, unexpected-image".parse().unwrap();
        assert_eq!(
            policy.0,
            [Suspicion::Attack(Attack::Rollback), Suspicion::UnexpectedImage].into()
        );
        assert_eq!("none".parse(), Ok(QuarantinePolicy(BTreeSet::new())));
        assert_eq!("none,rollback".parse::<QuarantinePolicy>(), Err(ParsePolicyError::NoneAndMore));
        assert_eq!(
            "rollback,slow-retrieval".parse::<QuarantinePolicy>(),
            Err(ParsePolicyError::SlowRetrieval)
        );
        let error = "rolback".parse::<QuarantinePolicy>().unwrap_err();
        assert!(
            error.to_string().contains("\"rolback\"")
                && error.to_string().contains("rollback, freeze,"),
            "{error}"
        );
        assert!(
            "".parse::<QuarantinePolicy>().is_err()
                && "rollback,".parse::<QuarantinePolicy>().is_err()
        );
    }

    #[test]
    fn weak_evidence_is_not_in_the_default() {
        let default = QuarantinePolicy::default();
        let out: Vec<&str> = Suspicion::all()
            .filter(|each| !default.0.contains(each))
            .map(Suspicion::as_str)
            .collect();
        assert_eq!(out, ["freeze", "endless-data", "slow-retrieval", "malformed"]);
    }
}
