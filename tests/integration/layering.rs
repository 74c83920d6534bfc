//! The import table of ARCHITECTURE.md, and other rules that a review would have to look for in
//! every file.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Which modules of the server each may import from; `*` is all. Every one may import `telemetry`,
/// and the crates below `crates/`, whose own order the compiler holds.
const MAY_IMPORT: [(&str, &[&str]); 13] = [
    ("model", &[]),
    ("api", &["model"]),
    ("telemetry", &[]),
    ("blob", &["model"]),
    ("catalog", &["model"]),
    ("config", &["model"]),
    ("keys", &["model", "environment", "files", "envelope"]),
    ("uptane", &["model", "keys"]),
    ("app", &["model", "files", "envelope", "keys", "uptane", "blob", "catalog"]),
    ("http", &["api", "app", "model", "blob::BlobKey"]), // the names of blobs are the paths of /repo
    ("server", &["*"]),
    ("cli", &["*"]),
    ("lib", &[]),
];

/// Which libraries have one place, so that they can be replaced there.
const HOMES: [(&str, &[&str]); 14] = [
    ("cryptoki", &["keys/pkcs11"]),
    ("aws_sdk_s3", &["blob/s3/"]),
    ("actix_web", &["http/", "server/"]),
    ("actix_http", &["http/", "server/"]),
    ("actix_server", &["server/"]),
    ("actix_service", &["server/"]),
    ("hyper", &["server/"]),
    ("rustls", &["server/"]),
    ("tough", &["uptane/client.rs"]), // a second opinion, which shares no code with ours
    ("aws_lc_rs", &["server/tls"]),
    ("sqlx", &["catalog/"]),
    ("clap", &["cli/", "config/"]),
    ("reqwest", &["cli/", "uptane/client.rs"]),
    // The one runs itself; what opens keys is read where it is used, and kept nowhere; the driver of
    // PostgreSQL has a default of its own for the port.
    ("std::env", &["cli/demo/", "keys/file/encrypted.rs", "model/database_url.rs"]),
];

/// A source file without its tests and comments; line numbers stay.
struct Source {
    name: String,
    lines: Vec<String>,
}

impl Source {
    fn module(&self) -> &str {
        self.name.split(['/', '.']).next().unwrap()
    }

    /// Where `needle` begins a path, as line numbers and what follows it.
    fn paths<'a>(&'a self, needle: &'a str) -> impl Iterator<Item = (usize, &'a str)> {
        let starts_word = |line: &str, at: usize| {
            !line[..at].ends_with(|c: char| c.is_alphanumeric() || "_:".contains(c))
        };
        self.lines.iter().enumerate().flat_map(move |(number, line)| {
            let found = line.match_indices(needle).filter(move |(at, _)| starts_word(line, *at));
            found.map(move |(at, _)| (number + 1, &line[at + needle.len()..]))
        })
    }

    /// What it imports of this crate: line numbers, and paths such as `blob::BlobKey`.
    fn imports(&self) -> Vec<(usize, String)> {
        let mut imports = Vec::new();
        for (number, rest) in self.paths("crate::") {
            assert!(
                !rest.starts_with('{') || rest.contains('}'),
                "{}:{number}: one `use` a module",
                self.name
            );
            let group = rest.strip_prefix('{').map(|group| group.split('}').next().unwrap());
            let members =
                group.map_or_else(|| vec![rest], |group| group.split(',').map(str::trim).collect());
            for member in members.into_iter().filter(|member| !member.is_empty()) {
                let end = member
                    .find(|c: char| !c.is_alphanumeric() && !"_:".contains(c))
                    .unwrap_or(member.len());
                imports.push((number, member[..end].trim_end_matches(':').to_owned()));
            }
        }
        imports
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files below `folder`; nothing that isn't part of the project.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(current) = folders.pop() {
        for path in fs::read_dir(current).unwrap().map(|entry| entry.unwrap().path()) {
            let name = path.file_name().unwrap().to_str().unwrap();
            let is_foreign = ["target", ".git", "node_modules"].contains(&name)
                || name.starts_with("motorcade-data");
            match path.is_dir() {
                true if !is_foreign => folders.push(path),
                false => files.push(path),
                true => {}
            }
        }
    }
    files.sort();
    files
}

/// What is compiled into the binary.
fn sources() -> Vec<Source> {
    let src = root().join("src");
    let mut sources = Vec::new();
    for path in files(&src)
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
    {
        let name = path.strip_prefix(&src).unwrap().to_str().unwrap().to_owned();
        if name.contains("/conformance/")
            || ["_tests.rs", "/conformance.rs", "/snakeoil.rs", "/tests.rs"]
                .iter()
                .any(|end| name.ends_with(end))
        {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let code = text.lines().take_while(|line| !line.starts_with("mod tests"));
        let without_comment =
            |line: &str| line.split_once("//").map_or(line, |(code, _)| code).to_owned();
        sources.push(Source { name, lines: code.map(without_comment).collect() });
    }
    assert!(sources.len() > 50, "the sources were found");
    sources
}

#[test]
fn modules_import_only_what_the_table_allows() {
    let mut violations = Vec::new();
    for source in sources() {
        let module = source.module();
        let Some((_, allowed)) = MAY_IMPORT.iter().find(|(name, _)| *name == module) else {
            assert!(
                ["lib", "main", "bin"].contains(&module),
                "{} is in no row of the table",
                source.name
            );
            continue;
        };
        for (line, import) in source.imports() {
            let target = import.split("::").next().unwrap();
            let is_allowed = |allowed: &&str| ["*", target, import.as_str()].contains(allowed);
            if target != module && target != "telemetry" && !allowed.iter().any(is_allowed) {
                violations.push(format!("src/{}:{line} imports crate::{import}", source.name));
            }
        }
    }
    assert_eq!(violations, Vec::<String>::new(), "{violations:#?}");
}

#[test]
fn each_library_stays_in_its_place() {
    let mut violations = Vec::new();
    for source in sources() {
        for (library, homes) in HOMES {
            if homes.iter().any(|home| source.name.starts_with(home)) {
                continue;
            }
            let uses = source
                .paths(library)
                .filter(|(_, rest)| rest.starts_with("::") || rest.starts_with(';'));
            violations
                .extend(uses.map(|(line, _)| format!("src/{}:{line} uses {library}", source.name)));
        }
    }
    assert_eq!(violations, Vec::<String>::new(), "{violations:#?}");
}

/// Packages that `motorcade-vehicle` is built from, by way of whatever needs them.
fn packages_of_the_vehicle() -> BTreeSet<String> {
    let lock = fs::read_to_string(root().join("Cargo.lock")).unwrap();
    let mut needs: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for package in lock.split("[[package]]").skip(1) {
        let name = package.split("name = \"").nth(1).unwrap().split('"').next().unwrap();
        let list = package.split("dependencies = [").nth(1).unwrap_or_default();
        let list = list.split(']').next().unwrap();
        // A version stands behind the name where there are several of them.
        let names = list.split('"').skip(1).step_by(2).map(|name| name.split(' ').next().unwrap());
        needs.entry(name).or_default().extend(names);
    }
    let mut found = BTreeSet::new();
    let mut open = vec!["motorcade-vehicle"];
    while let Some(name) = open.pop() {
        if found.insert(name.to_owned()) {
            open.extend(needs.get(name).into_iter().flatten());
        }
    }
    found
}

/// What is for its tests alone is among them, so this asks for more than a build has.
#[test]
fn the_vehicle_has_none_of_the_server_s_packages() {
    let packages = packages_of_the_vehicle();
    for needed in ["motorcade-uptane", "motorcade-envelope", "reqwest", "p256"] {
        assert!(packages.contains(needed), "what finds nothing has to be able to find something");
    }
    let servers = |name: &&String| {
        let prefixes = ["actix", "sqlx", "tough", "utoipa", "opentelemetry", "prometheus", "csv"];
        *name == "motorcade" || prefixes.iter().any(|prefix| name.starts_with(prefix))
    };
    let found: Vec<_> = packages.iter().filter(servers).collect();
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn no_file_is_over_600_lines_before_its_tests() {
    let long = |source: &Source| source.lines.len() > 600;
    let long: Vec<_> = sources()
        .into_iter()
        .filter(long)
        .map(|source| (source.name, source.lines.len()))
        .collect();
    assert_eq!(long, []);
}

/// Keys for tests are in one folder, under a name that says what they are worth.
#[test]
fn no_private_key_lies_about() {
    let mut found = BTreeSet::new();
    for path in files(root()) {
        let bytes = fs::read(&path).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            let is_head = line.starts_with("-----BEGIN ") && line.ends_with("PRIVATE KEY-----");
            let is_key = |next: &str| {
                next.len() >= 48
                    && next.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/=".contains(&b))
            };
            if is_head && lines.next().is_some_and(is_key) {
                found.insert(path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    let (test_keys, others): (Vec<_>, Vec<_>) =
        found.into_iter().partition(|name| name.starts_with("tests/vectors/keys/snakeoil_"));
    assert_eq!(others, Vec::<String>::new());
    assert!(!test_keys.is_empty(), "what finds nothing has to be able to find something");
}
