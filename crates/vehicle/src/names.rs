//! Names of roles and targets in URLs and file names (MET-14, AT-40).
//!
//! Whatever metadata calls a role or a target, it stays one part of a path, and different names
//! stay different.

use motorcade_model::RoleName;
use std::borrow::Cow;

/// Percent-encodes everything but RFC 3986's unreserved characters, a slash included.
pub(super) fn quote(name: &str) -> String {
    let mut quoted = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            quoted.push(char::from(byte));
        } else {
            quoted.push_str(&format!("%{byte:02X}"));
        }
    }
    quoted
}

/// Name of a metadata file on a repository (TUF 1.0.34, 6.2.1).
pub(super) fn metadata_file(role: &RoleName, version: Option<u64>) -> String {
    match version {
        Some(version) => format!("{version}.{}.json", quote(role.as_str())),
        None => format!("{}.json", quote(role.as_str())),
    }
}

/// Path of a target below the targets' URL: its hash before its file name under consistent
/// snapshots (TUF 1.0.34, 6.2.1). None for one that would lead elsewhere.
pub(super) fn target_path(target: &str, hash: Option<&str>) -> Option<String> {
    let (folder, file) = match target.rsplit_once('/') {
        Some((folder, file)) => (Some(folder), file),
        None => (None, target),
    };
    let mut parts: Vec<Cow<'_, str>> =
        folder.into_iter().flat_map(|folder| folder.split('/')).map(Cow::from).collect();
    parts.push(hash.map_or(Cow::from(file), |hash| Cow::from(format!("{hash}.{file}"))));
    // URL parsers take these away even if they are encoded.
    if parts.iter().any(|part| part == "." || part == "..") {
        return None;
    }
    Some(parts.iter().map(|part| quote(part)).collect::<Vec<_>>().join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_part_of_a_path() {
        assert_eq!(quote("../a b?#\u{e4}%"), "..%2Fa%20b%3F%23%C3%A4%25");
        assert_eq!(metadata_file(&"a/b".parse().unwrap(), Some(3)), "3.a%2Fb.json");
        assert_eq!(metadata_file(&"..".parse().unwrap(), None), "...json");
    }

    #[test]
    fn a_target_stays_below_its_url() {
        assert_eq!(
            target_path("gw/4.2.0/gw.bin", Some("ab")).as_deref(),
            Some("gw/4.2.0/ab.gw.bin")
        );
        assert_eq!(target_path("gw.bin", None).as_deref(), Some("gw.bin"));
        assert_eq!(target_path("../gw.bin", Some("ab")), None);
        assert_eq!(target_path("a/..", None), None);
        assert_eq!(target_path("a/..", Some("ab")).as_deref(), Some("a/ab..."));
    }
}
