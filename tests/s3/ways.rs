//! Other ways to ask a store: by names of hosts, and with encryption.

use std::fs;
use std::process::Command;
use std::sync::mpsc;

use crate::Site;
use crate::faulty_proxy::{Spoil, faulty_proxy};
use crate::object_store::ObjectStore;
use crate::support::{motorcade, run};

/// Gives a command names of hosts of its own, if whoever runs the tests may do that.
fn with_hosts(hosts: &std::path::Path, command: &Command) -> Option<Command> {
    let mut alone = Command::new("unshare");
    alone.args(["--mount", "sh", "-c", "mount --bind \"$0\" /etc/hosts && exec \"$@\""]).arg(hosts);
    let mut tried = Command::new("unshare");
    tried.args(["--mount", "sh", "-c", "mount --bind \"$0\" /etc/hosts"]).arg(hosts);
    match tried.output() {
        Ok(output) if output.status.success() => {}
        other => {
            println!("skipped: this takes the right to mount a file: {other:?}");
            return None;
        }
    }
    alone.arg(command.get_program()).args(command.get_args());
    Some(alone)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_demo_runs_on_a_bucket_that_is_named_by_its_host() {
    let site = Site::new().await;
    let (sender, asked) = mpsc::channel();
    let proxy = faulty_proxy(&site.store.endpoint, move |asked| {
        let host = asked.head.lines().find_map(|line| line.strip_prefix("host: "));
        sender.send((host.map(str::to_owned), asked.target.to_owned())).unwrap();
        Spoil::Pass
    })
    .await;
    let (_, port) = proxy.rsplit_once(':').unwrap();
    let host = format!("{}.s3.localhost", site.bucket);
    let hosts = site.folder.path().join("hosts");
    fs::write(&hosts, format!("127.0.0.1 localhost s3.localhost {host}\n")).unwrap();
    let mut demo = motorcade(["demo", "--size", "20", "--blobs", &site.url()]);
    demo.args(["--blobs-addressing", "virtual-host"]);
    demo.args(["--blobs-endpoint", &format!("http://s3.localhost:{port}")]);
    let Some(mut demo) = with_hosts(&hosts, &demo) else { return };
    let output = demo.envs(site.store.environment()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let asked: Vec<_> = asked.try_iter().collect();
    assert!(!asked.is_empty());
    let host = Some(format!("{host}:{port}"));
    for (named, target) in asked {
        assert_eq!(named, host, "{target}");
        assert!(!target.contains(&site.bucket), "{target}");
    }
    let (names, left) = site.names().await;
    assert!(names.contains(&"timestamp.json".to_owned()), "{names:?}");
    assert_eq!(left, [""; 0]);
}

/// Swift refuses to encrypt for those who ask for it, and Ceph's gateway to copy what is encrypted, which
/// large images need.
#[tokio::test]
async fn a_store_encrypts_as_it_is_told() {
    if ObjectStore::kind() != "rgw" {
        return println!("skipped: only MOTORCADE_TEST_STORE=rgw encrypts");
    }
    let encryption =
        [("MOTORCADE_BLOBS_ENCRYPTION", "aws:kms"), ("MOTORCADE_BLOBS_KMS_KEY", "snakeoil")];
    let site = Site::new().await;
    run(site.command(&["init"]).envs(encryption));
    let (server, client) = site.serve_engineer(&encryption).await;
    client.upload("gw/small.bin", "", b"firmware").await;
    drop(server);
    site.fsck();
    let (names, left) = site.names().await;
    assert_eq!(left, [""; 0]);
    assert!(names.iter().any(|name| name.ends_with("small.bin")), "{names:?}");
    for name in names {
        let head = site.store.client().head_object().bucket(&site.bucket);
        let head = head.key(format!("ota/{name}")).send().await.unwrap();
        assert_eq!(head.ssekms_key_id(), Some("snakeoil"), "{name}");
    }
}
