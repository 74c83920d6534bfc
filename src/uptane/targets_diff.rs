//! What changes from one targets file to the next, in words, for the people who are to sign it.

use std::collections::{BTreeMap, BTreeSet};

use motorcade_uptane::custom::{ImageCustom, PlaintextCustom, PlaintextHashes, SealedCustom};
use motorcade_uptane::metadata::{Delegation, Delegations, Hashes, Signed, Target, Targets};
use serde_json::Value;

use crate::model::{Constraint, Folder, HardwareId, RoleName, SupplierName, TargetEntry};

/// The content of a targets file, as people are shown it.
pub type Listing = Targets<Target<Value>>;

/// What changes from one file of a role to the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetsDiff {
    head: Vec<String>,
    entries: Vec<String>,
    delegations: Vec<String>,
}

impl TargetsDiff {
    /// Compares two files; without one before it, all that `next` says is new.
    pub fn between(role: &RoleName, current: Option<&Listing>, next: &Listing) -> Self {
        let version = match current {
            Some(current) => format!("{role} {} -> {}", current.version, next.version),
            None => format!("{role} {}, of which everything is shown", next.version),
        };
        let expires = match current.map(|current| current.expires) {
            Some(before) if before != next.expires => {
                format!("expires {before} -> {}", next.expires)
            }
            Some(before) => format!("expires {before}, as before"),
            None => format!("expires {}", next.expires),
        };
        let (nothing, nobody) = (BTreeMap::new(), BTreeMap::new());
        Self {
            head: vec![version, expires],
            entries: changes(
                current.map_or(&nothing, |current| &current.targets),
                &next.targets,
                entry,
            ),
            delegations: [
                changes(
                    &current.map_or(nobody, delegations),
                    &delegations(next),
                    |role, said: &String| format!("{role}: {said}"),
                ),
                current.and_then(|current| reordered(current, next)).into_iter().collect(),
            ]
            .concat(),
        }
    }

    /// All of it, a line each.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = self.head.clone();
        lines.extend(self.changes());
        if lines.len() == self.head.len() {
            lines.push("lists the same as before".to_owned());
        }
        lines
    }

    /// What is listed otherwise, a line each.
    pub fn changes(&self) -> Vec<String> {
        let mut lines = self.entries.clone();
        lines.extend(self.delegations.iter().map(|line| match line.split_once(' ') {
            Some((sign, said)) => format!("{sign} delegates to {said}"),
            None => line.clone(),
        }));
        lines
    }
}

/// Reads a targets file.
///
/// # Errors
///
/// [`serde_json::Error`] if it is none.
pub fn parse(file: &[u8]) -> Result<Listing, serde_json::Error> {
    let file: Signed<Listing> = serde_json::from_slice(file)?;
    Ok(file.signed)
}

/// Whether a file delegates as Motorcade does: to suppliers first and then to bins, to each once, and
/// by names that can't be taken for anything else. People are shown to whom it delegates and not in
/// which order, which decides who speaks for a target (TUF 1.0.34, 4.5).
///
/// # Errors
///
/// What it says besides, or otherwise.
pub fn check_order(listing: &Listing) -> Result<(), String> {
    if listing.vin.is_some() || listing.report_every.is_some() {
        return Err("it speaks to a vehicle, as the Director's files alone do".to_owned());
    }
    let roles = listing.delegations.iter().flat_map(|delegations| &delegations.roles);
    let (mut suppliers, mut bins) = (BTreeSet::new(), BTreeSet::new());
    for delegation in roles {
        let name = delegation.name.as_str();
        let is_new = if is_bin(delegation) {
            bins.insert(name)
        } else if !is_supplier(&delegation.name) {
            return Err(format!("it delegates to {name:?}, which is no supplier and no bin"));
        } else if !bins.is_empty() {
            return Err(format!(
                "it delegates to {name} behind the bins, which would speak for it"
            ));
        } else {
            suppliers.insert(name)
        };
        if !is_new {
            return Err(format!("it delegates to {name} twice"));
        }
    }
    let others =
        listing.delegation_hardware_ids.keys().find(|role| !suppliers.contains(role.as_str()));
    match others {
        Some(role) => {
            Err(format!("it names hardware for {role}, which is no supplier that it delegates to"))
        }
        None => Ok(()),
    }
}

/// Whether all that a file says of its targets is what Motorcade says of images, so that people know
/// what they sign: a member that isn't known here may mean anything to whoever reads it.
///
/// # Errors
///
/// Which target it says something else of.
pub fn check_targets(listing: &Listing) -> Result<(), String> {
    for (path, target) in &listing.targets {
        if target.custom.as_ref().is_some_and(|custom| known(custom).is_none()) {
            return Err(format!("it says more or something else of {path} than is said of images"));
        }
    }
    Ok(())
}

/// What is listed otherwise in `wanted` than in a file, a line each.
pub fn waiting(current: Option<&Listing>, wanted: &[TargetEntry]) -> Vec<String> {
    let target = |target: &TargetEntry| {
        let custom = target.custom.as_deref();
        Target {
            custom: custom.map(|custom| serde_json::from_str(custom).unwrap_or_default()),
            hashes: Hashes { sha256: target.sha256 },
            length: target.length,
        }
    };
    let wanted = wanted.iter().map(|entry| (entry.path.clone(), target(entry))).collect();
    let nothing = BTreeMap::new();
    changes(current.map_or(&nothing, |current| &current.targets), &wanted, entry)
}

/// What is new, what is other than before, and what is gone, a line each.
fn changes<T: PartialEq>(
    before: &BTreeMap<String, T>,
    after: &BTreeMap<String, T>,
    describe: impl Fn(&str, &T) -> String,
) -> Vec<String> {
    let mut lines = Vec::new();
    for (name, value) in after {
        match before.get(name) {
            None => lines.push(format!("+ {}", describe(name, value))),
            Some(before) if before != value => {
                lines.push(format!("~ {}", describe(name, value)));
            }
            Some(_) => {}
        }
    }
    let gone = before.keys().filter(|name| !after.contains_key(*name));
    lines.extend(gone.map(|name| format!("- {name}")));
    lines
}

/// All that is said of a target: whoever signs it answers for all of it.
fn entry(path: &str, target: &Target<Value>) -> String {
    let file = format!("{} bytes, SHA-256 {}", target.length, target.hashes.sha256);
    match (&target.custom, target.custom.as_ref().and_then(known)) {
        (None, _) => format!("{path}: {file}"),
        (Some(custom), None) => format!("{path}: {file}, {custom}"),
        (Some(_), Some(image)) => format!("{path}: {}, {file}", described(&image)),
    }
}

/// What is said of an image, if it is what images have and nothing else.
fn known(custom: &Value) -> Option<ImageCustom> {
    let image: ImageCustom = serde_json::from_value(custom.clone()).ok()?;
    (serde_json::to_value(&image).ok()? == *custom).then_some(image)
}

fn described(image: &ImageCustom) -> String {
    // Taken apart, so that a new member is shown or does not compile.
    let ImageCustom {
        name,
        version,
        hardware_ids,
        release_counter,
        target_format,
        sealed,
        requires,
        conflicts,
    } = image;
    let SealedCustom { alg, plaintext: PlaintextCustom { length, hashes } } = sealed;
    let PlaintextHashes { sha256 } = hashes;
    let hardware: Vec<&str> = hardware_ids.iter().map(HardwareId::as_str).collect();
    let (counter, hardware) = (release_counter.value(), hardware.join(", "));
    let mut text = format!("{name} {version}, release {counter}, for {hardware}");
    for (what, constraints) in [("requires", requires), ("conflicts with", conflicts)] {
        if !constraints.is_empty() {
            let constraints: Vec<String> = constraints.iter().map(Constraint::to_string).collect();
            text.push_str(&format!(", {what} {}", constraints.join(", ")));
        }
    }
    let format = target_format.as_str();
    text.push_str(&format!(
        "; {length} bytes of plaintext with SHA-256 {sha256}; {format}, sealed with {alg}"
    ));
    text
}

/// The order in which those are asked to whom both files delegate, if it has changed.
fn reordered(before: &Listing, after: &Listing) -> Option<String> {
    let names = |listing: &Listing| -> Vec<String> {
        let roles = listing.delegations.iter().flat_map(|delegations| &delegations.roles);
        roles.map(|delegation| delegation.name.to_string()).collect()
    };
    let (before, after) = (names(before), names(after));
    let both = |names: &[String], others: &[String]| -> Vec<String> {
        names.iter().filter(|name| others.contains(name)).cloned().collect()
    };
    let now = both(&after, &before);
    (both(&before, &after) != now)
        .then(|| format!("~ these, in this order now: {}", now.join(", ")))
}

/// To whom a file delegates, and what it says of each; of bins that have the same keys in one line.
fn delegations(listing: &Listing) -> BTreeMap<String, String> {
    let Some(Delegations { roles, .. }) = &listing.delegations else { return BTreeMap::new() };
    let mut said: BTreeMap<String, String> = BTreeMap::new();
    let mut bins: BTreeMap<String, Vec<&RoleName>> = BTreeMap::new();
    for delegation in roles {
        let role = &delegation.name;
        let mut text = signers(delegation);
        if is_bin(delegation) {
            bins.entry(text).or_default().push(role);
            continue;
        }
        text.push_str(&format!(", for {}", paths(delegation)));
        if let Some(ids) = listing.delegation_hardware_ids.get(role) {
            let ids: Vec<&str> = ids.iter().map(|id| id.as_str()).collect();
            text.push_str(&format!(", hardware {}", ids.join(", ")));
        }
        if !delegation.terminating {
            text.push_str(", not terminating");
        }
        said.insert(role.to_string(), text);
    }
    for (text, roles) in bins {
        let (first, last) = (roles.first(), roles.last());
        if let (Some(first), Some(last)) = (first, last) {
            said.insert(format!("{first} to {last}, {} bins", roles.len()), text);
        }
    }
    said
}

fn is_supplier(role: &RoleName) -> bool {
    let name = role.as_str().strip_prefix("supplier-");
    name.is_some_and(|name| name.parse::<SupplierName>().is_ok())
}

/// A bin, which says nothing but what its name does.
fn is_bin(delegation: &Delegation) -> bool {
    let name = delegation.name.as_str();
    let is_hex =
        |digits: &&str| digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
    let prefix = name.strip_prefix("bin-").filter(is_hex).unwrap_or_default();
    let Delegation { path_hash_prefixes, paths, terminating, .. } = delegation;
    paths.is_none() && *terminating && path_hash_prefixes.as_deref() == Some(&[prefix.to_owned()])
}

/// For what it speaks: a folder, if its patterns are those of one.
fn paths(delegation: &Delegation) -> String {
    let Delegation { paths, path_hash_prefixes, .. } = delegation;
    let patterns = paths.clone().unwrap_or_default();
    let folder = patterns.first().and_then(|first| first.strip_suffix('*')?.parse::<Folder>().ok());
    match folder.filter(|folder| folder.patterns() == patterns && path_hash_prefixes.is_none()) {
        Some(folder) => folder.to_string(),
        None => format!("{patterns:?} {:?}", path_hash_prefixes.clone().unwrap_or_default()),
    }
}

fn signers(delegation: &Delegation) -> String {
    let ids: Vec<String> = delegation.keyids.iter().map(ToString::to_string).collect();
    format!("{} of {} keys: {}", delegation.threshold, ids.len(), ids.join(", "))
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use serde_json::json;

    use super::*;
    use crate::model::{Sha256Digest, Timestamp};

    fn listing(version: u64, targets: &[(&str, u64)]) -> Listing {
        let target = |length: u64| Target {
            custom: None,
            hashes: Hashes { sha256: Sha256Digest::from_bytes([7; 32]) },
            length,
        };
        let targets = targets.iter().map(|(path, length)| ((*path).to_owned(), target(*length)));
        let version = NonZeroU64::new(version).unwrap();
        Targets::new(version, Timestamp::UNIX_EPOCH, targets.collect())
    }

    #[test]
    fn what_is_new_other_and_gone_is_told() {
        let role: RoleName = "supplier-acme".parse().unwrap();
        let (before, after) = (
            listing(1, &[("acme/a", 1), ("acme/b", 1), ("acme/c", 1)]),
            listing(3, &[("acme/a", 1), ("acme/b", 2), ("acme/d", 1)]),
        );
        let digest = Sha256Digest::from_bytes([7; 32]);
        let expected = [
            "supplier-acme 1 -> 3".to_owned(),
            "expires 1970-01-01T00:00:00Z, as before".to_owned(),
            format!("~ acme/b: 2 bytes, SHA-256 {digest}"),
            format!("+ acme/d: 1 bytes, SHA-256 {digest}"),
            "- acme/c".to_owned(),
        ];
        assert_eq!(TargetsDiff::between(&role, Some(&before), &after).lines(), expected);
        let all = TargetsDiff::between(&role, None, &after).lines();
        assert_eq!(all.iter().filter(|line| line.starts_with("+ ")).count(), 3, "{all:?}");
        let same = TargetsDiff::between(&role, Some(&after), &after).lines();
        assert_eq!(same.last().unwrap(), "lists the same as before");
    }

    /// A file that delegates to these, bins by their prefix and others as suppliers of their folder.
    fn delegating(names: &[&str]) -> Listing {
        let role = |name: &&str| {
            let of = match name.strip_prefix("bin-") {
                Some(prefix) => json!({ "path_hash_prefixes": [prefix] }),
                None => json!({ "paths": ["acme/*"] }),
            };
            let mut role = of;
            role["name"] = json!(name);
            role["keyids"] = json!(["07".repeat(32)]);
            (role["threshold"], role["terminating"]) = (json!(1), json!(true));
            role
        };
        let mut file = serde_json::to_value(listing(2, &[])).unwrap();
        let roles: Vec<Value> = names.iter().map(role).collect();
        file["delegations"] = json!({ "keys": {}, "roles": roles });
        serde_json::from_value(file).unwrap()
    }

    #[test]
    fn an_order_that_gives_a_folder_away_is_refused_and_another_one_told() {
        check_order(&delegating(&["supplier-acme", "supplier-bolt", "bin-0", "bin-1"])).unwrap();
        for (names, why) in [
            (&["bin-0", "supplier-acme"][..], "behind the bins"),
            (&["supplier-acme", "bin-0", "bin-0"], "twice"),
            (&["bin-00 to bin-ff, 256 bins", "supplier-acme"], "no supplier and no bin"),
            (&["acme", "bin-0"], "no supplier and no bin"),
        ] {
            let refused = check_order(&delegating(names)).unwrap_err();
            assert!(refused.contains(why), "{names:?}: {refused}");
        }
        let mut odd = serde_json::to_value(delegating(&["supplier-acme", "bin-0"])).unwrap();
        odd["delegation_hardware_ids"] = json!({ "bin-0": ["gw-mk3"] });
        check_order(&serde_json::from_value(odd).unwrap()).unwrap_err();
        let (one, other) = (
            delegating(&["supplier-acme", "supplier-bolt"]),
            delegating(&["supplier-bolt", "supplier-acme"]),
        );
        let lines = TargetsDiff::between(&RoleName::Targets, Some(&one), &other).lines();
        assert_eq!(
            lines.last().unwrap(),
            "~ delegates to these, in this order now: supplier-bolt, supplier-acme"
        );
    }

    #[test]
    fn all_that_is_said_of_an_image_is_shown_and_what_is_not_known_refused() {
        let digest = Sha256Digest::from_bytes([7; 32]);
        let custom = json!({
            "name": "brake", "version": "4.2", "hardwareIds": ["brake-1", "brake-2"], "releaseCounter": 42,
            "targetFormat": "OSTREE", "requires": ["gateway>=7", "door"], "conflicts": ["horn<3"],
            "sealed": { "alg": "AES256_GCM_HKDF_4KB", "plaintext": { "length": 9, "hashes": { "sha256": digest } } },
        });
        let role: RoleName = "supplier-acme".parse().unwrap();
        let shown = |custom: &Value| {
            let mut file = listing(1, &[("acme/a", 1)]);
            file.targets.get_mut("acme/a").unwrap().custom = Some(custom.clone());
            let lines = TargetsDiff::between(&role, None, &file).lines();
            (lines.last().unwrap().clone(), check_targets(&file))
        };
        let (line, checked) = shown(&custom);
        checked.unwrap();
        assert_eq!(
            line,
            format!(
                "+ acme/a: brake 4.2, release 42, for brake-1, brake-2, requires gateway>=7, door, conflicts with horn<3; \
                 9 bytes of plaintext with SHA-256 {digest}; OSTREE, sealed with AES256_GCM_HKDF_4KB, 1 bytes, SHA-256 {digest}"
            )
        );
        let mut unknown = [custom.clone(), custom.clone(), custom.clone()];
        unknown[0]["runAsRoot"] = json!(true);
        unknown[1]["sealed"]["plaintext"]["hashes"]["md5"] = json!("00");
        unknown[2] = json!("whatever");
        for custom in unknown {
            let (line, checked) = shown(&custom);
            assert!(line.ends_with(&custom.to_string()), "{line}");
            assert!(checked.unwrap_err().contains("acme/a"), "{custom}");
        }
    }

    #[test]
    fn whoever_targets_delegate_to_is_told() {
        let key = "07".repeat(32);
        let delegation = |name: &str, of: Value| {
            let mut delegation = of;
            delegation["name"] = json!(name);
            delegation["keyids"] = json!([key]);
            (delegation["threshold"], delegation["terminating"]) = (json!(1), json!(true));
            delegation
        };
        let folder: Folder = "acme/".parse().unwrap();
        let bin = |prefix: &str| json!({ "path_hash_prefixes": [prefix] });
        let mut next = serde_json::to_value(listing(2, &[])).unwrap();
        next["delegations"] = json!({
            "keys": {},
            "roles": [
                delegation("supplier-acme", json!({ "paths": folder.patterns() })),
                delegation("bin-0", bin("0")), delegation("bin-1", bin("1")),
            ],
        });
        next["delegation_hardware_ids"] = json!({ "supplier-acme": ["gw-mk3"] });
        let next: Listing = serde_json::from_value(next).unwrap();
        let lines = TargetsDiff::between(&RoleName::Targets, Some(&listing(1, &[])), &next).lines();
        assert_eq!(
            lines[2..],
            [
                format!("+ delegates to bin-0 to bin-1, 2 bins: 1 of 1 keys: {key}"),
                format!(
                    "+ delegates to supplier-acme: 1 of 1 keys: {key}, for acme/, hardware gw-mk3"
                ),
            ]
        );
    }
}
