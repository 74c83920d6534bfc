//! A public key as the inventory holds it.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

/// A TUF key object or a JWK as the JSON text that it is stored as: a tree of it takes ten times as
/// much memory, and is needed when the key is read.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyObject(Box<RawValue>);

impl KeyObject {
    /// The object.
    pub fn to_value(&self) -> Value {
        serde_json::from_str(self.0.get()).expect("it was JSON when it came")
    }

    /// Its text.
    pub fn text(&self) -> &str {
        self.0.get()
    }
}

impl From<&Value> for KeyObject {
    fn from(value: &Value) -> Self {
        Self(serde_json::value::to_raw_value(value).expect("a value can be written"))
    }
}

impl From<Value> for KeyObject {
    fn from(value: Value) -> Self {
        Self::from(&value)
    }
}

/// Whatever the order of its members.
impl PartialEq for KeyObject {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text() || self.to_value() == other.to_value()
    }
}

impl Eq for KeyObject {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_same_however_it_is_written() {
        let key = |text: &str| serde_json::from_str::<KeyObject>(text).unwrap();
        assert_eq!(key(r#"{"a":1,"b":2}"#), key(r#"{ "b": 2, "a": 1 }"#));
        assert_ne!(key(r#"{"a":1}"#), key(r#"{"a":2}"#));
        assert_eq!(serde_json::to_string(&key(r#"{"a":1}"#)).unwrap(), r#"{"a":1}"#);
    }
}
