//! Which sources of keys a policy declares: `keys = ["file:…", "pkcs11:…"]` in place of a number.

use std::collections::BTreeMap;

use toml::{Table, Value};

use super::source::KeySource;
use crate::model::{RepositorySide, RoleKind};

/// The sources that a policy declares, by role. A role that is not there has its keys in `keys/`.
pub(super) type Sources = BTreeMap<(RepositorySide, RoleKind), Vec<KeySource>>;

/// What a role is called in messages.
type KeyName = fn(RepositorySide, RoleKind) -> String;

/// Takes the sources out of a policy and leaves their number in their place.
///
/// # Errors
///
/// What is wrong with which role.
pub(super) fn take(policy: &mut Table, key_name: KeyName) -> Result<Sources, String> {
    let mut sources = Sources::new();
    for kind in RepositorySide::Image.kinds() {
        if let Some(section) = section(policy, &[kind.as_str()]) {
            take_role(section, RepositorySide::Image, *kind, &mut sources)?;
        }
    }
    if let Some(section) = section(policy, &["director", "root"]) {
        take_role(section, RepositorySide::Director, RoleKind::Root, &mut sources)?;
    }
    if let Some(section) = section(policy, &["director", "bundle"]) {
        take_bundle(section, &mut sources)?;
    }
    refuse_shared(&sources, key_name)?;
    Ok(sources)
}

fn section<'a>(policy: &'a mut Table, path: &[&str]) -> Option<&'a mut Table> {
    let (name, rest) = path.split_first()?;
    let table = policy.get_mut(*name)?.as_table_mut()?;
    if rest.is_empty() { Some(table) } else { section(table, rest) }
}

fn take_role(
    section: &mut Table,
    side: RepositorySide,
    kind: RoleKind,
    sources: &mut Sources,
) -> Result<(), String> {
    let Some(Value::Array(listed)) = section.get("keys") else { return Ok(()) };
    let listed = listed.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    section.insert("keys".into(), count(&listed));
    sources.insert((side, kind), listed);
    Ok(())
}

/// The three roles of a bundle have one policy, and keys of their own.
fn take_bundle(section: &mut Table, sources: &mut Sources) -> Result<(), String> {
    let roles = match section.get("keys") {
        Some(Value::Table(roles)) => roles.clone(),
        Some(Value::Array(_)) => return Err(BUNDLE.into()),
        _ => return Ok(()),
    };
    let mut number = None;
    for kind in [RoleKind::Targets, RoleKind::Snapshot, RoleKind::Timestamp] {
        let listed = roles.get(kind.as_str()).and_then(Value::as_array).ok_or(BUNDLE)?;
        let listed = listed.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        if number.replace(listed.len()).is_some_and(|before| before != listed.len()) {
            return Err(BUNDLE.into());
        }
        section.insert("keys".into(), count(&listed));
        sources.insert((RepositorySide::Director, kind), listed);
    }
    if roles.len() > 3 { Err(BUNDLE.into()) } else { Ok(()) }
}

fn read(value: &Value) -> Result<KeySource, String> {
    let text = value.as_str().ok_or("a source of a key is text, such as \"file:root.pem\"")?;
    text.parse().map_err(|error: super::source::ParseKeySourceError| error.to_string())
}

fn count(listed: &[KeySource]) -> Value {
    Value::Integer(i64::try_from(listed.len()).unwrap_or(i64::MAX))
}

fn refuse_shared(sources: &Sources, key_name: KeyName) -> Result<(), String> {
    let mut seen: BTreeMap<&KeySource, String> = BTreeMap::new();
    for ((side, kind), listed) in sources {
        for source in listed {
            let role = key_name(*side, *kind);
            if let Some(first) = seen.insert(source, role.clone()) {
                return Err(format!(
                    "{source} is named for both {first} and {role}: each role needs keys of its own"
                ));
            }
        }
    }
    Ok(())
}

const BUNDLE: &str = "[director.bundle] keys must be a number, or have equally many sources for targets, snapshot and \
     timestamp: keys = { targets = [\"…\"], snapshot = [\"…\"], timestamp = [\"…\"] }";

#[cfg(test)]
mod tests {
    use super::*;

    fn take_of(text: &str) -> Result<(Table, Sources), String> {
        let mut policy: Table = text.parse().unwrap();
        take(&mut policy, |_, kind| kind.to_string()).map(|sources| (policy, sources))
    }

    #[test]
    fn sources_leave_their_number() {
        let (policy, sources) = take_of(
            "[timestamp]\nkeys = [\"file:a.pem\", \"awskms:alias/b\"]\n[snapshot]\nkeys = 2\n[director.bundle]\n\
             keys = { targets = [\"file:t\"], snapshot = [\"file:s\"], timestamp = [\"file:u\"] }",
        )
        .unwrap();
        assert_eq!(policy["timestamp"]["keys"].as_integer(), Some(2));
        assert_eq!(policy["snapshot"]["keys"].as_integer(), Some(2));
        assert_eq!(policy["director"]["bundle"]["keys"].as_integer(), Some(1));
        let of = |side, kind| sources[&(side, kind)].iter().map(ToString::to_string).collect();
        let timestamp: Vec<String> = of(RepositorySide::Image, RoleKind::Timestamp);
        assert_eq!(timestamp, ["file:a.pem", "awskms:alias/b"]);
        let bundle: Vec<String> = of(RepositorySide::Director, RoleKind::Snapshot);
        assert_eq!(bundle, ["file:s"]);
        assert_eq!(sources.len(), 4);
    }

    #[test]
    fn refuses_one_source_for_two_roles_and_what_is_no_source() {
        for (text, fault) in [
            (
                "[root]\nkeys = [\"file:a\"]\n[targets]\nkeys = [\"file:a\"]",
                "both root and targets",
            ),
            ("[root]\nkeys = [\"file:a\", \"file:a\"]", "both root and root"),
            ("[root]\nkeys = [\"a.pem\"]", "`a.pem` is no source"),
            ("[root]\nkeys = [1]", "is text"),
            ("[director.bundle]\nkeys = [\"file:a\"]", "equally many sources"),
            ("[director.bundle]\nkeys = { targets = [\"file:a\"] }", "equally many sources"),
        ] {
            let refused = take_of(text).unwrap_err();
            assert!(refused.contains(fault), "{refused}");
        }
    }
}
