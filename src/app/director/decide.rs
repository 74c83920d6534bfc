//! What a vehicle gets, decided over what was loaded before: no query, no clock, no side effect, so
//! that a rollout can decide for a hundred thousand vehicles over images that it loads once.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::app::Problem;
use crate::model::{
    Actor, AssignmentOutcome, AssignmentRecord, Candidate, EcuSerial, EcuStatus, EventKind,
    ImagePath, ImageRecord, InstalledImage, ReleaseCounter, Timestamp, VehicleChange,
    VehicleRecord, Violation, violations,
};

/// Images as they were loaded for a decision. One that is missing was never uploaded here.
#[derive(Debug, Clone, Default)]
pub(super) struct Images(HashMap<ImagePath, LoadedImage>);

/// An image, and whether the published Image repository lists it with the same bytes.
#[derive(Debug, Clone)]
struct LoadedImage {
    record: ImageRecord,
    is_listed: bool,
}

/// What is known here of an image that is reported by its path, length and digest.
#[derive(Debug, Clone, Copy)]
pub(super) enum Known<'a> {
    /// It is this one.
    Same(&'a ImageRecord),
    /// The image of that path has other bytes.
    Different,
    /// There is no image of that path: a factory may know more.
    Unknown,
}

impl Images {
    /// Adds an image that was loaded.
    pub(super) fn insert(&mut self, record: ImageRecord, is_listed: bool) {
        self.0.insert(record.path.clone(), LoadedImage { record, is_listed });
    }

    fn find(&self, path: &ImagePath) -> Option<&ImageRecord> {
        self.0.get(path).map(|image| &image.record)
    }

    /// Finds what an image is that is reported by its path, length and digest.
    pub(super) fn look_up(&self, image: &InstalledImage) -> Known<'_> {
        let Some(record) = image.path.parse().ok().and_then(|path| self.find(&path)) else {
            return Known::Unknown;
        };
        let is_same = record.sealed.length == image.length && record.sealed.sha256 == image.sha256;
        if is_same { Known::Same(record) } else { Known::Different }
    }
}

/// What somebody wants a vehicle to get.
#[derive(Debug, Clone)]
pub(super) struct Wish {
    /// Each ECU at most once. With a reason, release counters may go down.
    pub(super) assignments: Vec<AssignmentRecord>,
    /// Who wants it.
    pub(super) by: Actor,
    /// When.
    pub(super) at: Timestamp,
}

/// Every image that a decision on this vehicle asks for, besides those that are wished for.
pub(super) fn images_of(vehicle: &VehicleRecord) -> BTreeSet<ImagePath> {
    let of_ecu = |ecu: &EcuStatus| {
        let installed = ecu.installed.as_ref().and_then(|image| image.path.parse().ok());
        let assigned = ecu.assigned.as_ref().map(|assigned| assigned.path.clone());
        let offered = ecu.offered.iter().map(|offer| offer.path.clone());
        offered.chain(installed).chain(assigned).collect::<Vec<_>>()
    };
    vehicle.status.ecus.values().flat_map(of_ecu).collect()
}

/// Decides whether a vehicle gets what is wished for: the change that gives it, or everything that
/// speaks against it.
pub(super) fn decide(
    vehicle: &VehicleRecord,
    wish: &Wish,
    images: &Images,
) -> Result<VehicleChange, Vec<Problem>> {
    let problems = find_problems(vehicle, &wish.assignments, images);
    if !problems.is_empty() {
        return Err(problems);
    }
    let mut change = VehicleChange::of(vehicle, wish.at);
    for assignment in &wish.assignments {
        let AssignmentRecord { image_path, ecu_serial, rollback_reason, .. } = assignment;
        let detail = match rollback_reason {
            Some(reason) => format!("{image_path}; the release counter may go down: {reason}"),
            None => image_path.to_string(),
        };
        let event = change.event(EventKind::Assigned, &wish.by).of_ecu(ecu_serial);
        change.record(event.saying(detail));
        change.assign(assignment.clone());
    }
    Ok(change)
}

/// Decides whether an ECU's assignment can be taken back: what else the vehicle is to run must not
/// rely on it.
pub(super) fn decide_cancellation(
    vehicle: &VehicleRecord,
    serial: &EcuSerial,
    by: &Actor,
    at: Timestamp,
    images: &Images,
) -> Result<VehicleChange, Vec<Problem>> {
    let rest = outstanding(vehicle).filter(|(other, _)| *other != serial);
    let violated = violations_of(vehicle, rest, images);
    if !violated.is_empty() {
        let problem = |violation: &Violation| Problem {
            code: "constraint_violated",
            detail: format!("{violation}: cancel that assignment first"),
        };
        return Err(violated.iter().map(problem).collect());
    }
    let mut change = VehicleChange::of(vehicle, at);
    if let Some(ended) = change.end(serial, AssignmentOutcome::Cancelled) {
        let event = change.event(EventKind::AssignmentCancelled, by).of_ecu(serial);
        change.record(event.saying(ended.path.to_string()));
    }
    Ok(change)
}

/// What speaks against a vehicle's getting these images and no others.
pub(super) fn violations_of<'a>(
    vehicle: &VehicleRecord,
    coming: impl Iterator<Item = (&'a EcuSerial, &'a ImagePath)>,
    images: &Images,
) -> Vec<Violation> {
    let bundle: BTreeMap<EcuSerial, Candidate> = coming
        .filter_map(|(serial, path)| Some((serial.clone(), candidate(images.find(path)?))))
        .collect();
    violations(&possible_images(vehicle, images), &bundle)
}

/// Everything that speaks against an assignment.
fn find_problems(
    vehicle: &VehicleRecord,
    assignments: &[AssignmentRecord],
    images: &Images,
) -> Vec<Problem> {
    let mut problems = Vec::new();
    if let Some(quarantine) = &vehicle.status.quarantine {
        let detail = format!(
            "{} is in quarantine since {}: {}. Look into it, then clear it",
            vehicle.vin, quarantine.since, quarantine.reason
        );
        problems.push(Problem { code: "vehicle_quarantined", detail });
    }
    let mut coming = Vec::new();
    for assignment in assignments {
        match find_assignable(vehicle, assignment, images) {
            Ok(image) => {
                if assignment.rollback_reason.is_none() {
                    problems.extend(find_rollback(vehicle, assignment, image, images));
                }
                coming.push((&assignment.ecu_serial, &assignment.image_path));
            }
            Err(problem) => problems.push(problem),
        }
    }
    // What other ECUs are to run already comes with it.
    let is_other = |serial: &EcuSerial| assignments.iter().all(|each| each.ecu_serial != *serial);
    let others = outstanding(vehicle).filter(|(serial, _)| is_other(serial));
    let violated = violations_of(vehicle, others.chain(coming), images);
    let code = "constraint_violated";
    problems
        .extend(violated.iter().map(|violation| Problem { code, detail: violation.to_string() }));
    problems
}

/// The image of an assignment, if the Image repository lists it and the ECU can run it.
fn find_assignable<'a>(
    vehicle: &VehicleRecord,
    assignment: &AssignmentRecord,
    images: &'a Images,
) -> Result<&'a ImageRecord, Problem> {
    let AssignmentRecord { ecu_serial, image_path: path, .. } = assignment;
    let refuse = |code, detail| Err(Problem { code, detail });
    let Some(ecu) = vehicle.ecu(ecu_serial) else {
        return refuse("ecu_not_found", format!("{} has no ECU {ecu_serial}", vehicle.vin));
    };
    let Some(LoadedImage { record, is_listed }) = images.0.get(path) else {
        return refuse("image_not_found", format!("there is no image {path}"));
    };
    if record.yanked_at.is_some() {
        return refuse("image_yanked", format!("{path} was yanked"));
    }
    if !is_listed {
        let detail = format!("{path} is not in the published Image repository yet: try again");
        return refuse("image_not_published", detail);
    }
    let for_ids = &record.description.hardware_ids;
    if !for_ids.contains(&ecu.hardware_id) {
        let for_ids: Vec<&str> = for_ids.iter().map(|id| id.as_str()).collect();
        let (for_ids, is) = (for_ids.join(", "), &ecu.hardware_id);
        return refuse(
            "wrong_hardware",
            format!("{path} is for {for_ids}, and {ecu_serial} is a {is}"),
        );
    }
    Ok(record)
}

/// A release counter must not go below that of anything that the ECU may be running, or is to run.
fn find_rollback(
    vehicle: &VehicleRecord,
    assignment: &AssignmentRecord,
    image: &ImageRecord,
    images: &Images,
) -> Option<Problem> {
    let (serial, path) = (&assignment.ecu_serial, &image.path);
    let new = image.description.release_counter;
    let code = "release_counter_rollback";
    let state = vehicle.status.ecu(serial);
    if let Some(highest) = state.highest_counter.filter(|highest| *highest > new) {
        let detail = format!(
            "{path} has release counter {new}, and {serial} was offered {highest} before: publish it again with a \
             higher counter, or give a rollback_reason"
        );
        return Some(Problem { code, detail });
    }
    let (running, old) = higher_than(new, &state, images)?;
    let detail = format!(
        "{path} has release counter {new}, and {serial} may be running {running} with {old}: publish it again with a \
         higher counter, or give a rollback_reason"
    );
    Some(Problem { code, detail })
}

/// An image with a higher counter that an ECU may be running, or is to run, and its counter.
fn higher_than<'a>(
    new: ReleaseCounter,
    state: &EcuStatus,
    images: &'a Images,
) -> Option<(&'a ImagePath, ReleaseCounter)> {
    let installed = state.installed.as_ref().and_then(|image| match images.look_up(image) {
        Known::Same(record) => Some(record),
        Known::Different | Known::Unknown => None,
    });
    let mut others = offered(state);
    others.extend(state.assigned.as_ref().map(|assigned| &assigned.path));
    installed
        .into_iter()
        .chain(others.into_iter().filter_map(|path| images.find(path)))
        .map(|record| (&record.path, record.description.release_counter))
        .find(|(_, counter)| *counter > new)
}

/// What every ECU may be running by now (Deployment Best Practices 8.0.6.2): what it was last
/// confirmed to run, and what it was offered since.
fn possible_images(
    vehicle: &VehicleRecord,
    images: &Images,
) -> BTreeMap<EcuSerial, Vec<Candidate>> {
    let mut possible = BTreeMap::new();
    for ecu in vehicle.ecus.iter() {
        let Some(state) = vehicle.status.ecus.get(&ecu.serial) else { continue };
        // By its bytes: an image that only bears the name of one may be anything.
        let installed = state.installed.as_ref().map(|image| match images.look_up(image) {
            Known::Same(record) => candidate(record),
            Known::Different | Known::Unknown => unknown_image(),
        });
        let offered = offered(state).into_iter();
        let offered = offered.map(|path| images.find(path).map_or_else(unknown_image, candidate));
        let candidates: Vec<Candidate> = installed.into_iter().chain(offered).collect();
        if !candidates.is_empty() {
            possible.insert(ecu.serial.clone(), candidates);
        }
    }
    possible
}

/// Paths of what an ECU was offered and may be running since.
fn offered(state: &EcuStatus) -> BTreeSet<&ImagePath> {
    state.offered.iter().map(|offer| &offer.path).collect()
}

/// What ECUs are to run and have not reported.
fn outstanding(vehicle: &VehicleRecord) -> impl Iterator<Item = (&EcuSerial, &ImagePath)> {
    let states = vehicle.status.ecus.iter();
    states.filter_map(|(serial, state)| Some((serial, &state.assigned.as_ref()?.path)))
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

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
