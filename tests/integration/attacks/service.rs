//! The real `motorcade-vehicle` as a service: signals, proxies, and what a command line says.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::rig::Rig;
use super::vehicle::lab;
use crate::hostile::attack::{Behaviour, Expect, Row};
use crate::support::{Process, vehicle_binary};

/// Waits until something holds.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(60), "{what} does not happen");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn is_alive(process: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

fn run(rig: &Rig) -> Process {
    let mut command = Command::new(vehicle_binary());
    command.args(["run", "--json", "--interval", "3600", "--dir"]).arg(rig.vehicle.path());
    Process::spawn(command.stdout(Stdio::piped()))
}

fn installs_by(rig: &Rig, script: &str) {
    rig.vehicle.change_settings(|text| {
        let file = "file = \"ecus/prim-0001/image.bin\"";
        assert!(text.contains(file), "{text}");
        text.replace(file, &format!("command = [\"sh\", \"-c\", \"{script}\"]"))
    });
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[test]
fn hangup_and_user_signals_do_not_end_a_service_and_sigterm_does() {
    let rig = Rig::new();
    let row = Row::new(lab(), "AT-6");
    rig.server.serve(&row.honest.step(Expect::Updated));
    let mut service = run(&rig);
    let mut lines = service.lines();
    assert!(lines.next().unwrap().unwrap().contains("\"updated\""));
    for signal in [Signal::HUP, Signal::USR1, Signal::USR2] {
        service.signal(signal);
    }
    std::thread::sleep(Duration::from_millis(300));
    assert!(service.has_ended().is_none(), "it goes on");
    ends_at_once(service);
}

fn ends_at_once(mut service: Process) {
    let asked = Instant::now();
    service.signal(Signal::TERM);
    let ended = loop {
        if let Some(ended) = service.has_ended() {
            break ended;
        }
        assert!(asked.elapsed() < Duration::from_secs(10), "it goes on");
        std::thread::sleep(Duration::from_millis(20));
    };
    assert!(ended.success(), "{ended}");
}

/// Whatever it waits for, and the next start finds all as it should be.
#[test]
fn sigterm_ends_a_service_at_once_in_any_phase() {
    let honest = Row::new(lab(), "AT-6").honest;
    let step = || honest.step(Expect::Updated);
    let names = step().site.repo.into_keys().filter(|name| name.starts_with("targets/"));
    let images: Vec<String> = names.map(|name| format!("/repo/{name}")).collect();
    let phases = ["/director/timestamp.json", "/repo/timestamp.json"].map(|path| vec![path.into()]);
    for stalled in phases.into_iter().chain([images]) {
        let mut rig = Rig::new();
        let serve = stalled.iter().fold(step(), |step, path| step.serve(path, Behaviour::Stall));
        rig.server.serve(&serve);
        let service = run(&rig);
        let is_asked = || rig.server.requests().iter().any(|path| stalled.contains(path));
        until(&format!("a request for {stalled:?}"), is_asked);
        ends_at_once(service);
        rig.expect(&step());
    }
    // A Director that does not answer to a report, and one that is not there.
    let mut rig = Rig::new();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let (here, nowhere) = (rig.server.url(), format!("http://{}", silent.local_addr().unwrap()));
    rig.vehicle.change_settings(|text| text.replace(&here, &nowhere));
    let service = run(&rig);
    let _connection = silent.accept().unwrap();
    ends_at_once(service);
    drop(silent);
    let mut service = run(&rig);
    let mut lines = service.lines();
    assert!(lines.next().unwrap().unwrap().contains("\"unreachable\""), "it waits to try again");
    ends_at_once(service);
    rig.vehicle.change_settings(|text| text.replace(&nowhere, &here));
    rig.expect(&step());
}

/// An installation that takes long ends with the service, and so does what its program has started.
#[test]
fn a_command_and_its_children_end_with_the_service() {
    for (signal, verb) in [(Signal::TERM, "run"), (Signal::TERM, "update"), (Signal::INT, "update")]
    {
        let rig = Rig::new();
        let row = Row::new(lab(), "AT-6");
        rig.server.serve(&row.honest.step(Expect::Updated));
        installs_by(
            &rig,
            "sleep 600 & echo $! > child; echo $$ > parent; cat > /dev/null; sleep 600",
        );
        let mut command = Command::new(vehicle_binary());
        command.args([verb, "--dir"]).arg(rig.vehicle.path()).stdout(Stdio::null());
        let mut process = Process::spawn(&mut command);
        let file = |name: &str| rig.vehicle.path().join(name);
        until("the command", || text(&file("parent")).ends_with('\n'));
        let processes = ["child", "parent"].map(|name| text(&file(name)).trim().to_owned());
        assert!(processes.iter().all(|process| is_alive(process)));
        process.signal(signal);
        let mut status = None;
        let ended = || {
            status = process.has_ended();
            status.is_some()
        };
        until("its end", ended);
        let status = status.unwrap();
        assert_eq!(status.success(), verb == "run", "{verb}: {status}");
        until("the end of all", || !processes.iter().any(|process| is_alive(process)));
        let manifest = rig.server.last_manifest().unwrap();
        assert_eq!(manifest.report_of("prim-0001")["attacks_detected"], "");
    }
}

/// A proxy for HTTP gets whole URLs (RFC 9112, 3.2.2): the environment names it, or a setting.
#[test]
fn a_proxy_is_asked_that_the_environment_or_a_setting_names() {
    let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = proxy.local_addr().unwrap();
    let (seen, asked) = mpsc::channel();
    std::thread::spawn(move || {
        for mut stream in proxy.incoming().map_while(Result::ok) {
            let mut line = String::new();
            let _ = BufReader::new(&stream).read_line(&mut line);
            let _ = seen.send(line);
            let _ = stream.write_all(
                b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
            );
        }
    });
    let server = "http://director.invalid";
    let cycle = |setting: Option<String>, variables: &[(&str, String)]| {
        let rig = Rig::new();
        rig.vehicle.change_settings(|text| text.replace(&rig.server.url(), server));
        if let Some(setting) = setting {
            rig.vehicle.set(&setting);
        }
        let mut command = Command::new(vehicle_binary());
        for name in [
            "http_proxy",
            "HTTP_PROXY",
            "https_proxy",
            "HTTPS_PROXY",
            "all_proxy",
            "ALL_PROXY",
            "no_proxy",
        ] {
            command.env_remove(name);
        }
        command.args(["update", "--json", "--dir"]).arg(rig.vehicle.path());
        let output = command.envs(variables.iter().cloned()).output().unwrap();
        let lines: Vec<String> = asked.try_iter().collect();
        (lines, String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let url = format!("http://{address}");
    for (setting, variable) in
        [(None, Some("http_proxy")), (Some(format!("proxy = \"{url}\"")), None)]
    {
        let variables: Vec<_> = variable.into_iter().map(|name| (name, url.clone())).collect();
        let (lines, said) = cycle(setting, &variables);
        assert!(
            lines.first().is_some_and(
                |line| line.starts_with("PUT http://director.invalid/director/manifest ")
            ),
            "{lines:?}"
        );
        assert!(said.contains("502") && said.contains("\"attack\":null"), "{said}");
    }
    let excepted = [("http_proxy", url.clone()), ("no_proxy", "director.invalid".to_owned())];
    assert_eq!(cycle(None, &excepted).0, Vec::<String>::new());
    assert_eq!(
        cycle(Some("proxy = \"none\"".into()), &[("http_proxy", url)]).0,
        Vec::<String>::new()
    );
}

#[test]
fn help_says_what_the_program_is() {
    let output = Command::new(vehicle_binary()).arg("--help").output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    for words in ["software of a vehicle's ECUs", "Uptane", "Begin with `provision`"] {
        assert!(help.contains(words), "{help}");
    }
}

/// What is no root is not trusted, and what was trusted before stays.
#[test]
fn tuf_init_refuses_what_is_no_root() {
    let folder = tempfile::tempdir().unwrap();
    let metadata = folder.path().join("metadata");
    let init = |bytes: &[u8]| {
        let file = folder.path().join("root.json");
        fs::write(&file, bytes).unwrap();
        let mut command = Command::new(vehicle_binary());
        command
            .args(["tuf", "--metadata-dir"])
            .arg(&metadata)
            .arg("init")
            .arg(file)
            .output()
            .unwrap()
    };
    let honest = Row::new(lab(), "AT-6").honest;
    let root = honest.image.tree["1.root.json"].to_vec();
    assert!(init(&root).status.success());
    for other in
        [&b""[..], b"<html>", b"{}", &honest.image.tree["timestamp.json"], &root[..root.len() / 2]]
    {
        let output = init(other);
        assert_eq!(output.status.code(), Some(1));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("root.json is no root"), "{said}");
        assert_eq!(fs::read(metadata.join("root.json")).unwrap(), root);
    }
}
