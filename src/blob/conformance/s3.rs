//! In a bucket of a real object store, also where requests to it fail.

#[path = "../../../tests/support/faulty_proxy.rs"]
mod faulty_proxy;
#[path = "../../../tests/support/object_store.rs"]
mod object_store;
#[allow(clippy::duplicate_mod, reason = "the catalog's tests start something else with it")]
#[path = "../../../tests/support/script.rs"]
mod script;

use std::time::{Duration, Instant};

use aws_sdk_s3::config::Credentials;
use bytes::Bytes;
use futures_util::TryStreamExt;
use tokio::sync::watch;

use super::{content, digests, keeps_the_contract, key, record_at_once, secret};
use crate::blob::s3::S3BlobStore;
use crate::blob::{BlobKey, BlobStore, Error, Names, Parts, REPLACEABLE, ReadVerb, StagedBlob};
use crate::model::{Bucket, BucketUrl, RoleName, StoreEncryption};
use faulty_proxy::{Asked, Spoil, faulty_proxy};
use object_store::ObjectStore;

const SERVER: &str = "0123456789abcdef0123456789abcdef";

/// A new bucket, of which blobs take a part.
async fn bucket() -> Bucket {
    let store = ObjectStore::shared();
    let bucket = store.bucket().await;
    bucket_at(&store.endpoint, BucketUrl { bucket, prefix: "ota/cars/".into() })
}

fn bucket_at(endpoint: &str, url: BucketUrl) -> Bucket {
    let endpoint = Some(endpoint.parse().unwrap());
    Bucket { url, endpoint, public_endpoint: None, addressing: None, encryption: None }
}

async fn open(bucket: &Bucket) -> S3BlobStore {
    open_as(bucket, SERVER).await
}

async fn open_as(bucket: &Bucket, server: &str) -> S3BlobStore {
    let store = ObjectStore::shared();
    let keys = Credentials::new(&store.access_key, &store.secret_key, None, None, "test");
    S3BlobStore::open_with(bucket, server, keys).await.unwrap()
}

/// The same bucket behind something that spoils requests.
async fn spoilt(
    bucket: &Bucket,
    decide: impl FnMut(&Asked<'_>) -> Spoil + Send + 'static,
) -> S3BlobStore {
    let proxy = faulty_proxy(&ObjectStore::shared().endpoint, decide).await;
    open(&Bucket { endpoint: Some(proxy.parse().unwrap()), ..bucket.clone() }).await
}

/// Bytes of which no megabyte is like another.
fn noise(length: usize) -> Bytes {
    let words = (0_u32..).flat_map(|word| word.wrapping_mul(0x9E37_79B1).to_le_bytes());
    words.take(length).collect()
}

/// Writes on a thread that may block, as the server does, in pieces as it does.
async fn upload(store: &S3BlobStore, bytes: Bytes) -> Result<Box<dyn StagedBlob>, Error> {
    let mut upload = store.begin(0).unwrap();
    let written = tokio::task::spawn_blocking(move || {
        bytes.chunks(1024 * 1024).try_for_each(|piece| upload.write(piece))?;
        upload.finish()
    });
    written.await.unwrap()
}

/// What there is in the bucket that is none of the repository's.
async fn left(bucket: &Bucket) -> Vec<String> {
    let (keys, uploads) = ObjectStore::shared().content(&bucket.url.bucket).await;
    let own = keys.into_iter().filter(|key| key.contains("/.motorcade/"));
    own.chain(uploads).collect()
}

async fn nothing_is_left(bucket: &Bucket) {
    let started = Instant::now();
    loop {
        let left = left(bucket).await;
        if left.is_empty() {
            return;
        }
        assert!(started.elapsed() < Duration::from_secs(60), "{left:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_keeps_the_contract() {
    keeps_the_contract(&open(&bucket().await).await, 40).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_blob_is_sent_in_parts_and_has_both_names() {
    let bucket = bucket().await;
    let store = open(&bucket).await;
    let (key, bytes) = (key("gw/large.bin"), noise(20_000_003));
    let staged = upload(&store, bytes.clone()).await.unwrap();
    assert!(matches!(store.open(&key).await, Err(Error::NotFound(_))));
    store.promote_all(vec![(staged, key.clone())]).await.unwrap();
    assert_eq!(content(&store, &key).await, bytes);
    let alias = store.open_alias(&key).await.unwrap().unwrap();
    assert_eq!(alias.read_all(u64::MAX).await.unwrap(), bytes);
    let part: Vec<Bytes> = alias.read(60_000..9_000_001).try_collect().await.unwrap();
    assert_eq!(part.concat(), bytes[60_000..9_000_001]);
    assert!(alias.read(20_000_000..20_000_004).try_collect::<Vec<_>>().await.is_err());
    nothing_is_left(&bucket).await;
    let found = ObjectStore::shared().client().head_object().bucket(&bucket.url.bucket);
    let found = found.key(format!("ota/cars/{}", key.name())).send().await.unwrap();
    assert_eq!(found.content_type(), Some("application/octet-stream"));
    assert_eq!(found.cache_control(), Some("public, max-age=31536000, immutable"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_that_fail_are_sent_again() {
    let bucket = bucket().await;
    let mut spoils = vec![
        Spoil::Answer(500, "InternalError"),
        Spoil::Answer(503, "SlowDown"),
        Spoil::Reset,
        Spoil::LoseAnswer,
        Spoil::Late(Duration::from_secs(1)),
    ];
    let store = spoilt(&bucket, move |asked| {
        let is_part = asked.method == "PUT" && asked.target.contains("partNumber=");
        if is_part { spoils.pop().unwrap_or(Spoil::Pass) } else { Spoil::Pass }
    });
    let (store, key, bytes) = (store.await, key("gw/retried.bin"), noise(25_000_000));
    let staged = upload(&store, bytes.clone()).await.unwrap();
    store.promote_all(vec![(staged, key.clone())]).await.unwrap();
    assert_eq!(content(&store, &key).await, bytes);
    nothing_is_left(&bucket).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blob_whose_completion_is_not_heard_of_is_whole() {
    let bucket = bucket().await;
    let mut completions = 0;
    let store = spoilt(&bucket, move |asked| {
        if asked.method != "POST" || !asked.target.contains("uploadId=") {
            return Spoil::Pass;
        }
        completions += 1;
        // Some stores don't know an upload any more that they have completed.
        if completions == 1 { Spoil::LoseAnswer } else { Spoil::Answer(404, "NoSuchUpload") }
    });
    let (store, key, bytes) = (store.await, key("gw/completed.bin"), noise(9_000_000));
    let staged = upload(&store, bytes.clone()).await.unwrap();
    store.promote_all(vec![(staged, key.clone())]).await.unwrap();
    assert_eq!(content(&store, &key).await, bytes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_fails_leaves_nothing() {
    let bucket = bucket().await;
    let store = spoilt(&bucket, |asked| match asked.target.contains("partNumber=2&") {
        true => Spoil::Answer(400, "InvalidRequest"),
        false => Spoil::Pass,
    });
    let Err(failed) = upload(&store.await, noise(30_000_000)).await else { panic!("it failed") };
    assert!(matches!(failed, Error::Backend { .. }), "{failed:?}");
    nothing_is_left(&bucket).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_copies_nothing_is_noticed() {
    let bucket = bucket().await;
    let is_copy = |asked: &Asked<'_>| asked.method == "PUT" && asked.target.contains("/targets/");
    let store = spoilt(&bucket, move |asked| match is_copy(asked) {
        true => Spoil::Answer(200, "<CopyObjectResult><ETag>\"0\"</ETag></CopyObjectResult>"),
        false => Spoil::Pass,
    });
    let store = store.await;
    let staged = upload(&store, noise(9_000_000)).await.unwrap();
    let promoted = store.promote_all(vec![(staged, key("gw/uncopied.bin"))]).await;
    assert!(promoted.is_err());
    nothing_is_left(&bucket).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reading_goes_on_from_where_it_broke_off() {
    let bucket = bucket().await;
    let (key, bytes) = (key("gw/read.bin"), noise(3_000_000));
    let staged = upload(&open(&bucket).await, bytes.clone()).await.unwrap();
    open(&bucket).await.promote_all(vec![(staged, key.clone())]).await.unwrap();
    let mut spoils = vec![
        Spoil::Reset,
        Spoil::Answer(503, "SlowDown"),
        Spoil::Truncate(700_000),
        Spoil::Truncate(1_000_000),
        Spoil::Truncate(20_000),
    ];
    let store = spoilt(&bucket, move |asked| match asked.method {
        "GET" => spoils.pop().unwrap_or(Spoil::Pass),
        _ => Spoil::Pass,
    });
    assert_eq!(content(&store.await, &key).await, bytes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reading_what_was_replaced_meanwhile_fails() {
    let bucket = bucket().await;
    let store = open(&bucket).await;
    store.replace(&BlobKey::Timestamp, noise(1_500_000)).await.unwrap();
    let blob = store.open(&BlobKey::Timestamp).await.unwrap();
    let other = noise(1_500_001).slice(1..);
    store.replace(&BlobKey::Timestamp, other).await.unwrap();
    assert!(blob.read_all(u64::MAX).await.is_err(), "one's beginning and another's end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_server_left_goes_when_it_starts_again() {
    let bucket = bucket().await;
    let (store, other) = (open(&bucket).await, open_as(&bucket, "other").await);
    for store in [&store, &other] {
        let mut upload = store.begin(0).unwrap();
        let cut = tokio::task::spawn_blocking(move || {
            upload.write(&noise(17_000_000)).unwrap();
            std::mem::forget(upload); // as a process that is killed does
        });
        cut.await.unwrap();
        std::mem::forget(upload_small_object(store).await);
    }
    assert_eq!(store.sweep().await.unwrap(), 2);
    assert_eq!(store.sweep().await.unwrap(), 0);
    let hour = Duration::from_secs(3600);
    assert_eq!(store.sweep_abandoned(&[], hour).await.unwrap(), 0, "another server may live");
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(store.sweep_abandoned(&[], Duration::from_secs(1)).await.unwrap(), 2);
    nothing_is_left(&bucket).await;
}

/// A whole blob that is staged.
async fn upload_small_object(store: &S3BlobStore) -> Box<dyn StagedBlob> {
    upload(store, noise(9_000_000)).await.unwrap()
}

/// In blocks and batches as uploads that wait bring them in, and as crashes have them come again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_of_every_size_make_one_blob() {
    const MIB: usize = 1024 * 1024;
    let bucket = bucket().await;
    let store = open(&bucket).await;
    let sizes = [MIB, MIB, 8 * MIB, MIB, MIB, MIB, MIB, MIB, MIB, 4 * MIB, 8 * MIB, 12_345];
    let bytes = noise(sizes.iter().sum());
    let mut parts = store.begin_parts(&secret(1)).await.unwrap();
    let mut at = 0;
    for size in sizes {
        let before = parts.clone();
        let piece = bytes.slice(at..at + size);
        store.append_part(&mut parts, at as u64, vec![piece.clone()], 0).await.unwrap();
        // What it left was not kept, and a part of it comes again, by itself.
        parts = Parts::from_text(before.as_str().to_owned());
        let first = piece.slice(..size.min(MIB));
        store.append_part(&mut parts, at as u64, vec![first], 0).await.unwrap();
        let there = store.parts_length(&parts).await.unwrap().unwrap() as usize;
        assert!((at + size.min(MIB)..=at + size).contains(&there), "{there} at {at}");
        parts = before;
        store.append_part(&mut parts, at as u64, vec![piece], 0).await.unwrap();
        at += size;
        assert_eq!(store.parts_length(&parts).await.unwrap(), Some(at as u64));
    }
    // The last one once more: it is replaced until the blob is whole, and compared from then on.
    let (last, start) = (bytes.slice(at - 12_345..), at as u64 - 12_345);
    assert!(last.len() <= REPLACEABLE);
    store.append_part(&mut parts, start, vec![last.clone()], 0).await.unwrap();
    drop(store.finish_parts(&parts, at as u64).await.unwrap());
    store.append_part(&mut parts, start, vec![last.clone()], 0).await.unwrap();
    let other = Bytes::from(vec![0; last.len()]);
    let refused = store.append_part(&mut parts, start, vec![other], 0).await;
    assert!(matches!(refused, Err(Error::NotFound(_))), "{refused:?}");
    let staged = store.finish_parts(&parts, at as u64).await.unwrap();
    let key = key("gw/in-parts.bin");
    store.promote_all(vec![(staged, key.clone())]).await.unwrap();
    store.abandon_parts(&parts).await.unwrap();
    assert_eq!(content(&store, &key).await, bytes);
    nothing_is_left(&bucket).await;
}

/// The catalog says which parts an upload has, and who can write to it gets at nothing else by that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_that_are_not_of_parts_reach_nothing() {
    let store = open(&bucket().await).await;
    let key = BlobKey::Metadata { version: 1, role: RoleName::Root };
    store.put(&key, "root".into()).await.unwrap();
    let mut parts = store.begin_parts(&secret(1)).await.unwrap();
    store.append_part(&mut parts, 0, vec!["block".into()], 0).await.unwrap();
    store.record_blocks(&parts, 0, &digests(&[1])).await.unwrap();
    let state: serde_json::Value = serde_json::from_str(parts.as_str()).unwrap();
    let own = state["name"].as_str().unwrap();
    let folder = own.rsplit_once('/').unwrap().0;
    let beside = [format!("{own}.d"), format!("{own}.0"), format!("{folder}/"), own[..60].into()];
    for name in beside.into_iter().chain(["", "1.root", "timestamp"].map(str::to_owned)) {
        let other = serde_json::json!({ "name": &name, "upload": "x", "parts": 0, "joined": 0, "tail": [], "done": [0] });
        let mut other = Parts::from_text(other.to_string());
        store.abandon_parts(&other).await.unwrap();
        assert_eq!(store.parts_length(&other).await.unwrap(), None, "{name}");
        assert!(store.parts_secret(&other).await.unwrap().is_none(), "{name}");
        let appended = store.append_part(&mut other, 0, vec!["x".into()], 0).await;
        assert!(matches!(appended, Err(Error::NotFound(_))), "{name}: {appended:?}");
        let recorded = store.record_blocks(&other, 0, &digests(&[2])).await;
        assert!(matches!(recorded, Err(Error::NotFound(_))), "{name}: {recorded:?}");
    }
    assert_eq!(content(&store, &key).await, b"root");
    assert_eq!(store.parts_length(&parts).await.unwrap(), Some(5));
    assert!(store.parts_secret(&parts).await.unwrap().is_some());
    assert_eq!(store.record_blocks(&parts, 0, &digests(&[2])).await.unwrap(), digests(&[1]));
    store.abandon_parts(&parts).await.unwrap();
}

/// What is asked of a store while it is held up there.
fn is_put_of(asked: &Asked<'_>, what: &str) -> bool {
    let name = asked.target.split('?').next().unwrap_or_default();
    let part = name.rsplit('/').next().unwrap_or_default();
    asked.method == "PUT" && part.contains('.') && part.contains(what)
}

/// A server that hangs with something on its way, while another one ends the upload.
async fn abandoned_during(
    what: &'static str,
    work: impl AsyncFnOnce(&S3BlobStore, Parts) -> Error,
) {
    let bucket = bucket().await;
    let (asked, mut is_asked) = watch::channel(false);
    let (go, may_go) = watch::channel(false);
    let store = spoilt(&bucket, move |request| match is_put_of(request, what) {
        true => {
            asked.send_replace(true);
            Spoil::Held(may_go.clone())
        }
        false => Spoil::Pass,
    });
    let (store, other) = (store.await, open(&bucket).await);
    let parts = other.begin_parts(&secret(1)).await.unwrap();
    let abandoning = async {
        is_asked.wait_for(|asked| *asked).await.unwrap();
        other.abandon_parts(&parts).await.unwrap();
        go.send_replace(true);
    };
    let (late, ()) = tokio::join!(work(&store, parts.clone()), abandoning);
    assert!(matches!(late, Error::NotFound(_)), "{late:?}");
    nothing_is_left(&bucket).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_recorded_of_an_upload_that_was_ended_meanwhile_is_taken_back() {
    abandoned_during(".d0", async |store, parts| {
        store.record_blocks(&parts, 0, &digests(&[1])).await.unwrap_err()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_appended_to_an_upload_that_was_ended_meanwhile_is_taken_back() {
    abandoned_during(".0", async |store, mut parts| {
        store.append_part(&mut parts, 0, vec!["late".into()], 0).await.unwrap_err()
    })
    .await;
}

/// No store is relied on to tell who was first: all but one lose, or all do, and can come again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_those_who_record_at_once_at_most_one_goes_on() {
    let store = open(&bucket().await).await;
    let (all, seen) = record_at_once(&store).await;
    let winners = all.iter().zip(&seen).filter(|(ours, seen)| ours == seen).count();
    assert!(winners <= 1, "{seen:?}");
    let parts = store.begin_parts(&secret(1)).await.unwrap();
    let alone = store.record_blocks(&parts, 200, &digests(&[9; 3])).await.unwrap();
    assert_eq!(alone, digests(&[9; 3]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_is_of_whoever_claims_it_first() {
    let bucket = bucket().await;
    let (one, other) = (open(&bucket).await, open(&bucket).await);
    assert_eq!(one.find_owner().await.unwrap(), None);
    assert_eq!(one.claim("one").await.unwrap(), "one");
    assert_eq!(one.claim("one").await.unwrap(), "one");
    assert_eq!(other.claim("other").await.unwrap(), "one");
    one.check().await.unwrap();
    let client = ObjectStore::shared().client();
    let taken = client.put_object().bucket(&bucket.url.bucket);
    let taken = taken.key("ota/cars/.motorcade/installation.json");
    taken.body(Bytes::from(r#"{"installation":"other"}"#).into()).send().await.unwrap();
    let Err(Error::Unavailable { reason, .. }) = one.check().await else { panic!("it was taken") };
    assert!(reason.contains("other") && reason.contains("one"), "{reason}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blob_can_be_read_by_its_signed_url() {
    let bucket = bucket().await;
    let store = open(&bucket).await;
    let key = key("gw/a+b @c.bin");
    store.put(&key, "sealed".into()).await.unwrap();
    let url = |verb| store.presign(&key, verb, Duration::from_secs(60));
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let got = http.get(url(ReadVerb::Get).await.unwrap().unwrap()).send().await.unwrap();
    assert_eq!(got.status(), 200);
    assert_eq!(got.text().await.unwrap(), "sealed");
    let got = http.head(url(ReadVerb::Head).await.unwrap().unwrap()).send().await.unwrap();
    assert_eq!(got.status(), 200);
    let public =
        Bucket { public_endpoint: Some("https://s3.cars.example".parse().unwrap()), ..bucket };
    let url = open(&public).await.presign(&key, ReadVerb::Get, Duration::from_secs(60)).await;
    let url = url.unwrap().unwrap();
    assert!(url.starts_with("https://s3.cars.example/"), "{url}");
}

/// Stores that do not encrypt refuse to be asked, so what is sent is looked at here.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_that_is_stored_is_to_be_encrypted_as_it_was_set() {
    const BEGUN: &str =
        "<InitiateMultipartUploadResult><UploadId>1</UploadId></InitiateMultipartUploadResult>";
    let mut bucket = bucket().await;
    bucket.encryption =
        Some(StoreEncryption { algorithm: "aws:kms".into(), kms_key: Some("key-1".into()) });
    let (sender, sent) = std::sync::mpsc::channel();
    let store = spoilt(&bucket, move |asked| {
        let head = asked.head.to_ascii_lowercase();
        if asked.method != "HEAD" {
            sender.send(head.clone()).unwrap();
        }
        match asked.target.contains("?uploads") {
            true => Spoil::Answer(200, BEGUN),
            false if head.contains("x-amz-copy-source") => {
                Spoil::Answer(200, "<CopyObjectResult/>")
            }
            false => Spoil::Answer(200, "<Nothing/>"),
        }
    });
    let store = store.await;
    store.replace(&BlobKey::Timestamp, "timestamp".into()).await.unwrap();
    store.begin_parts(&secret(1)).await.unwrap();
    store.link_again(&key("gw/copied.bin"), Names::FromName).await.unwrap();
    let sent: Vec<String> = sent.try_iter().collect();
    let count = |word: &str| sent.iter().filter(|head| head.contains(word)).count();
    assert_eq!((count("x-amz-copy-source:"), count("?uploads")), (1, 1), "{sent:#?}");
    assert_eq!(sent.len(), 4, "the timestamp, a secret, an upload and a copy: {sent:#?}");
    assert_eq!(count("\nx-amz-server-side-encryption: aws:kms"), 4, "{sent:#?}");
    assert_eq!(count("\nx-amz-server-side-encryption-aws-kms-key-id: key-1"), 4, "{sent:#?}");
}

/// A store that is full may never answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_waits_for_ever() {
    let bucket = bucket().await;
    let store = spoilt(&bucket, |_| Spoil::Hang).await;
    let started = Instant::now();
    let checked = store.check().await;
    assert!(matches!(checked, Err(Error::Unavailable { .. })), "{checked:?}");
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_with_a_store_is_said() {
    let bucket = bucket().await;
    let reason = async |bucket: &Bucket, access: &str, secret: &str| {
        let keys = Credentials::new(access, secret, None, None, "test");
        let store = S3BlobStore::open_with(bucket, SERVER, keys).await.unwrap();
        match store.find_owner().await {
            Err(Error::Unavailable { reason, .. }) => reason,
            other => panic!("{other:?}"),
        }
    };
    let store = ObjectStore::shared();
    let (access, secret) = (store.access_key.as_str(), store.secret_key.as_str());
    let unknown = reason(&bucket, "nobody", secret).await;
    assert!(unknown.contains("AWS_ACCESS_KEY_ID"), "{unknown}");
    let wrong = reason(&bucket, access, "guess").await;
    assert!(wrong.contains("AWS_SECRET_ACCESS_KEY"), "{wrong}");
    let missing = BucketUrl { bucket: "nowhere-to-be-found".into(), prefix: String::new() };
    let missing = reason(&bucket_at(&store.endpoint, missing), access, secret).await;
    assert!(missing.contains("no bucket nowhere-to-be-found"), "{missing}");
    let away = reason(&bucket_at("http://127.0.0.1:1", bucket.url.clone()), access, secret).await;
    assert!(away.contains("127.0.0.1:1"), "{away}");
}
