//! What commands say to people and to programs.

use std::fs;
use std::process::Command;

use serde_json::Value;

use super::stderr;
use crate::app::TestServer;
use crate::ca::{Ca, TlsFiles};
use crate::director::vehicle::TestVehicle;
use crate::support::{motorcade, refused, run, snakeoil};
use motorcade::config::VehicleIdFrom;

/// The lines of JSON on stdout.
fn lines(command: &mut Command) -> Vec<Value> {
    run(command)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}")))
        .collect()
}

/// The one line of JSON that a refused command has on stderr.
fn problem(command: &mut Command) -> Value {
    let output = command.output().unwrap();
    assert!(!output.status.success() && output.stdout.is_empty(), "{command:?}");
    let text = stderr(&output);
    assert_eq!(text.trim_end().lines().count(), 1, "{text}");
    let problem: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}"));
    for member in ["type", "title", "detail", "code"] {
        assert!(problem[member].is_string(), "{member}: {problem}");
    }
    problem
}

#[tokio::test]
async fn lists_have_a_head_for_people_and_a_line_an_item_for_programs() {
    let server = TestServer::start().await;
    server.upload_for("gw-mk3", "gw/1", 1, "").await;
    server.upload_for("gw-mk3", "gw/2", 2, "").await;
    let vehicle = TestVehicle::registered(&server, "VIN1").await;
    vehicle.assign(&server, &[(0, "gw/1")]).await.expect(201);
    let data_dir = server.state.path().to_str().unwrap();
    for (words, head, member) in [
        ("image list".to_owned(), "PATH ", "path"),
        ("recipient list".to_owned(), "KID ", "kid"),
        ("vehicle list".to_owned(), "VEHICLE ", "vin"),
        ("vehicle assignments VIN1".to_owned(), "ID ", "id"),
        ("vehicle history VIN1".to_owned(), "AT ", "at"),
        (format!("token list --data-dir {data_dir}"), "ID ", "id"),
    ] {
        let shown = run(&mut server.motorcade(&words));
        let json = lines(&mut server.motorcade(&format!("{words} --json")));
        assert!(shown.starts_with(head), "{words}: {shown}");
        assert_eq!(shown.lines().count(), json.len() + 1, "{words}");
        assert!(
            !json.is_empty() && json.iter().all(|item| item[member].is_string()),
            "{words}: {json:?}"
        );
        // Before the command works as well as behind it.
        assert_eq!(lines(&mut server.motorcade(&format!("--json {words}"))).len(), json.len());
    }
    let shown = run(&mut server.motorcade("vehicle list --assigned gw/2"));
    assert_eq!(shown.lines().count(), 1, "an empty list is its head: {shown}");
    assert_eq!(
        lines(&mut server.motorcade("vehicle list --assigned gw/1 --json"))[0]["vin"],
        "VIN1"
    );
}

#[tokio::test]
async fn every_command_has_json_and_so_have_its_errors() {
    let server = TestServer::start().await;
    server.upload_for("gw-mk3", "gw/1", 1, "").await;
    TestVehicle::registered(&server, "VIN1").await;
    let folder = tempfile::tempdir().unwrap();
    let made = lines(motorcade(["init", "--json", "--data-dir"]).arg(folder.path().join("state")));
    assert!(made[0]["root"].as_str().unwrap().ends_with("1.root.json"));
    let data_dir = server.state.path().to_str().unwrap();
    let token = &lines(
        &mut server.motorcade(&format!("token create --role viewer --json --data-dir {data_dir}")),
    )[0];
    let tokens = lines(&mut server.motorcade(&format!("token list --json --data-dir {data_dir}")));
    let id = tokens.iter().find(|token| token["label"] == "").unwrap()["id"].clone();
    assert!(token["token"].as_str().unwrap().starts_with("motorcade_"));
    let revoke = format!("token revoke {} --json --data-dir {data_dir}", id.as_str().unwrap());
    assert_eq!(lines(&mut server.motorcade(&revoke))[0]["revoked"], id);
    let issued = &lines(&mut server.motorcade("vehicle token VIN1 --json"))[0];
    assert!(issued["token"].is_string());
    let mut add = server.motorcade("recipient add --json --hardware-id other");
    let kid = lines(add.arg(snakeoil("snakeoil_p256.pub.pem")))[0]["kid"].clone();
    let removed = &lines(
        &mut server.motorcade(&format!("recipient remove --json {}", kid.as_str().unwrap())),
    )[0];
    assert_eq!(removed["removed"], kid);

    let refused = problem(&mut server.motorcade("image show gw/none --json"));
    assert_eq!(
        (refused["code"].as_str(), refused["status"].as_u64()),
        (Some("image_not_found"), Some(404))
    );
    let gone = problem(&mut server.motorcade("image list --json --server http://127.0.0.1:1"));
    assert_eq!(gone["code"], "unreachable");
    let missing = problem(&mut motorcade(["token", "list", "--json", "--data-dir", "/nowhere"]));
    assert!(missing["detail"].as_str().unwrap().contains("/nowhere"), "{missing}");
    let usage = problem(&mut motorcade(["image", "shew", "--json"]));
    assert_eq!(usage["code"], "bad_usage");
    let again = problem(&mut server.motorcade(&revoke));
    assert!(again["detail"].as_str().unwrap().contains("no token"), "{again}");
}

#[tokio::test]
async fn a_yank_says_which_vehicles_were_to_install_the_image() {
    let server = TestServer::start().await;
    for path in ["gw/1", "gw/2", "gw/3"] {
        server.upload_for("gw-mk3", path, 1, &format!("&name={}", path.replace('/', "-"))).await;
    }
    for vin in ["VIN1", "VIN2"] {
        TestVehicle::registered(&server, vin)
            .await
            .assign(&server, &[(0, "gw/1")])
            .await
            .expect(201);
    }
    TestVehicle::registered(&server, "VIN3")
        .await
        .assign(&server, &[(0, "gw/2")])
        .await
        .expect(201);
    let yanked = server.motorcade("image yank gw/1").output().unwrap();
    assert!(
        stderr(&yanked).contains("assigned in 2 vehicles")
            && stderr(&yanked).contains("VIN1, VIN2"),
        "{yanked:?}"
    );
    let yanked = &lines(&mut server.motorcade("image yank gw/2 --json"))[0];
    assert_eq!(yanked["vehicles_assigned"], serde_json::json!(["VIN3"]));
    let yanked = server.motorcade("image yank gw/3").output().unwrap();
    assert!(stderr(&yanked).contains("assigned to no vehicle"), "{yanked:?}");
}

#[tokio::test]
async fn a_private_ca_is_named_or_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let (server, address) =
        TlsFiles::new(folder.path(), &Ca::new("OEM")).serve(VehicleIdFrom::Cn).await;
    let url = format!("https://{address}");
    let list = || {
        let mut command = server.motorcade("image list --server");
        command.arg(&url);
        command
    };
    let unknown = refused(&mut list());
    assert!(unknown.contains("--ca-file or MOTORCADE_CA_FILE"), "{unknown}");
    let ca = folder.path().join("ca.pem");
    run(list().arg("--ca-file").arg(&ca));
    run(list().env("MOTORCADE_CA_FILE", &ca));
    for (name, text) in [
        ("empty.pem", ""),
        ("key.pem", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"),
    ] {
        let file = folder.path().join(name);
        fs::write(&file, text).unwrap();
        let error = refused(list().arg("--ca-file").arg(&file));
        assert!(error.contains(&format!("{} has no certificate", file.display())), "{error}");
    }
}

#[tokio::test]
async fn a_fleet_that_is_there_already_is_said_to_be() {
    let server = TestServer::start().await;
    let simulate = || server.motorcade("fleet simulate --vehicles 3 --seconds 0");
    run(&mut simulate());
    let again = refused(&mut simulate());
    assert!(again.contains("add --registered") && !again.contains('{'), "{again}");
    run(server.motorcade("fleet simulate --vehicles 3 --seconds 1 --registered").arg("--json"));
}

#[test]
fn a_missing_or_damaged_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("damaged.pem");
    fs::write(&file, "nothing that anybody could use").unwrap();
    let file = file.to_str().unwrap();
    for missing in [file, "/nowhere/x"] {
        for words in [
            format!("image list --token-file {missing} --ca-file /nowhere/x"),
            format!("recipient add --token x --hardware-id gw {missing}"),
            format!("open --key {missing} --envelope /nowhere/x --out {file}.out {missing}"),
            format!("serve --config {missing}"),
            format!("vehicle add --token x {missing} --ca-file {missing}"),
        ] {
            let error = refused(&mut motorcade(words.split(' ')));
            assert!(error.contains(missing) || error.contains("/nowhere/x"), "{words}: {error}");
        }
    }
}

#[test]
fn shells_and_man_know_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let text = run(&mut motorcade(["completions", shell]));
        assert!(
            text.contains("release-counter") && text.contains("approve-replacement"),
            "{shell}"
        );
    }
    let mut bash = Command::new("bash");
    bash.args(["-c", "source <(\"$0\" completions bash) && complete -p motorcade"])
        .arg(env!("CARGO_BIN_EXE_motorcade"));
    assert!(run(&mut bash).contains("motorcade"));
    assert!(run(&mut motorcade(["man"])).contains(".TH motorcade 1"));
    let folder = tempfile::tempdir().unwrap();
    run(motorcade(["man", "--out"]).arg(folder.path()));
    let page = fs::read_to_string(folder.path().join("motorcade-image-push.1")).unwrap();
    assert!(
        page.contains("release\\-counter") && page.contains(".TH motorcade-image-push 1"),
        "{page}"
    );
    assert!(!folder.path().join("motorcade-motorcade-vehicle.1").exists(), "it is the demo's");

    // The other program's pages are beside these, in a section of their own.
    let of_vehicle = ["--program", "motorcade-vehicle"];
    run(motorcade(["man", "--out"]).arg(folder.path()).args(of_vehicle));
    for (name, title) in [
        ("motorcade-vehicle.1", ".TH motorcade-vehicle 1"),
        ("motorcade-vehicle.8", ".TH motorcade-vehicle 8"),
        ("motorcade-vehicle-provision.8", ".TH motorcade-vehicle-provision 8"),
    ] {
        let page = fs::read_to_string(folder.path().join(name)).unwrap();
        assert!(page.contains(title), "{name}: {page}");
    }
    let text = run(motorcade(["completions", "bash"]).args(of_vehicle));
    assert!(text.contains("provision") && text.contains("default motorcade-vehicle"), "{text}");
}
