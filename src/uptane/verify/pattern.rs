//! Path patterns of delegations (TUF 1.0.34, 4.5).

use crate::model::glob_matches;

/// Shell-style, part by part: `*` and `?` stand for no `/` (TUF 1.0.34, 4.5).
pub(super) fn path_matches(pattern: &str, path: &str) -> bool {
    let (mut patterns, mut parts) = (pattern.split('/'), path.split('/'));
    loop {
        match (patterns.next(), parts.next()) {
            (None, None) => return true,
            (Some(pattern), Some(part)) if glob_matches(pattern.as_bytes(), part.as_bytes()) => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_and_question_marks_stand_for_no_slash() {
        for (pattern, path, expected) in [
            ("*", "a", true),
            ("*", "a/b", false),
            ("a/*/c", "a/b/c", true),
            ("a/*/c", "a/b/b/c", false),
            ("foo-version-?.tgz", "foo-version-a.tgz", true),
            ("foo-version-?.tgz", "foo-version-alpha.tgz", false),
            ("a?b", "a/b", false),
            ("targets/*.tgz", "targets/foo.tgz", true),
            ("targets/*.tgz", "targets/foo.txt", false),
            ("", "", true),
        ] {
            assert_eq!(path_matches(pattern, path), expected, "{pattern} {path}");
        }
    }
}
