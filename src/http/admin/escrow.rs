//! `/api/v1/escrow`: which escrow keys there are.

use actix_web::web::{self, Json};

use crate::api::{EscrowBody, EscrowKeyBody};
use crate::app::escrow::{EscrowKeyShown, Escrows};
use crate::http::ApiError;
use crate::http::auth::{Access, ManageKeys};

/// Shows the escrow keys, how many envelopes each opens, and what can't be used of them.
#[utoipa::path(
    get, path = "/api/v1/escrow", tag = "recipients",
    responses((status = 200, body = EscrowBody, description = "the keys, the one that wraps first"))
)]
pub(in crate::http) async fn show_escrow(
    escrows: web::Data<Escrows>,
    _access: Access<ManageKeys>,
) -> Result<Json<EscrowBody>, ApiError> {
    let keys = escrows.show().await?.into_iter().map(EscrowKeyBody::from).collect();
    Ok(Json(EscrowBody { keys, faults: escrows.faults().await }))
}

impl From<EscrowKeyShown> for EscrowKeyBody {
    fn from(key: EscrowKeyShown) -> Self {
        let state = if key.is_wrapping { "wraps" } else { "opens" }.to_owned();
        Self { kid: key.kid, source: key.source, state, envelopes: key.envelopes }
    }
}
