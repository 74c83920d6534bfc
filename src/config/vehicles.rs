//! Settings of what vehicles are served with: TLS, and how they are recognized.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::address::parse_address;
use super::{Error, Span};
use crate::model::Network;

/// TLS, and how vehicles are recognized.
#[derive(Debug, Clone, Default, Args)]
pub struct VehicleSettings {
    /// Address to listen on for TLS [default: 127.0.0.1:8443, if there is a certificate]
    #[arg(long, env = "MOTORCADE_TLS_LISTEN", value_name = "HOST:PORT", value_parser = parse_address)]
    tls_listen: Option<SocketAddr>,

    /// The server's certificate and whatever leads to its CA, in PEM
    #[arg(long, env = "MOTORCADE_TLS_CERT", value_name = "FILE")]
    tls_cert: Option<PathBuf>,

    /// The certificate's private key, in PEM
    #[arg(long, env = "MOTORCADE_TLS_KEY", value_name = "FILE")]
    tls_key: Option<PathBuf>,

    /// CAs whose client certificates identify vehicles, in PEM
    #[arg(long, env = "MOTORCADE_CLIENT_CA", value_name = "FILE")]
    client_ca: Option<PathBuf>,

    /// Revocation lists of these CAs, in PEM, or one in DER; read again when it changes, like the
    /// others
    #[arg(long, env = "MOTORCADE_CLIENT_CRL", value_name = "FILE")]
    client_crl: Option<PathBuf>,

    /// How long a revocation list is still believed after its nextUpdate; hours, or with a unit
    /// [default: 0]
    #[arg(long, env = "MOTORCADE_CLIENT_CRL_GRACE", value_name = "TIME")]
    client_crl_grace: Option<Span<3600, 0, { 365 * 86_400 }>>,

    /// Where in a client certificate the vehicle's id is [default: cn]
    #[arg(long, env = "MOTORCADE_VEHICLE_ID_FROM", value_name = "FIELD")]
    vehicle_id_from: Option<VehicleIdFrom>,

    /// Header in which a trusted proxy names the vehicle whose certificate it has checked
    #[arg(long, env = "MOTORCADE_VEHICLE_HEADER", value_name = "NAME")]
    vehicle_header: Option<String>,

    /// Address of a trusted proxy, or its network, as in 10.0.0.0/8; repeat for more, or separate
    /// them by commas
    #[arg(long, env = "MOTORCADE_TRUSTED_PROXY", value_name = "ADDRESS", value_delimiter = ',')]
    trusted_proxy: Vec<Network>,

    /// Time without a manifest after which a vehicle counts as silent; hours, or with a unit
    /// [default: 7d]
    #[arg(long, env = "MOTORCADE_SILENT_AFTER", value_name = "TIME")]
    silent_after: Option<Span<3600, 3600, { 3650 * 86_400 }>>,

    /// Time after which a vehicle reports again, though nothing has changed: in between it only looks
    /// whether its metadata has; hours, or with a unit [default: 6h, or half of silent-after if that
    /// is less]
    #[arg(long, env = "MOTORCADE_REPORT_EVERY", value_name = "TIME")]
    report_every: Option<Span<3600, 60, { 30 * 86_400 }>>,

    /// What puts a vehicle into quarantine: kinds of attack that it reports, `other` for those of
    /// another name, and `unexpected-image`; separated by commas, or `none` [default: all but
    /// freeze, endless-data, slow-retrieval, malformed]
    #[arg(long, env = "MOTORCADE_QUARANTINE_ON", value_name = "KINDS")]
    quarantine_on: Option<String>,

    /// Whether an ECU's new encryption key, which the ECU has signed, is taken at once (`accept`), or
    /// once an engineer has approved it (`approve`) [default: approve]
    #[arg(long, env = "MOTORCADE_ECU_KEY_CHANGES", value_name = "POLICY")]
    ecu_key_changes: Option<String>,

    /// Vehicles whose state is kept in memory, up to 4 KiB each [default: 131072]
    #[arg(long, env = "MOTORCADE_VEHICLES_IN_MEMORY", value_name = "N", value_parser = parse_count)]
    vehicles_in_memory: Option<NonZeroUsize>,
}

/// Where in a client certificate a vehicle's id is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum VehicleIdFrom {
    /// Common name of the subject.
    Cn,
    /// First DNS name of the subject alternative names.
    Dns,
    /// Last part of the first URI of the subject alternative names.
    Uri,
}

/// Settings with their defaults filled in.
#[derive(Debug, Clone)]
pub struct VehicleConfig {
    /// TLS, if there is a certificate.
    pub tls: Option<TlsConfig>,
    /// Where in a client certificate the vehicle's id is.
    pub id_from: VehicleIdFrom,
    /// Header of a trusted proxy, and the addresses that it may come from.
    pub proxy: Option<(String, Vec<Network>)>,
    /// How long a vehicle may say nothing; none for the built-in time.
    pub silent_after: Option<Duration>,
    /// How often a vehicle reports at least; none for the built-in time.
    pub report_every: Option<Duration>,
    /// What puts a vehicle into quarantine, separated by commas; none for the built-in list.
    pub quarantine_on: Option<String>,
    /// Whether changed keys of ECUs are approved; none for the built-in policy.
    pub ecu_key_changes: Option<String>,
    /// Vehicles whose state is kept in memory; none for the built-in number.
    pub vehicles_in_memory: Option<NonZeroUsize>,
}

/// How TLS is served.
#[derive(Debug, Clone)]
pub struct TlsConfig {
    /// Address to listen on.
    pub listen: SocketAddr,
    /// The server's certificate chain.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// CAs of client certificates.
    pub client_ca: Option<PathBuf>,
    /// Revocation lists of these CAs.
    pub client_crl: Option<PathBuf>,
    /// How long a revocation list is still believed after its nextUpdate.
    pub crl_grace: Duration,
}

impl VehicleSettings {
    /// Adds the file's settings and the defaults.
    pub(super) fn resolve(self, file: Self) -> Result<VehicleConfig, Error> {
        let certificate = self.tls_cert.or(file.tls_cert);
        let key = self.tls_key.or(file.tls_key);
        let client_ca = self.client_ca.or(file.client_ca);
        let client_crl = self.client_crl.or(file.client_crl);
        let crl_grace = self.client_crl_grace.or(file.client_crl_grace);
        let listen = self.tls_listen.or(file.tls_listen);
        let tls = match (certificate, key) {
            (Some(certificate), Some(key)) => {
                let listen = listen.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 8443)));
                let crl_grace = crl_grace.map_or(Duration::ZERO, Span::duration);
                Some(TlsConfig { listen, certificate, key, client_ca, client_crl, crl_grace })
            }
            (None, None) if listen.is_none() && client_ca.is_none() && client_crl.is_none() => None,
            _ => return Err(Error::Unusable("TLS needs both tls-cert and tls-key")),
        };
        if tls.as_ref().is_some_and(|tls| tls.client_crl.is_some() && tls.client_ca.is_none()) {
            return Err(Error::Unusable("client-crl needs client-ca"));
        }
        let addresses =
            if self.trusted_proxy.is_empty() { file.trusted_proxy } else { self.trusted_proxy };
        let proxy = match (self.vehicle_header.or(file.vehicle_header), addresses.is_empty()) {
            (Some(header), false) => Some((header, addresses)),
            (None, true) => None,
            // Without the addresses anybody could say to be any vehicle.
            _ => return Err(Error::Unusable("vehicle-header and trusted-proxy need each other")),
        };
        let silent_after = self.silent_after.or(file.silent_after).map(Span::duration);
        let report_every = self.report_every.or(file.report_every).map(Span::duration);
        Ok(VehicleConfig {
            tls,
            id_from: self.vehicle_id_from.or(file.vehicle_id_from).unwrap_or(VehicleIdFrom::Cn),
            proxy,
            quarantine_on: self.quarantine_on.or(file.quarantine_on),
            ecu_key_changes: self.ecu_key_changes.or(file.ecu_key_changes),
            vehicles_in_memory: self.vehicles_in_memory.or(file.vehicles_in_memory),
            report_every,
            silent_after,
        })
    }
}

fn parse_count(text: &str) -> Result<NonZeroUsize, String> {
    let count =
        text.parse().ok().filter(|count: &NonZeroUsize| count.get() <= MOST_VEHICLES_IN_MEMORY);
    count.ok_or_else(|| format!("it must be from 1 to {MOST_VEHICLES_IN_MEMORY}"))
}

const MOST_VEHICLES_IN_MEMORY: usize = 10_000_000; // 60 GB
