//! `Repr-Digest` and `Content-Digest` (RFC 9530), as anybody may write them.
//!
//! Pure: text in, a digest out.

use sfv::{BareItem, Dictionary, Item, ListEntry, Parser};

use crate::model::Sha256Digest;

/// One structured-field dictionary (RFC 9651, 3.2) of byte sequences; members of other algorithms
/// are passed over.
///
/// # Errors
///
/// Why it can't be used: it is no such dictionary, or has no SHA-256.
pub fn parse(text: &str) -> Result<Sha256Digest, &'static str> {
    let dictionary: Dictionary =
        Parser::new(text).parse().map_err(|_| "write it as sha-256=:BASE64: (RFC 9651)")?;
    let member = dictionary.iter().find(|(name, _)| name.as_str() == "sha-256");
    let (_, value) = member.ok_or("it has no sha-256, the one algorithm that is checked here")?;
    let ListEntry::Item(Item { bare_item: BareItem::ByteSequence(bytes), .. }) = value else {
        return Err("write it as sha-256=:BASE64:");
    };
    let bytes: [u8; 32] = bytes.as_slice().try_into().map_err(|_| "a SHA-256 has 32 bytes")?;
    Ok(Sha256Digest::from_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_rfc_s_own_form() {
        let empty = "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:";
        let expected = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(parse(empty).unwrap().to_string(), expected);
        assert_eq!(parse(&format!("sha-512=:AAAA:, {empty}")).unwrap().to_string(), expected);
    }

    #[test]
    fn reads_a_dictionary_as_it_may_be_written() {
        let value = ":47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:";
        let other = ":AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:";
        let expected = parse(&format!("sha-256={value}")).unwrap();
        for text in [
            format!("  sha-256={value}  "),
            format!("sha-512=:AAAA:\t,\tsha-256={value}"),
            format!("sha-256={value};q=1;note=\"a, b\""),
            format!("unixsum=\"sha-256=:x:, \", sha-256={value}"),
            format!("md5=(1 2), flag, sha-256={value}, n=-1.5"),
            format!("sha-256={other}, sha-256={value}"), // the last one counts (RFC 9651, 4.2.2)
        ] {
            assert_eq!(parse(&text).unwrap(), expected, "{text}");
        }
        for text in [
            format!("sha-256={value},"),
            format!("SHA-256={value}"),
            format!("sha-256={value} x"),
            format!("sha-256 ={value}"),
            format!("sha-256=({value})"),
            format!("sha-256={value} sha-512=:AAAA:"),
            format!("sha-256=\"{value}\""),
        ] {
            assert!(parse(&text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_digest_that_can_t_be_checked_is_refused() {
        for text in
            ["", "sha-512=:AAAA:", "sha-256=AAAA", "sha-256=:AAAA:", "sha-256=:!:", "sha-256=:"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
