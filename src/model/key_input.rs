//! A public key as somebody sends it, before anybody has looked at it.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

/// A key: text in a string, or an object, of which the text is kept so that a member that is there
/// twice is seen.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyInput(Box<RawValue>);

impl KeyInput {
    /// The PEM text or the object's text.
    pub fn text(&self) -> String {
        serde_json::from_str::<String>(self.0.get()).unwrap_or_else(|_| self.0.get().to_owned())
    }

    /// A key that came as text.
    pub fn from_text(text: &str) -> Option<Self> {
        let json = if text.trim_start().starts_with('{') {
            text.to_owned()
        } else {
            Value::from(text).to_string()
        };
        RawValue::from_string(json).ok().map(Self)
    }
}

impl From<&Value> for KeyInput {
    fn from(key: &Value) -> Self {
        Self(to_raw_value(key).expect("a JSON value is JSON"))
    }
}

/// It may be a private key, sent by mistake.
impl fmt::Debug for KeyInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyInput")
    }
}
