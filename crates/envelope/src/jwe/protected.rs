//! The protected header (RFC 7516 section 4), as its maker wrote it.

use motorcade_model::Sha256Digest;

use crate::key::encode;

/// The protected header, kept as its maker wrote it: those bytes are authenticated.
#[derive(Clone)]
pub(super) struct Protected {
    /// In base64url.
    pub(super) text: String,
    /// The names of its parameters, which must not be repeated elsewhere (RFC 7516 section 7.2.1).
    pub(super) names: Vec<String>,
    /// `aad`, in base64url.
    pub(super) aad: Option<String>,
    /// The sealed image that the envelope is for, by its digest.
    pub(super) image: Option<Sha256Digest>,
}

impl Protected {
    /// The header of every envelope that we make.
    pub(super) fn ours(image: Option<Sha256Digest>) -> Self {
        let mut names = vec!["cty".to_owned(), "enc".to_owned()];
        let mut text = r#"{"cty":"jwk+json","enc":"A256GCM""#.to_owned();
        if let Some(image) = image {
            names.push(IMAGE.to_owned());
            text.push_str(&format!(r#","{IMAGE}":"{image}""#));
        }
        text.push('}');
        Self { text: encode(text.as_bytes()), names, aad: None, image }
    }

    /// The Additional Authenticated Data (RFC 7516 section 5.1 step 14).
    pub(super) fn additional_data(&self) -> Vec<u8> {
        match &self.aad {
            None => self.text.clone().into_bytes(),
            Some(aad) => format!("{}.{aad}", self.text).into_bytes(),
        }
    }

    /// Whether another recipient can be added: not if the header describes the one that there is.
    pub(super) fn is_extensible(&self) -> bool {
        !PER_RECIPIENT.iter().any(|name| self.has(name))
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.names.iter().any(|known| known == name)
    }
}

/// The header parameter with the SHA-256 of the sealed image, in hexadecimal as in the metadata.
pub(super) const IMAGE: &str = "sealed_sha256";

/// Header parameters that belong to one recipient.
const PER_RECIPIENT: [&str; 8] = ["alg", "apu", "apv", "epk", "iv", "kid", "tag", "use"];
