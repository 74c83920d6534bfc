//! Real firmware, from Debian packages that `scripts/firmware` downloads.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use super::support::{HARDWARE, motorcade, project, run, sha256};
use super::{Fleet, jwcrypto_opens, private_key, tink_opens, we_open};

#[tokio::test]
async fn firmware_of_debian_packages_comes_out_as_it_went_in() {
    let listed = run(&mut Command::new(project("scripts/firmware")));
    let images: Vec<PathBuf> = listed.lines().map(PathBuf::from).collect();
    assert_eq!(images.len(), 2, "{listed}");
    let fleet = Fleet::start(&[]).await;
    for file in &images {
        let plaintext = fs::read(file).unwrap();
        let path = format!("firmware/{}", file.file_name().unwrap().to_str().unwrap());
        let pushed = push(&fleet, file, &path);
        assert_eq!(pushed["plaintext"]["sha256"], sha256(&plaintext));
        assert_eq!(pushed["plaintext"]["length"], plaintext.len());

        let (sealed, envelope) = fleet.fetch(&pushed).await;
        for recipient in super::RECIPIENTS {
            let opened = fleet.file(recipient);
            assert_eq!(
                we_open(&sealed, &envelope, &private_key(recipient), &opened),
                sha256(&plaintext)
            );
            assert!(fs::read(&opened).unwrap() == plaintext, "{path} differs");
        }
        let (data_key, algorithm) = jwcrypto_opens(&envelope, &private_key("snakeoil_p256"));
        assert_eq!(
            tink_opens(&sealed, &data_key, &algorithm, &fleet.file("tink")),
            sha256(&plaintext)
        );
        assert_eq!(push(&fleet, file, &path), pushed, "a second push changes nothing");
    }
}

fn push(fleet: &Fleet, file: &PathBuf, path: &str) -> Value {
    let mut command =
        motorcade(["image", "push", "--json", "--path", path, "--hardware-id", HARDWARE]);
    command.args(["--version", "2022.11", "--release-counter", "1", "--server", &fleet.client.url]);
    serde_json::from_str(&run(command.env("MOTORCADE_TOKEN", &fleet.client.token).arg(file)))
        .unwrap()
}
