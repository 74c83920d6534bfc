//! No two files of a package import each other, by way of others neither: each can then be read with
//! nothing in mind but those below it. What a module hands on (`pub use`) counts as an import from
//! the file that defines it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

type Module = Vec<String>;

/// The modules of a package, each with its code but for tests and comments.
struct Package(BTreeMap<Module, String>);

impl Package {
    fn read(src: &Path) -> Self {
        let mut modules = BTreeMap::new();
        let mut open = vec![(Module::new(), src.join("lib.rs"), src.to_owned())];
        while let Some((module, file, folder)) = open.pop() {
            let code = code(&file);
            let mut before = "";
            for line in code.lines() {
                let name = line.split("mod ").last().unwrap().strip_suffix(';');
                let is_code = !before.contains("cfg(test)") && !before.contains("#[path");
                if let Some(name) = name.filter(|_| is_module(line) && is_code) {
                    let inner = folder.join(name);
                    let files: [PathBuf; 2] = [inner.with_extension("rs"), inner.join("mod.rs")];
                    let file = files.into_iter().find(|file| file.exists()).unwrap();
                    open.push(([&*module, &[name.to_owned()]].concat(), file, inner));
                }
                before = line;
            }
            modules.insert(module, code);
        }
        Self(modules)
    }

    /// The module that a path in `module` begins from, and the names that are left.
    fn begin(&self, module: &[String], path: &[String]) -> Option<(Module, Module)> {
        let mut base = module.to_vec();
        let mut rest = path;
        match path.first()?.as_str() {
            "crate" => (base, rest) = (Module::new(), &path[1..]),
            "self" => rest = &path[1..],
            "super" => {
                while rest.first().is_some_and(|name| name == "super") {
                    base.pop();
                    rest = &rest[1..];
                }
            }
            name if self.0.contains_key(&[module, &[name.to_owned()]].concat()) => {}
            _ => return None,
        }
        Some((base, rest.to_vec()))
    }

    /// The module that defines what `names` below `base` lead to.
    fn definer(&self, mut base: Module, names: &[String], depth: u8) -> Module {
        let mut names = names.iter();
        let name = loop {
            let Some(name) = names.next() else { return base };
            let inner = [&*base, std::slice::from_ref(name)].concat();
            if !self.0.contains_key(&inner) {
                break name;
            }
            base = inner;
        };
        let code = &self.0[&base];
        if depth == 0 || defines(code, name) {
            return base;
        }
        for (path, _) in imports(code).into_iter().filter(|(path, _)| path.last() == Some(name)) {
            if let Some((from, path)) = self.begin(&base, &path) {
                let rest: Module = path.into_iter().chain(names.cloned()).collect();
                return self.definer(from, &rest, depth - 1);
            }
        }
        base
    }

    /// Which modules each takes something from.
    fn arrows(&self) -> BTreeMap<&Module, BTreeSet<Module>> {
        let mut arrows = BTreeMap::new();
        for (module, code) in self.0.iter().filter(|(module, _)| !module.is_empty()) {
            let taken = imports(code).into_iter().filter(|(_, on)| !on).map(|(path, _)| path);
            let begun = taken.chain(paths(code)).filter_map(|path| self.begin(module, &path));
            let from = begun.map(|(base, names)| self.definer(base, &names, 8));
            arrows.insert(module, from.filter(|from| from != module).collect());
        }
        arrows
    }

    fn circles(&self) -> BTreeSet<String> {
        let arrows = self.arrows();
        let reaches = |from: &Module| {
            let (mut found, mut open) = (BTreeSet::new(), vec![from]);
            while let Some(next) = open.pop() {
                let new = arrows.get(next).into_iter().flatten();
                open.extend(new.filter(|module| found.insert((*module).clone())));
            }
            found
        };
        let circles = arrows.keys().filter(|module| reaches(module).contains(**module));
        circles.map(|module| module.join("::")).collect()
    }
}

fn code(file: &Path) -> String {
    let text = fs::read_to_string(file).unwrap();
    let lines = text.lines().take_while(|line| !line.starts_with("mod tests"));
    let code = lines.map(|line| line.split_once("//").map_or(line, |(code, _)| code));
    // How far something is seen is nothing that is taken.
    code.collect::<Vec<_>>().join("\n").replace("pub(in crate::", "pub(in_")
}

fn is_module(line: &str) -> bool {
    let line = line.strip_prefix("pub").unwrap_or(line);
    let line = if line.starts_with('(') { line.split_once(')').unwrap().1 } else { line };
    line.trim_start().starts_with("mod ")
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn defines(code: &str, name: &str) -> bool {
    let words: Vec<&str> = code.split(|c: char| !is_name(c)).collect();
    let kinds = ["fn", "struct", "enum", "trait", "type", "const", "static", "macro_rules"];
    // Between `macro_rules` and its name there is an exclamation mark, and so an empty word.
    words.iter().enumerate().any(|(at, kind)| {
        let next = words[at + 1..].iter().find(|word| !word.is_empty());
        kinds.contains(kind) && next == Some(&name)
    })
}

/// What is imported, and whether it is handed on.
fn imports(code: &str) -> Vec<(Module, bool)> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("use ") {
        let line = code[..at].rsplit('\n').next().unwrap().trim();
        if line.is_empty() || line.starts_with("pub") && !line.contains(' ') {
            let tree = code[at + 4..].split(';').next().unwrap();
            let mut paths = Vec::new();
            branches(&[], tree, &mut paths);
            found.extend(paths.into_iter().map(|path| (path, !line.is_empty())));
        }
    }
    found
}

fn branches(stem: &[String], tree: &str, found: &mut Vec<Module>) {
    let tree = tree.trim();
    let (path, inner) = match tree.split_once('{') {
        Some((path, inner)) => (path, Some(&inner[..inner.rfind('}').unwrap()])),
        None => (tree.split(" as ").next().unwrap(), None),
    };
    let names = path.split("::").map(|name| name.trim().to_owned()).filter(|name| !name.is_empty());
    let stem: Module = stem.iter().cloned().chain(names).collect();
    let Some(inner) = inner else {
        let stem = stem.into_iter().enumerate().filter(|(at, name)| *at == 0 || name != "self");
        return found.push(stem.map(|(_, name)| name).collect());
    };
    let (mut depth, mut start) = (0, 0);
    for (at, c) in inner.char_indices().chain([(inner.len(), ',')]) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                if !inner[start..at].trim().is_empty() {
                    branches(&stem, &inner[start..at], found);
                }
                start = at + 1;
            }
            _ => {}
        }
    }
}

/// Paths that are written out where something is used.
fn paths(code: &str) -> Vec<Module> {
    let is_use = |line: &&str| line.trim_start().starts_with("use ") || line.contains(" use ");
    let lines = code.lines().filter(|line| !is_use(line));
    let mut found = Vec::new();
    for word in lines.flat_map(|line| line.split(|c: char| !is_name(c) && c != ':')) {
        let names: Module = word.split("::").map(str::to_owned).collect();
        if names.len() > 1 && !names[0].is_empty() {
            found.push(names);
        }
    }
    found
}

#[test]
fn no_files_of_a_package_import_each_other_in_a_circle() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let crates = ["model", "envelope", "uptane", "vehicle", "host"];
    let crates = crates.map(|name| root.join("crates").join(name).join("src"));
    for src in crates.into_iter().chain([root.join("src")]) {
        let package = Package::read(&src);
        assert!(package.0.len() > 4, "the files were found");
        assert_eq!(package.circles(), BTreeSet::new(), "{}", src.display());
    }
}

#[test]
fn a_circle_is_seen_also_through_what_is_handed_on() {
    let code = |text: &str| text.to_owned();
    let modules = [
        (vec![], code("mod a;\nmod b;\npub use a::One;")),
        (vec!["a".into()], code("use super::b;\npub struct One;\nfn f() { b::two() }")),
        (vec!["b".into()], code("use crate::One;\npub fn two() -> One { One }")),
    ];
    let mut package = Package(modules.into());
    assert_eq!(package.circles(), BTreeSet::from(["a".to_owned(), "b".to_owned()]));
    package.0.insert(vec!["b".into()], code("pub fn two() {}"));
    assert_eq!(package.circles(), BTreeSet::new());
}
