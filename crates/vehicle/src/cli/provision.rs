//! `motorcade-vehicle provision`

use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;

use super::shared::{StateArgs, print_line};
use crate::config::TlsConfig;
use crate::ecu::{self, EncryptionKind};
use crate::folder::{Folder, mark_enrolled};
use crate::http::Token;
use crate::provision::{self, Plan, PlannedEcu};
use motorcade_model::{BaseUrl, EcuSerial, HardwareId, VehicleId};
use motorcade_uptane::key::Scheme;

#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    state: StateArgs,
    /// Server that the vehicle belongs to
    #[arg(long, value_name = "URL")]
    server: BaseUrl,
    /// Vehicle's id
    #[arg(long)]
    vin: VehicleId,
    /// Primary: its serial and hardware id, and the kind of its encryption key if it is not p256
    #[arg(long, value_name = "SERIAL:HARDWARE_ID[:p256|rsa]")]
    primary: EcuArg,
    /// Secondary, likewise; can be given more than once
    #[arg(long, value_name = "SERIAL:HARDWARE_ID[:p256|rsa]")]
    secondary: Vec<EcuArg>,
    /// Kind of the keys that sign reports
    #[arg(long, value_enum, default_value_t = Signing::Ed25519)]
    signing: Signing,
    /// Director's root metadata to start from
    #[arg(long, value_name = "FILE")]
    director_root: PathBuf,
    /// Image repository's root metadata to start from
    #[arg(long, value_name = "FILE")]
    image_root: PathBuf,
    /// Do not enrol, but print the registration record as one line of JSON
    #[arg(long)]
    no_enrol: bool,
    /// File with the factory's enrolment token
    #[arg(long, value_name = "FILE")]
    enrolment_token_file: Option<PathBuf>,
    /// Factory's enrolment token
    #[arg(long, env = "MOTORCADE_ENROLMENT_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    enrolment_token: Option<String>,
    /// Certificates of the CAs that servers may be certified by, besides the system's
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// Vehicle's TLS certificate
    #[arg(long, value_name = "FILE", requires = "client_key")]
    client_cert: Option<PathBuf>,
    /// Private key of the certificate
    #[arg(long, value_name = "FILE", requires = "client_cert")]
    client_key: Option<PathBuf>,
}

/// Prints nothing, for there may be a token in it.
impl std::fmt::Debug for Args {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Args")
    }
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Signing {
    Ed25519,
    P256,
    Rsa,
}

impl From<Signing> for Scheme {
    fn from(signing: Signing) -> Self {
        match signing {
            Signing::Ed25519 => Self::Ed25519,
            Signing::P256 => Self::EcdsaSha2Nistp256,
            Signing::Rsa => Self::RsassaPssSha256,
        }
    }
}

#[derive(Debug, Clone)]
struct EcuArg(PlannedEcu);

impl FromStr for EcuArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (serial, rest) = text.split_once(':').ok_or("use SERIAL:HARDWARE_ID")?;
        let (hardware_id, encryption) = match rest.rsplit_once(':') {
            Some((hardware_id, "p256")) => (hardware_id, EncryptionKind::P256),
            Some((hardware_id, "rsa")) => (hardware_id, EncryptionKind::Rsa),
            _ => (rest, EncryptionKind::P256),
        };
        let serial: EcuSerial = serial.parse().map_err(|error| format!("{error}"))?;
        let hardware_id: HardwareId = hardware_id.parse().map_err(|error| format!("{error}"))?;
        Ok(Self(PlannedEcu { serial, hardware_id, encryption }))
    }
}

pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let absolute = |path: Option<PathBuf>| path.map(std::path::absolute).transpose();
    let tls = TlsConfig {
        ca_file: absolute(args.ca_file)?,
        client_cert: absolute(args.client_cert)?,
        client_key: absolute(args.client_key)?,
        ..TlsConfig::default()
    };
    let token = match &args.enrolment_token_file {
        Some(path) => Some(Token::new(&ecu::read(path)?)),
        None => args.enrolment_token.as_deref().map(Token::new),
    };
    let plan = Plan {
        vin: args.vin,
        server: args.server.to_string(),
        ecus: [args.primary].into_iter().chain(args.secondary).map(|EcuArg(ecu)| ecu).collect(),
        signing: args.signing.into(),
        tls,
        director_root: args.director_root,
        image_root: args.image_root,
    };
    let folder = Folder::new(&args.state.dir);
    if !args.no_enrol {
        provision::check_roots(&folder, &plan)?;
    }
    let record = provision::make(&folder, &plan)?;
    for path in folder.mended().take() {
        eprintln!("Replaced {}, which could not be read", path.display());
    }
    if args.no_enrol {
        print_line(record)?;
        mark_enrolled(&folder)?;
    } else {
        provision::enrol(&folder, &record, token.as_ref())?;
        eprintln!("Enrolled {} with {} ECUs", plan.vin, plan.ecus.len());
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ecu_is_given_in_one_word() {
        let EcuArg(ecu) = "p-1:gw:mk3:rsa".parse().unwrap();
        assert_eq!((ecu.serial.as_str(), ecu.hardware_id.as_str()), ("p-1", "gw:mk3"));
        assert_eq!(ecu.encryption, EncryptionKind::Rsa);
        let EcuArg(ecu) = "p-1:gw".parse().unwrap();
        assert_eq!(ecu.encryption, EncryptionKind::P256);
        for text in ["p-1", "p 1:gw", "p-1:", ":gw"] {
            assert!(text.parse::<EcuArg>().is_err(), "{text}");
        }
    }
}
