//! Path patterns of delegations: the shell's, which other clients match with their language's own
//! function.
//!
//! TUF 1.0.34, 4.5: "PATHPATTERN supports the Unix shell pattern matching convention for paths
//! (globbing pathnames)."
//!
//! **Whoever matches other paths than the rest asks other roles**, so this has all that those agree
//! on: `*`, `?` and sets in brackets, over characters and not bytes.

/// Whether a pattern matches, part by part.
///
/// TUF 1.0.34, 4.5: "A path separator in a path SHOULD NOT be matched by a wildcard in the
/// PATHPATTERN."
pub(super) fn path_matches(pattern: &str, path: &str) -> bool {
    let (mut patterns, mut parts) = (pattern.split('/'), path.split('/'));
    loop {
        match (patterns.next(), parts.next()) {
            (None, None) => return true,
            (Some(pattern), Some(part)) if part_matches(&tokens(pattern), part) => {}
            _ => return false,
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Token {
    /// `*`.
    Run,
    /// `?`.
    Any,
    One(char),
    /// `[a-f0]`, or `[!a-f0]` for all but those.
    Set {
        excludes: bool,
        ranges: Vec<(char, char)>,
    },
}

impl Token {
    fn matches(&self, character: char) -> bool {
        match self {
            Self::Run => false,
            Self::Any => true,
            Self::One(one) => *one == character,
            Self::Set { excludes, ranges } => {
                ranges.iter().any(|(first, last)| (*first..=*last).contains(&character))
                    != *excludes
            }
        }
    }
}

fn tokens(pattern: &str) -> Vec<Token> {
    let characters: Vec<char> = pattern.chars().collect();
    let mut tokens = Vec::new();
    let mut rest = characters.as_slice();
    while let [first, tail @ ..] = rest {
        let (token, after) = match first {
            '*' => (Token::Run, tail),
            '?' => (Token::Any, tail),
            '[' => set(tail).unwrap_or((Token::One('['), tail)),
            one => (Token::One(*one), tail),
        };
        tokens.push(token);
        rest = after;
    }
    tokens
}

/// The set whose opening bracket was read, and what follows it. None if no bracket closes it: it is
/// then a plain one.
fn set(after_bracket: &[char]) -> Option<(Token, &[char])> {
    let (excludes, inner) = match after_bracket {
        ['!', inner @ ..] => (true, inner),
        inner => (false, inner),
    };
    // A closing bracket in first place is one of the set.
    let length = 1 + inner.get(1..)?.iter().position(|character| *character == ']')?;
    let (mut members, after) = (inner.get(..length)?, inner.get(length + 1..)?);
    let mut ranges = Vec::new();
    loop {
        members = match members {
            [first, '-', last, rest @ ..] => {
                ranges.push((*first, *last));
                rest
            }
            [one, rest @ ..] => {
                ranges.push((*one, *one));
                rest
            }
            [] => return Some((Token::Set { excludes, ranges }, after)),
        };
    }
}

/// Goes back to the latest `*` alone, so that no pattern takes more than its length times the
/// part's.
fn part_matches(tokens: &[Token], part: &str) -> bool {
    let part: Vec<char> = part.chars().collect();
    let (mut token_at, mut at, mut run) = (0, 0, None);
    while let Some(character) = part.get(at) {
        match tokens.get(token_at) {
            Some(Token::Run) => {
                token_at += 1;
                run = Some((token_at, at));
            }
            Some(token) if token.matches(*character) => {
                token_at += 1;
                at += 1;
            }
            _ => {
                let Some((after_run, taken)) = run else { return false };
                (token_at, at) = (after_run, taken + 1);
                run = Some((token_at, at));
            }
        }
    }
    tokens.iter().skip(token_at).all(|token| *token == Token::Run)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(cases: &[(&str, &str, bool)]) {
        for (pattern, path, expected) in cases {
            assert_eq!(path_matches(pattern, path), *expected, "{pattern} {path}");
        }
    }

    #[test]
    fn stars_and_question_marks_stand_for_no_slash() {
        check(&[
            ("*", "a", true),
            ("*", "a/b", false),
            ("a/*/c", "a/b/c", true),
            ("a/*/c", "a/b/b/c", false),
            ("foo-version-?.tgz", "foo-version-a.tgz", true),
            ("foo-version-?.tgz", "foo-version-alpha.tgz", false),
            ("a?b", "a/b", false),
            ("targets/*.tgz", "targets/foo.tgz", true),
            ("targets/*.tgz", "targets/foo.txt", false),
            ("*ab*c", "aabxabc", true),
            ("*ab*c", "aabxab", false),
            ("", "", true),
        ]);
    }

    #[test]
    fn a_question_mark_stands_for_a_character_of_any_length() {
        check(&[
            ("r?ad", "r\u{e9}ad", true),
            ("r??ad", "r\u{e9}ad", false),
            ("?", "\u{1f697}", true),
        ]);
    }

    #[test]
    fn brackets_hold_what_may_stand_there_or_may_not() {
        check(&[
            ("fw-[a-c0].bin", "fw-b.bin", true),
            ("fw-[a-c0].bin", "fw-0.bin", true),
            ("fw-[a-c0].bin", "fw-d.bin", false),
            ("fw-[!a-c].bin", "fw-d.bin", true),
            ("fw-[!a-c].bin", "fw-a.bin", false),
            ("[]-]", "]", true),
            ("[]-]", "-", true),
            ("[!]]", "]", false),
            ("[\u{e0}-\u{ff}]*", "\u{e9}t\u{e9}", true),
            ("[c-a]", "b", false),
            ("a[!b]c", "a/c", false),
            ("*[0-9]", "v10", true),
        ]);
    }

    #[test]
    fn a_bracket_that_nothing_closes_is_a_bracket() {
        check(&[("a[b", "a[b", true), ("[]", "[]", true), ("[!]", "[!]", true), ("[", "b", false)]);
        check(&[("a[b/c]d", "a[b/c]d", true), ("a[b/c]d", "abd", false)]);
    }
}
