//! Which vehicle a request comes from, in the type of its handler: a handler that takes
//! [`FromVehicle`] serves one vehicle and nobody else.
//!
//! Three channels, of which a server uses those it was given: a client certificate, whose subject
//! or alternative name has the vehicle's id; a bearer token of the vehicle's own; a header that a
//! trusted proxy sets.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

use actix_web::dev::Payload;
use actix_web::http::header::HeaderName;
use actix_web::{FromRequest, HttpMessage, HttpRequest, web};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::ApiError;
use super::auth::{bearer_token, service};
use crate::app::fleet::{Fleet, IdentityClaims};
use crate::model::{Network, VehicleId};

/// How vehicles are recognized besides their tokens.
#[derive(Debug, Clone, Default)]
pub struct IdentityConfig {
    /// Where in a client certificate the id is.
    pub certificate_field: CertificateField,
    /// The header of a trusted proxy, and the addresses it may come from.
    pub proxy: Option<TrustedProxy>,
}

/// Where in a client certificate a vehicle's id is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CertificateField {
    /// The common name of the subject.
    #[default]
    CommonName,
    /// The first DNS name of the subject alternative names.
    DnsName,
    /// The last part of the first URI of the subject alternative names, as in `urn:vin:WVW…` or
    /// `https://oem/v/WVW…`.
    Uri,
}

/// A proxy that has checked a client certificate and says whose it is.
#[derive(Debug, Clone)]
pub struct TrustedProxy {
    /// The header with the vehicle's id. The proxy **must** remove it from what clients send.
    pub header: HeaderName,
    /// Where the proxy's connections come from; a header from elsewhere is ignored.
    pub addresses: Vec<Network>,
}

/// The vehicle that sent a request.
#[derive(Debug)]
pub struct FromVehicle {
    /// Its id.
    pub vin: VehicleId,
}

impl FromRequest for FromVehicle {
    type Error = actix_web::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self, actix_web::Error>>>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let fleet = service::<Fleet>(request);
        let claims = claims_of(request);
        Box::pin(async move {
            let vin = fleet.identify_vehicle(&claims).await.map_err(ApiError::from)?;
            Ok(Self { vin })
        })
    }
}

/// What a request says of the vehicle that sent it.
pub(super) fn claims_of(request: &HttpRequest) -> IdentityClaims {
    let config = request.app_data::<web::Data<IdentityConfig>>();
    let proxy = config.and_then(|config| config.proxy.as_ref()).and_then(|proxy| {
        let from = request.peer_addr()?.ip();
        let is_trusted = proxy.addresses.iter().any(|network| network.contains(from));
        let value = request.headers().get(&proxy.header).filter(|_| is_trusted)?;
        Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
    });
    let certificate = request.extensions().get::<PeerCertificate>().map(|PeerCertificate(der)| {
        let field = config.map_or(CertificateField::default(), |config| config.certificate_field);
        // A certificate without an id is a claim, too: it is then refused, and does not fall back
        // to a token.
        id_in(der, field).unwrap_or_default()
    });
    IdentityClaims { certificate, proxy, token: bearer_token(request.headers()).map(str::to_owned) }
}

/// The certificate that the client of a TLS connection proved to have, among the extensions of each
/// of its requests.
///
/// It **must** have been verified against the OEM's CAs.
#[derive(Debug, Clone)]
pub struct PeerCertificate(Rc<[u8]>);

impl PeerCertificate {
    /// Keeps a certificate in DER.
    pub fn new(der: &[u8]) -> Self {
        Self(der.into())
    }
}

fn id_in(der: &[u8], field: CertificateField) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    if field == CertificateField::CommonName {
        let mut names = certificate.subject().iter_common_name();
        let name = names.next()?.as_str().ok()?.to_owned();
        return names.next().is_none().then_some(name); // of two names nobody knows which one counts
    }
    let alternatives = certificate.subject_alternative_name().ok()??;
    alternatives.value.general_names.iter().find_map(|name| match (field, name) {
        (CertificateField::DnsName, GeneralName::DNSName(name)) => Some((*name).to_owned()),
        (CertificateField::Uri, GeneralName::URI(uri)) => {
            uri.rsplit([':', '/']).next().map(str::to_owned)
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    fn certificate(change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "VIN1");
        change(&mut params);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn finds_the_id_where_it_is_configured_to_be() {
        let der = certificate(|params| {
            params.subject_alt_names = vec![
                SanType::DnsName("vin2.vehicles.example".try_into().unwrap()),
                SanType::URI("urn:vin:VIN3".try_into().unwrap()),
            ];
        });
        assert_eq!(id_in(&der, CertificateField::CommonName).as_deref(), Some("VIN1"));
        assert_eq!(
            id_in(&der, CertificateField::DnsName).as_deref(),
            Some("vin2.vehicles.example")
        );
        assert_eq!(id_in(&der, CertificateField::Uri).as_deref(), Some("VIN3"));
        assert_eq!(id_in(&certificate(|_| ()), CertificateField::Uri), None);
        assert_eq!(id_in(b"no certificate", CertificateField::CommonName), None);
    }
}
