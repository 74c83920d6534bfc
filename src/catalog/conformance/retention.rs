//! Files of images that are kept, and those that go.

use super::images::{image, insert, path, with_bins};
use super::{author, now, seconds_later};
use crate::catalog::{Author, Catalog, Holder};

pub(super) async fn a_backup_forgets_the_marks_of_those_that_were_cut_off(catalog: &Catalog) {
    for (owner, at) in [("one", 0), ("two", 100), ("three", 700)] {
        let lease_until = seconds_later(at + 600);
        let backup = Holder { owner, now: seconds_later(at), lease_until };
        catalog.hold_files(backup).await.unwrap();
    }
    let mark = async |owner: &str| {
        catalog.find_installed(&format!("files_held_until/{owner}")).await.unwrap().is_some()
    };
    let left = [mark("one").await, mark("two").await, mark("three").await];
    assert_eq!(left, [false, false, true], "their time is over");
    catalog.release_files("three").await.unwrap();
    assert!(!mark("three").await);
}

async fn yanked(catalog: &Catalog, before: u64) -> Vec<String> {
    let page = catalog.list_yanked_images(seconds_later(before), "", 10).await.unwrap();
    page.items.iter().map(|image| image.path.to_string()).collect()
}

pub(super) async fn a_yanked_image_is_collected_once_unless_it_is_to_be_kept(catalog: &Catalog) {
    with_bins(catalog).await;
    let paths = ["gw/1/a.bin", "gw/2/a.bin", "gw/3/a.bin"];
    insert(catalog, &paths.map(|path| image(path, 10))).await.unwrap();
    let [first, second, third] = paths.map(path);
    assert!(!catalog.collect_image(&first, &author()).await.unwrap(), "it is published");
    for path in [&first, &second] {
        assert!(catalog.yank_image(path, &author()).await.unwrap());
    }
    assert_eq!(yanked(catalog, 0).await, [""; 0], "not before then");
    assert_eq!(yanked(catalog, 1).await, paths[..2]);

    let until = Some(seconds_later(60));
    assert!(catalog.retain_image(&second, until, &author()).await.unwrap());
    assert!(catalog.retain_image(&third, until, &author()).await.unwrap());
    assert_eq!(catalog.find_retention(&second).await.unwrap().retain_until, until);
    assert!(catalog.collect_image(&first, &author()).await.unwrap());
    assert!(!catalog.collect_image(&second, &author()).await.unwrap(), "it is to be kept");
    assert!(!catalog.collect_image(&third, &Author::server(seconds_later(99))).await.unwrap());
    assert!(catalog.collect_image(&first, &author()).await.unwrap(), "that is decided");
    assert_eq!(catalog.find_retention(&first).await.unwrap().collected_at, Some(now()));
    assert!(!catalog.retain_image(&first, until, &author()).await.unwrap(), "it is too late");
    assert_eq!(yanked(catalog, 1).await, paths[..2], "until its files are gone");
    catalog.note_removed_image(&first, now()).await.unwrap();
    catalog.note_removed_image(&second, now()).await.unwrap();
    assert_eq!(yanked(catalog, 1).await, [paths[1]]);

    assert!(catalog.retain_image(&second, None, &author()).await.unwrap());
    let hold = async |owner: &str, lease_until| {
        let backup = Holder { owner, now: now(), lease_until: seconds_later(lease_until) };
        catalog.hold_files(backup).await.unwrap();
    };
    hold("one", 600).await;
    hold("other", 600).await;
    assert!(!catalog.collect_image(&second, &author()).await.unwrap(), "backups are being made");
    catalog.release_files("one").await.unwrap();
    assert!(!catalog.collect_image(&second, &author()).await.unwrap(), "one has not ended");
    hold("third", 0).await; // which was cut off
    hold("other", 30 * 24 * 3600).await; // by a clock that had jumped
    assert!(catalog.collect_image(&second, &author()).await.unwrap(), "that was taken back");
    let page = catalog.list_audit(&Default::default(), i64::MAX, 20).await.unwrap();
    let collected = page.items.iter().filter(|entry| entry.kind == "image_collected");
    assert_eq!(collected.count(), 2, "each is in the log once");
}
