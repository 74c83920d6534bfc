//! URLs that were signed lately: a fleet asks for the same few images, and what is signed is the
//! same for whoever asks.

use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use lru::LruCache;

use crate::blob::ReadVerb;

/// Signed URLs, by what they are of and for how long they were to be good.
pub(super) struct SignedUrls(Mutex<LruCache<Wanted, (String, SystemTime)>>);

/// What a URL is to be signed for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Wanted {
    pub(super) name: String,
    pub(super) verb: ReadVerb,
    pub(super) valid_for: Duration,
}

impl Default for SignedUrls {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(KEPT)))
    }
}

impl SignedUrls {
    /// A URL of which most of its time is left, by a clock that has not gone back since it was
    /// signed.
    pub(super) fn find(&self, wanted: &Wanted, now: SystemTime) -> Option<String> {
        let mut urls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (url, signed_at) = urls.get(wanted)?;
        let age = now.duration_since(*signed_at).ok()?;
        (age <= (wanted.valid_for / USED_FOR).min(MOST_USED_FOR)).then(|| url.clone())
    }

    pub(super) fn keep(&self, wanted: Wanted, url: &str, signed_at: SystemTime) {
        let mut urls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        urls.put(wanted, (url.to_owned(), signed_at));
    }
}

/// One is given out for an eighth of its time, and not for long: with credentials that expire it may be
/// good for less than was asked for.
const USED_FOR: u32 = 8;
const MOST_USED_FOR: Duration = Duration::from_secs(10);
const KEPT: NonZeroUsize = NonZeroUsize::new(1024).expect("it is not zero");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_given_out_while_most_of_its_time_is_left() {
        let urls = SignedUrls::default();
        let wanted = |verb, seconds| Wanted {
            name: "targets/a".into(),
            verb,
            valid_for: Duration::from_secs(seconds),
        };
        let (get, now) = (wanted(ReadVerb::Get, 64), SystemTime::now());
        assert_eq!(urls.find(&get, now), None);
        urls.keep(get.clone(), "signed", now);
        let after = |seconds| now + Duration::from_secs(seconds);
        for (time, found) in [(now, true), (after(8), true), (after(9), false)] {
            assert_eq!(urls.find(&get, time).is_some(), found, "{time:?}");
        }
        let before = now - Duration::from_secs(1);
        assert_eq!(urls.find(&get, before), None, "a clock that was put back");
        for other in [wanted(ReadVerb::Head, 64), wanted(ReadVerb::Get, 900)] {
            assert_eq!(urls.find(&other, now), None);
        }
        let long = wanted(ReadVerb::Get, 7 * 86_400);
        urls.keep(long.clone(), "signed", now);
        assert!(urls.find(&long, after(10)).is_some());
        assert_eq!(urls.find(&long, after(11)), None, "its credentials may have expired");
    }
}
