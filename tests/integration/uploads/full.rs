//! Uploads that are to make room.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use reqwest::Method;
use sqlx::Executor;

use super::PATH;
use crate::app::{TestServer, eventually, pattern, send};
use crate::inodes::state_in;
use crate::publication::{NEVER, Node};
use crate::small_disk::SmallDisk;
use crate::state::TestState;

/// A server on a small disk, and an upload of which most is there.
async fn with_upload(folder: &Path) -> (TestServer, String) {
    let server = TestServer::on(state_in(folder), |config| {
        config.reserved_space = Some(0);
    })
    .await;
    let image = pattern(12_000_000, 1);
    let url = server.begin(PATH, image.len(), &[]).await;
    send(server.part(&url, 0, &image[..9_000_000])).await.expect(204);
    (server, url)
}

/// Writes until nothing more fits, and the catalog has no room left for a single page either.
async fn fill(disk: &SmallDisk, state: &TestState) {
    state.sql("CREATE TABLE filler (number INTEGER)").await;
    disk.fill(0);
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
async fn on_a_full_disk_an_upload_ends_and_makes_room() {
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(folder.path(), "64m") else { return };
    let (server, url) = with_upload(folder.path()).await;
    fill(&disk, &server.state).await;
    send(server.tus(Method::DELETE, &url)).await.expect(204);
    assert!(server.state.staged_files().is_empty());
    send(server.tus(Method::HEAD, &url)).await.expect(410);
    server.stop();
}

#[tokio::test]
async fn on_a_full_disk_an_upload_that_has_expired_makes_room() {
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(folder.path(), "64m") else { return };
    let (server, _) = with_upload(folder.path()).await;
    let node = Node::open(server.stop(), NEVER).await;
    assert!(!node.state.staged_files().is_empty(), "it waits");
    node.state.sql("UPDATE uploads SET expires_at = 1").await;
    fill(&disk, &node.state).await;
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
