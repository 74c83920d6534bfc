//! Conditional requests (RFC 9110, section 13): which answer a `GET` or `HEAD` gets, and which state
//! a change expects.
//!
//! Pure: the request's fields and what is known of the representation go in, a [`Selection`] comes
//! out. The order of evaluation is that of 13.2.2, step by step. A field that cannot be read never
//! makes a request fail harder than its absence would, but for `If-Match`, where matching nothing
//! is the safe reading.

use std::borrow::Cow;

use actix_web::http::header::{self, HeaderMap, HeaderName};

use super::date::HttpDate;
use super::range::{ByteRange, RangeRequest, parse_range};
use crate::app::Error;
use crate::app::images::precondition::{Precondition, Tags};

/// What is known of the representation that a request selects.
#[derive(Clone, Copy, Debug)]
pub struct Representation<'a> {
    /// Length in bytes.
    pub length: u64,
    /// Strong entity tag, with its quotes.
    pub etag: &'a str,
    /// When the bytes last changed; **must** be `None` where they can change twice within one
    /// second, since a date is then not a strong validator (RFC 9110, 8.8.2.2).
    pub last_modified: Option<HttpDate>,
    /// Whether no other coding of the file has the same date: parts of two of them must not be
    /// joined (RFC 9110, 8.8.1).
    pub is_date_strong: bool,
}

/// The methods that conditions on a representation are evaluated for here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// `GET`: ranges apply.
    Get,
    /// `HEAD`: `Range` is ignored (RFC 9110, 14.2).
    Head,
}

/// The answer a request gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// 304: the client has it.
    NotModified,
    /// 412: the client expects something else.
    PreconditionFailed,
    /// 416: no range lies within the representation.
    RangeNotSatisfiable {
        /// Length for `Content-Range: bytes */length`.
        length: u64,
    },
    /// 200 with the whole representation.
    Full,
    /// 206 with one part.
    Partial(ByteRange),
    /// 206 with two or more disjoint parts as `multipart/byteranges`.
    Multipart(Vec<ByteRange>),
}

/// The values of a request's conditional and range fields.
#[derive(Clone, Debug, Default)]
pub struct Conditions<'a> {
    /// `If-Match`
    pub if_match: Option<Cow<'a, [u8]>>,
    /// `If-None-Match`
    pub if_none_match: Option<Cow<'a, [u8]>>,
    /// `If-Modified-Since`
    pub if_modified_since: Option<Cow<'a, [u8]>>,
    /// `If-Unmodified-Since`
    pub if_unmodified_since: Option<Cow<'a, [u8]>>,
    /// `If-Range`
    pub if_range: Option<Cow<'a, [u8]>>,
    /// `Range`
    pub range: Option<Cow<'a, [u8]>>,
}

impl<'a> Conditions<'a> {
    /// Picks the fields out of a request's headers.
    ///
    /// Lines of one name are joined by commas (RFC 9110, 5.3): right for the lists, and it makes a
    /// repeated date or `Range` malformed, hence ignored.
    pub fn from_headers(headers: &'a HeaderMap) -> Self {
        let value = |name: HeaderName| joined_lines(headers, name);
        Self {
            if_match: value(header::IF_MATCH),
            if_none_match: value(header::IF_NONE_MATCH),
            if_modified_since: value(header::IF_MODIFIED_SINCE),
            if_unmodified_since: value(header::IF_UNMODIFIED_SINCE),
            if_range: value(header::IF_RANGE),
            range: value(header::RANGE),
        }
    }
}

/// The lines of one header as one value (RFC 9110, 5.3).
pub(in crate::http) fn joined_lines(
    headers: &HeaderMap,
    name: HeaderName,
) -> Option<Cow<'_, [u8]>> {
    let mut lines = headers.get_all(name).map(|value| value.as_bytes());
    let mut joined = Cow::Borrowed(lines.next()?);
    for line in lines {
        joined.to_mut().extend_from_slice(b", ");
        joined.to_mut().extend_from_slice(line);
    }
    Some(joined)
}

/// Decides the answer, in the order of RFC 9110, 13.2.2.
pub fn select(
    method: Method,
    conditions: &Conditions<'_>,
    representation: &Representation<'_>,
) -> Selection {
    // Step 1 and, only without If-Match, step 2.
    let holds = match &conditions.if_match {
        Some(tags) => matches_strongly(tags, representation.etag),
        None => !is_modified_after(&conditions.if_unmodified_since, representation),
    };
    if !holds {
        return Selection::PreconditionFailed;
    }
    // Step 3 and, only without If-None-Match, step 4.
    let is_known = match &conditions.if_none_match {
        Some(tags) => matches_weakly(tags, representation.etag),
        None => is_unchanged_since(&conditions.if_modified_since, representation),
    };
    if is_known {
        return Selection::NotModified;
    }
    // Step 5: Range counts for GET alone, and only while If-Range holds.
    match &conditions.range {
        Some(range) if method == Method::Get && if_range_holds(conditions, representation) => {
            select_range(range, representation.length)
        }
        _ => Selection::Full,
    }
}

fn select_range(range: &[u8], length: u64) -> Selection {
    match parse_range(range, length) {
        RangeRequest::Whole => Selection::Full,
        RangeRequest::Unsatisfiable => Selection::RangeNotSatisfiable { length },
        RangeRequest::Parts(parts) => match parts.as_slice() {
            &[part] => Selection::Partial(part),
            _ => Selection::Multipart(parts),
        },
    }
}

/// Whether a client has the representation with this tag already: `If-None-Match` names it, and the
/// answer to a `GET` is 304. For what has no date and no ranges.
pub(in crate::http) fn is_known(headers: &HeaderMap, etag: &str) -> bool {
    joined_lines(headers, header::IF_NONE_MATCH).is_some_and(|tags| matches_weakly(&tags, etag))
}

/// What a request expects of the image that it changes (RFC 9110, 13.1.1 and 13.1.2). Images have
/// no date of change, so that dates are ignored (13.1.4).
///
/// # Errors
///
/// [`Error::Invalid`] for a field without an entity tag: who sends one relies on it.
pub(in crate::http) fn precondition(headers: &HeaderMap) -> Result<Precondition, Error> {
    let tags = |name, tags_of: fn(&[u8]) -> Tags| {
        let Some(field) = joined_lines(headers, name) else { return Ok(None) };
        if !is_any(&field) && EntityTags(&field).next().is_none() {
            let detail = "If-Match and If-None-Match take entity tags in quotes, or `*`";
            return Err(Error::Invalid { code: "bad_condition", detail: detail.into() });
        }
        Ok(Some(tags_of(&field)))
    };
    Ok(Precondition {
        matches: tags(header::IF_MATCH, strong_tags)?,
        matches_none: tags(header::IF_NONE_MATCH, weak_tags)?,
    })
}

/// `If-Match`: any of the tags is the same and neither is weak (RFC 9110, 13.1.1).
fn matches_strongly(tags: &[u8], etag: &str) -> bool {
    strong_tags(tags).include(etag.trim_matches('"'))
}

/// `If-None-Match`: any of the tags is the same, weak or not (RFC 9110, 13.1.2).
fn matches_weakly(tags: &[u8], etag: &str) -> bool {
    weak_tags(tags).include(etag.trim_matches('"'))
}

/// What `If-Match` can be true of: a weak tag never matches strongly.
fn strong_tags(field: &[u8]) -> Tags {
    tags_where(field, |tag| !tag.is_weak)
}

/// What `If-None-Match` can be false of.
fn weak_tags(field: &[u8]) -> Tags {
    tags_where(field, |_| true)
}

fn tags_where(field: &[u8], counts: impl Fn(&EntityTag<'_>) -> bool) -> Tags {
    if is_any(field) {
        return Tags::Any;
    }
    let opaque =
        |tag: EntityTag<'_>| String::from_utf8_lossy(tag.opaque).trim_matches('"').to_owned();
    Tags::Of(EntityTags(field).filter(counts).map(opaque).collect())
}

/// Whether a list of tags is `*`.
fn is_any(tags: &[u8]) -> bool {
    tags.trim_ascii() == b"*"
}

/// `If-Unmodified-Since` is false; an unreadable date and an unknown one do not count (RFC 9110,
/// 13.1.4).
fn is_modified_after(date: &Option<Cow<'_, [u8]>>, representation: &Representation<'_>) -> bool {
    let date = date.as_deref().and_then(HttpDate::parse);
    matches!((representation.last_modified, date), (Some(changed), Some(date)) if changed > date)
}

/// `If-Modified-Since` is false; an unreadable date and an unknown one do not count (RFC 9110,
/// 13.1.3).
fn is_unchanged_since(date: &Option<Cow<'_, [u8]>>, representation: &Representation<'_>) -> bool {
    let date = date.as_deref().and_then(HttpDate::parse);
    matches!((representation.last_modified, date), (Some(changed), Some(date)) if changed <= date)
}

/// `If-Range` is absent or names this very representation, by strong tag or exact date (RFC 9110,
/// 13.1.5).
fn if_range_holds(conditions: &Conditions<'_>, representation: &Representation<'_>) -> bool {
    let Some(validator) = conditions.if_range.as_deref() else {
        return true;
    };
    let validator = validator.trim_ascii();
    if validator.starts_with(b"\"") {
        return validator == representation.etag.as_bytes();
    }
    let date = HttpDate::parse(validator);
    representation.is_date_strong && date.is_some() && date == representation.last_modified
}

/// One element of an entity-tag list.
struct EntityTag<'a> {
    is_weak: bool,
    /// The opaque-tag, with its quotes.
    opaque: &'a [u8],
}

/// Walks `1#entity-tag` (RFC 9110, 8.8.3) and ends at the first byte that does not belong in it.
///
/// A comma may stand inside a tag, so the list cannot be split at commas.
struct EntityTags<'a>(&'a [u8]);

impl<'a> Iterator for EntityTags<'a> {
    type Item = EntityTag<'a>;

    fn next(&mut self) -> Option<EntityTag<'a>> {
        let is_separator = |byte: &&u8| matches!(byte, b' ' | b'\t' | b',');
        let (_, rest) = self.0.split_at(self.0.iter().take_while(is_separator).count());
        let (is_weak, rest) = match rest.strip_prefix(b"W/") {
            Some(rest) => (true, rest),
            None => (false, rest),
        };
        let content = rest.strip_prefix(b"\"")?;
        let length = content.iter().position(|&byte| byte == b'"')?;
        let (opaque, rest) = rest.split_at(length + 2);
        self.0 = rest;
        Some(EntityTag { is_weak, opaque })
    }
}

#[cfg(test)]
#[path = "conditional_tests.rs"]
mod tests;
