//! What happens to vehicles, as it is recorded.

use std::time::Duration;

use super::{EcuSerial, Timestamp, VehicleId};

/// Something that happened to a vehicle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VehicleEvent {
    /// Number, rising.
    pub id: i64,
    /// What happened.
    pub event: NewEvent,
    /// How often the like of it happened.
    pub count: u64,
    /// When it happened last.
    pub last_at: Timestamp,
}

/// Something that has just happened to a vehicle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEvent {
    /// To which vehicle; it need not be registered.
    pub vin: VehicleId,
    /// What.
    pub kind: EventKind,
    /// To which of its ECUs.
    pub ecu_serial: Option<EcuSerial>,
    /// For people.
    pub detail: String,
    /// Id of a token, `vehicle` or `server`.
    pub actor: String,
    /// When.
    pub at: Timestamp,
    /// Id of the request by which a person did it.
    pub request_id: Option<String>,
    /// Events with the same text here are counted as one; see [`Self::once_in`].
    pub alike: Option<String>,
}

/// Who did something, for the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// Id of a token, `vehicle` or `server`.
    pub id: String,
    /// Id of the request by which a person did it.
    pub request_id: Option<String>,
}

impl Actor {
    /// The vehicle itself.
    pub fn vehicle() -> Self {
        Self { id: "vehicle".into(), request_id: None }
    }

    /// The server by itself.
    pub fn server() -> Self {
        Self { id: "server".into(), request_id: None }
    }
}

impl NewEvent {
    /// Something that happened to a vehicle as a whole, and needs no more words.
    pub fn new(vin: &VehicleId, kind: EventKind, at: Timestamp, by: &Actor) -> Self {
        Self {
            vin: vin.clone(),
            kind,
            ecu_serial: None,
            detail: String::new(),
            actor: by.id.clone(),
            at,
            request_id: by.request_id.clone(),
            alike: None,
        }
    }

    /// The same, of one of its ECUs.
    pub fn of_ecu(self, serial: &EcuSerial) -> Self {
        Self { ecu_serial: Some(serial.clone()), ..self }
    }

    /// The same, with words for people.
    pub fn saying(self, detail: impl Into<String>) -> Self {
        Self { detail: detail.into(), ..self }
    }

    /// Counts it as one with all of its kind, ECU and `detail` in the same `period`, so that nobody
    /// can fill the catalog. Of a detail that a client chooses, `detail` **must** be a part that it
    /// can't vary, or empty.
    pub fn once_in(self, period: Duration, detail: &str) -> Self {
        let Self { vin, kind, ecu_serial, at, .. } = &self;
        let serial = ecu_serial.as_ref().map_or("", EcuSerial::as_str);
        let slot = at.as_second() / i64::try_from(period.as_secs()).unwrap_or(i64::MAX).max(1);
        Self { alike: Some(format!("{vin} {} {serial} {detail} {slot}", kind.as_str())), ..self }
    }
}

/// What can happen to a vehicle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// It was registered.
    Registered,
    /// A manifest was refused.
    ManifestRefused,
    /// An ECU reported an image that it had not reported before.
    Installed,
    /// An ECU reported an image that it neither had nor was given.
    UnexpectedImage,
    /// A person accepted what an ECU runs.
    ImageAccepted,
    /// An ECU reported an image with a lower release counter than the one before.
    ReleaseCounterFell,
    /// An ECU reported an attack.
    AttackReported,
    /// An ECU reported something that went wrong and is no sign of an attack.
    FaultReported,
    /// A person cleared the quarantine.
    QuarantineCleared,
    /// An image was assigned to an ECU.
    Assigned,
    /// An assignment was cancelled.
    AssignmentCancelled,
    /// An assigned image could not be offered.
    AssignmentBlocked,
    /// The replacement of an ECU was approved.
    ReplacementApproved,
    /// An ECU that nobody approved tried to take another one's place.
    ReplacementRefused,
    /// An ECU was replaced.
    EcuReplaced,
    /// A change of an ECU's encryption key was approved.
    KeyChangeApproved,
    /// An ECU asked for a change of its encryption key that nobody has approved.
    KeyChangeRefused,
    /// An ECU's encryption key was changed.
    EncryptionKeyChanged,
    /// It was taken out of the inventory.
    Removed,
    /// A person approved that it enrols anew.
    ReEnrolmentApproved,
    /// It enrolled anew, with whatever keys and ECUs it has now.
    ReEnrolled,
    /// Another vehicle took one of its ECUs over.
    EcuTaken,
    /// A bearer token was issued to it.
    TokenIssued,
    /// An ECU's time is far from the server's.
    ClockOff,
}

impl EventKind {
    const ALL: [Self; 24] = [
        Self::Registered,
        Self::ManifestRefused,
        Self::Installed,
        Self::UnexpectedImage,
        Self::ImageAccepted,
        Self::ReleaseCounterFell,
        Self::AttackReported,
        Self::FaultReported,
        Self::QuarantineCleared,
        Self::Assigned,
        Self::AssignmentCancelled,
        Self::AssignmentBlocked,
        Self::ReplacementApproved,
        Self::ReplacementRefused,
        Self::EcuReplaced,
        Self::KeyChangeApproved,
        Self::KeyChangeRefused,
        Self::EncryptionKeyChanged,
        Self::Removed,
        Self::ReEnrolmentApproved,
        Self::ReEnrolled,
        Self::EcuTaken,
        Self::TokenIssued,
        Self::ClockOff,
    ];

    /// Its name in the API and in the catalog.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Registered => "registered",
            Self::ManifestRefused => "manifest_refused",
            Self::Installed => "installed",
            Self::UnexpectedImage => "unexpected_image",
            Self::ImageAccepted => "image_accepted",
            Self::ReleaseCounterFell => "release_counter_fell",
            Self::AttackReported => "attack_reported",
            Self::FaultReported => "fault_reported",
            Self::QuarantineCleared => "quarantine_cleared",
            Self::Assigned => "assigned",
            Self::AssignmentCancelled => "assignment_cancelled",
            Self::AssignmentBlocked => "assignment_blocked",
            Self::ReplacementApproved => "replacement_approved",
            Self::ReplacementRefused => "replacement_refused",
            Self::EcuReplaced => "ecu_replaced",
            Self::KeyChangeApproved => "key_change_approved",
            Self::KeyChangeRefused => "key_change_refused",
            Self::EncryptionKeyChanged => "encryption_key_changed",
            Self::Removed => "removed",
            Self::ReEnrolmentApproved => "re_enrolment_approved",
            Self::ReEnrolled => "re_enrolled",
            Self::EcuTaken => "ecu_taken",
            Self::TokenIssued => "token_issued",
            Self::ClockOff => "clock_off",
        }
    }

    /// The kind of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}
