//! What uploads may add to signed metadata: nobody can make a file that clients do not read, or
//! keep others out.

use motorcade::app::access::{self, NewToken};
use motorcade::app::audit::Author;
use motorcade::catalog::{AnnouncedBlobs, FolderBound, ListingBound, NewImage};
use motorcade::model::{
    AccessRole, Clock, ImageRecord, MAX_BIN_BYTES, SealAlgorithm, SealedImage, Sha256Digest,
    SystemClock, TargetEntry,
};
use reqwest::Method;

use crate::app::{TestServer, send};
use crate::state::{BINS, HARDWARE_ID, TestState};

/// The hash bin that lists a path.
fn bin_of(path: &str) -> String {
    let digits = if BINS == 16 { 1 } else { 2 };
    format!("bin-{}", &crate::app::sha256_hex(path.as_bytes())[..digits])
}

/// Paths below `folder` that are listed in one bin, as an attacker finds them: by trying.
fn paths_in(bin: &str, folder: &str) -> impl Iterator<Item = String> {
    (0..).map(move |number| format!("{folder}{number}.bin")).filter(move |path| bin_of(path) == bin)
}

/// An image that nobody has sealed, with `custom` of some length.
fn record(path: &str, custom_bytes: usize) -> NewImage {
    let sha256 = Sha256Digest::from_bytes([7; 32]);
    let custom = format!("{{\"filler\":\"{}\"}}", "x".repeat(custom_bytes));
    let target = TargetEntry { path: path.to_owned(), length: 1, sha256, custom: Some(custom) };
    let sealed = SealedImage {
        algorithm: SealAlgorithm::default(),
        length: 1,
        sha256,
        plaintext_length: 1,
        plaintext_sha256: sha256,
    };
    let description = serde_json::from_value(serde_json::json!({
        "name": "x", "version": "1", "hardware_ids": [HARDWARE_ID], "release_counter": 1, "target_format": "BINARY",
        "requires": [], "conflicts": [],
    }));
    let record = ImageRecord {
        path: path.parse().unwrap(),
        description: description.unwrap(),
        sealed,
        created_at: SystemClock.now(),
        created_by: "test".into(),
        yanked_at: None,
    };
    NewImage {
        record,
        envelope: String::new(),
        escrow_kid: None,
        targets: vec![(bin_of(path).parse().unwrap(), target)],
        blobs: AnnouncedBlobs::default(),
    }
}

fn author() -> Author {
    Author::server(SystemClock.now())
}

const WHOLE: ListingBound = ListingBound { role_bytes: MAX_BIN_BYTES, folder: None };

/// A state directory with one bin that has room for `left` bytes.
async fn nearly_full(bin: &str, folder: &str, left: u64) -> TestState {
    let state = TestState::new();
    let catalog = state.dir().open_catalog().await.unwrap();
    let mut listed = catalog.largest_listing().await.unwrap();
    for path in paths_in(bin, folder) {
        let room = MAX_BIN_BYTES - listed - left;
        if room == 0 {
            break;
        }
        let bytes = if room < 101_000 { room } else { 100_000 };
        let image =
            record(&path, bytes as usize - record(&path, 0).targets[0].1.listed_bytes() as usize);
        listed += image.targets[0].1.listed_bytes();
        catalog.insert_images(&[image], &WHOLE, &author()).await.unwrap();
    }
    assert_eq!(catalog.largest_listing().await.unwrap(), MAX_BIN_BYTES - left);
    catalog.close().await;
    state
}

#[tokio::test]
async fn what_is_said_of_an_image_is_bounded_over_all_fields() {
    let server = TestServer::start().await;
    let constraints = |count: usize| -> String {
        let name = "n".repeat(110);
        (0..count)
            .map(|number| {
                format!("&requires={name}{number:02}%3E%3D1&conflicts={name}x{number:02}")
            })
            .collect()
    };
    let put = async |query: &str| send(server.upload_request("gw/1/a.bin", query).body("x")).await;
    let detail = put(&constraints(32)).await.refused(422, "description_too_long");
    assert!(detail.contains("4096") && detail.contains("requires"), "{detail}");
    let ids: String = (0..60).map(|number| format!("&hardware_id={number:064}")).collect();
    let answer = put(&ids).await;
    assert_eq!(answer.status, 422, "{answer:?}"); // no recipient for them, or too long
    put(&constraints(10)).await.expect(201);
    assert_eq!(server.state.staged_files().len(), 0);
}

/// The attack that made a bin unreadable: many uploads of one byte with as much to be signed as
/// there may be.
#[tokio::test]
async fn metadata_is_served_however_long_it_is() {
    let bin = bin_of("gw/1/a.bin");
    let server = TestServer::on(nearly_full(&bin, "gw/", 200_000).await, |_| ()).await;
    server.upload("gw/1/a.bin", "x").await.expect(201);
    let repository = server.repository().await; // walks every bin
    assert!(repository.find("gw/1/a.bin").is_some());
    let names = server.state.stored_files();
    let largest =
        names.iter().filter(|name| name.contains(&bin)).map(|name| name.to_owned()).max().unwrap();
    let bytes = server.download(&largest).await;
    assert!(bytes.len() > 1024 * 1024, "{largest} has {} bytes", bytes.len());
    assert!(bytes.len() < 5_000_000, "python-tuf and go-tuf take no more");
    let metrics = server.metrics().await;
    assert!(metrics.contains("motorcade_bin_limit_bytes 4194304"), "{metrics}");
}

#[tokio::test]
async fn a_full_bin_takes_no_image_and_others_go_on() {
    let bin = bin_of("gw/1/a.bin");
    let server = TestServer::on(nearly_full(&bin, "gw/", 300).await, |_| ()).await;
    let files = server.state.stored_files();
    let mut raw = server.connect().await;
    raw.send_upload_head(&server, "gw/1/a.bin", "Content-Length: 5\r\n").await;
    let detail = raw.answer().await.refused(409, "metadata_full"); // before a byte of the body
    assert!(detail.contains(&bin) && detail.contains("yank"), "{detail}");
    assert_eq!(
        server.state.stored_targets().len(),
        files.iter().filter(|name| name.starts_with("targets/")).count()
    );
    let other = (0..)
        .map(|number| format!("gw/{number}/b.bin"))
        .find(|path| bin_of(path) != bin && bin_of(&format!("{path}.jwe")) != bin);
    server.upload(&other.unwrap(), "x").await.expect(201);

    // Room is made by a yank.
    let listed = paths_in(&bin, "gw/").next().unwrap();
    let yank = server.request_as(
        AccessRole::Engineer,
        Method::DELETE,
        &format!("/api/v1/images/{listed}"),
    );
    send(yank).await.expect(204);
    server.upload("gw/1/a.bin", "x").await.expect(201);
}

/// Each was told that there is room; together they must not pass.
#[tokio::test]
async fn uploads_at_once_do_not_pass_the_bound_together() {
    let bin = bin_of("gw/1/a.bin");
    let server = &TestServer::on(nearly_full(&bin, "gw/", 4000).await, |_| ()).await;
    let paths: Vec<String> = paths_in(&bin, "at-once/").take(24).collect();
    let uploads = paths.iter().map(|path| async move { server.upload(path, "x").await.status });
    let statuses = futures_util::future::join_all(uploads).await;
    let accepted = statuses.iter().filter(|status| **status == 201).count();
    assert!((1..16).contains(&accepted), "{statuses:?}");
    assert!(statuses.iter().all(|status| [201, 409].contains(status)), "{statuses:?}");
    let catalog = server.state.dir().open_catalog().await.unwrap();
    let listed = catalog.largest_listing().await.unwrap();
    assert!(listed <= MAX_BIN_BYTES, "{listed}");
    assert_eq!(catalog.pending_blobs().await.unwrap(), Vec::<String>::new());
}

/// A supplier's token can fill its folder's share, and no more.
#[tokio::test]
async fn whoever_is_bound_to_a_folder_can_not_fill_a_bin() {
    let bin = bin_of("supplier/1.bin");
    let state = TestState::new();
    let catalog = state.dir().open_catalog().await.unwrap();
    let mut paths = paths_in(&bin, "supplier/");
    let share = MAX_BIN_BYTES / 4;
    let folder = FolderBound { prefix: "supplier/".into(), bytes: share };
    let bound = ListingBound { role_bytes: MAX_BIN_BYTES, folder: Some(folder) };
    for path in paths.by_ref().take(10) {
        catalog.insert_images(&[record(&path, 100_000)], &bound, &author()).await.unwrap();
    }
    let refused =
        catalog.insert_images(&[record(&paths.next().unwrap(), 100_000)], &bound, &author()).await;
    assert!(
        matches!(refused, Err(motorcade::catalog::Error::RoleFull { folder: Some(_), .. })),
        "{refused:?}"
    );
    catalog
        .insert_images(&[record(&paths.next().unwrap(), 45_000)], &bound, &author())
        .await
        .unwrap();
    let new = NewToken {
        path_prefix: Some("supplier/"),
        ..NewToken::of(AccessRole::Uploader, "supplier")
    };
    let token = access::create_token(&catalog, new, SystemClock.now()).await.unwrap();
    catalog.close().await;

    let server = TestServer::on(state, |_| ()).await;
    let path = paths.next().unwrap();
    let padding: String =
        (0..16).map(|number| format!("&requires={}{number:02}", "n".repeat(100))).collect();
    let url = format!("/api/v1/images/{path}?{}{padding}", crate::app::DESCRIPTION);
    let mut last = 201;
    for path in paths.by_ref().take(3) {
        let url = url.replace(&url[15..url.find('?').unwrap()], &path);
        last = send(server.request(Method::PUT, &url).bearer_auth(&*token).body("x")).await.status;
    }
    assert_eq!(last, 409);
    server.upload(&path, "x").await.expect(201); // somebody who is not bound to it
}
