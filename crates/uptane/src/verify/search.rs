//! The search for a target through delegations (TUF 1.0.34, 5.6.7; Uptane 2.1.0, 5.4.4.7 and
//! 5.4.4.8; FV-18).
//!
//! It is a pure function of what has been loaded. When it comes to a role that has not, it says so
//! and starts anew once that is there: at most [`Limits::DELEGATIONS`] times.

use super::VerifyError;
use super::delegations::Delegation;
use super::limits::Limits;
use super::roles::{TargetFile, Targets};
use super::signed::Metadata;
use super::trusted::TrustedSet;
use motorcade_model::{HardwareId, RoleName};

/// The result of a search.
#[derive(Debug, PartialEq, Eq)]
pub enum Search<'a> {
    /// The target, from the first role that lists it.
    Found(&'a TargetFile),
    /// No role that may speak for it lists it.
    Missing,
    /// This role has to be loaded first. **If it can't be, the search has failed**: going on to a
    /// role of lower priority is what an attacker who withholds a file wants (AT-47).
    ///
    /// TUF 1.0.34, 5.6.7: "If any metadata requested in steps 5.6.7.1 - 5.6.7.2 cannot be
    /// downloaded nor validated, end the search and report that the target cannot be found."
    Needs {
        /// The role.
        role: RoleName,
        /// Who delegates to it.
        delegator: RoleName,
    },
}

impl TrustedSet {
    /// Searches a target that is to run on hardware with each of `hardware_ids`; none for a search
    /// that does not care.
    ///
    /// # Errors
    ///
    /// [`VerifyError::TooManyDelegations`], [`VerifyError::ThresholdNotMet`] if a role is reached a
    /// second time by way of someone whose keys have not signed it.
    pub fn search(
        &self,
        path: &str,
        hardware_ids: &[HardwareId],
    ) -> Result<Search<'_>, VerifyError> {
        let Some(targets) = self.find_role(&RoleName::Targets) else { return Ok(Search::Missing) };
        let mut walk = Walk { set: self, path, hardware_ids, visited: 0 };
        match walk.visit(&RoleName::Targets, targets, &mut Vec::new())? {
            Outcome::Found(target) => Ok(Search::Found(target)),
            Outcome::Nothing | Outcome::Stop => Ok(Search::Missing),
            Outcome::Needs { role, delegator } => Ok(Search::Needs { role, delegator }),
        }
    }
}

struct Walk<'a, 'p> {
    set: &'a TrustedSet,
    path: &'p str,
    hardware_ids: &'p [HardwareId],
    visited: usize,
}

enum Outcome<'a> {
    Found(&'a TargetFile),
    /// Not here; others may be asked.
    Nothing,
    /// Not here, and a terminating delegation says that nobody else is to be asked.
    Stop,
    Needs {
        role: RoleName,
        delegator: RoleName,
    },
}

impl<'a> Walk<'a, '_> {
    /// Visits a role and then what it delegates to, in order.
    ///
    /// TUF 1.0.34, 5.6.7: "Perform a pre-order depth-first search for metadata about the desired
    /// target, beginning with the top-level targets role."
    fn visit(
        &mut self,
        role: &RoleName,
        targets: &'a Metadata<Targets>,
        above: &mut Vec<RoleName>,
    ) -> Result<Outcome<'a>, VerifyError> {
        // TUF 1.0.34, 5.6.7.1: "if an application-specific maximum number of roles have been
        // visited".
        self.visited += 1;
        if self.visited > Limits::DELEGATIONS + 1 {
            let (path, limit) = (self.path.to_owned(), Limits::DELEGATIONS);
            return Err(VerifyError::TooManyDelegations { path, limit });
        }
        // Uptane 2.1.0, 5.4.4.7 step 2: "If the current metadata file contains signed metadata
        // about the image, end the delegation resolution and return the metadata to be checked."
        if let Some(target) = targets.content.targets.get(self.path) {
            return Ok(Outcome::Found(target));
        }
        let Some(delegations) = &targets.content.delegations else { return Ok(Outcome::Nothing) };
        above.push(role.clone());
        let mut outcome = Outcome::Nothing;
        // TUF 1.0.34, 5.6.7.2: "recursively search the list of delegations in order of appearance."
        for delegation in delegations.applying(self.path, self.hardware_ids) {
            outcome = self.follow(role, &delegation, above)?;
            // TUF 1.0.34, 5.6.7.2.2: "Stop the search … as soon as a delegation returns a result."
            if !matches!(outcome, Outcome::Nothing) {
                break;
            }
            // Uptane 2.1.0, 5.1.2.1: "For terminating delegations, the client SHALL NOT
            // search any further if it does not find validly signed metadata about those images."
            if delegation.terminating {
                outcome = Outcome::Stop;
                break;
            }
        }
        above.pop();
        Ok(outcome)
    }

    /// Follows one delegation: to one role, or to several of which enough have to say the same
    /// (FV-18m).
    fn follow(
        &mut self,
        delegator: &RoleName,
        delegation: &Delegation,
        above: &mut Vec<RoleName>,
    ) -> Result<Outcome<'a>, VerifyError> {
        if let [only] = delegation.roles.as_slice() {
            return self.enter(&only.name, delegator, above);
        }
        // Each must be there, whatever the others say: whoever withholds one must not get the rest
        // through. Uptane 2.1.0, 5.4.4.8 step 1: "For each of the roles in the delegation, find and
        // load the image metadata".
        let mut found: Vec<&'a TargetFile> = Vec::new();
        for role in &delegation.roles {
            match self.enter(&role.name, delegator, above)? {
                Outcome::Found(target) => found.push(target),
                Outcome::Nothing | Outcome::Stop => {}
                needs @ Outcome::Needs { .. } => return Ok(needs),
            }
        }
        Ok(agreed(&found, delegation.agreement).map_or(Outcome::Nothing, Outcome::Found))
    }

    fn enter(
        &mut self,
        role: &RoleName,
        delegator: &RoleName,
        above: &mut Vec<RoleName>,
    ) -> Result<Outcome<'a>, VerifyError> {
        // TUF 1.0.34, 5.6.7.1: "If this role has been visited before, then skip this role (so that
        // cycles in the delegation graph are avoided)." Off-spec: only on the way from the top,
        // which is `above`, for an early visit must not mask a later one (AMB-11).
        if above.iter().any(|visited| visited == role) {
            return Ok(Outcome::Nothing);
        }
        let Some(targets) = self.set.find_role(role) else {
            return Ok(Outcome::Needs { role: role.clone(), delegator: delegator.clone() });
        };
        self.set.verify_delegated(role, delegator, targets)?;
        self.visit(role, targets, above)
    }
}

/// The target of the earliest role with which enough agree (FV-18m). `custom` is part of it, for
/// all of it is information that has to match (AMB-7).
///
/// Uptane 2.1.0, 5.4.4.8 step 2: "Locate all sets of roles that have agreeing (i.e., identical)
/// non-custom metadata and "SHALL match" custom metadata. Discard any set of roles with a size
/// smaller than the threshold … If a conflict is found, choose and return the metadata from the set
/// of roles that include the earliest role in the multi-delegation list."
fn agreed<'a>(found: &[&'a TargetFile], enough: usize) -> Option<&'a TargetFile> {
    let votes = |target: &TargetFile| found.iter().filter(|other| **other == target).count();
    found.iter().copied().find(|target| votes(target) >= enough)
}

#[cfg(test)]
#[path = "search_tests.rs"]
mod tests;
