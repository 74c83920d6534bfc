//! What the ECUs of a vehicle run and are to run, as one column holds it: JSON by ECU serial, as
//! short as can be, since it is read with every poll of a vehicle that isn't in memory.

use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::model::{
    CounterReset, CurrentAssignment, EcuMap, EcuSerial, EcuStatus, FallenFrom, InstalledImage,
    Offer, ReleaseCounter,
};

/// The text of the column.
pub(super) fn write(ecus: &EcuMap<EcuStatus>) -> serde_json::Result<String> {
    serde_json::to_string(&Written(ecus))
}

/// Reads what [`write()`] wrote.
pub(super) fn read(text: &str) -> serde_json::Result<EcuMap<EcuStatus>> {
    serde_json::from_str(text).map(|Read(ecus)| ecus)
}

/// Members that say nothing are left out.
#[derive(Serialize, Deserialize)]
#[serde(remote = "EcuStatus")]
struct Shape {
    #[serde(default, skip_serializing_if = "Option::is_none", with = "installed")]
    installed: Option<InstalledImage>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    unexpected: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "installed_list")]
    accepted: Vec<InstalledImage>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fallen_from: Option<Box<FallenFrom>>,
    #[serde(default, skip_serializing_if = "Option::is_none", with = "boxed_installed")]
    factory: Option<Box<InstalledImage>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    offered: Vec<Offer>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    highest_counter: Option<ReleaseCounter>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    assigned: Option<Box<CurrentAssignment>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reset: Option<Box<CounterReset>>,
}

struct Written<'a>(&'a EcuMap<EcuStatus>);

impl Serialize for Written<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(serial, ecu)| (serial, WrittenEcu(ecu))))
    }
}

struct WrittenEcu<'a>(&'a EcuStatus);

impl Serialize for WrittenEcu<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Shape::serialize(self.0, serializer)
    }
}

struct Read(EcuMap<EcuStatus>);

impl<'de> Deserialize<'de> for Read {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Entries).map(Self)
    }
}

#[derive(Deserialize)]
struct ReadEcu(#[serde(with = "Shape")] EcuStatus);

struct Entries;

impl<'de> Visitor<'de> for Entries {
    type Value = EcuMap<EcuStatus>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map by ECU serial")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::with_capacity(map.size_hint().unwrap_or(2));
        while let Some((serial, ReadEcu(ecu))) = map.next_entry::<EcuSerial, _>()? {
            entries.push((serial, ecu));
        }
        Ok(entries.into_iter().collect())
    }
}

/// An installed image as three members, as short as can be: it is read and written with every
/// manifest.
mod installed {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::model::{InstalledImage, Sha256Digest};

    #[derive(Serialize, Deserialize)]
    struct Shape(String, u64, Sha256Digest);

    pub(super) fn serialize<'a, S: Serializer>(
        image: impl Into<Option<&'a InstalledImage>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        image
            .into()
            .map(|image| Shape(image.path.clone(), image.length, image.sha256))
            .serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<InstalledImage>, D::Error> {
        let shape = Option::<Shape>::deserialize(deserializer)?;
        Ok(shape.map(|Shape(path, length, sha256)| InstalledImage { path, length, sha256 }))
    }
}

/// The same of one that is seldom there.
mod boxed_installed {
    use serde::{Deserializer, Serializer};

    use super::{InstalledImage, installed};

    pub(super) fn serialize<S: Serializer>(
        image: &Option<Box<InstalledImage>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        installed::serialize(image.as_deref(), serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Box<InstalledImage>>, D::Error> {
        Ok(installed::deserialize(deserializer)?.map(Box::new))
    }
}

/// The same of several.
mod installed_list {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::InstalledImage;

    #[derive(Serialize, Deserialize)]
    #[serde(transparent)]
    struct One(#[serde(with = "super::installed")] Option<InstalledImage>);

    pub(super) fn serialize<S: Serializer>(
        images: &[InstalledImage],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(images.iter().map(|image| One(Some(image.clone()))))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<InstalledImage>, D::Error> {
        Ok(Vec::<One>::deserialize(deserializer)?
            .into_iter()
            .filter_map(|One(image)| image)
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Sha256Digest;

    fn image(path: &str) -> InstalledImage {
        InstalledImage { path: path.into(), length: 1, sha256: Sha256Digest::from_bytes([1; 32]) }
    }

    fn map(status: EcuStatus) -> EcuMap<EcuStatus> {
        EcuMap::from_iter([("gw-1".parse().unwrap(), status)])
    }

    #[test]
    fn the_state_of_an_idle_ecu_is_short_and_reads_back() {
        let idle = map(EcuStatus { installed: Some(image("gw")), ..EcuStatus::default() });
        let text = write(&idle).unwrap();
        let digest = "01".repeat(32);
        assert_eq!(text, format!(r#"{{"gw-1":{{"installed":["gw",1,"{digest}"]}}}}"#));
        assert_eq!(read(&text).unwrap(), idle);
        assert_eq!(read(r#"{"gw-1":{}}"#).unwrap(), map(EcuStatus::default()));
    }

    #[test]
    fn all_that_can_be_known_of_an_ecu_reads_back() {
        let full = map(EcuStatus {
            installed: Some(image("new")),
            unexpected: true,
            accepted: vec![image("one"), image("other")],
            fallen_from: Some(Box::new(FallenFrom {
                path: "newer".into(),
                release_counter: ReleaseCounter::try_from(7).unwrap(),
            })),
            factory: Some(Box::new(image("factory"))),
            offered: vec![Offer { path: "gw/2.bin".parse().unwrap(), last_version: 7 }],
            highest_counter: Some(ReleaseCounter::try_from(7).unwrap()),
            assigned: Some(Box::new(CurrentAssignment {
                id: "a".into(),
                path: "gw/2.bin".parse().unwrap(),
            })),
            reset: None,
        });
        assert_eq!(read(&write(&full).unwrap()).unwrap(), full);
    }
}
