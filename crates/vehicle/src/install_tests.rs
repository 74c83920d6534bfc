//! Installation on a device and by a program.

use motorcade_uptane::verify::{Attack, Fault};
use serde_json::json;

use crate::testing::car::{Car, image};

/// Programs are ended early.
const IMPATIENT: &str = "install_timeout_seconds = 1\n";

#[test]
fn a_device_is_written_and_an_interrupted_installation_is_repeated() {
    let mut car = Car::new();
    let device = car.path("device");
    std::fs::write(&device, vec![9; 70_000]).unwrap();
    car.replace_setting("file = \"ecus/p-1/image.bin\"", "device = \"device\"");
    let gateway = image(60_000);
    car.offer("gw/1/gw.bin", &gateway, 1);
    car.updated();
    let written = std::fs::read(&device).unwrap();
    assert_eq!((&written[..60_000], written.len()), (&gateway.plaintext[..], 70_000));
    // Power was lost while the same image was written again.
    let mut vehicle = car.vehicle();
    vehicle.state.ecu(&"p-1".parse().unwrap()).installing = Some("gw/1/gw.bin".into());
    vehicle.state.save().unwrap();
    drop(vehicle);
    std::fs::write(&device, vec![8; 70_000]).unwrap();
    car.server.bodies();
    let outcome = car.update();
    assert_eq!(outcome.installed.len(), 1);
    assert_eq!(std::fs::read(&device).unwrap()[..60_000], gateway.plaintext);
    let reports = car.reports("p-1");
    assert_eq!(reports[0].installed_image.path, "unprovisioned", "it ran nothing for sure");
}

/// A program that hangs, and what it has started, ends when its time is over; the next update may
/// do better.
#[test]
fn a_command_that_hangs_is_ended_with_its_children() {
    let mut car = Car::new();
    car.configure(IMPATIENT);
    let script = "trap '' TERM; sleep 600 & echo $! > child; cat > out; sleep 600";
    let command = car.install_with(script);
    let gateway = image(200_000);
    car.offer("gw/1/gw.bin", &gateway, 1);
    let started = std::time::Instant::now();
    let failure = car.failed(Fault::Install);
    assert!(failure.contains("took longer than 1 s"), "{failure}");
    assert!(started.elapsed().as_secs() < 60);
    assert_eq!(car.faults("p-1"), "install");
    let child = std::fs::read_to_string(car.path("child")).unwrap();
    // Without its own process group it would live for ten minutes.
    let status =
        std::fs::read_to_string(format!("/proc/{}/stat", child.trim())).unwrap_or_default();
    assert!(status.is_empty() || status.contains(") Z "), "{status}");
    car.replace_setting(&command, "command = [\"sh\", \"-c\", \"cat > out\"]");
    car.updated();
}

/// A child that does not care outlives whoever started it, unless it is ended for good.
#[test]
fn a_command_that_ends_when_asked_leaves_no_children() {
    let mut car = Car::new();
    car.configure(IMPATIENT);
    let script =
        "(trap '' TERM; while :; do sleep 0.1; done) & echo $! > child; cat > out; exec sleep 600";
    car.install_with(script);
    car.offer("gw/1/gw.bin", &image(200_000), 1);
    let failure = car.failed(Fault::Install);
    assert!(failure.contains("took longer than 1 s"), "{failure}");
    let child = std::fs::read_to_string(car.path("child")).unwrap();
    let started = std::time::Instant::now();
    loop {
        let status =
            std::fs::read_to_string(format!("/proc/{}/stat", child.trim())).unwrap_or_default();
        if status.is_empty() || status.contains(") Z ") {
            break;
        }
        assert!(started.elapsed().as_secs() < 10, "{status}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

/// One that has left the group can't be ended, but keeps nobody waiting.
#[test]
fn a_stranger_that_holds_the_input_of_a_command_is_not_waited_for() {
    let mut car = Car::new();
    car.configure(IMPATIENT);
    car.install_with("setsid -f sleep 20 2>/dev/null; sleep 600");
    car.offer("gw/1/gw.bin", &image(3_000_000), 1);
    let started = std::time::Instant::now();
    let failure = car.failed(Fault::Install);
    assert!(failure.contains("took longer than 1 s"), "{failure}");
    assert!(started.elapsed().as_secs() < 15);
}

/// One that does not read is not waited for either.
#[test]
fn a_command_that_does_not_read_is_ended() {
    let mut car = Car::new();
    car.configure(IMPATIENT);
    car.install_with("exec sleep 600");
    car.offer("gw/1/gw.bin", &image(3_000_000), 1);
    let failure = car.failed(Fault::Install);
    assert!(failure.contains("took longer than 1 s"), "{failure}");
}

#[test]
fn a_command_counts_only_if_it_succeeds_and_never_sees_the_end_of_a_wrong_image() {
    let mut car = Car::new();
    let is_whole = "[ $MOTORCADE_IMAGE_LENGTH = $(wc -c < out) ] && echo $MOTORCADE_IMAGE_SHA256 out | sha256sum -c";
    let script = format!("cat > out && {is_whole} && [ ! -e fail ] && touch done");
    car.install_with(&script);
    let (gateway, other) = (image(60_000), image(60_001));
    let wrong = gateway.custom("gateway", 1);
    car.list("gw/1/gw.bin", &other, &wrong);
    let assigned = car.assign(&other, wrong, "p-1", "gw");
    car.publish(json!({ "gw/1/gw.bin": assigned }));
    car.refused(Attack::WrongSoftware);
    assert!(!car.path("done").exists(), "it was killed");
    std::fs::write(car.path("fail"), "").unwrap();
    car.offer("gw/2/gw.bin", &gateway, 2);
    let outcome = car.update();
    assert!(
        outcome.failure.is_some() && outcome.attack().is_none() && outcome.installed.is_empty()
    );
    std::fs::remove_file(car.path("fail")).unwrap();
    assert_eq!(car.update().installed.len(), 1);
    assert_eq!(std::fs::read(car.path("out")).unwrap(), gateway.plaintext);
}
