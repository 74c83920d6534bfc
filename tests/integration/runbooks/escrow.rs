//! An escrow key that somebody else has.

use std::fs;

use motorcade::envelope::jwe::Envelope;
use motorcade::envelope::key::EscrowKey;

use super::drill::Drill;
use super::fleet::Field;
use crate::state::TestState;

/// Of the images whose envelopes are in the catalog: how many, and how many this key opens.
async fn opened(drill: &Drill, thief: &EscrowKey) -> (usize, usize) {
    let catalog = drill.state.dir().open_catalog().await.unwrap();
    let (mut all, mut opened) = (0, 0);
    for image in catalog.list_images("", 100).await.unwrap().items {
        let envelope = catalog.find_envelope(&image.path).await.unwrap().unwrap();
        let envelope = Envelope::parse(envelope.as_bytes()).unwrap();
        all += 1;
        opened += usize::from(envelope.open_with_escrow(thief).is_ok());
    }
    catalog.close().await;
    (all, opened)
}

#[tokio::test]
async fn escrow_key_stolen() {
    let mut drill = Drill::on(TestState::new());
    drill.shell("systemctl start motorcade");
    for path in ["gw/1/a.bin", "gw/2/a.bin", "gw/3/a.bin"] {
        drill.client().upload(path, "", b"firmware that has to stay secret").await;
    }
    let mut field = Field::join(&drill, "VIN1").await;
    Field::refresh(&drill);
    let stolen = fs::read_to_string(drill.state.path().join("keys/escrow.jwk")).unwrap();
    let thief = EscrowKey::from_jwk(&stolen).unwrap();
    assert_eq!(opened(&drill, &thief).await, (3, 3), "the thief opens everything");

    drill.set("IMAGES", "gw/2/a.bin gw/3/a.bin");
    let said = drill.follow("escrow-key-stolen.md");
    let (all, open) = opened(&drill, &thief).await;
    assert_eq!((all, open), (5, 0), "two were sealed again: {said}");
    Field::refresh(&drill);
    field.poll().await;
    drill.client().upload("gw/4/a.bin", "", b"firmware").await;
}
