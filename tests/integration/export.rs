//! `motorcade export`: a folder that any file server can serve.

use std::fs;

use motorcade::api::ImageBody;
use motorcade::app::export::{Exported, export};
use motorcade::app::{Error, setup::StateDir};
use motorcade::model::AccessRole;
use reqwest::Method;

use crate::app::{TestServer, pattern, send};
use crate::client::{published_alias, published_name};
use crate::state::{BINS, files_below};
use crate::static_files::StaticFiles;

async fn run(state: &StateDir, folder: &std::path::Path) -> Result<Exported, Error> {
    export(state, folder, |_, _| ()).await
}

#[tokio::test]
async fn an_export_is_a_repository_and_the_next_one_adds_what_is_new() {
    let server = TestServer::start().await;
    let large: ImageBody = server.upload("gw/1/a.bin", pattern(2_500_000, 1)).await.body();
    server.upload("gw/2/a.bin", "small").await.expect(201);
    let folder = tempfile::tempdir().unwrap();
    let (state, target) = (server.state.dir(), folder.path().join("exported"));

    let first = run(&state, &target).await.unwrap();
    assert_eq!((first.copied, first.kept, first.metadata_files), (4, 0, 1 + BINS + 3));
    assert!(first.bytes > 2_500_000);
    assert_eq!(
        files_below(&target).len(),
        first.metadata_files + 2 * first.copied,
        "each target has two names"
    );
    let files = StaticFiles::serve(&target).await;
    let repository = files.repository().await;
    assert_eq!(repository.versions(), server.repository().await.versions());
    let sha256 = large.sealed.sha256.as_str();
    let downloaded = folder.path().join("downloaded");
    repository.download("gw/1/a.bin", &downloaded).await.unwrap();
    for name in [published_name("gw/1/a.bin", sha256), published_alias("gw/1/a.bin", sha256)] {
        assert!(fs::read(target.join(&name)).unwrap() == fs::read(&downloaded).unwrap(), "{name}");
    }

    let again = run(&state, &target).await.unwrap();
    assert_eq!(again, Exported { copied: 0, kept: 4, bytes: 0, ..first });

    server.upload("gw/3/a.bin", "new").await.expect(201);
    send(server.request_as(AccessRole::Engineer, Method::DELETE, "/api/v1/images/gw/1/a.bin"))
        .await
        .expect(204);
    let third = run(&state, &target).await.unwrap();
    assert_eq!((third.copied, third.kept), (2, 2));
    assert!(third.bytes < 10_000, "{third:?}");
    let repository = files.repository().await;
    assert!(repository.find("gw/1/a.bin").is_none());
    for path in ["gw/2/a.bin", "gw/3/a.bin", "gw/3/a.bin.jwe"] {
        repository.download(path, &downloaded).await.unwrap();
    }
}

#[tokio::test]
async fn the_state_directory_s_own_folder_is_a_repository_too() {
    let server = TestServer::start().await;
    server.upload("gw/1/a.bin", "firmware").await.expect(201);
    let files = StaticFiles::serve(&server.state.blob("")).await;
    let repository = files.repository().await;
    let file = server.state.path().join("downloaded");
    for target in ["gw/1/a.bin", "gw/1/a.bin.jwe"] {
        repository.download(target, &file).await.unwrap();
    }
}

#[tokio::test]
async fn nothing_damaged_is_exported() {
    let server = TestServer::start().await;
    let image: ImageBody = server.upload("gw/1/a.bin", "firmware").await.body();
    let folder = tempfile::tempdir().unwrap();
    let (state, target) = (server.state.dir(), folder.path().join("exported"));
    let blob = server.state.blob(image.sealed.url.trim_start_matches("/repo/"));
    let bytes = fs::read(&blob).unwrap();
    for damaged in [&bytes[..bytes.len() - 1], &[&bytes[1..], &[0]].concat()] {
        fs::write(&blob, damaged).unwrap();
        let error = run(&state, &target).await.unwrap_err();
        assert!(matches!(error, Error::Corrupt { .. }), "{error}");
        assert!(!target.join("timestamp.json").exists(), "what is not whole is not shown");
    }
    fs::write(&blob, &bytes).unwrap();
    let snapshot = server.state.blob("2.snapshot.json");
    let text = fs::read_to_string(&snapshot).unwrap();
    fs::write(&snapshot, text.replacen("\"version\":1", "\"version\":2", 1)).unwrap();
    let error = run(&state, &target).await.unwrap_err();
    assert!(
        matches!(&error, Error::Corrupt { detail } if detail.contains("2.snapshot.json is damaged")),
        "{error}"
    );
    fs::write(&snapshot, text).unwrap();
    run(&state, &target).await.unwrap();
    assert!(StaticFiles::serve(&target).await.repository().await.find("gw/1/a.bin").is_some());
}

/// A copy that was cut short has the wrong length, and one that rotted has the right one.
#[tokio::test]
async fn a_damaged_copy_from_an_earlier_export_is_mended() {
    let server = TestServer::start().await;
    let image: ImageBody = server.upload("gw/1/a.bin", pattern(100_000, 1)).await.body();
    let folder = tempfile::tempdir().unwrap();
    let state = server.state.dir();
    run(&state, folder.path()).await.unwrap();
    let copy = folder.path().join(image.sealed.url.trim_start_matches("/repo/"));
    let bytes = fs::read(&copy).unwrap();
    fs::write(&copy, &bytes[..1000]).unwrap();
    run(&state, folder.path()).await.unwrap();
    assert!(fs::read(&copy).unwrap() == bytes);
    let downloaded = folder.path().join("downloaded");
    StaticFiles::serve(folder.path())
        .await
        .repository()
        .await
        .download("gw/1/a.bin", &downloaded)
        .await
        .unwrap();
}

/// A folder that was exported to is never taken back: clients that have seen it would refuse it.
#[tokio::test]
async fn an_export_never_goes_back() {
    let server = TestServer::start().await;
    server.upload("gw/1/a.bin", "firmware").await.expect(201);
    let state = server.stop();
    state.catalog_bytes().await; // all of it is in its file
    let backup = tempfile::tempdir().unwrap();
    for name in files_below(state.path()) {
        let file = backup.path().join(&name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::copy(state.path().join(&name), file).unwrap();
    }
    let server = TestServer::on(state, |_| ()).await;
    server.upload("gw/2/a.bin", "firmware").await.expect(201);
    let folder = tempfile::tempdir().unwrap();
    let mirror = folder.path().join("mirror");
    run(&server.state.dir(), &mirror).await.unwrap();
    let before =
        files_below(&mirror).into_iter().map(|name| (fs::read(mirror.join(&name)).unwrap(), name));
    let before: Vec<_> = before.collect();
    let old = StateDir::new(backup.path());
    let back = |result: Result<Exported, Error>| match result {
        Err(Error::Conflict { code, detail }) => (code, detail),
        other => panic!("{other:?}"),
    };
    let (code, detail) = back(run(&old, &mirror).await);
    assert_eq!(code, "export_goes_back", "{detail}");
    assert!(
        detail.contains("has version 3 of the timestamp, and this repository has 2"),
        "{detail}"
    );
    // The snapshots that are there tell, also without a timestamp.
    fs::remove_file(mirror.join("timestamp.json")).unwrap();
    assert_eq!(back(run(&old, &mirror).await).0, "export_goes_back");
    for (bytes, name) in before.iter().filter(|(_, name)| name != "timestamp.json") {
        assert!(fs::read(mirror.join(name)).unwrap() == *bytes, "{name}");
    }
    let other = TestServer::start().await;
    fs::write(mirror.join("1.root.json"), "{}").unwrap();
    assert_eq!(back(run(&other.state.dir(), &mirror).await).0, "export_of_another");
}

/// What is exported is what was published last, whatever `timestamp.json` somebody has put back.
#[tokio::test]
async fn an_older_timestamp_on_the_disk_is_not_exported_and_a_newer_one_is_a_refusal() {
    let server = TestServer::start().await;
    let older = server.download("timestamp.json").await;
    server.upload("gw/1/a.bin", "firmware").await.expect(201);
    let newest = server.download("timestamp.json").await;
    let state = server.stop();
    let catalog = state.catalog_bytes().await;
    let folder = tempfile::tempdir().unwrap();
    fs::write(state.blob("timestamp.json"), older).unwrap();
    run(&state.dir(), folder.path()).await.unwrap();
    assert_eq!(fs::read(folder.path().join("timestamp.json")).unwrap(), newest);

    let server = TestServer::on(state, |_| ()).await;
    server.upload("gw/2/a.bin", "firmware").await.expect(201);
    let state = server.stop();
    state.put_catalog_back(&catalog).await;
    let other = tempfile::tempdir().unwrap();
    let error = run(&state.dir(), other.path()).await.unwrap_err();
    assert!(matches!(&error, Error::Conflict { code: "catalog_is_older", .. }), "{error}");
    assert!(files_below(other.path()).is_empty());
}

#[tokio::test]
async fn an_export_into_a_state_directory_is_refused_whatever_it_is_called() {
    let server = TestServer::start().await;
    server.upload("gw/1/a.bin", "firmware").await.expect(201);
    let outside = tempfile::tempdir().unwrap();
    let other = TestServer::start().await;
    let (path, dir) = (server.state.path(), server.state.dir());
    let before = files_below(path);
    let link = outside.path().join("link");
    std::os::unix::fs::symlink(server.state.blob(""), &link).unwrap();
    std::os::unix::fs::symlink(path.parent().unwrap(), outside.path().join("above")).unwrap();
    let folders = [
        path.to_owned(),
        path.join("repo"),
        path.join("repo/targets/new/folder"),
        path.join("mirror"),
        path.join("keys/../repo"),
        link.clone(),
        link.join("below"),
        path.parent().unwrap().to_owned(),
        outside.path().join("above"),
        other.state.path().to_owned(),
        other.state.blob("").join("below"),
    ];
    for folder in folders {
        let error = run(&dir, &folder).await.unwrap_err();
        assert!(
            matches!(&error, Error::Conflict { code: "export_into_state", .. }),
            "{}: {error}",
            folder.display()
        );
    }
    let is_catalog = |name: &String| name.starts_with("catalog.sqlite");
    assert!(
        files_below(path)
            .iter()
            .filter(|name| !is_catalog(name))
            .eq(before.iter().filter(|name| !is_catalog(name)))
    );
    run(&dir, &outside.path().join("new")).await.unwrap();
}
