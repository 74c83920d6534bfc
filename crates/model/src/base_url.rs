//! Where a server is: a URL to which paths are added.

use std::fmt;
use std::str::FromStr;

use url::Url;

/// An `http` or `https` URL without what a path can't be added to, and without secrets: it may be
/// shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseUrl(String);

impl BaseUrl {
    /// The URL without a slash at its end.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for BaseUrl {
    type Err = ParseBaseUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        use ParseBaseUrlError as E;
        let url = Url::parse(text).map_err(|_| E::Malformed)?;
        match &url {
            url if !["http", "https"].contains(&url.scheme()) || !url.has_host() => {
                Err(E::Malformed)
            }
            url if !url.username().is_empty() || url.password().is_some() => Err(E::Userinfo),
            url if url.query().is_some() => Err(E::Query),
            url if url.fragment().is_some() => Err(E::Fragment),
            url => Ok(Self(url.as_str().trim_end_matches('/').to_owned())),
        }
    }
}

/// Why a text is no [`BaseUrl`]. It never repeats the text, which may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseBaseUrlError {
    /// It is no URL of a web server.
    #[error("it must be a URL such as https://motorcade.example:8443")]
    Malformed,
    /// It has a user name or a password.
    #[error(
        "it must not have a user name or a password: servers here know tokens and certificates"
    )]
    Userinfo,
    /// It has a `?`.
    #[error("it must end with its path, without `?` and what follows")]
    Query,
    /// It has a `#`.
    #[error("it must end with its path, without `#` and what follows")]
    Fragment,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_can_be_added_to_it() {
        for (text, url) in [
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("https://h.example/ota//", "https://h.example/ota"),
            ("HTTPS://[::1]:8443/", "https://[::1]:8443"),
        ] {
            assert_eq!(text.parse::<BaseUrl>().unwrap().as_str(), url);
        }
    }

    #[test]
    fn what_would_leak_or_swallow_a_path_is_refused_without_being_repeated() {
        use ParseBaseUrlError as E;
        for (text, error) in [
            ("https://user:hunter2@h.example", E::Userinfo),
            ("https://user@h.example", E::Userinfo),
            ("https://:hunter2@h.example", E::Userinfo),
            ("http://h.example?token=hunter2", E::Query),
            ("http://h.example/?", E::Query),
            ("http://h.example/#hunter2", E::Fragment),
            ("ftp://h.example", E::Malformed),
            ("user:hunter2@h.example", E::Malformed),
            ("h.example:8080", E::Malformed),
            ("http://", E::Malformed),
            ("", E::Malformed),
        ] {
            assert_eq!(text.parse::<BaseUrl>().unwrap_err(), error, "{text}");
            assert!(!error.to_string().contains("hunter2"));
        }
    }
}
