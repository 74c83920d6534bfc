//! `motorcade image push`: whatever the image comes from, the server gets all of it or keeps
//! nothing.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::{start, stderr};
use crate::app::{TestServer, eventually, pattern, sha256_hex};
use crate::support::{refused, run};

const DESCRIBED: &str = "--hardware-id gw-mk3 --version 1.0.0 --release-counter 1";

fn push(server: &TestServer, path: &str, file: &Path) -> Command {
    let mut command = server.motorcade(&format!("image push --path {path} {DESCRIBED}"));
    command.arg(file);
    command
}

/// Whether the server has an image at `path`.
async fn is_free(server: &TestServer, path: &str) -> bool {
    server.get(&format!("/api/v1/images/{path}")).await.status == 404
        && server.state.staged_files().is_empty()
}

#[tokio::test]
async fn a_file_that_grows_or_changes_while_it_is_sent_is_refused_and_its_path_stays_free() {
    let server = TestServer::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("image.bin");
    let image = pattern(40_000_000, 1);
    for grows in [true, false] {
        fs::write(&file, &image).unwrap();
        let is_done = AtomicBool::new(false);
        let output = std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut writer = OpenOptions::new().append(grows).write(true).open(&file).unwrap();
                while !is_done.load(Ordering::Relaxed) {
                    writer.write_all(b"more").unwrap();
                    std::thread::sleep(Duration::from_millis(1));
                }
            });
            let output = push(&server, "gw/1/a.bin", &file).output().unwrap();
            is_done.store(true, Ordering::Relaxed);
            output
        });
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        assert!(stderr(&output).contains("has changed while it was"), "{}", stderr(&output));
        eventually("nothing is left of it", async || is_free(&server, "gw/1/a.bin").await).await;
    }
    fs::write(&file, &image).unwrap();
    run(&mut push(&server, "gw/1/a.bin", &file));
    assert_eq!(server.image("gw/1/a.bin").await.plaintext.sha256, sha256_hex(&image));
}

#[tokio::test]
async fn what_can_be_read_once_only_is_read_once() {
    let server = TestServer::start().await;
    let folder = tempfile::tempdir().unwrap();
    let image = pattern(3_000_000, 2);
    let sha256 = sha256_hex(&image);
    let file = folder.path().join("image.bin");
    fs::write(&file, &image).unwrap();

    let fifo = folder.path().join("fifo");
    run(Command::new("mkfifo").arg(&fifo));
    let pushing = start(&mut push(&server, "gw/1/fifo.bin", &fifo));
    File::options().write(true).open(&fifo).unwrap().write_all(&image).unwrap();
    ended(pushing.wait_with_output().unwrap());

    let mut pushing = start(&mut push(&server, "gw/1/stdin.bin", Path::new("-")));
    pushing.stdin.take().unwrap().write_all(&image).unwrap();
    ended(pushing.wait_with_output().unwrap());

    // A process substitution is a pipe too.
    let command = push(&server, "gw/1/substituted.bin", Path::new("/dev/fd/63"));
    let mut bash = Command::new("bash");
    bash.args(["-c", "exec \"$0\" \"$@\" 63< <(cat \"$IMAGE\")"]).env("IMAGE", &file);
    bash.arg(command.get_program()).args(command.get_args());
    command.get_envs().filter_map(|(name, value)| Some((name, value?))).for_each(
        |(name, value)| {
            bash.env(name, value);
        },
    );
    run(&mut bash);

    // A file as standard input is a file.
    run(push(&server, "gw/1/redirected.bin", Path::new("-")).stdin(File::open(&file).unwrap()));
    for name in ["fifo", "stdin", "substituted", "redirected"] {
        assert_eq!(
            server.image(&format!("gw/1/{name}.bin")).await.plaintext.sha256,
            sha256,
            "{name}"
        );
    }
}

fn ended(output: Output) {
    assert!(output.status.success(), "{}", stderr(&output));
}

#[tokio::test]
async fn an_image_that_is_not_there_whole_is_not_sent() {
    let server = TestServer::start().await;
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty.bin");
    fs::write(&empty, "").unwrap();
    let refused_file = |path: &Path| refused(&mut push(&server, "gw/1/a.bin", path));
    assert!(refused_file(&empty).contains("is empty"));
    assert!(refused_file(folder.path()).contains("is a folder"));
    let missing = folder.path().join("missing.bin");
    assert!(refused_file(&missing).contains(&missing.display().to_string()));

    // A command that fails before it writes leaves an empty pipe behind.
    let mut pushing = start(&mut push(&server, "gw/1/a.bin", Path::new("-")));
    drop(pushing.stdin.take());
    let output = pushing.wait_with_output().unwrap();
    assert!(
        stderr(&output).contains("standard input is empty") && !output.status.success(),
        "{}",
        stderr(&output)
    );

    // One that fails later is found out by the digest that the image should have.
    let sha256 = sha256_hex(&pattern(2_000_000, 3));
    let mut command = push(&server, "gw/1/a.bin", Path::new("-"));
    let mut pushing = start(command.args(["--sha256", &sha256]));
    pushing.stdin.take().unwrap().write_all(&pattern(1_000_000, 3)).unwrap();
    let output = pushing.wait_with_output().unwrap();
    assert!(stderr(&output).contains("422") && !output.status.success(), "{}", stderr(&output));
    eventually("nothing is left of it", async || is_free(&server, "gw/1/a.bin").await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_busy_is_asked_again() {
    let idle = Duration::from_secs(4);
    let server = TestServer::configured(|config| {
        (config.max_uploads, config.idle_timeout) = (Some(1), Some(idle))
    })
    .await;
    let image = pattern(12_000_000, 4); // more than a socket takes by itself
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("image.bin");
    fs::write(&file, &image).unwrap();
    let mut slow = server.connect().await;
    slow.send_upload_head(&server, "gw/1/slow.bin", "Content-Length: 1000\r\n").await;
    eventually("the slot is taken", async || !server.state.staged_files().is_empty()).await;
    let slow = tokio::spawn(async move {
        while slow.try_send("x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    });

    let once = push(&server, "gw/1/once.bin", &file).args(["--retry-for", "0"]).output().unwrap();
    assert!(stderr(&once).contains("503") && once.status.code() == Some(1), "{}", stderr(&once));

    let pushing = start(&mut push(&server, "gw/1/file.bin", &file));
    let mut piping = start(&mut push(&server, "gw/1/pipe.bin", Path::new("-")));
    let mut stdin = piping.stdin.take().unwrap();
    let sent = image.clone();
    let writing = std::thread::spawn(move || stdin.write_all(&sent).unwrap());
    // The upload that holds the slot goes on until both have been refused once.
    let mut children = [pushing, piping]
        .map(|mut child| (BufReader::new(child.stderr.take().unwrap()).lines(), child));
    for (lines, _) in &mut children {
        let said = lines.next().unwrap().unwrap();
        assert!(said.contains("503") && said.contains("trying again"), "{said}");
    }
    slow.abort();
    for (lines, mut child) in children {
        let said: Vec<String> = lines.map_while(Result::ok).collect();
        assert!(child.wait().unwrap().success(), "{said:?}");
    }
    writing.join().unwrap();
    for name in ["file", "pipe"] {
        assert_eq!(
            server.image(&format!("gw/1/{name}.bin")).await.plaintext.sha256,
            sha256_hex(&image)
        );
    }
}
