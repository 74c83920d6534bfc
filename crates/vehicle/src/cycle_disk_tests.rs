//! Cycles on full disks.

use std::io::Write;

use motorcade_uptane::verify::Fault;

use crate::testing::car::{Car, image};
use crate::testing::small_disk::SmallDisk;

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
    car.updated();
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
    car.updated();
    assert_eq!(car.installed("p-1"), Some(next.plaintext));
    assert!(car.path("ballast").exists(), "for the next time");
}
