//! The sealed image and the envelope, in both directions.

use std::fs;
use std::path::Path;

use motorcade::envelope::key::DataKey;
use motorcade::model::SealAlgorithm;

use super::support::{json, noise, program, run, sha256};
use super::{
    Fleet, RECIPIENTS, jwcrypto_opens, jwcrypto_seals, private_key, tink_opens, we_open, we_refuse,
};

const ALGORITHMS: [SealAlgorithm; 2] =
    [SealAlgorithm::Aes256GcmHkdf4Kb, SealAlgorithm::Aes256GcmHkdf1Mb];

/// Lengths of plaintext around the edges of the first and the second segment.
fn edges(algorithm: SealAlgorithm) -> Vec<usize> {
    let (first, second) = (algorithm.segment_size() - 40 - 16, algorithm.segment_size() - 16);
    vec![0, 1, first - 1, first, first + 1, first + second, first + second + 1]
}

#[test]
fn the_format_page_shows_what_the_vectors_hold() {
    let checked = json("tests/interop/check_format.py", [""; 0]);
    assert_eq!(checked["up_to_date"], true);
}

#[test]
fn tink_and_jwcrypto_agree_with_the_vectors() {
    for check in ["tests/vectors/check_with_tink.py", "tests/vectors/check_with_jwcrypto.py"] {
        let report = run(&mut program(check, [""; 0]));
        assert!(report.contains(" 0 faults"), "{report}");
    }
}

#[tokio::test]
async fn tink_opens_what_we_seal_at_every_edge() {
    let fleet = Fleet::start(&[]).await;
    let (key, out) = (private_key("snakeoil_p256"), fleet.file("opened"));
    for algorithm in ALGORITHMS {
        for length in edges(algorithm) {
            let image = noise("tink opens", length);
            let path = format!("edge/{algorithm}/{length}.bin");
            let empty = if length == 0 { "&allow_empty=true" } else { "" };
            let uploaded =
                fleet.client.upload(&path, &format!("&algorithm={algorithm}{empty}"), &image).await;
            let (sealed, envelope) = fleet.fetch(&uploaded).await;
            let (data_key, named) = jwcrypto_opens(&envelope, &key);
            assert_eq!(named, algorithm.as_str());
            assert_eq!(
                tink_opens(&sealed, &data_key, algorithm.as_str(), &out),
                sha256(&image),
                "{path}"
            );
            assert_eq!(fs::read(&out).unwrap(), image, "{path}");
        }
    }
}

#[tokio::test]
async fn tink_opens_what_we_seal_of_300_mib() {
    let fleet = Fleet::start(&[]).await;
    let image = noise("300 MiB", 1024 * 1024).repeat(300);
    let uploaded = fleet.client.upload("large/300.bin", "", &image).await;
    let (sealed, envelope) = fleet.fetch(&uploaded).await;
    let (data_key, algorithm) = jwcrypto_opens(&envelope, &private_key("snakeoil_rsa2048"));
    assert_eq!(tink_opens(&sealed, &data_key, &algorithm, &fleet.file("tink")), sha256(&image));
    let ours = we_open(&sealed, &envelope, &private_key("snakeoil_rsa2048"), &fleet.file("ours"));
    assert_eq!(ours, sha256(&image));
}

#[test]
fn we_open_what_tink_seals_and_jwcrypto_wraps() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name);
    for algorithm in ALGORITHMS {
        for (number, length) in edges(algorithm).into_iter().enumerate() {
            let (image, data_key) = (noise("we open", length), DataKey::generate());
            fs::write(file("plain"), &image).unwrap();
            tink_seals(&file("plain"), &data_key, algorithm, &file("sealed"));
            // Each kind of recipient and each serialization takes its turn.
            let (recipient, flattened) = (RECIPIENTS[number % 2], number % 4 >= 2);
            let recipients = if flattened { vec![recipient] } else { RECIPIENTS.to_vec() };
            jwcrypto_seals(
                &recipients,
                &data_key,
                algorithm.as_str(),
                flattened,
                &file("envelope"),
            );
            let (out, key) =
                (file(&format!("opened-{algorithm}-{length}")), private_key(recipient));
            assert_eq!(
                we_open(&file("sealed"), &file("envelope"), &key, &out),
                sha256(&image),
                "{algorithm} {length}"
            );
            assert_eq!(fs::read(&out).unwrap(), image, "{algorithm} {length}");
        }
    }
}

#[test]
fn we_open_what_tink_seals_of_300_mib_and_refuse_it_when_it_is_cut() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name);
    let (image, data_key) = (noise("300 MiB", 1024 * 1024).repeat(300), DataKey::generate());
    fs::write(file("plain"), &image).unwrap();
    tink_seals(&file("plain"), &data_key, SealAlgorithm::Aes256GcmHkdf1Mb, &file("sealed"));
    jwcrypto_seals(
        &RECIPIENTS,
        &data_key,
        SealAlgorithm::Aes256GcmHkdf1Mb.as_str(),
        false,
        &file("envelope"),
    );
    let key = private_key("snakeoil_p256");
    assert_eq!(we_open(&file("sealed"), &file("envelope"), &key, &file("opened")), sha256(&image));

    let sealed = fs::File::options().write(true).open(file("sealed")).unwrap();
    sealed.set_len(200 * 1024 * 1024).unwrap(); // whole segments
    let error = we_refuse(&file("sealed"), &file("envelope"), &key, &file("cut"));
    assert!(
        error.contains("failed authentication") && error.contains("no plaintext was kept"),
        "{error}"
    );
    let left: Vec<_> =
        fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().starts_with(".motorcade")), "{left:?}");
}

#[tokio::test]
async fn jwcrypto_opens_our_envelopes_in_both_serializations() {
    let fleet = Fleet::start(&[]).await;
    fleet.client.upload("gw/1/gateway.bin", "", b"firmware").await;
    let mut found = Vec::new();
    for (recipient, kid) in RECIPIENTS.iter().zip(&fleet.kids) {
        for query in [String::new(), format!("?kid={kid}")] {
            let envelope =
                fleet.client.get(&format!("/api/v1/images/gw/1/gateway.bin/envelope{query}")).await;
            fs::write(fleet.file("envelope"), &envelope).unwrap();
            let is_flattened =
                !String::from_utf8(envelope.to_vec()).unwrap().contains("\"recipients\"");
            assert_eq!(is_flattened, !query.is_empty());
            found.push(jwcrypto_opens(&fleet.file("envelope"), &private_key(recipient)));
        }
    }
    assert!(found.iter().all(|opened| *opened == found[0]), "one data key for everyone");
}

#[test]
fn an_envelope_for_someone_else_is_refused_by_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name);
    let data_key = DataKey::generate();
    fs::write(file("plain"), b"firmware").unwrap();
    tink_seals(&file("plain"), &data_key, SealAlgorithm::Aes256GcmHkdf4Kb, &file("sealed"));
    jwcrypto_seals(
        &["snakeoil_p256"],
        &data_key,
        SealAlgorithm::Aes256GcmHkdf4Kb.as_str(),
        true,
        &file("envelope"),
    );
    let error = we_refuse(
        &file("sealed"),
        &file("envelope"),
        &private_key("snakeoil_p256_other"),
        &file("out"),
    );
    assert!(error.contains("the envelope is not for the key"), "{error}");
}

fn tink_seals(plain: &Path, data_key: &DataKey, algorithm: SealAlgorithm, out: &Path) {
    let data_key = hex::encode(data_key.as_bytes());
    let args = ["--alg", algorithm.as_str(), "--key-hex", &data_key];
    json("tests/interop/tink_seal.py", args.map(Path::new).into_iter().chain([plain, out]));
}
