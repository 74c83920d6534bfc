//! The files of a ceremony: keys that nobody can make again lie beside them.

use std::fs;
use std::path::Path;

use motorcade::model::RoleName;
use motorcade::uptane::metadata::Unsigned;
use sha2::{Digest, Sha256};

use super::commands::Desk;
use crate::app::TestServer;
use crate::support::{refused, run};

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn no_command_overwrites_a_file() {
    let server = TestServer::start().await;
    let desk = Desk::new(&["anna"]);
    run(&mut server.officer(&desk, "root stage --add root=anna.json"));
    run(&mut server.officer(&desk, "root diff --out staged.json"));
    let folder = desk.file("");
    let before: Vec<_> = names(&folder)
        .into_iter()
        .map(|name| (fs::read(desk.file(&name)).unwrap(), name))
        .collect();
    let is_refused = |error: String, name: &str| {
        assert!(error.contains(&format!("{name} is there already")), "{error}");
        assert!(error.contains("name another file"), "{error}");
        let after: Vec<_> = names(&folder)
            .into_iter()
            .map(|name| (fs::read(desk.file(&name)).unwrap(), name))
            .collect();
        assert!(before == after, "{:?}", names(&folder));
    };
    for out in ["anna.pem", "staged.json"] {
        is_refused(refused(&mut server.officer(&desk, &format!("root diff --out {out}"))), out);
        let sign = format!("root sign staged.json --key anna.pem --yes --out {out}");
        is_refused(refused(&mut desk.offline(&sign)), out);
        let make = format!("root make-key new.pem --public {out}");
        is_refused(refused(&mut desk.offline(&make)), out);
        let make = format!("root make-key {out} --public new.json");
        is_refused(refused(&mut desk.offline(&make)), out);
    }
}

/// Anybody can make a file with a root of their own as the published one.
#[tokio::test]
async fn an_officer_is_told_that_nobody_vouches_for_the_published_root() {
    let server = TestServer::start().await;
    let desk = Desk::new(&["anna"]);
    run(&mut server.officer(&desk, "root stage --add root=anna.json"));
    run(&mut server.officer(&desk, "root diff --out staged.json"));
    let published = fs::read(server.state.blob("1.root.json")).unwrap();
    let file = hex::encode(Sha256::digest(&published));
    let content = Unsigned::of_file(RoleName::Root, &published).unwrap().digest();
    fs::write(desk.file("trusted.json"), published).unwrap();
    let sign = |more: &str| {
        let words = format!("root sign staged.json --key anna.pem --yes {more}");
        let said = desk.offline(&words).output().unwrap();
        assert!(said.status.success(), "{said:?}");
        [said.stdout, said.stderr].map(|text| String::from_utf8(text).unwrap())
    };
    let is_warned = |said: &str| {
        assert!(said.contains("nobody vouches for the published root 1"), "{said}");
        assert!(said.contains("`--trusted`"), "{said}");
        assert!(said.contains(&file) && said.contains(&content.to_string()), "{said}");
    };
    let shows = format!("published: root 1, SHA-256 {file}, digest {content}");
    let [shown, said] = sign("--out a.json");
    assert!(shown.lines().any(|line| line == shows), "{shown}");
    is_warned(&said);
    let [_, said] = sign("--out b.json --json");
    is_warned(&said);
    let [shown, said] = sign("--out c.json --trusted trusted.json");
    assert!(shown.lines().any(|line| line == shows), "{shown}");
    assert!(!said.contains("vouches"), "{said}");
}

#[test]
fn a_link_to_nowhere_is_a_file_too() {
    let desk = Desk::new(&[]);
    std::os::unix::fs::symlink("gone.json", desk.file("link")).unwrap();
    let error = refused(&mut desk.offline("root make-key new.pem --public link"));
    assert!(error.contains("link is there already"), "{error}");
    assert_eq!(names(&desk.file("")), ["link"]);
}

#[test]
fn a_key_is_made_with_both_halves_or_not_at_all() {
    let desk = Desk::new(&[]);
    let lost = refused(&mut desk.offline("root make-key officer.pem --public none/officer.json"));
    assert!(lost.contains("no key was made") && lost.contains("none/officer.json"), "{lost}");
    let same = refused(&mut desk.offline("root make-key officer.pem --public officer.pem"));
    assert!(same.contains("no key was made"), "{same}");
    assert!(names(&desk.file("")).is_empty());
    run(&mut desk.offline("root make-key officer.pem --public officer.json"));
    assert_eq!(names(&desk.file("")), ["officer.json", "officer.pem"]);
    let public = run(&mut desk.offline("root key officer.pem"));
    let read = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    assert_eq!(read(&public), read(&fs::read_to_string(desk.file("officer.json")).unwrap()));
}
