//! What changes from one targets file to the next, in words, for the people who are to sign it.

use std::collections::{BTreeMap, BTreeSet};

use motorcade_uptane::custom::{ImageCustom, PlaintextCustom, PlaintextHashes, SealedCustom};
use motorcade_uptane::metadata::{Delegation, Delegations, Hashes, Signed, Target, Targets};
use serde_json::Value;

use super::told::{Change, fact};
use crate::model::{Folder, HardwareId, RoleName, SupplierName, TargetEntry};

/// The content of a targets file, as people are shown it.
pub type Listing = Targets<Target<Value>>;

/// What changes from one file of a role to the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetsDiff {
    head: Vec<String>,
    changes: Vec<Change>,
}

impl TargetsDiff {
    /// Compares two files; without one before it, all that `next` says is new.
    pub fn between(role: &RoleName, current: Option<&Listing>, next: &Listing) -> Self {
        let name = shown(role);
        let version = match current {
            Some(current) => format!("{name} {} -> {}", current.version, next.version),
            None => format!("{name} {}, of which everything is shown", next.version),
        };
        let expires = match current.map(|current| current.expires) {
            Some(before) if before != next.expires => {
                format!("expires {before} -> {}", next.expires)
            }
            Some(before) => format!("expires {before}, as before"),
            None => format!("expires {}", next.expires),
        };
        let (nothing, nobody) = (BTreeMap::new(), BTreeMap::new());
        let entries = changes(
            current.map_or(&nothing, |current| &current.targets),
            &next.targets,
            |path, _| fact("", path),
            entry,
        );
        let delegations = changes(
            &current.map_or(nobody, delegations),
            &delegations(next),
            |to, said: Option<&Vec<String>>| match said.and_then(|said| said.first()) {
                Some(keys) => vec![format!("delegates to {to}: {keys}")],
                None => vec![format!("delegates to {to}")],
            },
            |said| said.iter().skip(1).cloned().collect(),
        );
        let reordered = current.and_then(|current| reordered(current, next));
        Self {
            head: vec![version, expires],
            changes: entries.into_iter().chain(delegations).chain(reordered).collect(),
        }
    }

    /// All of it, each fact a line.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = self.head.clone();
        lines.extend(self.changes.iter().flat_map(Change::lines));
        if self.changes.is_empty() {
            lines.push("lists the same as before".to_owned());
        }
        lines
    }

    /// What is listed otherwise, a line each.
    pub fn changes(&self) -> Vec<String> {
        self.changes.iter().map(Change::line).collect()
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

/// Whether a file of a role delegates as Motorcade does: the top-level targets to suppliers first and
/// then to all bins, to each once, and by names that can't be taken for anything else; they list
/// nothing themselves, which would go before all of these. Others delegate to nobody. People are shown
/// to whom it delegates and not in which order, which decides who speaks for a target (TUF 1.0.34,
/// 4.5).
///
/// # Errors
///
/// What it says besides, or otherwise.
pub fn check_order(role: &RoleName, listing: &Listing) -> Result<(), String> {
    let is_top_level = *role == RoleName::Targets;
    if listing.vin.is_some() || listing.report_every.is_some() {
        return Err("it speaks to a vehicle, as the Director's files alone do".to_owned());
    }
    if is_top_level && !listing.targets.is_empty() {
        return Err(
            "it lists targets itself, and would speak for them before all others".to_owned()
        );
    }
    let roles = listing.delegations.iter().flat_map(|delegations| &delegations.roles);
    let (mut suppliers, mut bins) = (BTreeSet::new(), Vec::new());
    for delegation in roles {
        let name = delegation.name.as_str();
        if !is_top_level {
            return Err(format!("it delegates to {name:?}, and {role} delegates to nobody"));
        }
        let is_new = if is_bin(delegation) {
            let is_new = !bins.contains(&name);
            bins.push(name);
            is_new
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
    if is_top_level && !are_all(&bins) {
        return Err("it does not delegate to all bins in order, so that somebody else would speak for what is left out".to_owned());
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
            return Err(format!(
                "it says more or something else of {path:?} than is said of images"
            ));
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
    let current = current.map_or(&nothing, |current| &current.targets);
    let changes = changes(current, &wanted, |path, _| fact("", path), entry);
    changes.iter().map(Change::line).collect()
}

/// What is new, what is other than before, and what is gone.
fn changes<T: PartialEq>(
    before: &BTreeMap<String, T>,
    after: &BTreeMap<String, T>,
    title: impl Fn(&str, Option<&T>) -> Vec<String>,
    facts: impl Fn(&T) -> Vec<String>,
) -> Vec<Change> {
    let mut changes = Vec::new();
    for (name, value) in after {
        let sign = match before.get(name) {
            None => '+',
            Some(before) if before != value => '~',
            Some(_) => continue,
        };
        changes.push(Change::new(sign, title(name, Some(value)), facts(value)));
    }
    let gone = before.keys().filter(|name| !after.contains_key(*name));
    changes.extend(gone.map(|name| Change::new('-', title(name, None), Vec::new())));
    changes
}

/// All that is said of a target: whoever signs it answers for all of it.
fn entry(target: &Target<Value>) -> Vec<String> {
    let file = format!("{} bytes, SHA-256 {}", target.length, target.hashes.sha256);
    match (&target.custom, target.custom.as_ref().and_then(known)) {
        (None, _) => vec![file],
        (Some(custom), None) => vec![file, custom.to_string()],
        (Some(_), Some(image)) => {
            let mut facts = described(&image);
            facts.push(file);
            facts
        }
    }
}

/// What is said of an image, if it is what images have and nothing else.
fn known(custom: &Value) -> Option<ImageCustom> {
    let image: ImageCustom = serde_json::from_value(custom.clone()).ok()?;
    (serde_json::to_value(&image).ok()? == *custom).then_some(image)
}

fn described(image: &ImageCustom) -> Vec<String> {
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
    let mut facts = [fact("name", name.as_str()), fact("version", version.as_str())].concat();
    facts.push(format!("release {}", release_counter.value()));
    facts.extend(hardware_ids.iter().flat_map(for_hardware));
    for (what, constraints) in [("requires", requires), ("conflicts with", conflicts)] {
        facts.extend(constraints.iter().flat_map(|other| fact(what, &other.to_string())));
    }
    facts.push(format!("plaintext of {length} bytes, SHA-256 {sha256}"));
    facts.push(format!("{}, sealed with {alg}", target_format.as_str()));
    facts
}

fn for_hardware(id: &HardwareId) -> Vec<String> {
    fact("for hardware", id.as_str())
}

/// The order in which those are asked to whom both files delegate, if it has changed.
fn reordered(before: &Listing, after: &Listing) -> Option<Change> {
    let names = |listing: &Listing| -> Vec<String> {
        let roles = listing.delegations.iter().flat_map(|delegations| &delegations.roles);
        roles.map(|delegation| shown(&delegation.name)).collect()
    };
    let (before, after) = (names(before), names(after));
    let both = |names: &[String], others: &[String]| -> Vec<String> {
        names.iter().filter(|name| others.contains(name)).cloned().collect()
    };
    let now = both(&after, &before);
    let title = || format!("delegates to these, in this order now: {}", now.join(", "));
    (both(&before, &after) != now).then(|| Change::new('~', vec![title()], Vec::new()))
}

/// To whom a file delegates, and what it says of each; of neighbouring bins that have the same keys
/// once.
fn delegations(listing: &Listing) -> BTreeMap<String, Vec<String>> {
    let Some(Delegations { roles, .. }) = &listing.delegations else { return BTreeMap::new() };
    let (bins, others): (Vec<_>, Vec<_>) = roles.iter().partition(|role| is_bin(role));
    let mut said: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for delegation in others {
        let role = &delegation.name;
        let mut facts = signers(delegation);
        facts.extend(paths(delegation));
        if let Some(ids) = listing.delegation_hardware_ids.get(role) {
            facts.extend(ids.iter().flat_map(for_hardware));
        }
        if !delegation.terminating {
            facts.push("not terminating".to_owned());
        }
        said.insert(shown(role), facts);
    }
    for alike in bins.chunk_by(|bin, next| follows(bin, next) && signers(bin) == signers(next)) {
        if let [first, .., last] = alike {
            let range = format!("{} to {}, {} bins", first.name, last.name, alike.len());
            said.insert(range, signers(first));
        } else if let [bin] = alike {
            said.insert(bin.name.to_string(), signers(bin));
        }
    }
    said
}

/// Whether a bin is the next one after another, of as many digits.
fn follows(bin: &Delegation, next: &Delegation) -> bool {
    let (digits, after) = (digits(bin.name.as_str()), digits(next.name.as_str()));
    let number = |digits: &str| u32::from_str_radix(digits, 16).ok();
    digits.len() == after.len()
        && number(digits)
            .and_then(|number| number.checked_add(1))
            .is_some_and(|next| number(after) == Some(next))
}

/// Whether these are the bins of every prefix of one length, in order.
fn are_all(bins: &[&str]) -> bool {
    let length = bins.first().map_or(0, |bin| digits(bin).len());
    let count = u32::try_from(length).ok().and_then(|length| 16_usize.checked_pow(length));
    let is_next = |(number, bin): (usize, &&str)| digits(bin) == format!("{number:0length$x}");
    length > 0 && count == Some(bins.len()) && bins.iter().enumerate().all(is_next)
}

/// The digits in a bin's name.
fn digits(bin: &str) -> &str {
    bin.strip_prefix("bin-").unwrap_or_default()
}

/// A role by its name, or by what it claims to be.
fn shown(role: &RoleName) -> String {
    match *role == RoleName::Targets || is_supplier(role) {
        true => role.to_string(),
        false => fact("", role.as_str()).join(" "),
    }
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
fn paths(delegation: &Delegation) -> Vec<String> {
    let Delegation { paths, path_hash_prefixes, .. } = delegation;
    let patterns = paths.clone().unwrap_or_default();
    let folder = patterns.first().and_then(|first| first.strip_suffix('*')?.parse::<Folder>().ok());
    match folder.filter(|folder| folder.patterns() == patterns && path_hash_prefixes.is_none()) {
        Some(folder) => fact("for folder", &folder.to_string()),
        None => {
            let prefixes = path_hash_prefixes.iter().flatten();
            let prefixes = prefixes.flat_map(|prefix| fact("for digests that begin with", prefix));
            let patterns = patterns.iter().flat_map(|pattern| fact("for paths like", pattern));
            patterns.chain(prefixes).collect()
        }
    }
}

fn signers(delegation: &Delegation) -> Vec<String> {
    let Delegation { threshold, keyids, .. } = delegation;
    let mut facts = vec![format!("{threshold} of {} keys", keyids.len())];
    facts.extend(keyids.iter().map(|id| format!("key {id}")));
    facts
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
            "~ \"acme/b\"".to_owned(),
            format!("    2 bytes, SHA-256 {digest}"),
            "+ \"acme/d\"".to_owned(),
            format!("    1 bytes, SHA-256 {digest}"),
            "- \"acme/c\"".to_owned(),
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
        let bins: Vec<String> = (0..16).map(|bin| format!("bin-{bin:x}")).collect();
        let bins: Vec<&str> = bins.iter().map(String::as_str).collect();
        let after = |names: &[&'static str], bins: &[&str]| delegating(&[names, bins].concat());
        let of_targets = |listing: &Listing| check_order(&RoleName::Targets, listing);
        of_targets(&after(&["supplier-acme", "supplier-bolt"], &bins)).unwrap();
        of_targets(&after(&[], &bins)).unwrap();
        let (mut swapped, mut replaced) = (bins.clone(), bins.clone());
        swapped.swap(3, 4);
        replaced[8] = "bin-80";
        let wrong: [&[&str]; 6] = [&bins[1..], &bins[..15], &swapped, &replaced, &["bin-"], &[]];
        for bins in wrong {
            for suppliers in [&["supplier-acme"][..], &[]] {
                let refused = of_targets(&after(suppliers, bins)).unwrap_err();
                assert!(refused.contains("all bins in order"), "{bins:?}: {refused}");
            }
        }
        for (names, why) in [
            (&["bin-0", "supplier-acme"][..], "behind the bins"),
            (&["supplier-acme", "bin-0", "bin-0"], "twice"),
            (&["bin-00 to bin-ff, 256 bins", "supplier-acme"], "no supplier and no bin"),
            (&["acme", "bin-0"], "no supplier and no bin"),
        ] {
            let refused = of_targets(&delegating(names)).unwrap_err();
            assert!(refused.contains(why), "{names:?}: {refused}");
        }
        let mut odd = serde_json::to_value(after(&["supplier-acme"], &bins)).unwrap();
        odd["delegation_hardware_ids"] = json!({ "bin-0": ["gw-mk3"] });
        let refused = of_targets(&serde_json::from_value(odd).unwrap()).unwrap_err();
        assert!(refused.contains("names hardware"), "{refused}");
        let mut itself = after(&["supplier-acme"], &bins);
        itself.targets = listing(2, &[("acme/a", 1)]).targets;
        let refused = of_targets(&itself).unwrap_err();
        assert!(refused.contains("lists targets itself"), "{refused}");

        let supplier: RoleName = "supplier-acme".parse().unwrap();
        check_order(&supplier, &listing(2, &[("acme/a", 1)])).unwrap();
        for names in [&["bin-0"][..], &["supplier-bolt"], &bins[..]] {
            let refused = check_order(&supplier, &delegating(names)).unwrap_err();
            assert!(refused.contains("delegates to nobody"), "{names:?}: {refused}");
        }
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
            (TargetsDiff::between(&role, None, &file).lines(), check_targets(&file))
        };
        let (lines, checked) = shown(&custom);
        checked.unwrap();
        assert_eq!(
            lines[2..],
            [
                "+ \"acme/a\"",
                "    name \"brake\"",
                "    version \"4.2\"",
                "    release 42",
                "    for hardware \"brake-1\"",
                "    for hardware \"brake-2\"",
                "    requires \"gateway>=7\"",
                "    requires \"door\"",
                "    conflicts with \"horn<3\"",
                &format!("    plaintext of 9 bytes, SHA-256 {digest}"),
                "    OSTREE, sealed with AES256_GCM_HKDF_4KB",
                &format!("    1 bytes, SHA-256 {digest}"),
            ]
        );
        let mut forged = custom.clone();
        forged["name"] = json!(format!("brake\", release 42,    release 42{}", "z".repeat(90)));
        let (lines, checked) = shown(&forged);
        checked.unwrap();
        assert!(lines[3].starts_with("    name \"brake\\\", release 42, "), "{lines:?}");
        assert!(lines[4].starts_with("    followed by \"zzz"), "{lines:?}");
        assert_eq!(lines.iter().filter(|line| line.starts_with("    release 42")).count(), 1);
        assert_eq!(lines.concat().matches('z').count(), 90, "all of it is shown");
        let mut unknown = [custom.clone(), custom.clone(), custom.clone()];
        unknown[0]["runAsRoot"] = json!(true);
        unknown[1]["sealed"]["plaintext"]["hashes"]["md5"] = json!("00");
        unknown[2] = json!("whatever");
        for custom in unknown {
            let (lines, checked) = shown(&custom);
            let line = lines.last().unwrap();
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
                "+ delegates to bin-0 to bin-1, 2 bins: 1 of 1 keys",
                &format!("    key {key}"),
                "+ delegates to supplier-acme: 1 of 1 keys",
                &format!("    key {key}"),
                "    for folder \"acme/\"",
                "    for hardware \"gw-mk3\"",
            ]
        );
    }
    #[test]
    fn a_bin_that_is_replaced_or_has_other_keys_is_told() {
        let shown = |before: &Listing, after: &Listing| {
            TargetsDiff::between(&RoleName::Targets, Some(before), after).changes()
        };
        let before = delegating(&["bin-0", "bin-1", "bin-2", "bin-3"]);
        let told = shown(&before, &delegating(&["bin-0", "bin-10", "bin-2", "bin-3"]));
        assert!(told.contains(&"- delegates to bin-0 to bin-3, 4 bins".to_owned()), "{told:?}");
        let key = Sha256Digest::from_bytes([9; 32]);
        let mut after = before.clone();
        after.delegations.as_mut().unwrap().roles[1].keyids = vec![key];
        let told = shown(&before, &after);
        let titles = ["bin-0:", "bin-1:", "bin-2 to bin-3, 2 bins:"];
        for (line, title) in told.iter().zip(titles) {
            assert!(line.starts_with(&format!("+ delegates to {title}")), "{told:?}");
        }
        assert!(told[1].ends_with(&format!("key {key}")), "{told:?}");
        assert_eq!(told[3..], ["- delegates to bin-0 to bin-3, 4 bins"]);
    }
}
