//! Servers that use one database and can't be beside each other: the second one is refused, and names
//! the first.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use reqwest::StatusCode;
use rustix::process::Signal;

use crate::postgres::Postgres;
use crate::replicas::{code, readiness};
use crate::shared::Replicas;
use crate::support::{Server, refused, run, snakeoil, wait_until};
use crate::{Site, command};

const SERVE: [&str; 3] = ["serve", "--listen", "127.0.0.1:0"];
const WAITS: &str = "waits to see whether it lives";
const HAS_NOT_LEFT: &str = "failed to show that this server has left";

fn copy(from: &Path, name: &str) -> PathBuf {
    let to = from.with_file_name(name);
    run(Command::new("cp").arg("-a").arg(from).arg(&to));
    to
}

/// The id of the server that was started last on a state directory.
pub(crate) fn id(state: &Path) -> String {
    let text = fs::read_to_string(state.join("server-id")).unwrap();
    text.lines().next().unwrap().to_owned()
}

fn serve(database: &str, state: &Path) -> Server {
    Server::start_in(&[("MOTORCADE_CATALOG_URL", database)], state)
}

/// Waits until a server listens that may not be able to start yet: one that was paused in the middle
/// of something holds up whoever writes, until the database ends what it does.
async fn serve_patiently(database: &str, state: &Path) -> Server {
    let launch = || Server::launch_in(&[("MOTORCADE_CATALOG_URL", database)], state, &[]);
    let mut launched = launch();
    wait_until("it listens", async || {
        if launched.process.has_ended().is_some() {
            launched = launch();
        }
        launched.log().contains("motorcade listens")
    })
    .await;
    launched.listening()
}

/// Has a server end by itself, which says that it has left, or else that this took too long.
async fn end(database: &str, mut server: Server, state: &Path) {
    server.process.signal(Signal::TERM);
    assert!(server.process.ended().await.success());
    let lease = format!("SELECT lease_until FROM servers WHERE id = '{}'", id(state));
    // What is over for long is forgotten as soon as another one shows itself.
    if !["0", ""].contains(&Postgres::shared().run(database, &lease).as_str()) {
        wait_until("it says so", async || server.log().contains(HAS_NOT_LEFT)).await;
        end_presence(database, state);
    }
}

/// As if a server had shown itself a moment ago: a start may take long.
fn renew_presence(database: &str, state: &Path) {
    let until = "(EXTRACT(EPOCH FROM clock_timestamp()) * 1000)::bigint + 55000"; // of at most 60 s
    let renew = format!("UPDATE servers SET lease_until = {until} WHERE id = '{}'", id(state));
    Postgres::shared().run(database, &renew);
}

/// As if nothing had been heard of a server for long.
fn end_presence(database: &str, state: &Path) {
    let end = format!("UPDATE servers SET lease_until = 0 WHERE id = '{}'", id(state));
    Postgres::shared().run(database, &end);
}

#[tokio::test]
async fn a_second_server_on_a_database_without_blobs_in_common_is_refused() {
    let site = Site::new(Postgres::shared().database());
    let (state, other) = (site.data_dir(), copy(&site.data_dir(), "other"));
    let server = site.serve();
    let refusal = refused(&mut command(&SERVE, &other, &site.database));
    for said in [&id(&state), state.to_str().unwrap(), "--shared-blobs", &server.process.id()] {
        assert!(refusal.contains(said), "{said}: {refusal}");
    }
    let versions = refused(&mut command(&["recover", "versions"], &other, &site.database));
    assert!(versions.contains(&id(&state)), "{versions}");

    // Its own directory tells that the former process is gone, and it waits for nobody.
    server.process.kill();
    let server = site.serve();
    assert!(!server.log().contains(WAITS), "{}", server.log());
    // One that has ended by itself has said so.
    end(&site.database, server, &state).await;
    let server = serve(&site.database, &other);
    assert!(!server.log().contains(WAITS), "{}", server.log());
    // Of one that was killed elsewhere nobody knows, before its time is over.
    server.process.kill();
    renew_presence(&site.database, &other);
    let waiting = Server::launch_in(&[("MOTORCADE_CATALOG_URL", &site.database)], &state, &[]);
    wait_until("it waits", async || waiting.log().contains(WAITS)).await;
    end_presence(&site.database, &other);
    drop(waiting.listening());
}

#[tokio::test]
async fn a_second_server_of_one_id_is_refused() {
    let replicas = Replicas::new();
    let (state, other) = (replicas.state(0), replicas.state(1));
    // As where a file system doesn't tell when a directory was made.
    fs::write(other.join("server-id"), id(&state)).unwrap();
    let server = replicas.serve(0);
    let refusal = refused(&mut replicas.command(1, &SERVE));
    for said in [&id(&state), state.to_str().unwrap(), "remove `server-id`"] {
        assert!(refusal.contains(said), "{said}: {refusal}");
    }
    fs::remove_file(other.join("server-id")).unwrap();
    drop(replicas.serve(1));
    drop(server);
}

#[tokio::test]
async fn a_server_that_was_taken_for_gone_says_so_and_takes_nothing_in() {
    let site = Site::new(Postgres::shared().database());
    let (state, other) = (site.data_dir(), copy(&site.data_dir(), "other"));
    let token = site.token();
    let server = site.serve();
    let client = server.client(&token);
    client.register(&snakeoil("snakeoil_p256.pub.pem")).await;
    server.process.signal(Signal::STOP);
    end_presence(&site.database, &state);
    let second = serve_patiently(&site.database, &other).await;
    server.process.signal(Signal::CONT);
    wait_until("it has noticed", async || {
        let (status, said) = readiness(&client).await;
        (status, code(&said)) == (StatusCode::SERVICE_UNAVAILABLE, "other_server")
    })
    .await;
    let upload = client.put("gw/1", "", "firmware").await.unwrap();
    assert_eq!(upload.status(), 503);
    wait_until("it says which", async || server.log().contains(&id(&other))).await;
    assert_eq!(readiness(&second.client(&token)).await.0, 200);

    end(&site.database, second, &other).await;
    wait_until("it is alone", async || readiness(&client).await.0 == 200).await;
    client.upload("gw/1", "", b"firmware").await;
}
