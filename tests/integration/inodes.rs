//! A file system that runs out of inodes.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use motorcade::model::AccessRole;
use reqwest::Method;
use rustix::fs::statvfs;

use crate::app::{TestServer, eventually, send};
use crate::small_disk::SmallDisk;
use crate::state::{BINS, TestState, files_below};

fn free_inodes(disk: &Path) -> u64 {
    statvfs(disk).unwrap().f_favail
}

/// Takes all that are left.
fn take_all(disk: &Path) -> PathBuf {
    let folder = disk.join("taken");
    fs::create_dir(&folder).unwrap();
    for number in 0.. {
        match File::create(folder.join(number.to_string())) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::StorageFull => break,
            Err(error) => panic!("{error}"),
        }
    }
    folder
}

/// A state directory in `folder`.
pub(crate) fn state_in(folder: &Path) -> TestState {
    let made = TestState::new();
    let moved = tempfile::tempdir_in(folder).unwrap();
    for name in files_below(made.path()) {
        let to = moved.path().join(&name);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(made.path().join(&name), to).unwrap();
    }
    TestState { folder: moved, tokens: made.tokens.clone() }
}

#[tokio::test]
async fn inodes_are_kept_for_metadata_and_readiness_says_when_none_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let disk = SmallDisk::mount_with(folder.path(), "size=256m,nr_inodes=400");
    let Some(_disk) = disk else { return };
    let server = TestServer::on(state_in(folder.path()), |_| ()).await;
    let mut accepted = 0;
    let refused = loop {
        let path = format!("gw/{accepted}/a.bin");
        let answer = server.upload(&path, path.clone()).await;
        if answer.status != 201 {
            break answer;
        }
        accepted += 1;
        assert!(accepted < 100, "{} inodes are left", free_inodes(folder.path()));
    };
    let refused = refused.refused(507, "storage_full");
    assert!(refused.contains("inodes"), "{refused}");
    assert!(
        accepted > 2 && free_inodes(folder.path()) > BINS as u64 * 2,
        "{accepted} were accepted, {} are left",
        free_inodes(folder.path())
    );
    assert!(server.repository().await.find("gw/0/a.bin").is_some());
    server.get("/readyz").await.expect(200);

    let yank = |path: &str| {
        server.request_as(AccessRole::Engineer, Method::DELETE, &format!("/api/v1/images/{path}"))
    };
    send(yank("gw/0/a.bin")).await.expect(204); // there is room for that
    let taken = take_all(folder.path());
    send(yank("gw/1/a.bin")).await.refused(507, "storage_full");
    let why = server.get("/readyz").await.refused(503, "not_published");
    assert!(why.contains("no space"), "{why}");
    fs::remove_dir_all(taken).unwrap();
    eventually("it is published once there is room", async || {
        server.get("/readyz").await.status == 200
    })
    .await;
    assert!(server.repository().await.find("gw/1/a.bin").is_none());
    server.stop().assert_clean().await;
}
