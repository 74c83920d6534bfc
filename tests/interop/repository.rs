//! The repository over HTTP: other people's clients walk it from root version 1.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use motorcade::uptane::client::VerifiedRepository;
use serde_json::Value;

use super::support::{
    FreePort, Process, create_token, json, motorcade, noise, program, python, refused, run, sha256,
    wait_until,
};
use super::{Fleet, jwcrypto_opens, private_key, tink_opens, we_open};

const IMAGE: &str = "gw/4.2.0/gateway.bin";

/// A walk with python-tuf's client.
struct Walk<'a> {
    repo_url: &'a str,
    root: PathBuf,
    /// Where the client keeps its metadata and puts the target.
    out: PathBuf,
    options: &'a [&'a str],
}

impl Walk<'_> {
    fn command(&self, target: &str) -> Command {
        let args = ["--repo-url", self.repo_url, "--target", target, "--root"].map(Path::new);
        let mut command = program("tests/interop/ngclient_download.py", args);
        command.arg(&self.root).arg("--out").arg(&self.out).args(self.options);
        command
    }

    fn downloads(&self, target: &str) -> Value {
        let seen: Value = serde_json::from_str(&run(&mut self.command(target))).unwrap();
        assert_eq!(seen["length"], seen["signed_length"]);
        assert_eq!(seen["sha256"], seen["signed_hashes"]["sha256"]);
        seen
    }

    fn is_refused(&self, target: &str) -> String {
        refused(&mut self.command(target))
    }
}

impl Fleet {
    fn walk<'a>(&self, repo_url: &'a str, out: &str, options: &'a [&'a str]) -> Walk<'a> {
        Walk { repo_url, root: self.root(), out: self.file(out), options }
    }
}

fn version(seen: &Value, role: &str) -> u64 {
    seen["versions"][role].as_u64().unwrap()
}

fn path_of(seen: &Value) -> PathBuf {
    seen["path"].as_str().unwrap().into()
}

#[tokio::test]
async fn python_tuf_downloads_an_image_and_its_envelope_under_both_names() {
    let fleet = Fleet::start(&[]).await;
    let image = noise("python-tuf", 3_000_000);
    fleet.client.upload(IMAGE, "", &image).await;
    let repo_url = fleet.server.repo_url();
    for (out, options) in
        [("folder-first", &[][..]), ("hash-first", &["--quirk", "hash-before-folder"][..])]
    {
        let walk = fleet.walk(&repo_url, out, options);
        let sealed = walk.downloads(IMAGE);
        let envelope = walk.downloads(&format!("{IMAGE}.jwe"));
        assert_eq!(version(&sealed, "root"), 1);
        let facts = &sealed["custom"]["sealed"];
        assert_eq!(facts["plaintext"]["length"], image.len());
        assert_eq!(facts["plaintext"]["hashes"]["sha256"], sha256(&image));
        let opened = fleet.file(&format!("opened-{out}"));
        let key = private_key("snakeoil_rsa2048");
        assert_eq!(we_open(&path_of(&sealed), &path_of(&envelope), &key, &opened), sha256(&image));
    }
}

#[tokio::test]
async fn python_tuf_continues_from_its_cache() {
    let fleet = Fleet::start(&[]).await;
    fleet.client.upload(IMAGE, "", b"the first").await;
    let repo_url = fleet.server.repo_url();
    let walk = fleet.walk(&repo_url, "car", &[]);
    let before = walk.downloads(IMAGE);
    fleet.client.upload("gw/4.3.0/gateway.bin", "", b"the second").await;
    let after = walk.downloads("gw/4.3.0/gateway.bin");
    for role in ["timestamp", "snapshot"] {
        assert!(version(&after, role) > version(&before, role), "{role}: {before} {after}");
    }
    for role in ["root", "targets"] {
        assert_eq!(
            version(&after, role),
            version(&before, role),
            "an upload leaves {role} as it is"
        );
    }
}

#[tokio::test]
async fn python_tuf_finds_no_target_that_was_yanked_or_never_there() {
    let fleet = Fleet::start(&[]).await;
    fleet.client.upload(IMAGE, "", b"withdrawn").await;
    let mut yank = motorcade(["image", "yank", IMAGE, "--server", &fleet.client.url]);
    run(yank.env("MOTORCADE_TOKEN", &fleet.client.token));
    let repo_url = fleet.server.repo_url();
    let walk = fleet.walk(&repo_url, "car", &[]);
    for target in [IMAGE, "gw/4.2.0/other.bin"] {
        let error = walk.is_refused(target);
        assert!(error.contains(&format!("LookupError: no target {target}")), "{error}");
    }
}

#[tokio::test]
async fn a_read_token_opens_the_repository_to_python_tuf() {
    let fleet = Fleet::start(&["--repo-access", "token"]).await;
    fleet.client.upload(IMAGE, "", b"for token holders").await;
    let repo_url = fleet.server.repo_url();
    let token = create_token(&fleet.data_dir(), "viewer");
    fleet.walk(&repo_url, "with-token", &["--token", &token]).downloads(IMAGE);
    for options in [&[][..], &["--token", "mc_0000000000000000"][..]] {
        let error = fleet.walk(&repo_url, "without-token", options).is_refused(IMAGE);
        assert!(error.contains("DownloadHTTPError") && error.contains("401"), "{error}");
    }
}

#[tokio::test]
async fn a_stranger_opens_an_image_with_nothing_of_ours() {
    let fleet = Fleet::start(&[]).await;
    let (image, repo_url) = (noise("stranger", 2_500_000), fleet.server.repo_url());
    fleet.client.upload(IMAGE, "", &image).await;
    fleet.client.upload("small/gateway.bin", "&algorithm=AES256_GCM_HKDF_4KB", &image).await;
    for (target, recipient) in [(IMAGE, "snakeoil_rsa2048"), ("small/gateway.bin", "snakeoil_p256")]
    {
        let out = fleet.file(recipient);
        let args = ["--repo-url", &repo_url, "--target", target, "--root"].map(Path::new);
        let (root, key) = (fleet.root(), private_key(recipient));
        let args =
            args.into_iter().chain([&root, Path::new("--key"), &key, Path::new("--out"), &out]);
        let report = json("tests/interop/stranger.py", args);
        assert_eq!(report["hashes"]["sha256"], sha256(&image));
        assert_eq!(fs::read(&out).unwrap(), image);
    }
    let mut other = program(
        "tests/interop/stranger.py",
        ["--repo-url", &repo_url, "--target", IMAGE, "--root"],
    );
    let other = other.arg(fleet.root()).arg("--key").arg(private_key("snakeoil_p256_other"));
    let error = refused(other.arg("--out").arg(fleet.file("other")));
    assert!(error.contains("is not opened: InvalidJWEData"), "{error}");
    assert!(!fleet.file("other").exists());
}

#[tokio::test]
async fn tough_downloads_an_image_and_its_envelope_from_a_folder() {
    let fleet = Fleet::start(&[]).await;
    let image = noise("tough", 1_234_567);
    fleet.client.upload(IMAGE, "", &image).await;
    let trusted = fs::read(fleet.root()).unwrap();
    let repository = VerifiedRepository::load(&trusted, &fleet.server.repo_url()).await.unwrap();
    let found = repository.find(IMAGE).unwrap();
    assert_eq!(found.custom["sealed"]["plaintext"]["hashes"]["sha256"], sha256(&image));
    let (sealed, envelope) = (fleet.file("sealed"), fleet.file("envelope"));
    repository.download(IMAGE, &sealed).await.unwrap();
    repository.download(&format!("{IMAGE}.jwe"), &envelope).await.unwrap();
    assert_eq!(fs::metadata(&sealed).unwrap().len(), found.length);
    let (data_key, algorithm) = jwcrypto_opens(&envelope, &private_key("snakeoil_p256"));
    assert_eq!(tink_opens(&sealed, &data_key, &algorithm, &fleet.file("opened")), sha256(&image));
    let missing = repository.download("gw/4.2.0/other.bin", &fleet.file("missing")).await;
    assert_eq!(missing.unwrap_err().to_string(), "no such target");
}

/// `python3 -m http.server` on a folder.
struct FileServer {
    _process: Process,
    url: String,
    _port: FreePort,
}

impl FileServer {
    async fn start(folder: &Path) -> Self {
        // Port 0 would be printed where a pipe buffers it, so a free one is found first.
        let free = FreePort::new();
        let port = free.address().port();
        let mut command = python();
        command
            .args(["-m", "http.server", &port.to_string(), "--bind", "127.0.0.1", "--directory"])
            .arg(folder);
        let process = Process::spawn(
            command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()),
        );
        let url = format!("http://127.0.0.1:{port}");
        wait_until("the file server answers", async || {
            super::support::http().head(&url).send().await.is_ok()
        })
        .await;
        Self { _process: process, url, _port: free }
    }
}

impl Fleet {
    fn export(&self) -> PathBuf {
        let folder = self.file("export");
        run(motorcade(["export", "--data-dir"]).arg(self.data_dir()).arg(&folder));
        folder
    }
}

#[tokio::test]
async fn any_file_server_can_serve_an_export_and_the_blob_folder_itself() {
    let fleet = Fleet::start(&[]).await;
    let image = noise("export", 1_500_000);
    fleet.client.upload(IMAGE, "", &image).await;
    let folders = [("export", fleet.export()), ("blobs", fleet.data_dir().join("repo"))];
    for (name, folder) in folders {
        let files = FileServer::start(&folder).await;
        for (number, options) in
            [&[][..], &["--quirk", "hash-before-folder"][..]].into_iter().enumerate()
        {
            let walk = fleet.walk(&files.url, &format!("{name}-{number}"), options);
            let (sealed, envelope) =
                (walk.downloads(IMAGE), walk.downloads(&format!("{IMAGE}.jwe")));
            let (key, opened) =
                (private_key("snakeoil_p256"), fleet.file(&format!("opened-{name}-{number}")));
            assert_eq!(
                we_open(&path_of(&sealed), &path_of(&envelope), &key, &opened),
                sha256(&image)
            );
        }
    }
}

#[tokio::test]
async fn python_tuf_refuses_whatever_was_changed_on_the_way() {
    let fleet = Fleet::start(&[]).await;
    let uploaded = fleet.client.upload(IMAGE, "", &noise("tampered", 100_000)).await;
    let folder = fleet.export();
    let files = FileServer::start(&folder).await;
    let signed: Value =
        serde_json::from_slice(&fs::read(folder.join("timestamp.json")).unwrap()).unwrap();
    let snapshot =
        format!("{}.snapshot.json", signed["signed"]["meta"]["snapshot.json"]["version"]);
    let blob =
        format!("targets/gw/4.2.0/{}.gateway.bin", uploaded["sealed"]["sha256"].as_str().unwrap());
    // A changed timestamp fails by its signature; all else by a digest that leads back to it.
    for (number, (file, reason)) in [
        ("timestamp.json", "UnsignedMetadataError"),
        (&snapshot, "LengthOrHashMismatchError"),
        ("1.targets.json", "LengthOrHashMismatchError"),
        (&blob, "LengthOrHashMismatchError"),
    ]
    .into_iter()
    .enumerate()
    {
        let path = folder.join(file);
        let original = fs::read(&path).unwrap();
        fs::write(&path, changed(&original)).unwrap();
        let error = fleet.walk(&files.url, &format!("car-{number}"), &[]).is_refused(IMAGE);
        assert!(error.contains(reason), "{file}: {error}");
        fs::write(&path, original).unwrap();
    }
    fleet.walk(&files.url, "car", &[]).downloads(IMAGE);
}

#[tokio::test]
async fn python_tuf_refuses_a_repository_that_was_rolled_back() {
    let fleet = Fleet::start(&[]).await;
    fleet.client.upload(IMAGE, "", b"the first").await;
    let folder = fleet.export();
    let old = fs::read(folder.join("timestamp.json")).unwrap();
    fleet.client.upload("gw/4.3.0/gateway.bin", "", b"the second").await;
    fleet.export();
    let files = FileServer::start(&folder).await;
    let walk = fleet.walk(&files.url, "car", &[]);
    walk.downloads("gw/4.3.0/gateway.bin");
    fs::write(folder.join("timestamp.json"), old).unwrap();
    let error = walk.is_refused(IMAGE);
    assert!(error.contains("BadVersionNumberError"), "{error}");
}

#[tokio::test]
async fn a_damaged_blob_is_not_served_and_fsck_names_it() {
    let fleet = Fleet::start(&[]).await;
    let uploaded = fleet.client.upload(IMAGE, "", &noise("damaged", 100_000)).await;
    let name =
        uploaded["sealed"]["url"].as_str().unwrap().strip_prefix("/repo/").unwrap().to_owned();
    let path = fleet.data_dir().join("repo").join(&name);
    let original = fs::read(&path).unwrap();
    fs::write(&path, changed(&original)).unwrap();
    let repo_url = fleet.server.repo_url();
    let error = fleet.walk(&repo_url, "car", &[]).is_refused(IMAGE);
    assert!(error.contains("DownloadHTTPError") && error.contains("500"), "{error}");
    assert_eq!(
        super::support::fsck(&fleet.data_dir()),
        [format!("image {IMAGE}: {name} is damaged")]
    );
}

/// The same length and another content: metadata that would expire later, or a blob with another
/// byte.
fn changed(bytes: &[u8]) -> Vec<u8> {
    let expires = b"\"expires\":\"2";
    let mut bytes = bytes.to_vec();
    let place = bytes.windows(expires.len()).position(|window| window == expires);
    let place = place.map_or(bytes.len() / 2, |start| start + expires.len() - 1);
    bytes[place] ^= 1;
    bytes
}

/// What takes gzip off here is zlib, and not the library that put it on.
#[tokio::test]
async fn curl_undoes_the_gzip_that_metadata_comes_in() {
    let fleet = Fleet::start(&[]).await;
    fleet.client.upload(IMAGE, "", b"an image").await;
    let url = format!("{}/1.targets.json", fleet.server.repo_url());
    let stored = fs::read(fleet.data_dir().join("repo/1.targets.json")).unwrap();
    let (coded, plain) = (fleet.file("coded"), fleet.file("plain"));
    run(Command::new("curl").args(["-sf", "-H", "Accept-Encoding: gzip", &url, "-o"]).arg(&coded));
    run(Command::new("curl").args(["-sf", "--compressed", &url, "-o"]).arg(&plain));
    let coded = fs::read(&coded).unwrap();
    assert!(
        coded.starts_with(&[0x1f, 0x8b]) && coded.len() < stored.len(),
        "{} bytes",
        coded.len()
    );
    assert!(fs::read(&plain).unwrap() == stored);
}
