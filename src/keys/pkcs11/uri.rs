//! PKCS#11 URIs (RFC 7512): where a key in a token is.
//!
//! What names the token is `token` and `serial`, what names the key is `object` and `id`; the
//! module and the file with the PIN may be named too. A PIN **never** is: the URI is shown and
//! logged.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use percent_encoding::percent_decode_str;

/// Where a key in a token is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pkcs11Uri {
    text: String,
    /// Label of the token.
    pub(super) token: Option<String>,
    /// Serial number of the token.
    pub(super) serial: Option<String>,
    /// `CKA_LABEL` of the key.
    pub(super) object: Option<String>,
    /// `CKA_ID` of the key.
    pub(super) id: Option<Vec<u8>>,
    /// The library, if not the one that the environment names.
    pub(super) module_path: Option<PathBuf>,
    /// The file with the PIN, if not what the environment names.
    pub(super) pin_source: Option<PathBuf>,
}

/// Not the place of a key in a token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a PKCS#11 URI of one key (RFC 7512): {0}")]
pub struct ParsePkcs11UriError(String);

impl Pkcs11Uri {
    /// The URI as it was given.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    fn take(&mut self, attribute: &str) -> Result<(), String> {
        let (name, value) =
            attribute.split_once('=').ok_or_else(|| format!("`{attribute}` has no value"))?;
        let bytes: Vec<u8> = percent_decode_str(value).collect();
        let text = || String::from_utf8(bytes.clone()).map_err(|_| format!("{name} is not UTF-8"));
        let path = || text().map(|text| PathBuf::from(text.trim_start_matches("file:")));
        let is_first = match name {
            "token" => self.token.replace(text()?).is_none(),
            "serial" => self.serial.replace(text()?).is_none(),
            "object" => self.object.replace(text()?).is_none(),
            "id" => self.id.replace(bytes).is_none(),
            "module-path" => self.module_path.replace(path()?).is_none(),
            "pin-source" => self.pin_source.replace(path()?).is_none(),
            "type" => match text()?.as_str() {
                "private" | "secret-key" => true,
                other => {
                    return Err(format!("type is {other}, and a key is private or secret-key"));
                }
            },
            // Its value is in no message.
            "pin-value" => {
                return Err("a PIN does not belong here: name a file with pin-source".into());
            }
            other => {
                return Err(format!(
                    "`{other}` is not known here: use token, serial, object, id, type, module-path, pin-source"
                ));
            }
        };
        if is_first { Ok(()) } else { Err(format!("{name} is there twice")) }
    }
}

impl FromStr for Pkcs11Uri {
    type Err = ParsePkcs11UriError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fault = |fault: &str| ParsePkcs11UriError(fault.to_owned());
        let rest = text.strip_prefix("pkcs11:").ok_or_else(|| fault("it begins with pkcs11:"))?;
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let mut uri = Self {
            text: text.to_owned(),
            token: None,
            serial: None,
            object: None,
            id: None,
            module_path: None,
            pin_source: None,
        };
        let attributes = path.split(';').chain(query.split('&'));
        for attribute in attributes.filter(|attribute| !attribute.is_empty()) {
            uri.take(attribute).map_err(ParsePkcs11UriError)?;
        }
        if uri.token.is_none() && uri.serial.is_none() {
            return Err(fault("it names no token: use token=LABEL or serial=NUMBER"));
        }
        if uri.object.is_none() && uri.id.is_none() {
            return Err(fault("it names no key: use object=LABEL or id=%01"));
        }
        Ok(uri)
    }
}

impl fmt::Display for Pkcs11Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_a_token_a_key_and_where_module_and_pin_are() {
        let text = "pkcs11:token=Motor%20cade;object=escrow;id=%01%ff;type=secret-key?module-path=/usr/lib/x.so&pin-source=file:/run/pin";
        let uri: Pkcs11Uri = text.parse().unwrap();
        assert_eq!(uri.to_string(), text);
        assert_eq!(uri.token.as_deref(), Some("Motor cade"));
        assert_eq!(
            (uri.object.as_deref(), uri.id.as_deref()),
            (Some("escrow"), Some(&[1, 255][..]))
        );
        assert_eq!(uri.module_path, Some("/usr/lib/x.so".into()));
        assert_eq!(uri.pin_source, Some("/run/pin".into()));
    }

    #[test]
    fn says_what_is_wrong_and_never_shows_a_pin() {
        for (text, fault) in [
            ("token=a;object=b", "begins with pkcs11:"),
            ("pkcs11:object=b", "names no token"),
            ("pkcs11:token=a", "names no key"),
            ("pkcs11:token=a;object=b;object=c", "object is there twice"),
            ("pkcs11:token=a;object", "`object` has no value"),
            ("pkcs11:token=a;object=b;type=cert", "type is cert"),
            ("pkcs11:token=a;object=%ff", "object is not UTF-8"),
            ("pkcs11:token=a;object=b;slot-id=1", "`slot-id` is not known here"),
            ("pkcs11:token=a;object=b?pin-value=1234", "name a file with pin-source"),
        ] {
            let error = text.parse::<Pkcs11Uri>().unwrap_err().to_string();
            assert!(error.contains(fault) && !error.contains("1234"), "{text}: {error}");
        }
    }
}
