//! Quarantines from before their kinds were kept: what can be read from the reason, which an ECU
//! chose in part.

use std::collections::BTreeSet;

/// The kinds of a quarantine from before they were kept, when a reason was `gw-1 reported:
/// freeze,rollback`. An ECU chose what comes after its serial, so nothing in there but an attack's
/// name, whole, is taken at its word.
pub(super) fn kinds_in_reason(reason: &str) -> BTreeSet<String> {
    let said = reason.split_once(" reported: ").map_or("", |(_, said)| said);
    let known = |word: &str| {
        OLD_ATTACKS.into_iter().find(|known| *known == word).unwrap_or("other").to_owned()
    };
    let mut kinds: BTreeSet<String> = words(said).map(known).collect();
    if kinds.is_empty() || said.chars().count() >= OLD_MAX_SAID {
        kinds.insert("other".to_owned()); // there may have been more
    }
    kinds
}

/// The names in a list, none of them empty.
pub(super) fn words(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|word| !word.is_empty())
}

/// The attacks' names in reasons from before kinds were kept.
const OLD_ATTACKS: [&str; 13] = [
    "rollback",
    "freeze",
    "mix-and-match",
    "arbitrary-software",
    "endless-data",
    "slow-retrieval",
    "wrong-vehicle",
    "mixed-bundles",
    "wrong-hardware",
    "image-rollback",
    "wrong-software",
    "encryption-downgrade",
    "malformed",
];
/// How much of what an ECU reported was kept in a reason.
const OLD_MAX_SAID: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_reason_says_only_what_an_ecu_could_not_choose() {
        let long =
            format!("s-1 reported: {}", "freeze,".repeat(40).chars().take(200).collect::<String>());
        for (reason, kinds) in [
            ("s-1 reported: freeze", "freeze"),
            ("s-1 reported: freeze, rollback,", "freeze,rollback"),
            ("s-1 reported: rollback: freeze", "other"),
            ("s-1 reported: rollback,x reported: freeze", "other,rollback"),
            ("s-1 reported: unexpected-image", "other"),
            ("s-1 reported: x: unexpected-image", "other"),
            ("s-1 reported: ", "other"),
            ("", "other"),
            (long.as_str(), "freeze,other"),
        ] {
            assert_eq!(
                kinds_in_reason(reason).into_iter().collect::<Vec<_>>().join(","),
                kinds,
                "{reason}"
            );
        }
    }
}
