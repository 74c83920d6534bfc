//! Key officers, each with a key that no server has.

use motorcade::app::access::Principal;
use motorcade::app::ceremony::{
    CeremonyState, Offer, OfferedSignature, RoleRequest, StageRequest, StagedRoot,
};
use motorcade::app::images::precondition::Precondition;
use motorcade::app::{App, Error};
use motorcade::model::{AccessRole, RepositorySide, RoleName, Sha256Digest};
use motorcade::uptane::key::{Scheme, SigningKey};
use motorcade::uptane::metadata::Authority;

/// Somebody with a signing key.
pub(crate) struct Officer {
    pub(crate) key: SigningKey,
}

/// Whoever talks to the server for them.
pub(crate) fn officer() -> Principal {
    Principal {
        id: "officer".into(),
        role: AccessRole::Officer,
        path_prefix: None,
        request_id: None,
    }
}

impl Officer {
    pub(crate) fn new() -> Self {
        Self::with(&Self::pem())
    }

    /// A new private key.
    pub(crate) fn pem() -> String {
        SigningKey::generate_pem(Scheme::Ed25519).unwrap().to_string()
    }

    pub(crate) fn with(pem: &str) -> Self {
        Self { key: SigningKey::from_pem(pem).unwrap() }
    }

    pub(crate) fn id(&self) -> Sha256Digest {
        self.key.public().id()
    }

    /// The public key as it is sent.
    pub(crate) fn public(&self) -> String {
        self.key.public().object().to_string()
    }

    /// A signature of what is staged.
    pub(crate) fn sign(&self, staged: &StagedRoot) -> OfferedSignature {
        let all = Authority { key_ids: [self.id()].into(), threshold: 1 };
        let unsigned = staged.staging.unsigned().unwrap().authorize(&all, [self.id()]).unwrap();
        let signature = hex::encode(self.key.sign(unsigned.message()));
        OfferedSignature { key_id: self.id().to_string(), signature }
    }

    /// Signs what is staged and brings it.
    pub(crate) async fn bring(
        &self,
        app: &App,
        side: RepositorySide,
    ) -> Result<CeremonyState, Error> {
        let staged = app.ceremony().state(side).await?.staged.unwrap();
        let offer = Offer { payload: Some(staged.payload), signatures: vec![self.sign(&staged)] };
        app.ceremony().sign(side, &offer, &Precondition::default(), &officer()).await
    }
}

/// A change of one role.
pub(crate) fn image_change(
    role: RoleName,
    threshold: Option<u64>,
    add: &[&Officer],
    remove: &[Sha256Digest],
) -> StageRequest {
    let add = add.iter().map(|officer| officer.public()).collect();
    let role = RoleRequest { role, threshold, add, remove: remove.to_vec() };
    StageRequest { expires_days: None, roles: vec![role] }
}
