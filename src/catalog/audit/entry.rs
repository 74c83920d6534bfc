//! An entry of the audit log: what was changed, and by whom.

use serde_json::{Value, json};

use crate::model::{AccessRole, AuditKind, EcuSerial, EventKind, NewEvent, Timestamp, VehicleId};

/// Who makes a change, when, and by which request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Author {
    /// Who.
    pub who: Who,
    /// When.
    pub at: Timestamp,
    /// Id of the request by which it is made.
    pub request_id: Option<String>,
}

/// Who changes something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who {
    /// The holder of an API token.
    Token {
        /// The token's id.
        id: String,
        /// What its holder may do; looked up if it isn't said.
        role: Option<AccessRole>,
    },
    /// A vehicle, as the channel says: its certificate, its own token, or a trusted proxy.
    Vehicle(Option<VehicleId>),
    /// A person at the command line of the server's machine, by the number of the user.
    Local(u32),
    /// The server by itself.
    Server,
}

/// An entry that is about to be added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewAuditEntry {
    /// What happened.
    pub kind: AuditKind,
    /// Who did it.
    pub author: Author,
    /// To what: an image's path, the id of a key, a token or a vehicle.
    pub subject: String,
    /// What else there is to know: a JSON object, and **never** a secret.
    pub detail: Value,
}

/// An entry as it is stored. Its texts are those that its hash covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    /// Its number, from 1 and without a gap.
    pub seq: u64,
    /// When.
    pub at: Timestamp,
    /// What happened: the name of an [`AuditKind`], or of one of a later version.
    pub kind: String,
    /// What kind of actor it was: `token`, `vehicle`, `local` or `server`.
    pub actor_kind: String,
    /// The actor's id; empty for the server itself.
    pub actor: String,
    /// The role of a token.
    pub actor_role: Option<String>,
    /// What was changed.
    pub subject: String,
    /// A JSON object, as it was written.
    pub detail: String,
    /// Id of the request.
    pub request_id: Option<String>,
    /// SHA-256 over all this and the hash before it, in hexadecimal.
    pub hash: String,
}

impl Author {
    /// The server itself.
    pub fn server(at: Timestamp) -> Self {
        Self { who: Who::Server, at, request_id: None }
    }

    /// An entry of this author.
    pub fn entry(
        &self,
        kind: AuditKind,
        subject: impl Into<String>,
        detail: Value,
    ) -> NewAuditEntry {
        NewAuditEntry { kind, author: self.clone(), subject: subject.into(), detail }
    }
}

impl Who {
    /// What kind of actor it is.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Token { .. } => "token",
            Self::Vehicle(_) => "vehicle",
            Self::Local(_) => "local",
            Self::Server => "server",
        }
    }

    /// Its id.
    pub fn id(&self) -> String {
        match self {
            Self::Token { id, .. } => id.clone(),
            Self::Vehicle(vin) => vin.as_ref().map_or_else(String::new, ToString::to_string),
            Self::Local(uid) => uid.to_string(),
            Self::Server => String::new(),
        }
    }
}

impl NewAuditEntry {
    /// The entry for an event of a vehicle, if that is a change that somebody has made. What
    /// vehicles report is none.
    pub(in crate::catalog) fn of_event(event: &NewEvent) -> Option<Self> {
        let kind = kind_of(event.kind)?;
        let who = match event.actor.as_str() {
            "vehicle" if event.kind == EventKind::EcuTaken => Who::Vehicle(None), // another one
            "vehicle" => Who::Vehicle(Some(event.vin.clone())),
            "server" => Who::Server,
            id => Who::Token { id: id.to_owned(), role: None },
        };
        let author = Author { who, at: event.at, request_id: event.request_id.clone() };
        let mut detail = json!({});
        if let Some(serial) = &event.ecu_serial {
            detail["ecu_serial"] = EcuSerial::as_str(serial).into();
        }
        if !event.detail.is_empty() {
            detail["text"] = event.detail.as_str().into();
        }
        Some(author.entry(kind, event.vin.as_str(), detail))
    }
}

/// The kind of an event that is a change which somebody has made.
fn kind_of(event: EventKind) -> Option<AuditKind> {
    Some(match event {
        EventKind::Registered => AuditKind::VehicleRegistered,
        EventKind::Removed => AuditKind::VehicleRemoved,
        EventKind::TokenIssued => AuditKind::VehicleTokenIssued,
        EventKind::QuarantineCleared => AuditKind::QuarantineCleared,
        EventKind::ImageAccepted => AuditKind::ImageAccepted,
        EventKind::Assigned => AuditKind::Assigned,
        EventKind::AssignmentCancelled => AuditKind::AssignmentCancelled,
        EventKind::AssignmentBlocked => AuditKind::AssignmentWithdrawn,
        EventKind::ReplacementApproved => AuditKind::ReplacementApproved,
        EventKind::EcuReplaced => AuditKind::EcuReplaced,
        EventKind::KeyChangeApproved => AuditKind::KeyChangeApproved,
        EventKind::EncryptionKeyChanged => AuditKind::EncryptionKeyChanged,
        EventKind::ReEnrolmentApproved => AuditKind::ReEnrolmentApproved,
        EventKind::ReEnrolled => AuditKind::ReEnrolled,
        EventKind::EcuTaken => AuditKind::EcuTaken,
        EventKind::ManifestRefused
        | EventKind::Installed
        | EventKind::UnexpectedImage
        | EventKind::ReleaseCounterFell
        | EventKind::AttackReported
        | EventKind::FaultReported
        | EventKind::ReplacementRefused
        | EventKind::KeyChangeRefused
        | EventKind::ClockOff => return None,
    })
}
