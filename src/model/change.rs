//! A change of a vehicle: decided on one revision of it, and made in memory and in the catalog
//! alike.
//!
//! It has a copy of the status on which it was decided, and its verbs are the only way to another
//! one. [`VehicleChange::status`] is what the vehicle is afterwards: memory takes it as it is, and
//! the catalog writes its columns, so that the two can't differ.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{
    Actor, AssignmentOutcome, AssignmentRecord, Bundle, CurrentAssignment, EcuMap, EcuSerial,
    EcuStatus, EventKind, ImagePath, InstalledImage, NewEvent, Offer, Quarantine, ReleaseCounter,
    Timestamp, VehicleId, VehicleRecord, VehicleStatus,
};

/// A change of one vehicle, with everything that has to be recorded with it or not at all.
#[derive(Debug, Clone)]
pub struct VehicleChange {
    vehicle_id: i64,
    vin: VehicleId,
    at: Timestamp,
    status: VehicleStatus,
    is_news: bool,
    was_quarantined: bool,
    assigned: Vec<AssignmentRecord>,
    ended: Vec<(String, AssignmentOutcome)>,
    installed: Vec<(EcuSerial, Option<ReleaseCounter>)>,
    events: Vec<NewEvent>,
}

impl VehicleChange {
    /// A change of `vehicle` that changes nothing yet.
    pub fn of(vehicle: &VehicleRecord, at: Timestamp) -> Self {
        let mut status = vehicle.status.clone();
        status.revision += 1;
        Self::to(vehicle.id, vehicle.vin.clone(), status, at)
    }

    /// The first change of a vehicle that is about to be registered: [`Self::numbered`] **must**
    /// follow before it is made.
    pub fn first(vin: VehicleId, at: Timestamp) -> Self {
        Self::to(UNNUMBERED, vin, VehicleStatus { revision: 1, ..VehicleStatus::default() }, at)
    }

    fn to(vehicle_id: i64, vin: VehicleId, status: VehicleStatus, at: Timestamp) -> Self {
        Self {
            vehicle_id,
            vin,
            at,
            was_quarantined: status.quarantine.is_some(),
            status,
            is_news: false,
            assigned: Vec::new(),
            ended: Vec::new(),
            installed: Vec::new(),
            events: Vec::new(),
        }
    }

    /// The same for the vehicle of this number, if it has none yet.
    pub fn numbered(self, vehicle_id: i64) -> Self {
        debug_assert_eq!(self.vehicle_id, UNNUMBERED);
        Self { vehicle_id, ..self }
    }

    /// Its vehicle.
    pub fn vin(&self) -> &VehicleId {
        &self.vin
    }

    /// The quarantine that begins with this change.
    pub fn begun_quarantine(&self) -> Option<&Quarantine> {
        self.status.quarantine.as_ref().filter(|_| !self.was_quarantined)
    }

    /// Takes over what an ECU's accepted report says of its counter: the next one has to be higher.
    /// It is what every poll changes, and no news.
    pub fn hear(&mut self, serial: &EcuSerial, counter: u64) {
        self.status.counters.insert(serial, counter);
        self.status.seen_at = Some(self.at);
    }

    /// Takes over what else is known of an ECU.
    pub fn put_ecu(&mut self, serial: &EcuSerial, ecu: EcuStatus) {
        let known = self.status.ecus.get(serial);
        if known.map_or(ecu != EcuStatus::default(), |known| *known != ecu) {
            *self.ecu_mut(serial) = ecu;
        }
    }

    /// Notes that an ECU runs another image than before, and that image's release counter if it is
    /// known here: the image itself is a part of [`Self::put_ecu`].
    pub fn install(&mut self, serial: &EcuSerial, counter: Option<ReleaseCounter>) {
        self.installed.push((serial.clone(), counter));
        self.is_news = true;
    }

    /// Gives an ECU something to run; what it had to run before ends.
    pub fn assign(&mut self, assignment: AssignmentRecord) {
        self.end(&assignment.ecu_serial, AssignmentOutcome::Superseded);
        let AssignmentRecord { id, image_path, ecu_serial, .. } = &assignment;
        let current = CurrentAssignment { id: id.clone(), path: image_path.clone() };
        self.ecu_mut(ecu_serial).assigned = Some(Box::new(current));
        self.assigned.push(assignment);
    }

    /// Ends an ECU's assignment, if it has one, and returns it.
    pub fn end(
        &mut self,
        serial: &EcuSerial,
        outcome: AssignmentOutcome,
    ) -> Option<CurrentAssignment> {
        self.status.ecus.get(serial)?.assigned.as_ref()?;
        let assigned = self.ecu_mut(serial).assigned.take()?;
        self.ended.push((assigned.id.clone(), outcome));
        Some(*assigned)
    }

    /// Notes that Targets of `version` list an image for an ECU: from now on it may be running it.
    pub fn offer(
        &mut self,
        serial: &EcuSerial,
        path: &ImagePath,
        counter: Option<ReleaseCounter>,
        version: u64,
    ) {
        let ecu = self.ecu_mut(serial);
        ecu.offered.retain(|offer| offer.path != *path);
        ecu.offered.push(Offer { path: path.clone(), last_version: version });
        ecu.highest_counter = ecu.highest_counter.max(counter);
    }

    /// Takes for granted what an ECU runs.
    pub fn accept(&mut self, serial: &EcuSerial, image: InstalledImage) {
        self.ecu_mut(serial).accept(image);
    }

    /// Puts the vehicle into quarantine for `kinds`, or adds them to the one it is in.
    pub fn quarantine(&mut self, kinds: BTreeSet<String>, reason: &str) {
        let start =
            || Quarantine { since: self.at, reason: reason.to_owned(), kinds: BTreeSet::new() };
        let quarantine = self.status.quarantine.get_or_insert_with(start);
        let before = quarantine.kinds.len();
        quarantine.kinds.extend(kinds);
        self.is_news |= before != quarantine.kinds.len();
    }

    /// Ends the quarantine, if there is one, and returns it.
    pub fn release(&mut self) -> Option<Quarantine> {
        let ended = self.status.quarantine.take();
        self.is_news |= ended.is_some();
        ended
    }

    /// Keeps the metadata that is signed for the vehicle.
    pub fn keep(&mut self, bundle: Arc<Bundle>) {
        self.status.bundle = Some(bundle);
        self.is_news = true;
    }

    /// Has the metadata that is kept for the vehicle signed again: it isn't the last that was.
    pub fn forget_bundle(&mut self) {
        self.status.bundle = None;
        self.is_news = true;
    }

    /// Takes out an ECU that the vehicle has no more, with what it was to run; what is signed for
    /// the vehicle has to be signed again. Its counter stays: [`Self::forget_counter`].
    pub fn remove_ecu(&mut self, serial: &EcuSerial) {
        self.end(serial, AssignmentOutcome::Cancelled);
        self.status.ecus.remove(serial);
        self.install(serial, None);
        self.status.bundle = None;
        self.is_news = true;
    }

    /// Lets an ECU's counter start again. **Must not** be done under a signing key that stays, or
    /// its old reports could be sent again.
    pub fn forget_counter(&mut self, serial: &EcuSerial) {
        self.status.counters.remove(serial);
        self.is_news = true;
    }

    /// Starts anew with nothing but `ecus`: all counters, assignments and signed metadata end.
    pub fn renew(&mut self, ecus: EcuMap<EcuStatus>) {
        let serials: Vec<EcuSerial> = self.status.ecus.keys().cloned().collect();
        for serial in &serials {
            self.end(serial, AssignmentOutcome::Cancelled);
            self.install(serial, None);
        }
        self.status.counters = EcuMap::default();
        self.status.ecus = ecus;
        self.status.bundle = None;
        self.is_news = true;
    }

    /// Records what happened.
    pub fn record(&mut self, event: NewEvent) {
        self.events.push(event);
        self.is_news = true;
    }

    /// Something that has happened to this vehicle, for [`Self::record`].
    pub fn event(&self, kind: EventKind, by: &Actor) -> NewEvent {
        NewEvent::new(&self.vin, kind, self.at, by)
    }

    fn ecu_mut(&mut self, serial: &EcuSerial) -> &mut EcuStatus {
        self.is_news = true;
        self.status.ecus.entry(serial)
    }

    /// Number of the vehicle.
    pub fn vehicle_id(&self) -> i64 {
        self.vehicle_id
    }

    /// Whether the vehicle has no number yet.
    pub fn is_first(&self) -> bool {
        self.vehicle_id == UNNUMBERED
    }

    /// The revision on which it was decided: it **must** be made on no other.
    pub fn decided_on(&self) -> i64 {
        self.status.revision - 1
    }

    /// When it was decided.
    pub fn at(&self) -> Timestamp {
        self.at
    }

    /// Whether there is more to it than counters, which is what most polls change.
    pub fn is_news(&self) -> bool {
        self.is_news
    }

    /// What the vehicle is afterwards.
    pub fn status(&self) -> &VehicleStatus {
        &self.status
    }

    /// What is known of an ECU afterwards.
    pub fn ecu(&self, serial: &EcuSerial) -> EcuStatus {
        self.status.ecu(serial)
    }

    /// New assignments.
    pub fn assigned(&self) -> &[AssignmentRecord] {
        &self.assigned
    }

    /// Assignments that have ended, by id.
    pub fn ended(&self) -> &[(String, AssignmentOutcome)] {
        &self.ended
    }

    /// ECUs that run another image than before, with its release counter if that is known.
    pub fn installed(&self) -> &[(EcuSerial, Option<ReleaseCounter>)] {
        &self.installed
    }

    /// What happened.
    pub fn events(&self) -> &[NewEvent] {
        &self.events
    }
}

/// The number that no vehicle has.
const UNNUMBERED: i64 = 0;

#[cfg(test)]
mod tests {
    use super::*;

    fn vehicle() -> VehicleRecord {
        VehicleRecord {
            id: 7,
            vin: "VIN-1".parse().unwrap(),
            ecus: Arc::new([]),
            created_at: Timestamp::UNIX_EPOCH,
            created_by: "t".into(),
            status: VehicleStatus { revision: 3, ..VehicleStatus::default() },
        }
    }

    fn change() -> VehicleChange {
        VehicleChange::of(&vehicle(), Timestamp::UNIX_EPOCH)
    }

    fn assignment(id: &str, path: &str) -> AssignmentRecord {
        AssignmentRecord {
            id: id.into(),
            ecu_serial: serial(),
            image_path: path.parse().unwrap(),
            rollback_reason: None,
            created_at: Timestamp::UNIX_EPOCH,
            created_by: "t".into(),
            ended_at: None,
            outcome: None,
        }
    }

    fn serial() -> EcuSerial {
        "ecu-1".parse().unwrap()
    }

    #[test]
    fn a_poll_is_no_news_and_raises_the_revision() {
        let mut change = change();
        change.hear(&serial(), 9);
        change.put_ecu(&serial(), EcuStatus::default());
        assert!(!change.is_news() && change.status().ecus.is_empty());
        assert_eq!((change.decided_on(), change.status().revision), (3, 4));
        assert_eq!(change.status().counters.get(&serial()), Some(&9));
        assert_eq!(change.status().seen_at, Some(Timestamp::UNIX_EPOCH));
    }

    #[test]
    fn every_verb_but_hearing_is_news() {
        let path: ImagePath = "gw".parse().unwrap();
        let verbs: [fn(&mut VehicleChange, &ImagePath); 6] = [
            |change, path| {
                let ecu = EcuStatus { unexpected: true, ..EcuStatus::default() };
                assert!(path.as_str() == "gw");
                change.put_ecu(&serial(), ecu);
            },
            |change, path| change.assign(assignment("a", path.as_str())),
            |change, path| change.offer(&serial(), path, None, 1),
            |change, _| change.quarantine(["rollback".to_owned()].into(), "it said so"),
            |change, _| change.record(change.event(EventKind::Installed, &Actor::vehicle())),
            |change, _| change.renew(EcuMap::default()),
        ];
        for (at, verb) in verbs.into_iter().enumerate() {
            let mut change = change();
            verb(&mut change, &path);
            assert!(change.is_news(), "{at}");
        }
    }

    #[test]
    fn what_is_not_there_does_not_end() {
        let mut change = change();
        assert_eq!(change.end(&serial(), AssignmentOutcome::Cancelled), None);
        assert_eq!(change.release(), None);
        assert!(!change.is_news());
    }

    #[test]
    fn a_second_assignment_ends_the_first() {
        let mut change = change();
        change.assign(assignment("one", "a"));
        change.assign(assignment("two", "b"));
        assert_eq!(change.ended(), [("one".to_owned(), AssignmentOutcome::Superseded)]);
        assert_eq!(change.ecu(&serial()).assigned.unwrap().id, "two");
        let ids: Vec<&str> = change.assigned().iter().map(|each| each.id.as_str()).collect();
        assert_eq!(ids, ["one", "two"]);
    }

    #[test]
    fn an_offer_that_is_made_again_is_the_newest() {
        let mut change = change();
        let paths: [ImagePath; 2] = ["a", "b"].map(|path| path.parse().unwrap());
        let counter = |number: u64| Some(ReleaseCounter::try_from(number).unwrap());
        change.offer(&serial(), &paths[0], counter(5), 1);
        change.offer(&serial(), &paths[1], counter(4), 2);
        change.offer(&serial(), &paths[0], None, 3);
        let ecu = change.ecu(&serial());
        let offered: Vec<_> =
            ecu.offered.iter().map(|offer| (offer.path.as_str(), offer.last_version)).collect();
        assert_eq!(offered, [("b", 2), ("a", 3)]);
        assert_eq!(ecu.highest_counter, counter(5));
    }

    #[test]
    fn a_quarantine_keeps_its_first_reason() {
        let mut change = change();
        change.quarantine(["rollback".to_owned()].into(), "first");
        change.quarantine(["other".to_owned()].into(), "second");
        let quarantine = change.release().unwrap();
        assert_eq!((quarantine.reason.as_str(), quarantine.kinds.len()), ("first", 2));
    }

    #[test]
    fn whoever_starts_anew_keeps_nothing_but_what_is_given() {
        let mut change = change();
        change.hear(&serial(), 5);
        change.assign(assignment("one", "a"));
        let kept = EcuStatus { unexpected: true, ..EcuStatus::default() };
        change.renew([(serial(), kept.clone())].into_iter().collect());
        assert_eq!(change.status().ecus, [(serial(), kept)].into_iter().collect());
        assert!(change.status().counters.is_empty());
        assert_eq!(change.ended(), [("one".to_owned(), AssignmentOutcome::Cancelled)]);
    }
}
