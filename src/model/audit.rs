//! What can happen, for the audit log.

/// What can happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AuditKind {
    /// An image was published.
    ImagePublished,
    /// An image was yanked.
    ImageYanked,
    /// Somebody said until when an image's files are kept.
    ImageRetained,
    /// A yanked image's files were removed.
    ImageCollected,
    /// A recipient's key was registered for a hardware id.
    RecipientRegistered,
    /// A recipient's key was removed.
    RecipientRemoved,
    /// Another key took the place of a recipient's.
    RecipientReplaced,
    /// A recipient's key was revoked.
    RecipientRevoked,
    /// An image's envelope was wrapped again.
    EnvelopeRewrapped,
    /// An API token was made.
    TokenCreated,
    /// An API token was revoked.
    TokenRevoked,
    /// A vehicle was registered.
    VehicleRegistered,
    /// Several vehicles were registered in one transaction.
    VehiclesRegistered,
    /// A vehicle was taken out of the inventory.
    VehicleRemoved,
    /// A vehicle got a new bearer token.
    VehicleTokenIssued,
    /// A vehicle was put into quarantine.
    VehicleQuarantined,
    /// A person cleared a quarantine.
    QuarantineCleared,
    /// A person accepted what an ECU runs.
    ImageAccepted,
    /// An image was assigned to an ECU.
    Assigned,
    /// An assignment was cancelled.
    AssignmentCancelled,
    /// An assignment could not be offered, and was withdrawn.
    AssignmentWithdrawn,
    /// The replacement of an ECU was approved.
    ReplacementApproved,
    /// An ECU was replaced.
    EcuReplaced,
    /// The change of an ECU's encryption key was approved.
    KeyChangeApproved,
    /// An ECU's encryption key was changed.
    EncryptionKeyChanged,
    /// A vehicle's enrolment anew was approved.
    ReEnrolmentApproved,
    /// A vehicle enrolled anew.
    ReEnrolled,
    /// A vehicle lost an ECU to another one.
    EcuTaken,
    /// A root was recorded: whose keys sign from now on.
    RootPublished,
    /// A role's next file was staged, for people to sign.
    MetadataStaged,
    /// A signature of a staged file came in.
    MetadataSigned,
    /// A file that others have signed was published.
    MetadataPublished,
    /// A signature of a staged file came in, and was not kept.
    SignatureRefused,
    /// What was staged was dropped.
    StagingCancelled,
    /// A role began to be handed over to other keys.
    RoleHandoverBegun,
    /// The keys that left a role sign no more.
    RoleHandoverEnded,
    /// A server started with other role keys than the one before.
    RoleKeysLoaded,
    /// A person said that keys of a role are lost.
    RoleKeysLost,
    /// Files of keys were moved to where nothing signs with them.
    RoleKeysMoved,
    /// A server started with another policy than the one before.
    PolicyLoaded,
    /// The catalog was moved to a database.
    CatalogMoved,
    /// The blobs were moved to a bucket.
    BlobsMoved,
    /// Version numbers were skipped, as after a restore.
    VersionsSkipped,
    /// A person said that the clock is right.
    ClockCorrected,
    /// An escrow key was made or named, which wraps from then on.
    EscrowKeyAdded,
    /// A former escrow key was taken out; it opens nothing any more.
    EscrowKeyRetired,
    /// A supplier was added: who signs for a folder from now on.
    SupplierAdded,
    /// A supplier got other keys.
    SupplierKeysReplaced,
    /// A supplier was removed, with its images.
    SupplierRemoved,
    /// A job was made.
    JobCreated,
    /// A job was cancelled.
    JobCancelled,
}

impl AuditKind {
    /// All of them.
    pub const ALL: [Self; 51] = [
        Self::ImagePublished,
        Self::ImageYanked,
        Self::ImageRetained,
        Self::ImageCollected,
        Self::RecipientRegistered,
        Self::RecipientRemoved,
        Self::RecipientReplaced,
        Self::RecipientRevoked,
        Self::EnvelopeRewrapped,
        Self::TokenCreated,
        Self::TokenRevoked,
        Self::VehicleRegistered,
        Self::VehiclesRegistered,
        Self::VehicleRemoved,
        Self::VehicleTokenIssued,
        Self::VehicleQuarantined,
        Self::QuarantineCleared,
        Self::ImageAccepted,
        Self::Assigned,
        Self::AssignmentCancelled,
        Self::AssignmentWithdrawn,
        Self::ReplacementApproved,
        Self::EcuReplaced,
        Self::KeyChangeApproved,
        Self::EncryptionKeyChanged,
        Self::ReEnrolmentApproved,
        Self::ReEnrolled,
        Self::EcuTaken,
        Self::RootPublished,
        Self::MetadataStaged,
        Self::MetadataSigned,
        Self::MetadataPublished,
        Self::SignatureRefused,
        Self::StagingCancelled,
        Self::RoleHandoverBegun,
        Self::RoleHandoverEnded,
        Self::RoleKeysLoaded,
        Self::RoleKeysLost,
        Self::RoleKeysMoved,
        Self::PolicyLoaded,
        Self::CatalogMoved,
        Self::BlobsMoved,
        Self::VersionsSkipped,
        Self::ClockCorrected,
        Self::EscrowKeyAdded,
        Self::EscrowKeyRetired,
        Self::SupplierAdded,
        Self::SupplierKeysReplaced,
        Self::SupplierRemoved,
        Self::JobCreated,
        Self::JobCancelled,
    ];

    /// Its name in the API and in the catalog.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ImagePublished => "image_published",
            Self::ImageYanked => "image_yanked",
            Self::ImageRetained => "image_retained",
            Self::ImageCollected => "image_collected",
            Self::RecipientRegistered => "recipient_registered",
            Self::RecipientRemoved => "recipient_removed",
            Self::RecipientReplaced => "recipient_replaced",
            Self::RecipientRevoked => "recipient_revoked",
            Self::EnvelopeRewrapped => "envelope_rewrapped",
            Self::TokenCreated => "token_created",
            Self::TokenRevoked => "token_revoked",
            Self::VehicleRegistered => "vehicle_registered",
            Self::VehiclesRegistered => "vehicles_registered",
            Self::VehicleRemoved => "vehicle_removed",
            Self::VehicleTokenIssued => "vehicle_token_issued",
            Self::VehicleQuarantined => "vehicle_quarantined",
            Self::QuarantineCleared => "quarantine_cleared",
            Self::ImageAccepted => "image_accepted",
            Self::Assigned => "assigned",
            Self::AssignmentCancelled => "assignment_cancelled",
            Self::AssignmentWithdrawn => "assignment_withdrawn",
            Self::ReplacementApproved => "replacement_approved",
            Self::EcuReplaced => "ecu_replaced",
            Self::KeyChangeApproved => "key_change_approved",
            Self::EncryptionKeyChanged => "encryption_key_changed",
            Self::ReEnrolmentApproved => "re_enrolment_approved",
            Self::ReEnrolled => "re_enrolled",
            Self::EcuTaken => "ecu_taken",
            Self::RootPublished => "root_published",
            Self::MetadataStaged => "metadata_staged",
            Self::MetadataSigned => "metadata_signed",
            Self::MetadataPublished => "metadata_published",
            Self::SignatureRefused => "signature_refused",
            Self::StagingCancelled => "staging_cancelled",
            Self::RoleHandoverBegun => "role_handover_begun",
            Self::RoleHandoverEnded => "role_handover_ended",
            Self::RoleKeysLoaded => "role_keys_loaded",
            Self::RoleKeysLost => "role_keys_lost",
            Self::RoleKeysMoved => "role_keys_moved",
            Self::PolicyLoaded => "policy_loaded",
            Self::CatalogMoved => "catalog_moved",
            Self::BlobsMoved => "blobs_moved",
            Self::VersionsSkipped => "versions_skipped",
            Self::ClockCorrected => "clock_corrected",
            Self::EscrowKeyAdded => "escrow_key_added",
            Self::EscrowKeyRetired => "escrow_key_retired",
            Self::SupplierAdded => "supplier_added",
            Self::SupplierKeysReplaced => "supplier_keys_replaced",
            Self::SupplierRemoved => "supplier_removed",
            Self::JobCreated => "job_created",
            Self::JobCancelled => "job_cancelled",
        }
    }

    /// The kind of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}
