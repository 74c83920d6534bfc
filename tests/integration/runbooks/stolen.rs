//! A key of an online role that somebody else has.

use std::fs;

use super::drill::Drill;
use super::fleet::Field;
use super::versions::sign_ahead;
use crate::state::TestState;
use crate::static_files::StaticFiles;

/// The last number that the narrowest client counts to: nothing comes after it.
const LAST: u64 = i32::MAX as u64;

#[tokio::test(flavor = "multi_thread")] // the forged repository is served beside the shell
async fn online_key_stolen() {
    let mut drill = Drill::on(TestState::new());
    drill.shell("systemctl start motorcade");
    drill.client().upload("gw/1/a.bin", "", b"firmware").await;
    let mut field = Field::join(&drill, "VIN1").await;
    Field::refresh(&drill);
    field.poll().await;
    drill.shell("motorcade export forged; cp -r $MOTORCADE_DATA_DIR/keys stolen-keys");
    sign_ahead(&drill.state, &drill.file("forged"), LAST).await;
    let forged = StaticFiles::serve(&drill.file("forged")).await;
    drill.set("FORGED", forged.url());
    let ask_thief = "motorcade-vehicle tuf --metadata-dir trusted refresh --metadata-url $FORGED";
    drill.shell(ask_thief);
    drill.client().upload("gw/2/a.bin", "", b"firmware").await;
    let (is_taken, said) = Field::try_to_refresh(&drill);
    assert!(!is_taken && said.contains(&LAST.to_string()), "the client is stuck: {said}");

    drill.set("ROLES", "timestamp snapshot targets bins");
    drill.set("DIRECTOR_ROLES", "targets snapshot timestamp");
    let said = drill.follow("online-key-stolen.md");
    assert!(said.contains("Nothing was changed") && said.contains("Done:"), "{said}");
    Field::refresh(&drill);
    field.poll().await;
    let before = fs::read(drill.file("trusted/timestamp.json")).unwrap();
    let (is_taken, said) = drill.try_shell(ask_thief);
    assert!(!is_taken, "the thief is believed: {said}");
    assert_eq!(fs::read(drill.file("trusted/timestamp.json")).unwrap(), before);
    drill.client().upload("gw/3/a.bin", "", b"firmware").await;
    Field::refresh(&drill);
    field.poll().await;
}
