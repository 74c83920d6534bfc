//! What somebody has put into `repo/` that is no part of the repository: it is not served, whatever
//! its name, and fsck says so.

use std::fs;
use std::os::unix::fs::symlink;

use motorcade::api::ImageBody;
use motorcade::app::fsck::{self, Damaged};
use reqwest::Method;

use crate::app::{TestServer, pattern, send, sha256_hex};
use crate::client::published_name;
use crate::repo::get;

#[tokio::test]
async fn links_out_of_the_repository_are_not_followed() {
    let server = TestServer::start().await;
    server.upload("gw/1/a.bin", "firmware").await.expect(201);
    let state = &server.state;
    let escrow = fs::read(state.path().join("keys/escrow.jwk")).unwrap();
    let large = pattern(3_000_000, 1);
    fs::write(state.path().join("keys/large"), &large).unwrap();
    // A name that is the digest of the file: what is small is hashed as it is served, and this
    // would fit.
    let small_target = published_name("x", &sha256_hex(&escrow));
    let large_target = published_name("y", &"0".repeat(64));
    let links = [
        ("7.x.json", "keys/escrow.jwk"),
        ("7.root.json", "keys/escrow.jwk"),
        ("7.timestamp.json", "keys/timestamp.pem"),
        ("9.bin-0.json", "keys/escrow.jwk"),
        (&small_target, "keys/escrow.jwk"),
        (&large_target, "keys/large"),
    ];
    let below = |name: &str| "../".repeat(name.matches('/').count() + 1);
    for (name, file) in links {
        fs::create_dir_all(state.blob(name).parent().unwrap()).unwrap();
        symlink(format!("{}{file}", below(name)), state.blob(name)).unwrap();
        assert!(!fs::read(state.blob(name)).unwrap().is_empty(), "{name} leads to a file");
    }
    symlink("../../keys", state.blob("targets/keys")).unwrap();
    fs::write(state.path().join("keys").join(format!("{}.escrow", sha256_hex(&escrow))), &escrow)
        .unwrap();
    let through_folder = format!("targets/keys/{}.escrow", sha256_hex(&escrow));
    for name in links.iter().map(|(name, _)| *name).chain([through_folder.as_str()]) {
        get(&server, name).await.refused(404, "file_not_found");
        let part =
            server.request(Method::GET, &format!("/repo/{name}")).header("range", "bytes=0-9");
        send(part).await.refused(404, "file_not_found");
    }
    let problems = fsck::check(&state.dir(), Damaged::Report, |_, _| ()).await.unwrap().problems;
    for name in links.iter().map(|(name, _)| *name).chain(["targets/keys"]) {
        let expected = format!("{name} has no business in the repository");
        assert!(problems.contains(&expected), "{expected}: {problems:?}");
    }
}

/// A hard link is a file like others, so what is in it decides, and whether there could be such a
/// file.
#[tokio::test]
async fn what_is_no_file_of_the_repository_is_not_served() {
    let server = TestServer::start().await;
    server.upload("gw/1/a.bin", "firmware").await.expect(201);
    let state = &server.state;
    for name in ["7.x.json", "7.mirrors.json"] {
        fs::hard_link(state.blob("1.root.json"), state.blob(name)).unwrap();
        get(&server, name).await.refused(404, "file_not_found");
    }
    for name in ["7.root.json", "7.snapshot.json", "9.bin-0.json"] {
        fs::hard_link(state.path().join("keys/escrow.jwk"), state.blob(name)).unwrap();
        get(&server, name).await.refused(500, "file_damaged");
    }
    fs::write(state.path().join("large"), pattern(3_000_000, 1)).unwrap();
    let stray = published_name("z", &"0".repeat(64));
    fs::hard_link(state.path().join("large"), state.blob(&stray)).unwrap();
    get(&server, &stray).await.refused(404, "file_not_found");
    // A pipe would keep whoever opens it waiting.
    rustix::fs::mknodat(
        rustix::fs::CWD,
        state.blob("8.root.json"),
        rustix::fs::FileType::Fifo,
        0o600.into(),
        0,
    )
    .unwrap();
    get(&server, "8.root.json").await.refused(404, "file_not_found");
}

#[tokio::test]
async fn a_yanked_image_is_still_there_for_those_who_are_fetching_it() {
    let server = TestServer::start().await;
    let image: ImageBody = server.upload("gw/1/a.bin", pattern(3_000_000, 1)).await.body();
    let name = image.sealed.url.trim_start_matches("/repo/").to_owned();
    let yank = server.request_as(
        motorcade::model::AccessRole::Engineer,
        Method::DELETE,
        "/api/v1/images/gw/1/a.bin",
    );
    send(yank).await.expect(204);
    assert_eq!(server.download(&name).await.len() as u64, image.sealed.length);
}
