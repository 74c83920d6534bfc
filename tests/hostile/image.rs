//! Sealed images, and what both repositories say of them.

use std::io::Write;
use std::sync::Arc;

use motorcade::envelope::jwe::Envelope;
use motorcade::envelope::key::DataKey;
use motorcade::envelope::stream::SealWriter;
use motorcade::model::SealAlgorithm;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::vehicle::Ecu;

/// A sealed image.
#[derive(Clone)]
pub(crate) struct Image {
    pub(crate) path: String,
    pub(crate) plaintext: Arc<Vec<u8>>,
    pub(crate) sealed: Arc<Vec<u8>>,
    pub(crate) custom: Value,
    data_key: Arc<DataKey>,
}

impl Image {
    /// Seals an image of some 6 segments.
    pub(crate) fn seal(name: &str, hardware_id: &str, counter: u64) -> Self {
        let line = format!("{name} {counter} for {hardware_id}\n");
        let plaintext = line.bytes().cycle().take(PLAINTEXT_LENGTH).collect();
        Self::seal_bytes(name, hardware_id, counter, plaintext)
    }

    pub(crate) fn seal_bytes(
        name: &str,
        hardware_id: &str,
        counter: u64,
        plaintext: Vec<u8>,
    ) -> Self {
        let data_key = DataKey::generate();
        let mut writer = SealWriter::new(Vec::new(), &data_key, ALGORITHM).unwrap();
        writer.write_all(&plaintext).unwrap();
        let sealed = writer.finish().unwrap();
        let custom = json!({
            "hardwareIds": [hardware_id],
            "name": name,
            "releaseCounter": counter,
            "sealed": {
                "alg": ALGORITHM.as_str(),
                "plaintext": { "hashes": { "sha256": sha256_hex(&plaintext) }, "length": plaintext.len() },
            },
            "targetFormat": "BINARY",
            "version": format!("{counter}.0.0"),
        });
        let path = format!("{name}/{counter}/{name}.bin");
        Self {
            path,
            plaintext: Arc::new(plaintext),
            sealed: Arc::new(sealed),
            custom,
            data_key: Arc::new(data_key),
        }
    }

    /// The same image under another path.
    pub(crate) fn at(mut self, path: &str) -> Self {
        path.clone_into(&mut self.path);
        self
    }

    /// The same image with something else signed about it.
    pub(crate) fn with_custom(mut self, change: impl FnOnce(&mut Value)) -> Self {
        change(&mut self.custom);
        self
    }

    /// Another file under the same name and with the same custom.
    pub(crate) fn with_sealed(mut self, change: impl FnOnce(&mut Vec<u8>)) -> Self {
        change(Arc::make_mut(&mut self.sealed));
        self
    }

    /// The image with another one's data key in its envelopes.
    pub(crate) fn with_key_of(mut self, other: &Self) -> Self {
        self.data_key = other.data_key.clone();
        self
    }

    /// The target as the Image repository lists it.
    pub(crate) fn entry(&self) -> Value {
        json!({
            "custom": self.custom,
            "hashes": { "sha256": sha256_hex(&self.sealed) },
            "length": self.sealed.len(),
        })
    }

    /// The target as the Director lists it for these ECUs.
    pub(crate) fn entry_for(&self, ecus: &[&Ecu]) -> Value {
        let for_ecu = |ecu: &&Ecu| {
            let custom =
                json!({ "envelope": self.envelope_for(ecu), "hardwareId": ecu.hardware_id });
            (ecu.serial.clone(), custom)
        };
        let mut entry = self.entry();
        entry["custom"]["ecuIdentifiers"] = ecus.iter().map(for_ecu).collect::<Map<_, _>>().into();
        entry
    }

    /// The data key, wrapped to an ECU's key.
    pub(crate) fn envelope_for(&self, ecu: &Ecu) -> Value {
        let envelope = Envelope::seal(&self.data_key, ALGORITHM, &[&ecu.encryption], None).unwrap();
        envelope.for_one(ecu.encryption.kid()).unwrap()
    }

    /// The file's name below the repository.
    pub(crate) fn file(&self) -> String {
        let sha256 = sha256_hex(&self.sealed);
        match self.path.rsplit_once('/') {
            Some((folder, file)) => format!("targets/{folder}/{sha256}.{file}"),
            None => format!("targets/{sha256}.{}", self.path),
        }
    }
}

pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

const PLAINTEXT_LENGTH: usize = 24_000; // some 6 segments
const ALGORITHM: SealAlgorithm = SealAlgorithm::Aes256GcmHkdf4Kb;
