//! The escrow key, with which the server itself can wrap a data key again for someone else.

use std::fmt;

use motorcade_model::strict_json::{JsonFault, check_json};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::{KeyAlgorithm, KeyError, Kid, decode_secret, push_encoded, random};

/// The server's own key: it opens every envelope, so it **must never** leave the server.
///
/// Its kid is random and stored with it. The RFC 7638 thumbprint of a symmetric key is a hash of
/// the secret itself: written into every envelope, it would let anyone test guesses of the key (RFC
/// 7638 section 7).
pub struct EscrowKey {
    kid: Kid,
    key: Zeroizing<[u8; 32]>,
}

impl EscrowKey {
    /// Makes an escrow key from the operating system's randomness.
    pub fn generate() -> Self {
        Self { kid: Kid::random(), key: random() }
    }

    /// Its name.
    pub fn kid(&self) -> &Kid {
        &self.kid
    }

    /// The key as JWK text for its file, which **must** have mode 0600.
    pub fn to_jwk(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(JWK_CAPACITY));
        text.push_str(r#"{"alg":"A256GCMKW","k":""#);
        push_encoded(&mut text, &*self.key);
        text.push_str(r#"","kid":""#);
        text.push_str(self.kid.as_str());
        text.push_str("\",\"kty\":\"oct\"}\n");
        text
    }

    /// Reads what [`Self::to_jwk`] wrote.
    ///
    /// # Errors
    ///
    /// [`KeyError`] names the member that is missing or wrong, and never its value.
    pub fn from_jwk(text: &str) -> Result<Self, KeyError> {
        check_json(text)?;
        let members: Members<'_> =
            serde_json::from_str(text).map_err(|error| KeyError::from(JsonFault::from(error)))?;
        if members.kty != "oct" {
            return Err(KeyError::BadMember { member: "kty" });
        }
        if members.alg != KeyAlgorithm::A256gcmkw.as_str() {
            return Err(KeyError::BadMember { member: "alg" });
        }
        let kid = members.kid.parse().map_err(|_| KeyError::BadMember { member: "kid" })?;
        let key = decode_secret(members.k).ok_or(KeyError::BadMember { member: "k" })?;
        Ok(Self { kid, key })
    }

    /// The key itself.
    pub(crate) fn as_bytes(&self) -> &[u8; 32] {
        &self.key
    }
}

impl fmt::Debug for EscrowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EscrowKey").field("kid", &self.kid).finish_non_exhaustive()
    }
}

/// The members of the key file, borrowed so that the secret is not copied.
#[derive(Deserialize)]
struct Members<'a> {
    kty: &'a str,
    alg: &'a str,
    kid: &'a str,
    k: &'a str,
}

const JWK_CAPACITY: usize = 192; // The text has 142 bytes; growing would leave a copy of the key behind.

#[cfg(test)]
mod tests {
    use super::super::encode;
    use super::*;

    #[test]
    fn round_trips_through_its_file() {
        let key = EscrowKey::generate();
        let text = key.to_jwk();
        assert!(text.len() <= JWK_CAPACITY, "grew to {}", text.len());
        let again = EscrowKey::from_jwk(&text).unwrap();
        assert_eq!((again.kid(), &*again.key), (key.kid(), &*key.key));
    }

    #[test]
    fn its_name_and_debug_text_say_nothing_about_the_key() {
        let key = EscrowKey { kid: Kid::random(), key: Zeroizing::new([7; 32]) };
        let canonical = format!(r#"{{"k":"{}","kty":"oct"}}"#, encode(&[7; 32]));
        assert_ne!(*key.kid(), Kid::of_canonical_jwk(&canonical));
        assert_eq!(format!("{key:?}"), format!("EscrowKey {{ kid: Kid(\"{}\"), .. }}", key.kid()));
    }

    #[test]
    fn other_files_are_refused() {
        let text = EscrowKey::generate().to_jwk();
        let check = |from: &str, to: &str, member| {
            assert!(text.contains(from));
            let error = EscrowKey::from_jwk(&text.replace(from, to)).unwrap_err();
            assert_eq!(error, KeyError::BadMember { member });
        };
        check("oct", "EC", "kty");
        check("A256GCMKW", "A256GCM", "alg");
        check(r#""kid":""#, r#""kid":"x"#, "kid");
        check(r#""k":""#, r#""k":"A"#, "k");
        let twice = text.replace("{", r#"{"k":"AA","#);
        assert_eq!(
            EscrowKey::from_jwk(&twice).unwrap_err(),
            KeyError::DuplicateMember { member: "k".to_owned() }
        );
        assert!(matches!(EscrowKey::from_jwk("{}"), Err(KeyError::BadJson { .. })));
    }
}
