//! A root that only people can sign.

use std::fs;
use std::path::Path;

use super::drill::Drill;
use super::fleet::Field;
use crate::state::TestState;

/// Two of three officers have to sign; the root of `init` is good for a day.
fn three_officers(state: &Path) {
    let file = state.join("metadata/policy.toml");
    let policy = fs::read_to_string(&file).unwrap();
    let root = "[root]\nexpires_days = 365\nthreshold = 1\n";
    assert!(policy.contains(root));
    fs::write(&file, policy.replace(root, "[root]\nexpires_days = 1\nthreshold = 2\nkeys = 3\n"))
        .unwrap();
}

/// Each takes a key away.
fn take_keys(drill: &mut Drill) {
    let keys = drill.state.path().join("keys");
    let mut names: Vec<_> = fs::read_dir(&keys)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("root"))
        .collect();
    names.sort();
    assert_eq!(names.len(), 3, "{names:?}");
    for (name, officer) in names.iter().zip(["A", "B", "C"]) {
        let own = drill.file(&format!("officer-{officer}.pem"));
        fs::copy(name, &own).unwrap();
        fs::remove_file(name).unwrap();
        drill.set(&format!("KEY_{officer}"), own);
    }
    let policy = keys.with_file_name("metadata").join("policy.toml");
    let text = fs::read_to_string(&policy).unwrap();
    fs::write(&policy, text.replacen("expires_days = 1\n", "expires_days = 365\n", 1)).unwrap();
}

#[tokio::test]
async fn root_about_to_expire_with_one_officer_on_leave() {
    let mut drill = Drill::on(TestState::prepared(three_officers));
    take_keys(&mut drill);
    drill.shell("systemctl start motorcade");
    drill.client().upload("gw/1/a.bin", "", b"firmware").await;
    let mut field = Field::join(&drill, "VIN1").await;
    fs::copy(drill.state.blob("1.root.json"), drill.file("own-copy.json")).unwrap();
    drill.set("TRUSTED", drill.file("own-copy.json"));
    Field::refresh(&drill);
    field.poll().await;
    let (is_fine, said) = drill.try_shell("motorcade doctor");
    assert!(!is_fine && said.contains("root-about-to-expire.md"), "{said}");
    drill.shell("rm -f officer-C.pem"); // who is on leave has taken it along

    let said = drill.follow("root-about-to-expire.md");
    assert!(said.contains("root 2 of the Image repository"), "{said}");
    assert!(!said.contains("nobody vouches"), "{said}");
    Field::refresh(&drill);
    let root = fs::read_to_string(drill.file("trusted/root.json")).unwrap_or_default();
    assert!(root.is_empty() || root.contains("\"version\":2"), "{root}");
    field.poll().await;
}
