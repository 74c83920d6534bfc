//! The id under which one request is found again: in its response, in every log line and in a
//! report from a user.

use std::cell::Cell;
use std::fmt;

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use rand::RngExt;

/// An id of 1 to 64 characters out of `A-Z a-z 0-9 . _ -`, so that it is safe in a header and in a
/// log.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RequestId {
    text: [u8; MAX_LENGTH],
    length: u8,
}

impl RequestId {
    /// Takes the id that a client or a proxy chose; `None` if it is not fit to be repeated.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let is_allowed = |byte: &u8| matches!(byte, b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
        if value.is_empty() || !value.iter().all(is_allowed) {
            return None;
        }
        let mut text = [0; MAX_LENGTH];
        text.get_mut(..value.len())?.copy_from_slice(value);
        let length = u8::try_from(value.len()).ok()?;
        Some(Self { text, length })
    }

    /// The id that a request came with, if it is fit to be repeated, or else a new one.
    pub fn of(headers: &HeaderMap) -> Self {
        let asked_for = headers.get(X_REQUEST_ID);
        asked_for.and_then(|value| Self::parse(value.as_bytes())).unwrap_or_else(Self::random)
    }

    /// Makes an id of 128 random bits.
    pub fn random() -> Self {
        let mut text = [0; MAX_LENGTH];
        let (digits, _) = text.split_at_mut(RANDOM_LENGTH.into());
        hex::encode_to_slice(rand::rng().random::<[u8; 16]>(), digits)
            .expect("16 bytes are 32 digits");
        Self { text, length: RANDOM_LENGTH }
    }

    /// The id of the request that this thread works on right now.
    ///
    /// For places that actix gives no request to, such as `ResponseError::error_response`.
    /// Work that a handler moved to another thread is not covered.
    pub fn current() -> Option<Self> {
        CURRENT.get()
    }

    /// Runs a step of this request.
    pub(in crate::http) fn enter<T>(self, step: impl FnOnce() -> T) -> T {
        struct Leave(Option<RequestId>);
        impl Drop for Leave {
            fn drop(&mut self) {
                CURRENT.set(self.0);
            }
        }
        let _leave = Leave(CURRENT.replace(Some(self)));
        step()
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        let text = self.text.get(..usize::from(self.length)).unwrap_or_default();
        std::str::from_utf8(text).expect("only ASCII was let in")
    }

    /// The id as the value of [`X_REQUEST_ID`].
    pub fn to_header_value(self) -> HeaderValue {
        HeaderValue::from_str(self.as_str()).expect("every allowed character is fit for a header")
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RequestId({self})")
    }
}

/// The header that carries the id, both ways.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const MAX_LENGTH: usize = 64;
const RANDOM_LENGTH: u8 = 32;

thread_local! {
    static CURRENT: Cell<Option<RequestId>> = const { Cell::new(None) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_harmless_ids_are_taken() {
        let longest = "a".repeat(64);
        for good in ["a", "0aZ._-", longest.as_str()] {
            assert_eq!(RequestId::parse(good.as_bytes()).unwrap().as_str(), good);
        }
        let too_long = "a".repeat(65);
        for bad in ["", " a", "a b", "a\n", "a\"", "\u{e9}", "{a}", too_long.as_str()] {
            assert_eq!(RequestId::parse(bad.as_bytes()), None, "{bad:?}");
        }
    }

    #[test]
    fn random_ids_differ() {
        let id = RequestId::random();
        assert_eq!(id.as_str().len(), 32);
        assert_ne!(id, RequestId::random());
        assert_eq!(id.to_header_value(), id.as_str());
    }

    #[test]
    fn the_current_id_ends_with_its_step() {
        let (outer, inner) = (RequestId::random(), RequestId::random());
        outer.enter(|| {
            inner.enter(|| assert_eq!(RequestId::current(), Some(inner)));
            assert_eq!(RequestId::current(), Some(outer));
        });
        assert_eq!(RequestId::current(), None);
    }
}
