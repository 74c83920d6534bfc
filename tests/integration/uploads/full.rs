//! Uploads that are to make room.

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use reqwest::Method;
use sqlx::Executor;

use super::PATH;
use crate::app::{TestServer, eventually, pattern, send};
use crate::publication::{NEVER, Node};
use crate::small_disk::state_in;
use crate::state::TestState;

/// A file system in memory that takes little.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None`, and a line that says so, where this user may not mount.
    fn mount(folder: &Path) -> Option<Self> {
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", "size=64m", "motorcade-test"]).arg(folder);
        match command.output() {
            Ok(output) if output.status.success() => Some(Self(folder.to_owned())),
            other => {
                println!("skipped: a small disk needs the right to mount a tmpfs: {other:?}");
                None
            }
        }
    }

    /// Writes until nothing more fits.
    fn fill(&self) {
        let mut file = fs::File::create(self.0.join("taken")).unwrap();
        loop {
            match file.write_all(&[0; 4096]) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => return,
                Err(error) => panic!("{error}"),
            }
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[tokio::test]
async fn on_a_full_disk_an_upload_ends_and_makes_room() {
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(folder.path()) else { return };
    let server = TestServer::on(state_in(folder.path()), |config| {
        config.reserved_space = Some(0);
    })
    .await;
    let image = pattern(12_000_000, 1);
    let url = server.begin(PATH, image.len(), &[]).await;
    send(server.part(&url, 0, &image[..9_000_000])).await.expect(204);
    server.state.sql("CREATE TABLE filler (number INTEGER)").await;
    disk.fill();
    fill_catalog(&server.state).await;
    send(server.tus(Method::DELETE, &url)).await.expect(204);
    assert!(server.state.staged_files().is_empty());
    send(server.tus(Method::HEAD, &url)).await.expect(410);
    server.stop();
}

/// Writes until the catalog has no room left for a single page.
async fn fill_catalog(state: &TestState) {
    let mut catalog = state.catalog().await;
    let mut write = async || catalog.execute("INSERT INTO filler VALUES (1)").await;
    let refused = loop {
        if let Err(error) = write().await {
            break error;
        }
    };
    assert!(refused.to_string().contains("full"), "{refused}");
}

#[tokio::test]
async fn on_a_full_disk_an_upload_that_has_expired_makes_room() {
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(folder.path()) else { return };
    let server = TestServer::on(state_in(folder.path()), |config| {
        config.reserved_space = Some(0);
    })
    .await;
    let image = pattern(12_000_000, 1);
    let url = server.begin(PATH, image.len(), &[]).await;
    send(server.part(&url, 0, &image[..9_000_000])).await.expect(204);
    let node = Node::open(server.stop(), NEVER).await;
    assert!(!node.state.staged_files().is_empty(), "it waits");
    node.state.sql("UPDATE uploads SET expires_at = 1").await;
    node.state.sql("CREATE TABLE filler (number INTEGER)").await;
    disk.fill();
    fill_catalog(&node.state).await;
    let maintaining = Arc::clone(node.app.upkeep()).maintain(Duration::from_secs(1));
    let maintaining = tokio::spawn(maintaining);
    eventually("it has ended", async || {
        let mut catalog = node.state.catalog().await;
        let open = "SELECT count(*) FROM uploads WHERE state = 'open'";
        let open: i64 = sqlx::query_scalar(open).fetch_one(&mut catalog).await.unwrap();
        open == 0 && node.state.staged_files().is_empty()
    })
    .await;
    maintaining.abort();
    node.close().await;
}

#[tokio::test]
async fn what_keeps_an_upload_from_being_ended_is_not_called_a_request() {
    let server = TestServer::start().await;
    let url = server.begin(PATH, 2_000_000, &[]).await;
    let refuse = "CREATE TRIGGER refuse BEFORE UPDATE OF state ON uploads BEGIN SELECT RAISE(ABORT, 'no'); END";
    server.state.sql(refuse).await;
    send(server.tus(Method::DELETE, &url)).await.refused(500, "internal");
    assert_eq!(server.offset(&url).await, 0);
    assert!(!server.state.staged_files().is_empty(), "nothing but a full catalog takes its parts");
    server.state.sql("DROP TRIGGER refuse").await;
    send(server.tus(Method::DELETE, &url)).await.expect(204);
}
