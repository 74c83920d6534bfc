//! Full disks: small ones in memory, which takes root to mount, as CI has it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::cycle_tests::{Car, image};
use super::download_tests::Case;
use super::server_tests::Manner;
use motorcade_uptane::verify::Fault;

/// A disk in memory; gone when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path, size: &str) -> Option<Self> {
        std::fs::create_dir_all(at).unwrap();
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "none"])
            .arg(at)
            .output();
        let is_mounted = mount.is_ok_and(|mount| mount.status.success());
        if !is_mounted {
            eprintln!("SKIPPED: mounting a small disk takes root");
        }
        is_mounted.then(|| Self(at.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Nothing is fetched for which there is no room, and the Director hears why.
#[test]
fn without_room_nothing_is_fetched_and_the_director_hears_of_it() {
    let mut car = Car::new();
    let Some(_disk) = SmallDisk::mount(&car.path("downloads"), "9m") else { return };
    let gateway = image(2 * 1024 * 1024);
    car.offer("gw/1/gw.bin", &gateway, 1);
    let failure = car.failed(Fault::DiskFull);
    assert!(failure.contains("make room"), "{failure}");
    let requests = car.server.requests();
    assert!(
        !requests.iter().any(|(_, path, _)| path.starts_with("/repo/targets/")),
        "{requests:?}"
    );
    assert_eq!(car.faults("p-1"), "disk-full");
    drop(_disk);
    assert!(car.update().failure.is_none(), "with room it goes on");
    assert_eq!(car.installed("p-1"), Some(gateway.plaintext));
}

/// The room for what an image opens to is looked at as well, and state is still written.
#[test]
fn an_image_that_can_be_fetched_and_not_installed_is_not_fetched() {
    let mut car = Car::new();
    let Some(_disk) = SmallDisk::mount(&car.path("ecus/p-1"), "9m") else { return };
    car.offer("gw/1/gw.bin", &image(2 * 1024 * 1024), 1);
    car.failed(Fault::DiskFull);
    assert!(!car.server.requests().iter().any(|(_, path, _)| path.starts_with("/repo/targets/")));
}

/// Not one byte is left, by whatever has taken them: the vehicle still reports, and goes on once
/// there is room.
#[test]
fn on_a_disk_that_others_have_filled_a_vehicle_is_still_heard() {
    let dir = tempfile::tempdir().unwrap();
    let Some(_disk) = SmallDisk::mount(dir.path(), "16m") else { return };
    let filler = dir.path().join("filler");
    let mut car = Car::below(dir);
    car.offer("gw/1/gw.bin", &image(10_000), 1);
    assert!(car.update().failure.is_none());
    car.server.bodies();
    let next = image(20_000);
    car.offer("gw/2/gw.bin", &next, 2);
    let mut file = std::fs::File::create(&filler).unwrap();
    while file.write_all(&[7; 512]).is_ok() {}
    let outcome = car.update();
    assert_eq!(
        (outcome.attack(), outcome.fault()),
        (None, Some(Fault::DiskFull)),
        "{:?}",
        outcome.failure
    );
    assert_eq!(car.faults("p-1"), "disk-full");
    car.failed(Fault::DiskFull);
    assert_eq!(car.faults("p-1"), "disk-full", "again and again");
    drop(file);
    std::fs::remove_file(&filler).unwrap();
    assert!(car.update().failure.is_none());
    assert_eq!(car.installed("p-1"), Some(next.plaintext));
    assert!(car.path("ballast").exists(), "for the next time");
}

/// Somebody else has taken the room meanwhile.
#[test]
fn a_download_that_fills_the_disk_is_dropped() {
    let case = Case::new(3 * 1024 * 1024, Manner::Well);
    let Some(_disk) = SmallDisk::mount(case.partial().parent().unwrap(), "1m") else { return };
    let error = case.fetch().unwrap_err();
    assert_eq!(error.fault(), Some(Fault::DiskFull), "{error}");
    assert!(!case.partial().exists(), "it would be in everybody's way");
}
