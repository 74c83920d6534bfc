//! Every row of RFC 9110, 13.2.2, as a table of request fields and answers.

use actix_web::http::header::{HeaderName, HeaderValue};
use proptest::prelude::*;

use super::Selection::{Full, NotModified, PreconditionFailed};
use super::*;

const ETAG: &str = "\"sealed\"";
const CHANGED: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
const EARLIER: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
const LATER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";
const PART: Selection = Selection::Partial(ByteRange { start: 0, end: 10 });

fn representation(length: u64) -> Representation<'static> {
    Representation {
        length,
        etag: ETAG,
        last_modified: HttpDate::parse(CHANGED.as_bytes()),
        is_date_strong: true,
    }
}

fn headers(fields: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        headers.append(name, HeaderValue::from_str(value).unwrap());
    }
    headers
}

#[track_caller]
fn check(fields: &[(&str, &str)], expected: Selection) {
    check_method(Method::Get, fields, expected);
}

#[track_caller]
fn check_method(method: Method, fields: &[(&str, &str)], expected: Selection) {
    let headers = headers(fields);
    let conditions = Conditions::from_headers(&headers);
    let selection = select(method, &conditions, &representation(100));
    assert_eq!(selection, expected, "{fields:?}");
}

#[test]
fn if_match_compares_strongly() {
    check(&[("if-match", ETAG)], Full);
    check(&[("if-match", "*")], Full);
    check(&[("if-match", "\"other\", \"sealed\"")], Full);
    check(&[("if-match", "\"a,\", ,\"sealed\"")], Full);
    check(&[("if-match", "\"other\""), ("if-match", ETAG)], Full);
    check(&[("if-match", "W/\"sealed\"")], PreconditionFailed);
    check(&[("if-match", "\"other\"")], PreconditionFailed);
    check(&[("if-match", "sealed")], PreconditionFailed);
    check(&[("if-match", "")], PreconditionFailed);
    check(&[("if-match", "\"x, \"sealed\"")], PreconditionFailed);
}

#[test]
fn if_none_match_compares_weakly() {
    for (value, expected) in [
        (ETAG, NotModified),
        ("W/\"sealed\"", NotModified),
        ("*", NotModified),
        ("\"other\",W/\"sealed\"", NotModified),
        ("\"other\"", Full),
        ("w/\"sealed\"", Full),
        ("sealed", Full),
        ("\"sealed", Full),
    ] {
        check(&[("if-none-match", value)], expected.clone());
        check_method(Method::Head, &[("if-none-match", value)], expected);
    }
}

#[test]
fn dates_count_whole_seconds() {
    check(&[("if-modified-since", EARLIER)], Full);
    check(&[("if-modified-since", CHANGED)], NotModified);
    check(&[("if-modified-since", LATER)], NotModified);
    check(&[("if-modified-since", "yesterday")], Full);
    check(&[("if-unmodified-since", EARLIER)], PreconditionFailed);
    check(&[("if-unmodified-since", CHANGED)], Full);
    check(&[("if-unmodified-since", LATER)], Full);
    check(&[("if-unmodified-since", "yesterday")], Full);
    check(&[("if-modified-since", LATER), ("if-modified-since", LATER)], Full);
}

#[test]
fn tags_take_precedence_over_dates() {
    check(&[("if-match", ETAG), ("if-unmodified-since", EARLIER)], Full);
    check(&[("if-match", "\"x\""), ("if-unmodified-since", LATER)], PreconditionFailed);
    check(&[("if-none-match", "\"x\""), ("if-modified-since", LATER)], Full);
    check(&[("if-none-match", ETAG), ("if-modified-since", EARLIER)], NotModified);
    check(&[("if-match", "\"x\""), ("if-none-match", ETAG)], PreconditionFailed);
    check(&[("if-match", ETAG), ("if-none-match", ETAG)], NotModified);
    check(&[("if-unmodified-since", EARLIER), ("if-none-match", ETAG)], PreconditionFailed);
}

#[test]
fn if_range_needs_the_very_same_representation() {
    for (value, expected) in [
        (ETAG, PART),
        (CHANGED, PART),
        ("Sunday, 06-Nov-94 08:49:37 GMT", PART),
        ("W/\"sealed\"", Full),
        ("\"other\"", Full),
        ("\"sealed\", \"sealed\"", Full),
        ("*", Full),
        (EARLIER, Full),
        (LATER, Full),
        ("", Full),
    ] {
        check(&[("range", "bytes=0-9"), ("if-range", value)], expected);
    }
    check(&[("range", "bytes=200-"), ("if-range", "\"other\"")], Full);
    check(&[("if-range", ETAG)], Full);
}

#[test]
fn preconditions_come_before_ranges() {
    check(&[("range", "bytes=0-9"), ("if-none-match", ETAG)], NotModified);
    check(&[("range", "bytes=0-9"), ("if-match", "\"x\"")], PreconditionFailed);
    check(&[("range", "bytes=0-9"), ("if-match", ETAG)], PART);
    check(&[("range", "bytes=200-"), ("if-none-match", ETAG)], NotModified);
}

#[test]
fn ranges_select_parts() {
    check(&[], Full);
    check(&[("range", "bytes=0-9")], PART);
    check(&[("range", "bytes=9-0")], Full);
    check(&[("range", "bytes=0-9"), ("range", "bytes=20-29")], Full);
    check(&[("range", "bytes=100-")], Selection::RangeNotSatisfiable { length: 100 });
    check(&[("range", "bytes=0-4,5-9")], PART);
    let parts = vec![ByteRange { start: 90, end: 100 }, ByteRange { start: 0, end: 10 }];
    check(&[("range", "bytes=-10,0-9")], Selection::Multipart(parts));
    check_method(Method::Head, &[("range", "bytes=0-9")], Full);
    check_method(Method::Head, &[("range", "bytes=100-")], Full);
}

#[test]
fn without_a_date_only_tags_count() {
    let representation = Representation { last_modified: None, ..representation(100) };
    for (name, value) in [("if-modified-since", LATER), ("if-unmodified-since", EARLIER)] {
        let headers = headers(&[(name, value)]);
        let conditions = Conditions::from_headers(&headers);
        assert_eq!(select(Method::Get, &conditions, &representation), Full);
    }
    let headers = headers(&[("if-range", "nonsense"), ("range", "bytes=0-9")]);
    let conditions = Conditions::from_headers(&headers);
    assert_eq!(select(Method::Get, &conditions, &representation), Full);
}

fn field() -> impl Strategy<Value = Option<Cow<'static, [u8]>>> {
    let bytes = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..80),
        "(W/)?\"[a-z,]{0,8}\"(, ?(W/)?\"sealed\")?".prop_map(String::into_bytes),
        "bytes=[0-9,-]{0,20}".prop_map(String::into_bytes),
        "[A-Z][a-z]{2}, [0-9]{2} Nov [0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT"
            .prop_map(String::into_bytes),
    ];
    proptest::option::of(bytes.prop_map(Cow::Owned))
}

proptest! {
    #[test]
    fn no_input_panics_and_every_part_is_within_the_length(
        (if_match, if_none_match, if_modified_since) in (field(), field(), field()),
        (if_unmodified_since, if_range, range) in (field(), field(), field()),
        length in prop_oneof![Just(0), 0u64..2000, Just(u64::MAX)],
    ) {
        let conditions = Conditions {
            if_match, if_none_match, if_modified_since, if_unmodified_since, if_range, range,
        };
        let parts = match select(Method::Get, &conditions, &representation(length)) {
            Selection::Partial(part) => vec![part],
            Selection::Multipart(parts) => {
                prop_assert!(parts.len() > 1);
                parts
            }
            _ => Vec::new(),
        };
        prop_assert!(parts.iter().all(|part| part.start < part.end && part.end <= length));
    }
}

#[test]
fn conditions_are_lists_of_tags() {
    let of = |field, value| precondition(&headers(&[(field, value)]));
    let tags = |tags: &[&str]| Some(Tags::Of(tags.iter().map(|tag| (*tag).to_owned()).collect()));
    assert_eq!(of("if-none-match", "*").unwrap().matches_none, Some(Tags::Any));
    assert_eq!(of("if-none-match", "W/\"a\", \"b\"").unwrap().matches_none, tags(&["a", "b"]));
    assert_eq!(of("if-match", "W/\"a\", \"b\"").unwrap().matches, tags(&["b"]));
    assert!(matches!(of("if-match", "abc"), Err(Error::Invalid { code: "bad_condition", .. })));
    assert_eq!(precondition(&HeaderMap::new()).unwrap(), Precondition::default());
}
