//! Top-level targets that people sign, where the policy says so: with their keys elsewhere, the
//! server goes on with everything else.

use std::fs;

use motorcade::api::TargetsBody;
use motorcade::model::AccessRole;
use reqwest::Method;
use serde_json::{Value, json};

use crate::app::{TestServer, send};
use crate::ceremony::Desk;
use crate::state::TestState;
use crate::suppliers::{add, published, remove, search, token, upload};
use crate::support::{refused, run};

/// Has the policy say that people sign the targets.
fn sign_offline(state: &TestState) {
    let path = state.path().join("metadata/policy.toml");
    let policy = fs::read_to_string(&path).unwrap();
    let changed = policy.replacen("[targets]\n", "[targets]\noffline = true\n", 1);
    assert_ne!(policy, changed);
    fs::write(path, changed).unwrap();
}

/// Names a key of anna's for targets, beside the server's, and has people sign them from then on.
pub(crate) async fn handed_over(desk: &Desk) -> TestServer {
    let server = TestServer::start().await;
    server.upload("gw/1.bin", "of the car maker").await.expect(201);
    for words in ["root stage --add targets=anna.json", "root sign --here", "root publish"] {
        run(&mut server.officer(desk, words));
    }
    let state = server.stop();
    sign_offline(&state);
    TestServer::on(state, |_| ()).await
}

/// The same with a supplier who has uploaded acme/1.bin, to which published targets lead.
pub(crate) async fn with_acme(desk: &Desk) -> TestServer {
    let server = handed_over(desk).await;
    add(&server, json!({ "supplier": "acme" })).await.expect(201);
    let own = token(&server.state, "acme/").await;
    upload(&server, &own, "acme/1.bin", "").await.expect(201);
    publish(&server, desk, 1);
    server
}

pub(crate) async fn status(server: &TestServer) -> TargetsBody {
    server.get("/api/v1/targets/targets").await.body()
}

/// Stages the targets, has anna sign them without a network, and publishes them.
pub(crate) fn publish(server: &TestServer, desk: &Desk, number: u32) -> String {
    let out = format!("targets-{number}.json");
    run(&mut server.officer(desk, "targets stage"));
    run(&mut server.officer(desk, &format!("targets diff --out {out}")));
    let sign = format!("targets sign {out} --key anna.pem --yes --out {number}.json");
    let shown = run(&mut desk.offline(&sign));
    run(&mut server.officer(desk, &format!("targets sign --send {number}.json")));
    run(&mut server.officer(desk, "targets publish"));
    shown
}

pub(crate) async fn found(server: &TestServer, path: &str) -> bool {
    let ours = search(server, path, "gw-mk3").await.1;
    assert_eq!(server.repository().await.find(path).is_some(), ours, "{path}");
    ours
}

pub(crate) async fn version_of(server: &TestServer, role: &str) -> u64 {
    published(server, role).await["signed"]["version"].as_u64().unwrap()
}

#[tokio::test]
async fn people_sign_the_targets_and_the_server_everything_else() {
    let desk = Desk::new(&["anna", "stranger"]);
    let server = handed_over(&desk).await;
    let before = version_of(&server, "targets").await;
    server.upload("gw/2.bin", "which targets say nothing of").await.expect(201);
    assert!(found(&server, "gw/2.bin").await);
    assert_eq!(status(&server).await.waiting, [""; 0]);

    add(&server, json!({ "supplier": "acme" })).await.expect(201);
    let own = token(&server.state, "acme/").await;
    let answer = upload(&server, &own, "acme/1.bin", "").await;
    assert_eq!(answer.json()["awaits_signature_of"], "targets");
    server.upload("gw/3.bin", "goes on").await.expect(201);
    let snapshot = version_of(&server, "snapshot").await;
    assert!(found(&server, "gw/3.bin").await && !found(&server, "acme/1.bin").await);
    assert_eq!(version_of(&server, "targets").await, before);
    let waiting = status(&server).await.waiting;
    assert_eq!(waiting.len(), 1, "{waiting:?}");
    assert!(waiting[0].starts_with("+ delegates to supplier-acme: 1 of 1 keys"), "{waiting:?}");
    let server = TestServer::on(server.stop(), |_| ()).await;
    assert_eq!(version_of(&server, "snapshot").await, snapshot, "nothing is due by itself");
    server.state.assert_clean().await;

    run(&mut server.officer(&desk, "targets stage"));
    let early = refused(&mut server.officer(&desk, "targets publish"));
    assert!(early.contains("1 more signatures are needed by keys of targets"), "{early}");
    run(&mut server.officer(&desk, "targets diff --out early.json"));
    let stranger = "targets sign early.json --key stranger.pem --yes";
    let stranger = refused(&mut desk.offline(stranger));
    assert!(stranger.contains("none of those that sign for targets"), "{stranger}");
    run(&mut server.officer(&desk, "targets cancel --revision 2")); // 1 was the root's
    let shown = publish(&server, &desk, 1);
    assert!(shown.contains("+ delegates to supplier-acme: "), "{shown}");
    assert!(shown.contains("+ delegates to bin-0 to bin-f, 16 bins: "), "{shown}");
    assert!(version_of(&server, "targets").await > before);
    assert!(found(&server, "acme/1.bin").await && found(&server, "gw/3.bin").await);
    server.state.assert_clean().await;

    remove(&server, "acme").await.expect(200);
    let waiting = status(&server).await.waiting;
    assert_eq!(waiting, ["- delegates to supplier-acme"]);
    assert!(found(&server, "acme/1.bin").await, "the published targets still lead there");
    publish(&server, &desk, 2);
    assert!(!found(&server, "acme/1.bin").await);
    server.state.assert_clean().await;
}

#[tokio::test]
async fn a_supplier_s_first_file_is_published_with_the_targets_that_name_its_keys() {
    let desk = Desk::new(&["anna", "acme", "other"]);
    let server = handed_over(&desk).await;
    run(&mut server.officer(&desk, "supplier add acme --public-key acme.json"));
    let own = token(&server.state, "acme/").await;
    upload(&server, &own, "acme/1.bin", "").await.expect(201);
    run(&mut server.officer(&desk, "supplier stage acme"));
    run(&mut server.officer(&desk, "supplier diff acme --out acme-staged.json"));
    assert_eq!(status(&server).await.waiting, [""; 0], "nobody has signed the supplier's file");
    run(&mut desk.offline("supplier sign acme-staged.json --key acme.pem --yes --out a.json"));
    run(&mut server.officer(&desk, "supplier sign --send a.json"));
    let early = refused(&mut server.officer(&desk, "supplier publish acme"));
    assert!(early.contains("motorcade targets stage"), "{early}");
    let waiting = status(&server).await.waiting;
    assert!(waiting[0].starts_with("+ delegates to supplier-acme"), "{waiting:?}");
    publish(&server, &desk, 1);
    assert!(found(&server, "acme/1.bin").await);
    server.state.assert_clean().await;

    // From then on the supplier needs nobody.
    upload(&server, &own, "acme/2.bin", "").await.expect(201);
    run(&mut server.officer(&desk, "supplier stage acme"));
    run(&mut server.officer(&desk, "supplier diff acme --out acme-2.json"));
    run(&mut desk.offline("supplier sign acme-2.json --key acme.pem --yes --out b.json"));
    run(&mut server.officer(&desk, "supplier sign --send b.json"));
    run(&mut server.officer(&desk, "supplier publish acme"));
    assert!(found(&server, "acme/2.bin").await);

    // What was staged for keys that it has no more is refused.
    run(&mut server.officer(&desk, "supplier keys acme --public-key other.json"));
    run(&mut server.officer(&desk, "supplier stage acme"));
    run(&mut server.officer(&desk, "supplier diff acme --out acme-3.json"));
    run(&mut desk.offline("supplier sign acme-3.json --key other.pem --yes --out c.json"));
    run(&mut server.officer(&desk, "supplier sign --send c.json"));
    run(&mut server.officer(&desk, "targets stage"));
    run(&mut server.officer(&desk, "targets diff --out stale.json"));
    run(&mut desk.offline("targets sign stale.json --key anna.pem --yes --out d.json"));
    run(&mut server.officer(&desk, "targets sign --send d.json"));
    run(&mut server.officer(&desk, "supplier keys acme --public-key acme.json"));
    let stale = refused(&mut server.officer(&desk, "targets publish"));
    assert!(stale.contains("supplier-acme") && stale.contains("stage it again"), "{stale}");
    assert!(found(&server, "acme/2.bin").await);
    server.state.assert_clean().await;
}

#[tokio::test]
async fn the_server_needs_no_key_of_targets_that_people_sign() {
    let desk = Desk::new(&["anna"]);
    let server = handed_over(&desk).await;
    let root: Value =
        send(server.request_as(AccessRole::Viewer, Method::GET, "/api/v1/roots/image"))
            .await
            .json();
    let targets = &root["roles"].as_array().unwrap().iter().find(|role| role["name"] == "targets");
    let keys = targets.unwrap()["keys"].as_array().unwrap().clone();
    let here = keys.iter().find(|key| key["is_here"] == true).unwrap()["key_id"].clone();
    let remove = format!("root stage --remove targets={}", here.as_str().unwrap());
    run(&mut server.officer(&desk, &remove));
    run(&mut server.officer(&desk, "root sign --here"));
    let early = refused(&mut server.officer(&desk, "root publish"));
    assert!(early.contains("refuses the published targets"), "{early}");
    publish(&server, &desk, 1);
    run(&mut server.officer(&desk, "root publish"));
    let state = server.stop();
    fs::remove_file(state.path().join("keys/targets.pem")).unwrap();
    let server = TestServer::on(state, |_| ()).await;
    server.upload("gw/2.bin", "with targets that anna has signed").await.expect(201);
    assert!(found(&server, "gw/2.bin").await);
    add(&server, json!({ "supplier": "acme" })).await.expect(201);
    publish(&server, &desk, 2);
    server.state.assert_clean().await;
    let path = "/api/v1/roles/image/targets/rotate";
    let request = server.request_as(AccessRole::Officer, Method::POST, path).json(&json!({}));
    let detail = send(request).await.refused(409, "targets_offline");
    assert!(detail.contains("motorcade root stage"), "{detail}");
    let rotate = "/api/v1/suppliers/acme/rotation";
    let detail = send(server.request_as(AccessRole::Officer, Method::POST, rotate)).await;
    detail.refused(409, "targets_offline");
}
