//! A metadata file in the making, which an attack can change before it is signed, after, and once
//! it is bytes.

use std::rc::Rc;

use motorcade::uptane::canonical::canonical;
use serde_json::{Value, json};

use super::keys::Key;

/// A change of one file.
pub(crate) type Edit = Rc<dyn Fn(&mut Draft)>;

type Change<T> = Box<dyn FnOnce(&mut T)>;

/// A metadata file before it is signed.
pub(crate) struct Draft {
    /// What will be signed.
    pub(crate) signed: Value,
    /// Who will sign it.
    pub(crate) signers: Vec<Key>,
    on_signatures: Vec<Change<Vec<Value>>>,
    on_signed: Vec<Change<Value>>,
    on_bytes: Vec<Change<Vec<u8>>>,
}

impl Draft {
    pub(crate) fn new(signed: Value, signers: Vec<Key>) -> Self {
        Self {
            signed,
            signers,
            on_signatures: Vec::new(),
            on_signed: Vec::new(),
            on_bytes: Vec::new(),
        }
    }

    /// Changes the signatures once they are made.
    pub(crate) fn signatures(&mut self, change: impl FnOnce(&mut Vec<Value>) + 'static) {
        self.on_signatures.push(Box::new(change));
    }

    /// Changes what was signed, leaving the signatures as they were.
    pub(crate) fn tamper(&mut self, change: impl FnOnce(&mut Value) + 'static) {
        self.on_signed.push(Box::new(change));
    }

    /// Changes the file's bytes.
    pub(crate) fn bytes(&mut self, change: impl FnOnce(&mut Vec<u8>) + 'static) {
        self.on_bytes.push(Box::new(change));
    }

    /// Signs and serializes.
    pub(crate) fn finish(self) -> Vec<u8> {
        let mut signed = self.signed;
        // What has no canonical form is signed as serde_json writes it: sorted and without spaces,
        // too.
        let message = canonical(&signed).unwrap_or_else(|_| signed.to_string().into_bytes());
        let mut signatures: Vec<_> = self.signers.iter().map(|key| key.sign(&message)).collect();
        self.on_signatures.into_iter().for_each(|change| change(&mut signatures));
        self.on_signed.into_iter().for_each(|change| change(&mut signed));
        let mut bytes =
            json!({ "signatures": signatures, "signed": signed }).to_string().into_bytes();
        self.on_bytes.into_iter().for_each(|change| change(&mut bytes));
        bytes
    }
}
