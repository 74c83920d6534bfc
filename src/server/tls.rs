//! TLS with client certificates (RFC 8446): the server's own certificate, and the OEM's CAs whose certificates vehicles have.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, ensure};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};

use crate::config::TlsConfig;

/// Reads certificates and key. A client may come without a certificate, and is then known by its token or not at all; one
/// that another CA has signed, or that is revoked, gets no connection.
///
/// # Errors
///
/// If a file can't be read or used; the message names it.
pub(super) fn load(config: &TlsConfig) -> anyhow::Result<ServerConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
    let builder = match &config.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                roots.add(certificate).with_context(|| format!("failed to use a CA of {}", path.display()))?;
            }
            let mut verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            if let Some(path) = &config.client_crl {
                verifier = verifier.with_crls(revocations(path)?);
            }
            builder.with_client_cert_verifier(verifier.allow_unauthenticated().build()?)
        }
    };
    let key = PrivateKeyDer::from_pem_file(&config.key);
    let key = key.with_context(|| format!("failed to read a private key from {}", config.key.display()))?;
    let chain = certificates(&config.certificate)?;
    let certificate = config.certificate.display();
    let mut server =
        builder.with_single_cert(chain, key).with_context(|| format!("failed to use {certificate} with its key"))?;
    server.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(server)
}

fn certificates(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let certificates = read.with_context(|| format!("failed to read certificates from {}", path.display()))?;
    ensure!(!certificates.is_empty(), "{} holds no PEM `CERTIFICATE`", path.display());
    Ok(certificates)
}

fn revocations(path: &Path) -> anyhow::Result<Vec<CertificateRevocationListDer<'static>>> {
    let read = CertificateRevocationListDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    read.with_context(|| format!("failed to read revocation lists from {}", path.display()))
}
