//! The files that TLS is made from. Each reader fails, and names the file, if it finds nothing of
//! what it looks for.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use rustls::RootCertStore;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;
use x509_parser::time::ASN1Time;

use crate::config::TlsConfig;
use crate::files::{self, Exposure, Mend};
use crate::model::Timestamp;

/// One of the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum File {
    ServerCertificate,
    ClientCa,
    ClientCrl,
}

impl File {
    /// For a metric.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::ServerCertificate => "server_certificate",
            Self::ClientCa => "client_ca",
            Self::ClientCrl => "client_crl",
        }
    }

    /// For people.
    pub(super) fn noun(self) -> &'static str {
        match self {
            Self::ServerCertificate => "the server's certificate",
            Self::ClientCa => "a CA of client certificates",
            Self::ClientCrl => "a revocation list",
        }
    }

    /// What it means that it has expired.
    pub(super) fn consequence(self) -> &'static str {
        match self {
            Self::ServerCertificate => "clients refuse to connect",
            Self::ClientCa => "replace it",
            Self::ClientCrl => "once the grace is over, client certificates are refused",
        }
    }

    /// Where it is.
    pub(super) fn path(self, config: &TlsConfig) -> &Path {
        let path = match self {
            Self::ServerCertificate => Some(&config.certificate),
            Self::ClientCa => config.client_ca.as_ref(),
            Self::ClientCrl => config.client_crl.as_ref(),
        };
        path.map_or(Path::new(""), PathBuf::as_path)
    }
}

/// When the first certificate or list of each file expires.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Expiries {
    pub(super) server_certificate: Option<Timestamp>,
    pub(super) client_ca: Option<Timestamp>,
    pub(super) client_crl: Option<Timestamp>,
}

impl Expiries {
    pub(super) fn iter(&self) -> impl Iterator<Item = (File, Timestamp)> + use<> {
        let all = [
            (File::ServerCertificate, self.server_certificate),
            (File::ClientCa, self.client_ca),
            (File::ClientCrl, self.client_crl),
        ];
        all.into_iter().filter_map(|(file, expires)| Some((file, expires?)))
    }
}

/// By what it is noticed that a file is another one: device, inode, length, and time of the last
/// change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fingerprint(Vec<Option<[i128; 5]>>);

impl Fingerprint {
    pub(super) fn of(config: &TlsConfig) -> Self {
        let paths = [
            Some(&config.certificate),
            Some(&config.key),
            config.client_ca.as_ref(),
            config.client_crl.as_ref(),
        ];
        let one = |path: &PathBuf| {
            let file = fs::metadata(path).ok()?;
            Some([
                file.dev().into(),
                file.ino().into(),
                file.size().into(),
                file.ctime().into(),
                file.ctime_nsec().into(),
            ])
        };
        Self(paths.into_iter().flatten().map(one).collect())
    }
}

/// The CAs of client certificates, and when the first of them expires.
pub(super) fn authorities(path: &Path) -> anyhow::Result<(RootCertStore, Timestamp)> {
    let (certificates, expires) = certificate_chain(path)?;
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots
            .add(certificate)
            .with_context(|| format!("failed to use a CA of {}", path.display()))?;
    }
    Ok((roots, expires))
}

/// All certificates of a file, and when the first of them expires.
pub(super) fn certificate_chain(
    path: &Path,
) -> anyhow::Result<(Vec<CertificateDer<'static>>, Timestamp)> {
    let text = read(path)?;
    let certificates = CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>();
    let certificates = certificates
        .with_context(|| format!("failed to read certificates from {}", path.display()))?;
    ensure!(
        !certificates.is_empty(),
        "{} holds no PEM `CERTIFICATE`: {}",
        path.display(),
        contents(&text)
    );
    let mut expires = Timestamp::MAX;
    for certificate in &certificates {
        let (_, parsed) = X509Certificate::from_der(certificate).with_context(|| {
            format!("{} holds something that is no X.509 certificate", path.display())
        })?;
        expires = expires.min(timestamp(parsed.validity().not_after));
    }
    Ok((certificates, expires))
}

/// The server's private key. One that others can read is refused, as a role's is; its mode stays as
/// it is, since another program may share it by a group.
pub(super) fn private_key(path: &Path) -> anyhow::Result<PrivateKeyDer<'static>> {
    let exposure = files::check_secret(path, Mend::No)
        .with_context(|| format!("failed to use {}", path.display()))?;
    if exposure != Exposure::None {
        tracing::warn!(
            "{} can be read by a group of this process: `chmod 600` keeps it from that",
            path.display()
        );
    }
    let text = zeroize::Zeroizing::new(read(path)?);
    let key = PrivateKeyDer::from_pem_slice(&text);
    key.with_context(|| format!("{} holds no PEM private key that can be read", path.display()))
}

/// Revocation lists, and when the first of them has to have been replaced.
pub(super) struct RevocationLists {
    pub(super) lists: Vec<CertificateRevocationListDer<'static>>,
    pub(super) next_update: Timestamp,
}

/// All revocation lists of a file: several in PEM, or one in DER.
pub(super) fn revocation_lists(path: &Path) -> anyhow::Result<RevocationLists> {
    let bytes = read(path)?;
    let path = path.display();
    let lists = if is_pem(&bytes) {
        // A block that nobody reads could be the list that matters.
        let is_pure = labels(&bytes).iter().all(|label| label == "X509 CRL");
        ensure!(is_pure, "{path} holds something else than PEM `X509 CRL`: {}", contents(&bytes));
        let lists =
            CertificateRevocationListDer::pem_slice_iter(&bytes).collect::<Result<Vec<_>, _>>();
        lists.with_context(|| format!("failed to read revocation lists from {path}"))?
    } else {
        vec![CertificateRevocationListDer::from(bytes.clone())]
    };
    ensure!(!lists.is_empty(), "{path} holds no PEM `X509 CRL`: {}", contents(&bytes));
    let mut next_update = Timestamp::MAX;
    for list in &lists {
        let Ok(([], parsed)) = CertificateRevocationList::from_der(list) else {
            bail!("{path} is no revocation list (RFC 5280) in PEM or DER");
        };
        let Some(next) = parsed.next_update() else {
            bail!(
                "{path} holds a revocation list without nextUpdate, which RFC 5280, 5.1.2.5 requires"
            );
        };
        next_update = next_update.min(timestamp(next));
    }
    Ok(RevocationLists { lists, next_update })
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let bytes = fs::read(path).with_context(|| format!("failed to read {}", path.display()))?;
    ensure!(!bytes.is_empty(), "{} is empty", path.display());
    Ok(bytes)
}

fn is_pem(bytes: &[u8]) -> bool {
    bytes.windows(BEGIN.len()).any(|window| window == BEGIN)
}

/// What a file has instead of what was looked for: the labels of its PEM blocks, **never** more of
/// it.
fn contents(bytes: &[u8]) -> String {
    let labels: Vec<_> = labels(bytes)
        .iter()
        .map(|label| format!("`{:.40}`", label.escape_default()))
        .take(5)
        .collect();
    if labels.is_empty() {
        "there is no PEM in it".to_owned()
    } else {
        format!("there is {} in it", labels.join(", "))
    }
}

fn labels(bytes: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes);
    let label = |line: &str| {
        Some(line.strip_prefix("-----BEGIN ")?.trim_end().trim_end_matches('-').to_owned())
    };
    text.lines().filter_map(label).collect()
}

fn timestamp(time: ASN1Time) -> Timestamp {
    Timestamp::from_second(time.timestamp()).unwrap_or(Timestamp::MAX)
}

const BEGIN: &[u8] = b"-----BEGIN ";
