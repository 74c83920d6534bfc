//! A CA in a folder: `ca.pem`, `ca.key`, and a server's `server.pem`, `server.key`. P-256, as an
//! OEM's is.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Where they go
    #[arg(long)]
    dir: PathBuf,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    fs::create_dir_all(&args.dir)?;
    let key = KeyPair::generate()?;
    let params = authority();
    let certificate = params.self_signed(&key)?;
    write(&args.dir, "ca.pem", &certificate.pem())?;
    write(&args.dir, "ca.key", &key.serialize_pem())?;
    let issuer = Issuer::new(params, key);
    let mut params = CertificateParams::new(vec!["localhost".to_owned()])?;
    params.subject_alt_names.push(SanType::IpAddress([127, 0, 0, 1].into()));
    let key = KeyPair::generate()?;
    write(&args.dir, "server.pem", &params.signed_by(&key, &issuer)?.pem())?;
    write(&args.dir, "server.key", &key.serialize_pem())?;
    println!("{{}}");
    Ok(())
}

/// The CA in a folder, to issue vehicles' certificates with.
pub(crate) fn issuer(dir: &Path) -> anyhow::Result<Issuer<'static, KeyPair>> {
    let key = fs::read_to_string(dir.join("ca.key")).context("no CA: make one first")?;
    Ok(Issuer::new(authority(), KeyPair::from_pem(&key)?))
}

/// The CA's certificate.
pub(crate) fn authority_certificate(dir: &Path) -> anyhow::Result<CertificateDer<'static>> {
    Ok(CertificateDer::from_pem_file(dir.join("ca.pem"))?)
}

/// The server's certificate and key.
pub(crate) fn server(
    dir: &Path,
) -> anyhow::Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let certificate = CertificateDer::from_pem_file(dir.join("server.pem"))?;
    Ok((vec![certificate], PrivateKeyDer::from_pem_file(dir.join("server.key"))?))
}

/// A vehicle's certificate and key.
pub(crate) fn vehicle(
    issuer: &Issuer<'static, KeyPair>,
    vin: &str,
) -> anyhow::Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, vin);
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, issuer)?.der().clone();
    let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
    Ok((vec![certificate], key))
}

fn authority() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "benchmark");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

fn write(dir: &Path, name: &str, text: &str) -> anyhow::Result<()> {
    let path = dir.join(name);
    fs::write(&path, text)?;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o600))?)
}
