//! Who a vehicle is, by whichever channel it says so.

use super::Fleet;
use crate::app::Error;
use crate::app::access::digest;
use crate::model::VehicleId;

/// What a request says of the vehicle that sent it. Each claim was checked by whoever made it: the
/// TLS handshake, or the server's settings for a proxy that is trusted.
#[derive(Debug, Clone, Default)]
pub struct IdentityClaims {
    /// The vehicle's id in the client certificate.
    pub certificate: Option<String>,
    /// The vehicle's id in a trusted proxy's header.
    pub proxy: Option<String>,
    /// A bearer token.
    pub token: Option<String>,
}

impl Fleet {
    /// The vehicle that a request comes from. Whoever says it in two ways has to say the same.
    ///
    /// # Errors
    ///
    /// [`Error::Unauthenticated`] if nothing says who it is, [`Error::Forbidden`] if two claims
    /// differ or a claim is no vehicle's id.
    pub async fn identify_vehicle(&self, claims: &IdentityClaims) -> Result<VehicleId, Error> {
        let forbidden = |detail: &str| Error::Forbidden { detail: detail.to_owned() };
        let mut known: Option<VehicleId> = None;
        for claim in claims.certificate.iter().chain(&claims.proxy) {
            let vin = claim
                .parse()
                .map_err(|_| forbidden("the client certificate or proxy names no vehicle's id"))?;
            if known.as_ref().is_some_and(|other| *other != vin) {
                return Err(forbidden(
                    "the client certificate and the proxy name different vehicles",
                ));
            }
            known = Some(vin);
        }
        if let Some(token) = &claims.token {
            match (self.vehicles.find_by_token(&digest(token)).await?, &known) {
                (Some(vin), Some(other)) if vin != *other => {
                    return Err(forbidden(
                        "the token is another vehicle's than the client certificate",
                    ));
                }
                (Some(vin), _) => known = Some(vin),
                (None, None) => {
                    let detail = "this is no vehicle's token".to_owned();
                    return Err(Error::Unauthenticated { detail });
                }
                (None, Some(_)) => {} // an API token beside a certificate
            }
        }
        let detail =
            "a vehicle identifies itself by a client certificate or by its own bearer token";
        known.ok_or_else(|| Error::Unauthenticated { detail: detail.to_owned() })
    }
}
