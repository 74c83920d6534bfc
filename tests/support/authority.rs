//! An OEM's certificate authority, with revocation lists.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationList,
    CertificateRevocationListParams, DnType, IsCa, Issuer, KeyIdMethod, KeyPair,
    PKCS_ECDSA_P256_SHA256, RevokedCertParams, SanType, SerialNumber, SignatureAlgorithm,
    date_time_ymd,
};

/// A certificate authority.
pub(crate) struct Ca {
    issuer: Issuer<'static, KeyPair>,
    algorithm: &'static SignatureAlgorithm,
    pub(crate) pem: String,
}

impl Ca {
    pub(crate) fn new(name: &str) -> Self {
        Self::of(name, &PKCS_ECDSA_P256_SHA256)
    }

    /// An authority whose keys, and those of all to whom it gives certificates, are of one kind.
    pub(crate) fn of(name: &str, algorithm: &'static SignatureAlgorithm) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate_for(algorithm).unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), algorithm, pem }
    }

    /// A certificate and its key, in PEM.
    pub(crate) fn issue(&self, common_name: &str, uri: Option<&str>) -> (String, String) {
        self.issue_with(|params| {
            params.distinguished_name.push(DnType::CommonName, common_name);
            params.subject_alt_names.extend(uri.map(|uri| SanType::URI(uri.try_into().unwrap())));
        })
    }

    /// A certificate with a serial number, which a revocation list can name.
    pub(crate) fn issue_numbered(&self, common_name: &str, serial: u64) -> (String, String) {
        self.issue_with(|params| {
            params.distinguished_name.push(DnType::CommonName, common_name);
            params.serial_number = Some(SerialNumber::from(serial));
        })
    }

    pub(crate) fn issue_with(
        &self,
        change: impl FnOnce(&mut CertificateParams),
    ) -> (String, String) {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::IpAddress("127.0.0.1".parse().unwrap())];
        change(&mut params);
        let key = KeyPair::generate_for(self.algorithm).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    /// A revocation list that is good until the end of a year.
    pub(crate) fn revoke(&self, serials: &[u64], until: i32) -> CertificateRevocationList {
        let long_ago = date_time_ymd(2015, 1, 1);
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: long_ago,
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: long_ago,
            next_update: date_time_ymd(until, 12, 31),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap()
    }
}

/// Replaces a file at once, as tools that care do.
pub(crate) fn replace(folder: &Path, name: &str, content: impl AsRef<[u8]>) {
    let new = folder.join("new");
    std::fs::write(&new, content).unwrap();
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::rename(new, folder.join(name)).unwrap();
}
