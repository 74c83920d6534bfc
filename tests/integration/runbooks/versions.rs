//! Version numbers that went back, or far ahead.

use std::fs;
use std::path::Path;

use motorcade::model::{Clock, RepositorySide, RoleKind, SystemClock};
use motorcade::uptane::metadata::{Authority, Signed, TimestampRole};
use serde_json::Value;

use super::drill::Drill;
use super::fleet::Field;
use crate::state::TestState;
use crate::static_files::StaticFiles;

#[tokio::test]
async fn restored_from_an_old_backup() {
    let mut drill = Drill::on(TestState::new());
    drill.shell("systemctl start motorcade");
    drill.client().upload("gw/1/a.bin", "", b"firmware").await;
    let mut field = Field::join(&drill, "VIN1").await;
    drill.shell(
        "systemctl stop motorcade; cp -a $MOTORCADE_DATA_DIR backup; systemctl start motorcade",
    );
    for number in 2..6 {
        drill.client().upload(&format!("gw/{number}/a.bin"), "", b"firmware").await;
    }
    let mut seen = 0;
    for _ in 0..5 {
        seen = field.poll().await;
    }
    Field::refresh(&drill);
    drill.shell("motorcade export mirror");
    drill.shell("systemctl stop motorcade; rm $MOTORCADE_DATA_DIR/catalog.sqlite*");

    // Without the page: what comes out of the backup is older than what vehicles know.
    drill.shell("cp -a $MOTORCADE_DATA_DIR kept; rm -r $MOTORCADE_DATA_DIR; cp -a backup $MOTORCADE_DATA_DIR");
    drill.shell("systemctl start motorcade");
    let (is_taken, said) = Field::try_to_refresh(&drill);
    assert!(!is_taken && said.contains("version"), "a client is taken back: {said}");
    drill.shell("systemctl stop motorcade; rm -r $MOTORCADE_DATA_DIR; mv kept $MOTORCADE_DATA_DIR");

    drill.set("BACKUP", drill.file("backup"));
    drill.set("MIRROR", drill.file("mirror"));
    let said = drill.follow("restored-from-an-old-backup.md");
    assert!(said.contains("versions go on after"), "{said}");
    Field::refresh(&drill);
    assert!(field.poll().await > seen);
    drill.client().upload("gw/2/a.bin", "", b"firmware").await;
    Field::refresh(&drill);
    fs::remove_dir_all(format!("{}.broken", drill.state.path().display())).unwrap();
}

/// The same with a backup of a running server, which is not served by mistake.
#[tokio::test]
async fn restored_from_a_backup_that_was_made_meanwhile() {
    let mut drill = Drill::on(TestState::new());
    drill.shell("systemctl start motorcade");
    drill.client().upload("gw/1/a.bin", "", b"firmware").await;
    let mut field = Field::join(&drill, "VIN1").await;
    drill.shell("motorcade backup backup");
    drill.client().upload("gw/2/a.bin", "", b"firmware").await;
    let seen = field.poll().await;
    Field::refresh(&drill);
    drill.shell(
        "systemctl stop motorcade; mv $MOTORCADE_DATA_DIR lost; cp -a backup $MOTORCADE_DATA_DIR",
    );
    let (is_started, said) = drill.try_shell("systemctl start motorcade");
    assert!(!is_started && said.contains("recover versions"), "{said}");

    drill.set("BACKUP", drill.file("backup"));
    drill.follow("restored-from-an-old-backup.md");
    Field::refresh(&drill);
    assert!(field.poll().await > seen);
    drill.client().upload("gw/2/a.bin", "", b"firmware").await;
    Field::refresh(&drill);
    fs::remove_dir_all(format!("{}.broken", drill.state.path().display())).unwrap();
}

/// Whoever has the timestamp's key shows a client a number from far ahead.
#[tokio::test(flavor = "multi_thread")] // the forged repository is served beside the shell
async fn fast_forwarded_versions() {
    const SEEN: u64 = 50_000_000;
    let mut drill = Drill::on(TestState::new());
    drill.shell("systemctl start motorcade");
    drill.client().upload("gw/1/a.bin", "", b"firmware").await;
    let _field = Field::join(&drill, "VIN1").await;
    Field::refresh(&drill);
    drill.shell("motorcade export forged");
    sign_ahead(&drill.state, &drill.file("forged"), SEEN).await;
    let forged = StaticFiles::serve(&drill.file("forged")).await;
    drill.set("FORGED", forged.url());
    drill.shell("motorcade-vehicle tuf --metadata-dir trusted refresh --metadata-url $FORGED");
    drill.client().upload("gw/2/a.bin", "", b"firmware").await;
    let (is_taken, said) = Field::try_to_refresh(&drill);
    assert!(!is_taken && said.contains("50000000"), "the client is stuck: {said}");

    drill.set("SEEN", SEEN.to_string());
    drill.follow("fast-forwarded-versions.md");
    Field::refresh(&drill);
    let trusted = fs::read_to_string(drill.file("trusted/timestamp.json")).unwrap();
    assert!(version(&trusted) > SEEN);
}

fn version(file: &str) -> u64 {
    serde_json::from_str::<Value>(file).unwrap()["signed"]["version"].as_u64().unwrap()
}

/// Signs the timestamp of an exported repository again, as a thief of its key does.
pub(super) async fn sign_ahead(state: &TestState, repository: &Path, version: u64) {
    let (thief, _) = state.dir().repositories().await.unwrap();
    let snapshot: Signed<TimestampRole> =
        serde_json::from_slice(&fs::read(repository.join("timestamp.json")).unwrap()).unwrap();
    let described = *snapshot.signed.snapshot().unwrap();
    let keyring = thief.keyring();
    let keys = keyring.keys(RepositorySide::Image, RoleKind::Timestamp);
    let authority = Authority { key_ids: keys.iter().map(|key| key.id()).collect(), threshold: 1 };
    let signed =
        thief.sign_timestamp(version, described, SystemClock.now(), &authority).await.unwrap();
    fs::remove_file(repository.join("timestamp.json")).unwrap();
    fs::write(repository.join("timestamp.json"), &signed.bytes).unwrap();
}
