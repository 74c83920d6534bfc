//! A supplier who keeps its keys, as people type it: with a token on the server's side, and on the
//! supplier's machine with a file, a key and nothing else.

use std::fs;

use crate::app::{TestServer, pattern};
use crate::ceremony::Desk;
use crate::suppliers::{token, upload};
use crate::support::{motorcade, refused, run};

#[tokio::test]
async fn a_supplier_signs_with_files_and_without_a_network() {
    let server = TestServer::start().await;
    let desk = Desk::new(&["acme", "spare", "stranger"]);
    let words = "supplier add acme --public-key acme.json --public-key spare.json --threshold 1";
    let added = run(&mut server.officer(&desk, words));
    assert_eq!(added.trim(), "supplier-acme signs for acme/, with 1 of 2 keys of its own");
    let own = token(&server.state, "acme/").await;
    let acme = |words: &str| {
        let mut command = motorcade(words.split_whitespace());
        command.current_dir(desk.file("")).env("MOTORCADE_SERVER", server.url(""));
        command.env("MOTORCADE_TOKEN", &own);
        command
    };
    fs::write(desk.file("brake.bin"), "of acme").unwrap();
    let push = "image push brake.bin --path acme/1.bin --hardware-id gw-mk3 --version 1 --release-counter 1 --name brake";
    let pushed = acme(push).output().unwrap();
    let said = String::from_utf8_lossy(&pushed.stderr).into_owned();
    assert!(pushed.status.success() && said.contains("once supplier-acme is signed"), "{said}");
    let shown = run(&mut acme("supplier status acme"));
    assert!(shown.contains("nothing of supplier-acme is published"), "{shown}");
    assert!(
        shown.contains("  + \"acme/1.bin\", name \"brake\", version \"1\", release 1"),
        "{shown}"
    );
    let shown = run(&mut acme("supplier stage acme"));
    assert!(shown.contains("waits for 1 more signatures"), "{shown}");
    let again = refused(&mut acme("supplier stage acme"));
    assert!(again.contains("somebody else was first"), "{again}");
    run(&mut acme("supplier diff acme --out staged.json"));

    let sign = "supplier sign staged.json --key acme.pem";
    let unasked = refused(&mut desk.offline(sign));
    assert!(unasked.contains("--yes"), "{unasked}");
    let stranger = refused(&mut desk.offline("supplier sign staged.json --yes --key stranger.pem"));
    assert!(stranger.contains("is none of those that sign for supplier-acme"), "{stranger}");
    let shown = run(&mut desk.offline(&format!("{sign} --yes --out 1.json")));
    assert!(shown.contains("of which everything is shown"), "{shown}");
    assert!(
        shown.contains(
            "+ \"acme/1.bin\"\n    name \"brake\"\n    version \"1\"\n    release 1\n    \
             for hardware \"gw-mk3\"\n    plaintext of 7 bytes, SHA-256 "
        ),
        "{shown}"
    );
    let shown = run(&mut acme("supplier sign --send 1.json"));
    assert!(shown.contains("signed: publish it"), "{shown}");
    let shown = run(&mut acme("supplier publish acme"));
    assert!(shown.starts_with("supplier-acme 1, good until"), "{shown}");
    assert!(shown.contains("nothing waits") && shown.contains("nothing is staged"), "{shown}");
    assert!(server.repository().await.find("acme/1.bin").is_some());

    // From its own copy of that, the supplier sees what changes.
    fs::copy(server.state.blob("1.supplier-acme.json"), desk.file("trusted.json")).unwrap();
    upload(&server, &own, "acme/2.bin", "").await.expect(201);
    run(&mut acme("supplier stage acme --expires-days 30"));
    fs::remove_file(desk.file("staged.json")).unwrap();
    run(&mut acme("supplier diff acme --out staged.json"));
    let sign =
        "supplier sign staged.json --key spare.pem --yes --out 2.json --trusted trusted.json";
    let shown = run(&mut desk.offline(sign));
    assert!(shown.contains("supplier-acme 1 -> 2") && !shown.contains("acme/1.bin"), "{shown}");
    run(&mut acme("supplier cancel acme --revision 2"));
    let late = refused(&mut acme("supplier sign --send 2.json"));
    assert!(late.contains("nothing is staged"), "{late}");
}

/// What is large is sent in parts, and asked for after that.
#[tokio::test]
async fn a_large_image_that_waits_is_not_said_to_be_published() {
    let server = TestServer::start().await;
    let desk = Desk::new(&["acme"]);
    run(&mut server.officer(&desk, "supplier add acme --public-key acme.json"));
    let own = token(&server.state, "acme/").await;
    fs::write(desk.file("large.bin"), pattern(17 * 1024 * 1024, 3)).unwrap();
    let push = "image push large.bin --path acme/1.bin --hardware-id gw-mk3 --version 1 --release-counter 1";
    let mut push = motorcade(push.split_whitespace());
    push.current_dir(desk.file("")).env("MOTORCADE_SERVER", server.url(""));
    let pushed = push.env("MOTORCADE_TOKEN", &own).output().unwrap();
    let said = [pushed.stdout, pushed.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(pushed.status.success(), "{said}");
    assert!(said.contains("which is not published yet"), "{said}");
    assert!(said.contains("once supplier-acme is signed"), "{said}");
    assert_eq!(server.image("acme/1.bin").await.awaits_signature_of.unwrap(), "supplier-acme");
}

#[tokio::test]
async fn nothing_is_signed_that_is_not_what_it_seems() {
    let server = TestServer::start().await;
    let desk = Desk::new(&["acme"]);
    run(&mut server.officer(&desk, "supplier add acme --public-key acme.json"));
    run(&mut server.officer(&desk, "supplier stage acme"));
    run(&mut server.officer(&desk, "supplier diff acme --out staged.json"));
    let staged = fs::read_to_string(desk.file("staged.json")).unwrap();
    for (from, to, reason) in [
        ("\"version\":1", "\"version\":2", "is damaged"),
        ("\"_type\":\"targets\"", "\"_type\":\"snapshot\"", "is damaged"),
        ("\"targets_role\"", "\"role\"", "is no file of `diff --out`"),
    ] {
        let other = staged.replace(from, to);
        assert_ne!(other, staged, "{from}");
        fs::write(desk.file("other.json"), other).unwrap();
        let sign = "supplier sign other.json --key acme.pem --yes --out none.json";
        let error = refused(&mut desk.offline(sign));
        assert!(error.contains(reason), "{from}: {error}");
        assert!(!desk.file("none.json").exists());
    }
    // Its role is not in what is signed: an officer who signs targets is given no other one's file.
    let sign = "targets sign staged.json --key acme.pem --yes --out none.json";
    let error = refused(&mut desk.offline(sign));
    assert!(error.contains("is for supplier-acme: nothing was signed"), "{error}");
    assert!(!desk.file("none.json").exists());
}
