//! OLPC canonical JSON (TUF 1.0.34, 4.2): what signatures and key ids are made over.
//!
//! Written here and not taken from `olpc-cjson`, which brings strings into Unicode's normal form:
//! then two files that differ would have one signature, and a client must verify the bytes that it
//! was given.

use serde_json::Value;

/// The canonical form of a JSON value: members sorted, no white space, whole numbers only, and in
/// strings nothing escaped but `"` and `\`.
///
/// # Errors
///
/// [`NotCanonical`] if there is a number that is not whole.
pub fn canonical(value: &Value) -> Result<Vec<u8>, NotCanonical> {
    let mut out = Vec::with_capacity(512);
    write(value, &mut out)?;
    Ok(out)
}

/// There is a number that canonical JSON has no form for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("numbers in signed JSON must be whole")]
pub struct NotCanonical;

fn write(value: &Value, out: &mut Vec<u8>) -> Result<(), NotCanonical> {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Number(number) if number.is_f64() => return Err(NotCanonical),
        Value::Number(number) => out.extend_from_slice(number.to_string().as_bytes()),
        Value::String(text) => write_string(text, out),
        Value::Array(items) => {
            out.push(b'[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write(item, out)?;
            }
            out.push(b']');
        }
        // serde_json's map is sorted by the bytes of its keys, which is the order of their code
        // points.
        Value::Object(members) => {
            out.push(b'{');
            for (index, (name, member)) in members.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write_string(name, out);
                out.push(b':');
                write(member, out)?;
            }
            out.push(b'}');
        }
    }
    Ok(())
}

fn write_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in text.bytes() {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn sorts_members_and_escapes_two_characters() {
        let value = json!({ "b": [1, -2, true, null], "a": { "é\u{1}\n": "x\"y\\z/" }, "A": 18_446_744_073_709_551_615_u64 });
        let text = String::from_utf8(canonical(&value).unwrap()).unwrap();
        assert_eq!(
            text,
            "{\"A\":18446744073709551615,\"a\":{\"é\u{1}\n\":\"x\\\"y\\\\z/\"},\"b\":[1,-2,true,null]}"
        );
    }

    #[test]
    fn keeps_strings_as_they_are() {
        let decomposed = json!("e\u{301}");
        assert_eq!(canonical(&decomposed).unwrap(), "\"e\u{301}\"".as_bytes());
    }

    #[test]
    fn has_no_fractions() {
        assert_eq!(canonical(&json!({ "a": 1.5 })), Err(NotCanonical));
    }
}
