//! What is known of each ECU of a vehicle, in as little memory as a few ECUs take: a fleet of these
//! is kept.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::EcuSerial;

/// A map by ECU, in the order of their serials. A vehicle has 1 to 64 ECUs: a list is smaller than
/// any tree, of which one with a single entry has room for eleven. It is copied when it is changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EcuMap<T>(Arc<[(EcuSerial, T)]>);

impl<T: Clone> EcuMap<T> {
    /// What is known of an ECU.
    pub fn get(&self, serial: &EcuSerial) -> Option<&T> {
        let at = self.position(serial).ok()?;
        self.0.get(at).map(|(_, known)| known)
    }

    /// The same, to change it.
    pub fn get_mut(&mut self, serial: &EcuSerial) -> Option<&mut T> {
        let at = self.position(serial).ok()?;
        Arc::make_mut(&mut self.0).get_mut(at).map(|(_, known)| known)
    }

    /// Takes the place of what was known of an ECU.
    pub fn insert(&mut self, serial: &EcuSerial, new: T) {
        match self.get_mut(serial) {
            Some(known) => *known = new,
            None => self.edit(|entries| {
                let at = entries.partition_point(|(known, _)| known < serial);
                entries.insert(at, (serial.clone(), new));
            }),
        }
    }

    /// Forgets an ECU.
    pub fn remove(&mut self, serial: &EcuSerial) {
        self.edit(|entries| entries.retain(|(known, _)| known != serial));
    }

    /// Each ECU with what is known of it.
    pub fn iter(&self) -> impl Iterator<Item = (&EcuSerial, &T)> + Clone {
        self.0.iter().map(|(serial, known)| (serial, known))
    }

    /// The ECUs.
    pub fn keys(&self) -> impl Iterator<Item = &EcuSerial> {
        self.0.iter().map(|(serial, _)| serial)
    }

    /// What is known of each.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|(_, known)| known)
    }

    /// Whether nothing is known of any.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn position(&self, serial: &EcuSerial) -> Result<usize, usize> {
        self.0.binary_search_by(|(known, _)| known.cmp(serial))
    }

    fn edit(&mut self, edit: impl FnOnce(&mut Vec<(EcuSerial, T)>)) {
        let mut entries = self.0.to_vec();
        edit(&mut entries);
        self.0 = entries.into();
    }

    /// Lets the serials be those that `known` has, where they are equal, and not copies of them.
    pub fn share(&mut self, known: &[&EcuSerial]) {
        for (serial, _) in Arc::make_mut(&mut self.0) {
            if let Some(known) = known.iter().find(|known| **known == serial) {
                *serial = (*known).clone();
            }
        }
    }
}

impl<T: Clone + Default> EcuMap<T> {
    /// What is known of an ECU, to change it.
    pub fn entry(&mut self, serial: &EcuSerial) -> &mut T {
        if self.get(serial).is_none() {
            self.insert(serial, T::default());
        }
        self.get_mut(serial).expect("it was just inserted")
    }
}

impl<T> Default for EcuMap<T> {
    fn default() -> Self {
        Self(Arc::new([]))
    }
}

impl<T> FromIterator<(EcuSerial, T)> for EcuMap<T> {
    fn from_iter<I: IntoIterator<Item = (EcuSerial, T)>>(entries: I) -> Self {
        Self(entries.into_iter().collect::<BTreeMap<_, _>>().into_iter().collect())
    }
}

impl<T: Clone + Serialize> Serialize for EcuMap<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for EcuMap<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Entries(PhantomData))
    }
}

struct Entries<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Entries<T> {
    type Value = EcuMap<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map by ECU serial")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<EcuMap<T>, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry::<EcuSerial, T>()? {
            entries.push(entry);
        }
        // As they are written; whoever has edited the catalog by hand may have left them otherwise.
        if entries.is_sorted_by(|(one, _), (next, _)| one < next) {
            return Ok(EcuMap(entries.into()));
        }
        Ok(entries.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_map(edits in proptest::collection::vec((0..9_u8, proptest::option::of(0..100_u64)), 0..40)) {
            let (mut map, mut model) = (EcuMap::<u64>::default(), BTreeMap::<EcuSerial, u64>::new());
            for (number, new) in edits {
                let serial: EcuSerial = format!("ecu-{number}").parse().unwrap();
                match new {
                    Some(new) => {
                        *map.entry(&serial) += 1;
                        map.insert(&serial, new);
                        model.insert(serial.clone(), new);
                    }
                    None => {
                        map.remove(&serial);
                        model.remove(&serial);
                    }
                }
                prop_assert_eq!(map.get(&serial), model.get(&serial));
            }
            prop_assert!(map.iter().eq(model.iter()) && map.is_empty() == model.is_empty());
            let text = serde_json::to_string(&map).unwrap();
            prop_assert_eq!(&text, &serde_json::to_string(&model).unwrap());
            prop_assert_eq!(serde_json::from_str::<EcuMap<u64>>(&text).unwrap(), map);
        }
    }

    #[test]
    fn what_is_not_in_order_is_brought_into_it() {
        let map: EcuMap<u64> = serde_json::from_str(r#"{"b":1,"a":2,"b":3}"#).unwrap();
        assert_eq!(serde_json::to_string(&map).unwrap(), r#"{"a":2,"b":3}"#);
    }
}
