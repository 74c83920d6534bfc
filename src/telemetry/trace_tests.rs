//! The headers of the Recommendation and of its own test suite, and damaged ones.

use proptest::prelude::*;

use super::ParseTraceparentError::{Field, Length, Version, ZeroId};
use super::*;

const EXAMPLE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[test]
fn reads_and_writes_the_example_of_the_specification() {
    let context = TraceContext::parse(EXAMPLE.as_bytes()).unwrap();
    assert_eq!(context.trace_id.to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!(context.parent_span_id.to_string(), "00f067aa0ba902b7");
    assert!(context.flags.is_sampled());
    assert_eq!(context.to_string(), EXAMPLE);
}

/// The cases of the W3C's own test suite (trace-context, test/test.py), and a few more.
#[test]
fn malformed_headers_are_rejected() {
    let ids = "12345678901234567890123456789012-1234567890123456";
    for (value, expected) in [
        (String::new(), Length),
        (format!("00-{ids}"), Length),
        (format!("00-{ids}-0"), Length),
        (format!("00-{ids}-01."), Length),
        (format!("00-{ids}-01-what-the-future-will-be-like"), Length),
        (format!("cc-{ids}-01.what-the-future-will-not-be-like"), Length),
        (format!("ff-{ids}-01"), Version),
        (format!("FF-{ids}-01"), Field),
        (format!(".0-{ids}-01"), Field),
        (format!("0-{ids}-001"), Field),
        (format!("00-{ids}-.0"), Field),
        (format!("00-{ids}-0A"), Field),
        (format!("00_{ids}-01"), Field),
        (EXAMPLE.to_uppercase(), Field),
        ("00-.2345678901234567890123456789012-1234567890123456-01".into(), Field),
        ("00-12345678901234567890123456789012-123456789012345Z-01".into(), Field),
        ("00-1234567890123456789012345678901-12345678901234567-01".into(), Field),
        ("00-00000000000000000000000000000000-1234567890123456-01".into(), ZeroId),
        ("00-12345678901234567890123456789012-0000000000000000-01".into(), ZeroId),
    ] {
        assert_eq!(TraceContext::parse(value.as_bytes()), Err(expected), "{value}");
        assert_eq!(TraceContext::from_headers(Some(value.as_bytes()), None), None);
    }
}

#[test]
fn later_versions_are_read_as_far_as_they_are_known() {
    let ids = "12345678901234567890123456789012-1234567890123456";
    for value in [format!("cc-{ids}-01"), format!("cc-{ids}-01-what-the-future-will-be-like")] {
        let context = TraceContext::parse(value.as_bytes()).unwrap();
        assert_eq!(context.to_string(), format!("00-{ids}-01"));
    }
    let unknown_flags = TraceContext::parse(format!("00-{ids}-fe").as_bytes()).unwrap();
    assert_eq!(unknown_flags.flags, TraceFlags::NOT_SAMPLED);
}

#[test]
fn a_bad_tracestate_is_dropped_alone() {
    let state = |value: &str| {
        let context = TraceContext::from_headers(Some(EXAMPLE.as_bytes()), Some(value.as_bytes()));
        context.unwrap().state.header()
    };
    assert_eq!(state("congo=t61rcWkgMzE"), "congo=t61rcWkgMzE");
    assert_eq!(state("foo=1 \t , \t bar=2, ,"), "foo=1,bar=2");
    assert_eq!(state("fw529a3039@dt=FfAAA"), "fw529a3039@dt=FfAAA");
    for bad in ["foo", "FOO=1", "foo@bar@baz=1", "foo =1", "f\u{e9}=1", "foo=1,bar"] {
        assert_eq!(state(bad), "", "{bad}");
    }
    assert_eq!(state(&format!("foo={}", "1".repeat(5000))), "");
    assert_eq!(TraceContext::from_headers(None, Some(b"foo=1")), None);
}

#[test]
fn new_roots_differ_and_can_be_read_back() {
    let root = TraceContext::new_root();
    assert_ne!(root.trace_id, TraceContext::new_root().trace_id);
    assert_eq!(TraceContext::parse(root.to_string().as_bytes()), Ok(root));
}

proptest! {
    #[test]
    fn no_input_panics(
        traceparent in proptest::collection::vec(any::<u8>(), 0..80),
        tracestate in proptest::collection::vec(any::<u8>(), 0..80),
    ) {
        let _ = TraceContext::from_headers(Some(&traceparent), Some(&tracestate));
    }

    #[test]
    fn damaged_headers_never_panic(index in 0usize..55, byte: u8) {
        let mut value = EXAMPLE.as_bytes().to_vec();
        value[index] = byte;
        if let Ok(context) = TraceContext::parse(&value) {
            prop_assert!(context.to_string().starts_with("00-"));
        }
    }
}
