//! The real binary: what it says of itself, and of what it can't read.

use std::process::Command;

fn vehicle(arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_motorcade-vehicle"));
    let output = command.args(arguments).output().expect("it starts");
    (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into())
}

#[test]
fn it_says_what_it_is_and_which_release() {
    let (code, text) = vehicle(&["--version"]);
    assert_eq!(
        (code, text.trim()),
        (Some(0), concat!("motorcade-vehicle ", env!("CARGO_PKG_VERSION")))
    );
    let (code, text) = vehicle(&["--help"]);
    assert!(code == Some(0) && text.contains("provision") && text.contains("tuf"), "{text}");
}

#[test]
fn a_folder_that_is_no_vehicle_is_named() {
    let (code, text) = vehicle(&["update", "--dir", "/nowhere/at/all"]);
    assert!(code == Some(1) && text.contains("/nowhere/at/all"), "{code:?} {text}");
    assert_eq!(vehicle(&["fly"]).0, Some(2));
}
