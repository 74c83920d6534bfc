//! Tells what a network does to a file from what an attacker does: text that is no metadata was
//! never anybody's, and a file whose text was rewritten is still the one that was signed.
//!
//! Both are refused. This decides what a refusal is called, and nothing else.

use serde::de::IgnoredAny;
use serde_json::Value;

/// Why `bytes` are no metadata at all, and not even made to look like it: what a login page, an
/// error page, a proxy or a cut transfer leaves. `None` for JSON that is only wrong.
pub(super) fn no_metadata(bytes: &[u8]) -> Option<String> {
    let text = bytes.trim_ascii();
    let (Some(first), Some(last)) = (text.first(), text.last()) else {
        return Some("it is empty".into());
    };
    if bytes.starts_with(BYTE_ORDER_MARK) {
        return Some("it begins with a byte order mark, which was put there on its way".into());
    }
    if *first != b'{' {
        return Some(
            "it is not JSON; does a login page or a proxy answer in the place of the server?"
                .into(),
        );
    }
    let is_cut = serde_json::from_slice::<IgnoredAny>(bytes).is_err_and(|error| error.is_eof());
    if *last != b'}' || is_cut {
        return Some("it is cut off, or something was added to it on its way".into());
    }
    let is_metadata =
        |value: Value| value.get("signed").is_some() || value.get("signatures").is_some();
    let is_other = serde_json::from_slice::<Value>(bytes).is_ok_and(|value| !is_metadata(value));
    is_other.then(|| "it is JSON, but nothing of metadata is in it".into())
}

/// Whether `bytes` are what `is_listed` knows once a byte order mark and carriage returns are taken
/// out, and the white space at the end: what a proxy or a mirror does that takes files for text.
pub(super) fn is_rewritten(bytes: &[u8], is_listed: impl Fn(&[u8]) -> bool) -> bool {
    let unmarked = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
    let mut lines = unmarked.to_vec();
    lines.retain(|byte| *byte != b'\r');
    let trimmed = lines.trim_ascii_end();
    let ended = [trimmed, b"\n"].concat();
    [unmarked, &lines, trimmed, &ended].into_iter().any(is_listed)
}

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_networks_leave_is_told_from_what_is_crafted() {
        let whole = br#"{"signatures":[{"keyid":"a","sig":"b"}],"signed":{"_type":"timestamp"}}"#;
        assert_eq!(no_metadata(whole), None);
        for length in 0..whole.len() {
            assert!(no_metadata(&whole[..length]).is_some(), "{length}");
        }
        for text in [
            "",
            " \r\n",
            "<html>",
            "\u{feff}{}",
            "{\"error\":\"log in\"}",
            "no",
            "{\"signed\":{}}<script>",
        ] {
            assert!(no_metadata(text.as_bytes()).is_some(), "{text}");
        }
        for text in
            ["{\"signed\":{}}{}", "{\"signed\":{},\"signed\":{}}", "{\"signed\":\"\\ud800\"}"]
        {
            assert_eq!(no_metadata(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn a_rewritten_file_is_known_again_and_a_changed_one_is_not() {
        for original in [&b"{\n \"a\": 1\n}"[..], b"{\n \"a\": 1\n}\n"] {
            let is_listed = |bytes: &[u8]| bytes == original;
            let crlf = String::from_utf8_lossy(original).replace('\n', "\r\n");
            let trimmed = original.trim_ascii_end();
            for text in [
                crlf.clone(),
                format!("\u{feff}{crlf}"),
                format!("{}\r\n", String::from_utf8_lossy(trimmed)),
            ] {
                assert!(is_rewritten(text.as_bytes(), is_listed), "{text:?}");
            }
            assert!(!is_rewritten(b"{\n \"a\": 2\n}", is_listed));
        }
    }
}
