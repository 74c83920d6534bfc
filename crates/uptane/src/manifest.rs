//! The vehicle version manifest and its ECU version reports (Uptane 2.1.0, 5.4.2.1.1 and
//! 5.4.2.1.2), as docs/POUF.md writes them.
//!
//! ```json
//! {"signatures": [{"keyid": "…", "sig": "…"}],
//!  "signed": {"vin": "…", "primary_ecu_serial": "…", "targets_version": 17,
//!             "ecu_version_reports": {"<serial>": {"signatures": […], "signed": {
//!                 "ecu_serial": "…", "counter": 12, "time": "2026-11-24T10:00:00Z", "attacks_detected": "",
//!                 "installed_image": {"filepath": "…", "fileinfo": {"length": 1, "hashes": {"sha256": "…"}}}}}}}}
//! ```
//!
//! Signatures are over the canonical form of `signed`. The Primary signs the whole and each ECU its
//! own report, so that a Primary can't speak for a Secondary. Reading is strict: the server reads
//! these from strangers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::canonical::{NotCanonical, canonical};
use super::key::{SigningKey, VerifyingKey};
use motorcade_model::strict_json::{JsonFault, check_json};
use motorcade_model::{EcuSerial, InstalledImage, Sha256Digest, Timestamp, VehicleId};

/// Most bytes of a manifest: 64 ECUs with RSA signatures fit.
pub const MAX_MANIFEST_SIZE: usize = 128 * 1024; // 128 KiB
/// Most ECUs of one vehicle.
pub const MAX_ECUS: usize = 64;

/// The payload of an ECU version report. Members are in canonical order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EcuReport {
    /// Which attacks it has noticed since its last report, separated by commas; empty if none.
    /// Printable ASCII.
    #[serde(deserialize_with = "attacks")]
    pub attacks_detected: String,
    /// Rises with every report of this ECU, so that none can be replayed.
    pub counter: u64,
    /// Who it is.
    pub ecu_serial: EcuSerial,
    /// What went wrong since its last report and is no sign of an attack: names separated by
    /// commas, as [`crate::verify::Fault`] has them. Not in the Standard; absent if there
    /// is none, and passed over by a Director that does not know it. Printable ASCII.
    #[serde(default, deserialize_with = "faults", skip_serializing_if = "String::is_empty")]
    pub faults_detected: String,
    /// Its installed image.
    #[serde(with = "installed_image")]
    pub installed_image: InstalledImage,
    /// The latest time that it can vouch for.
    pub time: Timestamp,
}

impl EcuReport {
    /// Signs the report with the ECU's own key.
    pub fn sign(&self, key: &SigningKey) -> Value {
        sign(serde_json::to_value(self).expect("a report is always JSON"), key)
    }
}

/// The payload of a vehicle version manifest.
#[derive(Debug, Clone)]
pub struct VehicleManifest {
    /// Which vehicle.
    pub vin: VehicleId,
    /// The Primary that sent it.
    pub primary: EcuSerial,
    /// Version of the newest Director Targets that the Primary has verified, 0 before the first.
    /// Not in the Standard: tells the Director which of its bundles can no longer be installed
    /// (Deployment Best Practices 8.0.6.2).
    pub targets_version: Option<u64>,
    /// The signed reports, by the serial under which the Primary lists them.
    pub reports: BTreeMap<EcuSerial, Signed<EcuReport>>,
}

impl VehicleManifest {
    /// Signs a manifest with the Primary's key. `reports` are as [`EcuReport::sign`] made them.
    pub fn sign(
        vin: &VehicleId,
        primary: &EcuSerial,
        targets_version: u64,
        reports: BTreeMap<EcuSerial, Value>,
        key: &SigningKey,
    ) -> Value {
        let signed = ManifestBody {
            ecu_version_reports: reports,
            primary_ecu_serial: primary.clone(),
            targets_version: Some(targets_version),
            vin: vin.clone(),
        };
        sign(serde_json::to_value(signed).expect("a manifest is always JSON"), key)
    }

    /// Reads a manifest. No signature is checked: [`Signed::verify`] does, for it and for each
    /// report.
    ///
    /// # Errors
    ///
    /// [`ManifestError`] says what is malformed. The input may be hostile; the work is bounded by
    /// its size.
    pub fn parse(bytes: &[u8]) -> Result<Signed<Self>, ManifestError> {
        if bytes.len() > MAX_MANIFEST_SIZE {
            return Err(ManifestError::TooLarge);
        }
        let text = std::str::from_utf8(bytes).map_err(|_| ManifestError::NotUtf8)?;
        match parse_canonical(text) {
            Some(manifest) => Ok(manifest),
            None => Self::parse_any(text),
        }
    }

    /// Reads a manifest that may be written in any way.
    fn parse_any(text: &str) -> Result<Signed<Self>, ManifestError> {
        check_json(text)?;
        let value: Value = serde_json::from_str(text).map_err(JsonFault::from)?;
        let outer: Signed<ManifestBody> = Signed::from_value(value, "the manifest")?;
        let Signed { content: body, signatures, message } = outer;
        if body.ecu_version_reports.len() > MAX_ECUS {
            return Err(ManifestError::TooManyEcus);
        }
        let mut reports = BTreeMap::new();
        for (serial, report) in body.ecu_version_reports {
            let report = Signed::from_value(report, "an ECU version report")?;
            reports.insert(serial, report);
        }
        let content = Self {
            vin: body.vin,
            primary: body.primary_ecu_serial,
            targets_version: body.targets_version,
            reports,
        };
        Ok(Signed { content, signatures, message })
    }
}

/// A manifest as most vehicles send it: in canonical form, with the members that are known here and
/// no others.
///
/// If writing it again gives the same bytes, and nothing is escaped, which canonical form does
/// otherwise, then these are canonical, no member is there twice, and the parts that were signed
/// are parts of them: the way over a [`Value`] takes several times as long, and a fleet polls all
/// day.
fn parse_canonical(text: &str) -> Option<Signed<VehicleManifest>> {
    let parsed: Sent<ManifestBody<Sent<EcuReport>>> = serde_json::from_str(text).ok()?;
    let is_in_bounds = parsed.signed.ecu_version_reports.len() <= MAX_ECUS
        && parsed
            .signed
            .ecu_version_reports
            .values()
            .all(|report| report.signatures.len() <= MAX_SIGNATURES)
        && parsed.signatures.len() <= MAX_SIGNATURES;
    if !is_in_bounds || serde_json::to_string(&parsed).ok()? != text || text.contains('\\') {
        return None;
    }
    let message = serde_json::to_vec(&parsed.signed).ok()?;
    let ManifestBody { ecu_version_reports, primary_ecu_serial, targets_version, vin } =
        parsed.signed;
    let mut reports = BTreeMap::new();
    for (serial, Sent { signatures, signed }) in ecu_version_reports {
        let message = serde_json::to_vec(&signed).ok()?;
        reports.insert(serial, Signed { content: signed, signatures, message });
    }
    let content = VehicleManifest { vin, primary: primary_ecu_serial, targets_version, reports };
    Some(Signed { content, signatures: parsed.signatures, message })
}

/// The payload as it is sent, with members in canonical order.
#[derive(Serialize, Deserialize)]
struct Sent<T> {
    signatures: Vec<Signature>,
    signed: T,
}

/// Members in canonical order.
#[derive(Serialize, Deserialize)]
struct ManifestBody<R = Value> {
    ecu_version_reports: BTreeMap<EcuSerial, R>,
    primary_ecu_serial: EcuSerial,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    targets_version: Option<u64>,
    vin: VehicleId,
}

/// Something that came with signatures, which are not checked yet.
#[derive(Debug, Clone)]
pub struct Signed<T> {
    /// What was signed, **not to be believed** before [`Self::verify`].
    pub content: T,
    signatures: Vec<Signature>,
    message: Vec<u8>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Signature {
    keyid: String,
    sig: String,
}

impl<T> Signed<T> {
    /// Whether `key` has signed it. One good signature is enough, beside whatever others there are.
    pub fn verify(&self, key: &VerifyingKey) -> bool {
        let id = key.id().to_string();
        let ours = self.signatures.iter().find(|signature| signature.keyid == id);
        let signature = ours.and_then(|signature| hex::decode(&signature.sig).ok());
        signature.is_some_and(|signature| key.verifies(&self.message, &signature))
    }
}

impl<T: for<'de> Deserialize<'de>> Signed<T> {
    pub(crate) fn from_value(value: Value, what: &'static str) -> Result<Self, ManifestError> {
        // The parser's message can quote what was sent.
        let shape = |error: serde_json::Error| {
            let fault =
                error.to_string().chars().filter(|c| !c.is_control()).take(MAX_FAULT).collect();
            ManifestError::Shape { what, fault }
        };
        let Value::Object(mut members) = value else {
            return Err(ManifestError::Shape { what, fault: "it is not an object".into() });
        };
        let missing =
            |member: &str| ManifestError::Shape { what, fault: format!("`{member}` is missing") };
        let signatures = members.remove("signatures").ok_or_else(|| missing("signatures"))?;
        let signatures: Vec<Signature> = serde_json::from_value(signatures).map_err(shape)?;
        if signatures.len() > MAX_SIGNATURES {
            return Err(ManifestError::Shape { what, fault: "it has too many signatures".into() });
        }
        let signed = members.remove("signed").ok_or_else(|| missing("signed"))?;
        let message = canonical(&signed)?;
        let content = T::deserialize(signed).map_err(shape)?;
        Ok(Self { content, signatures, message })
    }
}

fn attacks<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    names(deserializer, "attacks_detected")
}

fn faults<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    names(deserializer, "faults_detected")
}

fn names<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
    member: &str,
) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.len() > 1024 || !text.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
        let fault = format!("`{member}` must be at most 1024 printable ASCII characters");
        return Err(serde::de::Error::custom(fault));
    }
    Ok(text)
}

pub(crate) fn sign(signed: Value, key: &SigningKey) -> Value {
    let message = canonical(&signed).expect("what we sign has whole numbers only");
    let signature =
        Signature { keyid: key.public().id().to_string(), sig: hex::encode(key.sign(&message)) };
    serde_json::json!({ "signatures": [signature], "signed": signed })
}

/// Why something is not a manifest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Over [`MAX_MANIFEST_SIZE`].
    #[error("the manifest has more than {MAX_MANIFEST_SIZE} bytes")]
    TooLarge,
    /// Not text.
    #[error("the manifest is not UTF-8")]
    NotUtf8,
    /// Not JSON, nested too deep, or with a member twice.
    #[error("the manifest is refused: {0}")]
    Json(#[from] JsonFault),
    /// A fraction among the numbers.
    #[error("the manifest is refused: {0}")]
    Number(#[from] NotCanonical),
    /// Not the members that belong here.
    #[error("{what} is malformed: {fault}")]
    Shape {
        /// Which part.
        what: &'static str,
        /// What is wrong with it.
        fault: String,
    },
    /// Over [`MAX_ECUS`].
    #[error("the manifest has reports of more than {MAX_ECUS} ECUs")]
    TooManyEcus,
}

/// Whether a report can name an image so. A vehicle must not install what it can't name: no
/// Director would read its reports again.
pub fn is_reportable(path: &str) -> bool {
    !path.is_empty() && path.len() <= 1024 && path.bytes().all(|byte| (0x20..0x7f).contains(&byte))
}

/// `{"filepath": …, "fileinfo": {"length": …, "hashes": {"sha256": …}}}`
mod installed_image {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{InstalledImage, Sha256Digest};

    #[derive(Serialize, Deserialize)]
    struct Shape {
        fileinfo: FileInfo,
        filepath: String,
    }

    #[derive(Serialize, Deserialize)]
    struct FileInfo {
        hashes: Hashes,
        length: u64,
    }

    #[derive(Serialize, Deserialize)]
    struct Hashes {
        sha256: Sha256Digest,
    }

    pub(super) fn serialize<S: Serializer>(
        image: &InstalledImage,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let fileinfo = FileInfo { hashes: Hashes { sha256: image.sha256 }, length: image.length };
        Shape { fileinfo, filepath: image.path.clone() }.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<InstalledImage, D::Error> {
        let Shape { fileinfo, filepath } = Shape::deserialize(deserializer)?;
        if !super::is_reportable(&filepath) {
            return Err(serde::de::Error::custom(
                "`filepath` must be 1 to 1024 printable ASCII characters",
            ));
        }
        Ok(InstalledImage {
            path: filepath,
            length: fileinfo.length,
            sha256: fileinfo.hashes.sha256,
        })
    }
}

const MAX_SIGNATURES: usize = 8;
const MAX_FAULT: usize = 160;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Scheme;

    fn key() -> SigningKey {
        SigningKey::from_pem(&SigningKey::generate_pem(Scheme::Ed25519).unwrap()).unwrap()
    }

    fn report(serial: &str) -> EcuReport {
        let sha256 = Sha256Digest::from_bytes([7; 32]);
        EcuReport {
            attacks_detected: String::new(),
            counter: 3,
            ecu_serial: serial.parse().unwrap(),
            faults_detected: String::new(),
            installed_image: InstalledImage { path: "gw/1/gw.bin".into(), length: 5, sha256 },
            time: "2026-11-24T10:00:00Z".parse().unwrap(),
        }
    }

    fn manifest(primary: &SigningKey, secondary: &SigningKey) -> Value {
        let reports = [("p-1", primary), ("s-1", secondary)];
        let reports =
            reports.map(|(serial, key)| (serial.parse().unwrap(), report(serial).sign(key)));
        VehicleManifest::sign(
            &"VIN1".parse().unwrap(),
            &"p-1".parse().unwrap(),
            17,
            reports.into(),
            primary,
        )
    }

    #[test]
    fn a_manifest_verifies_under_the_keys_that_signed_it_and_no_other() {
        let (primary, secondary) = (key(), key());
        let parsed =
            VehicleManifest::parse(manifest(&primary, &secondary).to_string().as_bytes()).unwrap();
        assert!(
            parsed.verify(primary.public().verifying())
                && !parsed.verify(secondary.public().verifying())
        );
        let theirs = &parsed.content.reports[&"s-1".parse::<EcuSerial>().unwrap()];
        assert!(
            theirs.verify(secondary.public().verifying())
                && !theirs.verify(primary.public().verifying())
        );
        assert_eq!(theirs.content, report("s-1"));
        assert_eq!(parsed.content.targets_version, Some(17));
    }

    /// What is read the short way is what is read the long way.
    #[test]
    fn both_ways_of_reading_agree() {
        let (primary, secondary) = (key(), key());
        let value = manifest(&primary, &secondary);
        let short = parse_canonical(&value.to_string()).expect("what we write is canonical");
        let spaced = serde_json::to_string_pretty(&value).unwrap();
        assert!(parse_canonical(&spaced).is_none());
        let long = VehicleManifest::parse(spaced.as_bytes()).unwrap();
        assert_eq!(short.message, long.message);
        for (serial, report) in &short.content.reports {
            assert_eq!(report.message, long.content.reports[serial].message);
            assert_eq!(report.content, long.content.reports[serial].content);
        }
        let mut more = value.clone();
        more["signed"]["weather"] = "fine".into();
        assert!(parse_canonical(&more.to_string()).is_none(), "an unknown member is signed, too");
        let twice = value.to_string().replacen("\"vin\"", "\"vin\":\"VIN1\",\"vin\"", 1);
        assert!(parse_canonical(&twice).is_none());
    }

    proptest::proptest! {
        /// Whatever is changed: nothing panics, and what the short way takes, the long way takes
        /// for the same.
        #[test]
        fn both_ways_agree_on_changed_bytes(changes in proptest::collection::vec((0_usize..2000, 0x20_u8..0x7f), 0..4)) {
            static TEXT: std::sync::LazyLock<String> = std::sync::LazyLock::new(|| manifest(&key(), &key()).to_string());
            let mut bytes = TEXT.clone().into_bytes();
            let length = bytes.len();
            for (at, byte) in changes {
                bytes[at % length] = byte;
            }
            let text = String::from_utf8(bytes).unwrap();
            if let Some(short) = parse_canonical(&text) {
                let long = VehicleManifest::parse_any(&text).unwrap();
                proptest::prop_assert_eq!(short.message, long.message);
                for (serial, report) in short.content.reports {
                    proptest::prop_assert_eq!(&report.message, &long.content.reports[&serial].message);
                }
            }
            let _ = VehicleManifest::parse(text.as_bytes());
        }
    }

    /// A Director that does not know the member still finds it in what was signed.
    #[test]
    fn faults_are_signed_and_absent_if_there_are_none() {
        let (primary, mut told) = (key(), report("p-1"));
        told.faults_detected = "clock,expired".into();
        let reports = BTreeMap::from([(told.ecu_serial.clone(), told.sign(&primary))]);
        let text =
            VehicleManifest::sign(&"VIN1".parse().unwrap(), &told.ecu_serial, 1, reports, &primary)
                .to_string();
        assert!(parse_canonical(&text).is_some(), "members are in canonical order");
        let parsed = VehicleManifest::parse(text.as_bytes()).unwrap();
        let found = &parsed.content.reports[&told.ecu_serial];
        assert!(found.verify(primary.public().verifying()) && found.content == told);
        assert!(!manifest(&primary, &primary).to_string().contains("faults_detected"));
        let long = text.replace("clock,expired", &"x".repeat(1025));
        let error = VehicleManifest::parse(long.as_bytes()).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("`faults_detected` must be"), "{error}");
    }

    /// AT-42: a Primary that changes what a Secondary said.
    #[test]
    fn a_changed_report_no_longer_verifies() {
        let (primary, secondary) = (key(), key());
        let mut value = manifest(&primary, &secondary);
        value["signed"]["ecu_version_reports"]["s-1"]["signed"]["counter"] = 4.into();
        let parsed = VehicleManifest::parse(value.to_string().as_bytes()).unwrap();
        assert!(
            !parsed.content.reports[&"s-1".parse::<EcuSerial>().unwrap()]
                .verify(secondary.public().verifying())
        );
        assert!(
            !parsed.verify(primary.public().verifying()),
            "the Primary's signature covers the reports"
        );
    }

    #[test]
    fn hostile_input_is_refused_with_a_reason() {
        let text = manifest(&key(), &key()).to_string();
        let check = |input: &[u8], expected: &str| {
            let error = VehicleManifest::parse(input).map(|_| ()).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check(b"", "line 1, column 0");
        check(b"\xff{}", "not UTF-8");
        check("[".repeat(10_000).as_bytes(), "not the JSON");
        check(&vec![b' '; MAX_MANIFEST_SIZE + 1], "more than 131072 bytes");
        check(
            text.replacen("\"vin\"", "\"vin\":\"X\",\"vin\"", 1).as_bytes(),
            "`vin` is there twice",
        );
        check(text.replace("\"counter\":3", "\"counter\":3.5").as_bytes(), "must be whole");
        check(
            text.replace("\"counter\":3", "\"counter\":-3").as_bytes(),
            "an ECU version report is malformed",
        );
        check(text.replace("gw/1/gw.bin", "").as_bytes(), "`filepath` must be");
        check(text.replacen("signatures", "signaturez", 1).as_bytes(), "missing");
    }
}
