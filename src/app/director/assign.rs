//! Assignments: which image an ECU is to run next, and everything that speaks against it.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::installed::Known;
use crate::app::access::Principal;
use crate::app::fleet::inventory::TRIES;
use crate::app::fleet::{Vehicle, not_registered};
use crate::app::{App, Error, Problem};
use crate::catalog::{MoreChanges, StatusChange};
use crate::model::{
    AssignmentOutcome, AssignmentRecord, Candidate, CurrentAssignment, EcuSerial, EcuStatus,
    EventKind, ImagePath, ImageRecord, VehicleId, Violation, violations,
};

/// Images for some of a vehicle's ECUs, which are to be installed together.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AssignmentRequest {
    /// Each ECU at most once.
    pub assignments: Vec<EcuAssignment>,
    /// Lets release counters go down, and says why. It is recorded. A vehicle that has had the
    /// higher counter refuses all the same (Uptane 2.1.0, 5.4.4.2 step 10): to go back, publish the
    /// old image again with a higher counter.
    #[serde(default)]
    pub rollback_reason: Option<String>,
}

/// An image for an ECU.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EcuAssignment {
    /// The ECU.
    pub ecu_serial: EcuSerial,
    /// Target path of the image.
    pub image: ImagePath,
}

impl App {
    /// Assigns images to ECUs, all or none. An ECU's earlier assignment ends.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] with everything that speaks against it: quarantine, an ECU that the
    /// vehicle does not have, an image that is not published, another hardware id, a release
    /// counter that goes down, a dependency or conflict with anything that the vehicle may be
    /// running by now. [`Error::NotFound`] for the vehicle, [`Error::Invalid`].
    pub async fn assign(
        &self,
        vin: &VehicleId,
        request: &AssignmentRequest,
        by: &Principal,
    ) -> Result<Vec<AssignmentRecord>, Error> {
        check_request(request)?;
        for _ in 0..TRIES {
            let vehicle = self.fleet.find(vin).await?.ok_or_else(|| not_registered(vin))?;
            let problems = self.find_problems(&vehicle, request).await?;
            if !problems.is_empty() {
                return Err(Error::Refused { problems });
            }
            let (change, assigned) = self.decide_assignment(&vehicle, request, by)?;
            if self.fleet.change(&vehicle, change).await?.is_some() {
                return Ok(assigned);
            }
        }
        Err(Error::Busy)
    }

    /// Takes an assignment back. The ECU may have got it already, and then it is running it or
    /// will.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] if the ECU has no such assignment (any more), [`Error::Refused`] if
    /// another one relies on it.
    pub async fn cancel_assignment(
        &self,
        vin: &VehicleId,
        id: &str,
        by: &Principal,
    ) -> Result<(), Error> {
        for _ in 0..TRIES {
            let vehicle = self.fleet.find(vin).await?.ok_or_else(|| not_registered(vin))?;
            let status = &vehicle.record.status;
            let mut change = StatusChange::of(vehicle.record.id, status);
            let has_it =
                |state: &EcuStatus| state.assigned.as_ref().is_some_and(|known| known.id == id);
            let Some((serial, state)) = change.ecus.iter_mut().find(|(_, state)| has_it(state))
            else {
                let detail = format!("{vin} has no assignment {id:.64} that could be cancelled");
                return Err(Error::NotFound { code: "assignment_not_found", detail });
            };
            let rest = outstanding(&vehicle).filter(|(other, _)| *other != serial);
            let violated = self.violations_of(&vehicle, rest).await?;
            if !violated.is_empty() {
                let code = "constraint_violated";
                let problem = |violation: &Violation| Problem {
                    code,
                    detail: format!("{violation}: cancel that assignment first"),
                };
                return Err(Error::Refused { problems: violated.iter().map(problem).collect() });
            }
            let path =
                state.assigned.take().map(|assigned| assigned.path.to_string()).unwrap_or_default();
            let mut more = MoreChanges::keeping(status, self.clock.now());
            more.ended.push((id.to_owned(), AssignmentOutcome::Cancelled));
            more.events.push(self.event_by(
                vin,
                EventKind::AssignmentCancelled,
                Some(serial),
                path,
                by,
            ));
            change.more = Some(Box::new(more));
            if self.fleet.change(&vehicle, change).await?.is_some() {
                return Ok(());
            }
        }
        Err(Error::Busy)
    }

    fn decide_assignment(
        &self,
        vehicle: &Vehicle,
        request: &AssignmentRequest,
        by: &Principal,
    ) -> Result<(StatusChange, Vec<AssignmentRecord>), Error> {
        let (status, now) = (&vehicle.record.status, self.clock.now());
        let mut change = StatusChange::of(vehicle.record.id, status);
        let mut more = MoreChanges::keeping(status, now);
        for EcuAssignment { ecu_serial, image } in &request.assignments {
            let state = change.ecus.entry(ecu_serial.clone()).or_default();
            more.ended
                .extend(state.assigned.take().map(|old| (old.id, AssignmentOutcome::Superseded)));
            let id = random_id()?;
            state.assigned = Some(CurrentAssignment { id: id.clone(), path: image.clone() });
            let detail = match &request.rollback_reason {
                Some(reason) => format!("{image}; the release counter may go down: {reason}"),
                None => image.to_string(),
            };
            more.events.push(self.event_by(
                &vehicle.record.vin,
                EventKind::Assigned,
                Some(ecu_serial),
                detail,
                by,
            ));
            more.assigned.push(AssignmentRecord {
                id,
                ecu_serial: ecu_serial.clone(),
                image_path: image.clone(),
                rollback_reason: request.rollback_reason.clone(),
                created_at: now,
                created_by: by.id.clone(),
                ended_at: None,
                outcome: None,
            });
        }
        let assigned = more.assigned.clone();
        change.more = Some(Box::new(more));
        Ok((change, assigned))
    }

    /// Everything that speaks against an assignment.
    async fn find_problems(
        &self,
        vehicle: &Vehicle,
        request: &AssignmentRequest,
    ) -> Result<Vec<Problem>, Error> {
        let mut problems = Vec::new();
        if let Some(quarantine) = &vehicle.record.status.quarantine {
            let detail = format!(
                "{} is in quarantine since {}: {}. Look into it, then clear it",
                vehicle.record.vin, quarantine.since, quarantine.reason
            );
            problems.push(Problem { code: "vehicle_quarantined", detail });
        }
        let mut bundle = BTreeMap::new();
        for assignment in &request.assignments {
            if let Some(image) = self.find_assignable(vehicle, assignment, &mut problems).await? {
                if request.rollback_reason.is_none() {
                    problems.extend(self.find_rollback(vehicle, assignment, &image).await?);
                }
                bundle.insert(assignment.ecu_serial.clone(), candidate(&image));
            }
        }
        // What other ECUs are to run already comes with it.
        for (serial, path) in outstanding(vehicle) {
            if !request.assignments.iter().any(|assignment| assignment.ecu_serial == *serial)
                && let Some(image) = self.catalog.find_image(path).await?
            {
                bundle.insert(serial.clone(), candidate(&image));
            }
        }
        let possible = self.possible_images(vehicle).await?;
        let code = "constraint_violated";
        let violated = violations(&possible, &bundle);
        problems.extend(
            violated.iter().map(|violation| Problem { code, detail: violation.to_string() }),
        );
        Ok(problems)
    }

    /// What speaks against a vehicle's getting these images and no others.
    pub(super) async fn violations_of<'a>(
        &self,
        vehicle: &Vehicle,
        images: impl Iterator<Item = (&'a EcuSerial, &'a ImagePath)>,
    ) -> Result<Vec<Violation>, Error> {
        let mut bundle = BTreeMap::new();
        for (serial, path) in images {
            if let Some(image) = self.catalog.find_image(path).await? {
                bundle.insert(serial.clone(), candidate(&image));
            }
        }
        Ok(violations(&self.possible_images(vehicle).await?, &bundle))
    }

    /// The image of an assignment, if the Image repository lists it and the ECU can run it.
    async fn find_assignable(
        &self,
        vehicle: &Vehicle,
        assignment: &EcuAssignment,
        problems: &mut Vec<Problem>,
    ) -> Result<Option<ImageRecord>, Error> {
        let EcuAssignment { ecu_serial, image: path } = assignment;
        let Some(ecu) = vehicle.record.ecu(ecu_serial) else {
            let detail = format!("{} has no ECU {ecu_serial}", vehicle.record.vin);
            problems.push(Problem { code: "ecu_not_found", detail });
            return Ok(None);
        };
        let Some(image) = self.catalog.find_image(path).await? else {
            problems.push(Problem {
                code: "image_not_found",
                detail: format!("there is no image {path}"),
            });
            return Ok(None);
        };
        if image.yanked_at.is_some() {
            problems.push(Problem { code: "image_yanked", detail: format!("{path} was yanked") });
            return Ok(None);
        }
        let listed = self.listed.find(path).await?;
        if listed.is_none_or(|listed| listed.sha256 != image.sealed.sha256) {
            let detail = format!("{path} is not in the published Image repository yet: try again");
            problems.push(Problem { code: "image_not_published", detail });
            return Ok(None);
        }
        if !image.description.hardware_ids.contains(&ecu.hardware_id) {
            let for_ids: Vec<&str> =
                image.description.hardware_ids.iter().map(|id| id.as_str()).collect();
            let detail = format!(
                "{path} is for {}, and {ecu_serial} is a {}",
                for_ids.join(", "),
                ecu.hardware_id
            );
            problems.push(Problem { code: "wrong_hardware", detail });
            return Ok(None);
        }
        Ok(Some(image))
    }

    /// A release counter must not go below that of anything that the ECU may be running, or is to
    /// run.
    async fn find_rollback(
        &self,
        vehicle: &Vehicle,
        assignment: &EcuAssignment,
        image: &ImageRecord,
    ) -> Result<Option<Problem>, Error> {
        let serial = &assignment.ecu_serial;
        let new = image.description.release_counter;
        let state = vehicle.record.status.ecu(serial);
        if let Some(highest) = state.highest_counter.filter(|highest| *highest > new) {
            let path = &image.path;
            let detail = format!(
                "{path} has release counter {new}, and {serial} was offered {highest} before: publish it again with a \
                 higher counter, or give a rollback_reason"
            );
            return Ok(Some(Problem { code: "release_counter_rollback", detail }));
        }
        let mut offered = offered(&state);
        offered.extend(state.assigned.as_ref().map(|assigned| &assigned.path));
        let mut running = self.find_images(offered).await?;
        if let Some(image) = &state.installed
            && let Known::Same(record) = self.look_up(image).await?
        {
            running.insert(0, (image.path.clone(), Some(*record)));
        }
        for (path, known) in running {
            let Some(known) = known.filter(|known| known.description.release_counter > new) else {
                continue;
            };
            let old = known.description.release_counter;
            let detail = format!(
                "{} has release counter {new}, and {serial} may be running {path} with {old}: publish it again with a \
                 higher counter, or give a rollback_reason",
                image.path
            );
            return Ok(Some(Problem { code: "release_counter_rollback", detail }));
        }
        Ok(None)
    }

    /// What every ECU may be running by now (Deployment Best Practices 8.0.6.2): what it was last
    /// confirmed to run, and what it was offered since.
    async fn possible_images(
        &self,
        vehicle: &Vehicle,
    ) -> Result<BTreeMap<EcuSerial, Vec<Candidate>>, Error> {
        let mut possible = BTreeMap::new();
        for ecu in vehicle.record.ecus.iter() {
            let state = vehicle.record.status.ecu(&ecu.serial);
            let mut images: Vec<Candidate> = Vec::new();
            if let Some(image) = &state.installed {
                // By its bytes: an image that only bears the name of one may be anything.
                let known = self.look_up(image).await?;
                images.push(if let Known::Same(record) = known {
                    candidate(&record)
                } else {
                    unknown_image()
                });
            }
            let found = self.find_images(offered(&state)).await?;
            images.extend(
                found.iter().map(|(_, image)| image.as_ref().map_or_else(unknown_image, candidate)),
            );
            if !images.is_empty() {
                possible.insert(ecu.serial.clone(), images);
            }
        }
        Ok(possible)
    }

    /// Images by their paths; none for one that was never uploaded here.
    async fn find_images(
        &self,
        paths: BTreeSet<&ImagePath>,
    ) -> Result<Vec<(String, Option<ImageRecord>)>, Error> {
        let mut images = Vec::with_capacity(paths.len());
        for path in paths {
            images.push((path.to_string(), self.catalog.find_image(path).await?));
        }
        Ok(images)
    }
}

/// Paths of what an ECU was offered and may be running since.
fn offered(state: &EcuStatus) -> BTreeSet<&ImagePath> {
    state.offered.iter().map(|offer| &offer.path).collect()
}

/// What ECUs are to run and have not reported.
fn outstanding(vehicle: &Vehicle) -> impl Iterator<Item = (&EcuSerial, &ImagePath)> {
    let states = vehicle.record.status.ecus.iter();
    states.filter_map(|(serial, state)| Some((serial, &state.assigned.as_ref()?.path)))
}

fn check_request(request: &AssignmentRequest) -> Result<(), Error> {
    let invalid =
        |detail: &str| Err(Error::Invalid { code: "bad_assignment", detail: detail.to_owned() });
    if request.assignments.is_empty() {
        return invalid("name at least one ECU and its image");
    }
    let mut ecus = BTreeSet::new();
    if !request.assignments.iter().all(|assignment| ecus.insert(&assignment.ecu_serial)) {
        return invalid("an ECU can have one image");
    }
    match &request.rollback_reason {
        Some(reason) if reason.trim().is_empty() || reason.len() > MAX_REASON => {
            invalid("`rollback_reason` must have 1 to 500 bytes")
        }
        _ => Ok(()),
    }
}

fn candidate(image: &ImageRecord) -> Candidate {
    let description = &image.description;
    Candidate {
        name: description.name.clone(),
        release_counter: description.release_counter,
        requires: description.requires.clone(),
        conflicts: description.conflicts.clone(),
    }
}

/// An image of which only the factory knows what it is: it matches no constraint on a name that
/// anybody would write.
fn unknown_image() -> Candidate {
    Candidate {
        name: "(unknown)".parse().expect("it is printable ASCII"),
        release_counter: 0.try_into().expect("it is small"),
        requires: Vec::new(),
        conflicts: Vec::new(),
    }
}

fn random_id() -> Result<String, Error> {
    let mut id = [0; 12];
    getrandom::fill(&mut id).map_err(Error::internal("make an id"))?;
    Ok(hex::encode(id))
}

const MAX_REASON: usize = 500;
