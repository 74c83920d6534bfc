//! What holds plaintext or gigabytes for a while is gone when its process is, whatever ended it.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::{start, stderr};
use crate::app::{TestServer, eventually, pattern, sha256_hex};
use crate::support::{motorcade, run, snakeoil};

/// A sealed image and its envelope as files.
struct Sealed {
    folder: tempfile::TempDir,
    image: Vec<u8>,
}

impl Sealed {
    async fn make(server: &TestServer) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let image = pattern(5_000_000, 1);
        server.upload("gw/1/a.bin", image.clone()).await.expect(201);
        let url = server.image("gw/1/a.bin").await.sealed.url;
        fs::write(folder.path().join("sealed"), server.get(&url).await.expect(200)).unwrap();
        let envelope = server.get("/api/v1/images/gw/1/a.bin/envelope").await.expect(200);
        fs::write(folder.path().join("envelope.jwe"), envelope).unwrap();
        fs::create_dir(folder.path().join("opened")).unwrap();
        Self { folder, image }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn open(&self, sealed: &Path, out: &Path) -> Command {
        let mut command = motorcade(["open", "--envelope"]);
        command.arg(self.file("envelope.jwe")).arg("--key").arg(snakeoil("snakeoil_p256.pem"));
        command.arg("--out").arg(out).arg(sealed);
        command
    }
}

fn kill(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[tokio::test]
async fn an_image_that_is_being_opened_has_no_name_and_no_signal_leaves_any_of_it() {
    let server = TestServer::start().await;
    let sealed = Sealed::make(&server).await;
    let fifo = sealed.file("fifo");
    run(Command::new("mkfifo").arg(&fifo));
    for signal in [Signal::TERM, Signal::KILL] {
        let mut opening = sealed
            .open(&fifo, &sealed.file("opened/image.bin"))
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let mut writer = File::options().write(true).open(&fifo).unwrap();
        let bytes = fs::read(sealed.file("sealed")).unwrap();
        writer.write_all(&bytes[..4_000_000]).unwrap(); // more than a pipe holds: the rest of it was opened
        assert_eq!(names(&sealed.file("opened")), Vec::<String>::new(), "plaintext has no name");
        kill(&opening, signal);
        assert!(!opening.wait().unwrap().success());
        assert_eq!(names(&sealed.file("opened")), Vec::<String>::new(), "{signal:?}");
    }
    fs::write(sealed.file("opened/image.bin"), "an older one").unwrap();
    run(&mut sealed.open(&sealed.file("sealed"), &sealed.file("opened/image.bin")));
    assert!(fs::read(sealed.file("opened/image.bin")).unwrap() == sealed.image);
    assert_eq!(names(&sealed.file("opened")), ["image.bin"]);
}

#[tokio::test]
async fn standard_output_gets_what_is_authentic_and_the_exit_code_says_whether_it_is_the_image() {
    let server = TestServer::start().await;
    let sealed = Sealed::make(&server).await;
    let stdout = Path::new("-");
    let opened = sealed.open(&sealed.file("sealed"), stdout).output().unwrap();
    assert!(opened.status.success() && opened.stdout == sealed.image, "{}", stderr(&opened));

    // From standard input, too.
    let mut opening = start(&mut sealed.open(Path::new("-"), stdout));
    let mut stdin = opening.stdin.take().unwrap();
    let bytes = fs::read(sealed.file("sealed")).unwrap();
    std::thread::spawn(move || stdin.write_all(&bytes).unwrap());
    assert!(opening.wait_with_output().unwrap().stdout == sealed.image);

    let bytes = fs::read(sealed.file("sealed")).unwrap();
    fs::write(sealed.file("cut"), &bytes[..bytes.len() - 1000]).unwrap();
    let opened = sealed.open(&sealed.file("cut"), stdout).output().unwrap();
    assert_eq!(opened.status.code(), Some(1));
    assert!(sealed.image.starts_with(&opened.stdout) && opened.stdout.len() < sealed.image.len());
    assert!(stderr(&opened).contains("is not the whole image"), "{}", stderr(&opened));

    let other = sha256_hex(b"another");
    let opened =
        sealed.open(&sealed.file("sealed"), stdout).args(["--sha256", &other]).output().unwrap();
    assert_eq!(opened.status.code(), Some(1));
    assert!(stderr(&opened).contains("do not use"), "{}", stderr(&opened));
}

#[tokio::test]
async fn what_is_no_plain_file_is_not_replaced() {
    let server = TestServer::start().await;
    let sealed = Sealed::make(&server).await;
    let fifo = sealed.file("fifo");
    run(Command::new("mkfifo").arg(&fifo));
    for out in [&fifo, Path::new("/dev/null")] {
        let opened = sealed.open(&sealed.file("sealed"), out).output().unwrap();
        assert!(stderr(&opened).contains("is not a plain file"), "{}", stderr(&opened));
    }
}

#[tokio::test]
async fn a_demo_that_is_told_to_end_leaves_nothing() {
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let folder = tempfile::tempdir().unwrap();
        let mut command = motorcade(["demo", "--size", "64"]);
        let mut demo = command
            .env("TMPDIR", folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let uploaded = || {
            names(folder.path()).first().is_some_and(|name| {
                folder
                    .path()
                    .join(name)
                    .join("motorcade-data/staging")
                    .read_dir()
                    .is_ok_and(|mut staged| staged.next().is_some())
            })
        };
        eventually("the demo uploads", async || uploaded()).await;
        kill(&demo, signal);
        let status: ExitStatus = demo.wait().unwrap();
        assert_eq!(status.code(), Some(code), "{status} {:?}", status.signal());
        assert_eq!(names(folder.path()), Vec::<String>::new());
        // Its processes are gone as well: nobody holds the other end of its standard output.
        demo.stdout.take().unwrap().read_to_end(&mut Vec::new()).unwrap();
    }
}
