//! Images, their targets, and blobs that are announced for them.

use super::{author, digest, now, seconds_later};
use crate::catalog::{AnnouncedBlobs, Catalog, Error, Holder, ListingBound, NewImage};
use crate::model::{
    ImageDescription, ImagePath, ImageRecord, RoleName, SealAlgorithm, SealedImage, TargetEntry,
};

const BOUND: ListingBound = ListingBound { role_bytes: 100_000, folder: None };

pub(super) fn bin(name: &str) -> RoleName {
    name.parse().unwrap()
}

pub(super) fn path(text: &str) -> ImagePath {
    text.parse().unwrap()
}

pub(in crate::catalog) fn image(at: &str, custom: usize) -> NewImage {
    let target = |path: String, custom: Option<String>| TargetEntry {
        path,
        length: 1,
        sha256: digest(1),
        custom,
    };
    let record = ImageRecord {
        path: path(at),
        description: ImageDescription {
            name: "firmware".parse().unwrap(),
            version: "1".parse().unwrap(),
            hardware_ids: vec!["gw-mk3".parse().unwrap()],
            release_counter: 1.try_into().unwrap(),
            target_format: Default::default(),
            requires: Vec::new(),
            conflicts: Vec::new(),
        },
        sealed: SealedImage {
            algorithm: SealAlgorithm::default(),
            length: 1,
            sha256: digest(1),
            plaintext_length: 1,
            plaintext_sha256: digest(2),
        },
        created_at: now(),
        created_by: "ci".into(),
        yanked_at: None,
    };
    let envelope = record.path.envelope_path();
    let filler = Some(format!("\"{}\"", "x".repeat(custom)));
    NewImage {
        targets: vec![
            (bin("bin-0"), target(at.to_owned(), filler)),
            (bin("bin-1"), target(envelope, None)),
        ],
        blobs: AnnouncedBlobs::default(),
        envelope: "{}".into(),
        escrow_kid: None,
        record,
    }
}

pub(in crate::catalog) async fn with_bins(catalog: &Catalog) {
    catalog.ensure_roles(&[bin("bin-0"), bin("bin-1")]).await.unwrap();
}

pub(in crate::catalog) async fn insert(
    catalog: &Catalog,
    images: &[NewImage],
) -> Result<(), Error> {
    catalog.insert_images(images, &BOUND, &author()).await
}

async fn changed(catalog: &Catalog) -> Vec<String> {
    let roles = catalog.list_roles().await.unwrap();
    roles.into_iter().filter(|role| role.is_changed).map(|role| role.name.to_string()).collect()
}

pub(super) async fn accepts_images_with_all_of_their_targets_or_none(catalog: &Catalog) {
    with_bins(catalog).await;
    insert(catalog, &[image("gw/1/a.bin", 10), image("gw/2/a.bin", 10)]).await.unwrap();
    assert_eq!(changed(catalog).await, ["bin-0", "bin-1"]);
    assert_eq!(catalog.count_images().await.unwrap(), 2);
    let before = catalog.largest_listing().await.unwrap();
    let refused = insert(catalog, &[image("gw/3/a.bin", 10), image("gw/1/a.bin", 10)]).await;
    assert!(matches!(&refused, Err(Error::AlreadyExists(path)) if path == "gw/1/a.bin"));
    assert!(catalog.find_image(&path("gw/3/a.bin")).await.unwrap().is_none());
    assert!(catalog.find_target("gw/3/a.bin").await.unwrap().is_none());
    assert_eq!(catalog.largest_listing().await.unwrap(), before);
    let stored = catalog.find_image(&path("gw/2/a.bin")).await.unwrap().unwrap();
    assert_eq!(stored, image("gw/2/a.bin", 10).record);
}

pub(super) async fn a_path_is_used_once_even_after_a_yank(catalog: &Catalog) {
    with_bins(catalog).await;
    insert(catalog, &[image("gw/1/a.bin", 10)]).await.unwrap();
    assert!(catalog.yank_image(&path("gw/1/a.bin"), &author()).await.unwrap());
    let again = insert(catalog, &[image("gw/1/a.bin", 10)]).await;
    assert!(matches!(again, Err(Error::AlreadyExists(_))), "{again:?}");
}

pub(super) async fn a_yank_takes_both_targets_out_and_happens_once(catalog: &Catalog) {
    with_bins(catalog).await;
    insert(catalog, &[image("gw/1/a.bin", 10)]).await.unwrap();
    assert!(catalog.largest_listing().await.unwrap() > 0);
    let path = path("gw/1/a.bin");
    assert!(catalog.yank_image(&path, &author()).await.unwrap());
    assert!(!catalog.yank_image(&path, &author()).await.unwrap());
    for role in ["bin-0", "bin-1"] {
        assert_eq!(catalog.list_targets(&bin(role)).await.unwrap(), []);
    }
    assert_eq!(catalog.largest_listing().await.unwrap(), 0);
    assert_eq!(catalog.count_images().await.unwrap(), 0);
    assert_eq!(catalog.find_image(&path).await.unwrap().unwrap().yanked_at, Some(now()));
}

pub(super) async fn a_full_role_accepts_none_of_them(catalog: &Catalog) {
    with_bins(catalog).await;
    insert(catalog, &[image("gw/1/a.bin", 60_000)]).await.unwrap();
    let before = catalog.largest_listing().await.unwrap();
    let refused = insert(catalog, &[image("gw/2/a.bin", 10), image("gw/3/a.bin", 60_000)]).await;
    assert!(
        matches!(&refused, Err(Error::RoleFull { role, folder: None }) if *role == bin("bin-0"))
    );
    assert!(catalog.find_image(&path("gw/2/a.bin")).await.unwrap().is_none());
    assert_eq!(catalog.largest_listing().await.unwrap(), before);
}

fn holder(owner: &str, from: u64) -> Holder<'_> {
    let (now, lease_until) = (seconds_later(from), seconds_later(from + 60));
    Holder { owner, now, lease_until }
}

/// An image for which a server has announced a blob.
fn announced(at: &str, owner: &str) -> NewImage {
    let blobs = AnnouncedBlobs { names: vec![format!("blob of {at}")], owner: owner.to_owned() };
    NewImage { blobs, ..image(at, 10) }
}

async fn announce(catalog: &Catalog, image: &NewImage, from: u64) {
    let AnnouncedBlobs { names, owner } = &image.blobs;
    catalog.announce_blobs(names, holder(owner, from)).await.unwrap();
}

pub(super) async fn an_accepted_image_ends_the_announcement_of_its_blobs(catalog: &Catalog) {
    with_bins(catalog).await;
    let [one, two] = [announced("gw/1/a.bin", "a"), announced("gw/2/a.bin", "a")];
    for image in [&one, &two, &two] {
        announce(catalog, image, 0).await;
    }
    assert_eq!(catalog.pending_blobs().await.unwrap().len(), 2);
    insert(catalog, &[one]).await.unwrap();
    assert_eq!(catalog.pending_blobs().await.unwrap(), two.blobs.names);
    catalog.forget_pending_blob(&two.blobs.names[0]).await.unwrap();
    assert_eq!(catalog.pending_blobs().await.unwrap(), Vec::<String>::new());
}

pub(super) async fn a_server_takes_its_own_blobs_and_those_that_nobody_holds(catalog: &Catalog) {
    with_bins(catalog).await;
    for (path, owner, from) in
        [("gw/1/a.bin", "a", 0), ("gw/2/a.bin", "b", 0), ("gw/3/a.bin", "b", 100)]
    {
        announce(catalog, &announced(path, owner), from).await;
    }
    let taken = catalog.take_abandoned_blobs(holder("a", 30)).await.unwrap();
    assert_eq!(taken, ["blob of gw/1/a.bin"]);
    let taken = catalog.take_abandoned_blobs(holder("c", 120)).await.unwrap();
    assert_eq!(taken, ["blob of gw/1/a.bin", "blob of gw/2/a.bin"], "their leases have ended");
    assert_eq!(catalog.pending_blobs().await.unwrap().len(), 3, "until they are removed");
}

/// Two servers come to the same name where an upload goes on at another one.
pub(super) async fn a_blob_is_removed_by_whom_it_belongs_to_and_unlisted(catalog: &Catalog) {
    with_bins(catalog).await;
    let image = announced("gw/1/a.bin", "a");
    let (name, target) = (&image.blobs.names[0], &image.targets[0].1);
    let file = (target.path.as_str(), &target.sha256);
    announce(catalog, &image, 0).await;
    catalog.announce_blobs(&image.blobs.names, holder("b", 0)).await.unwrap();
    assert!(!catalog.take_for_removal(name, file, holder("a", 0)).await.unwrap(), "it is b's");
    assert_eq!(catalog.pending_blobs().await.unwrap(), image.blobs.names);
    let by_b = NewImage {
        blobs: AnnouncedBlobs { owner: "b".into(), ..image.blobs.clone() },
        ..announced("gw/1/a.bin", "b")
    };
    insert(catalog, &[by_b]).await.unwrap();
    assert!(!catalog.take_for_removal(name, file, holder("a", 0)).await.unwrap(), "it is gone");
    announce(catalog, &image, 0).await;
    assert!(!catalog.take_for_removal(name, file, holder("a", 0)).await.unwrap(), "it is listed");
    assert!(catalog.pending_blobs().await.unwrap().is_empty(), "and no leftover");

    let other = announced("gw/2/a.bin", "a");
    let (name, target) = (&other.blobs.names[0], &other.targets[0].1);
    announce(catalog, &other, 0).await;
    let file = (target.path.as_str(), &target.sha256);
    assert!(catalog.take_for_removal(name, file, holder("a", 0)).await.unwrap());
    let announced = catalog.announce_blobs(&other.blobs.names, holder("b", 0)).await;
    assert!(matches!(announced, Err(Error::Overtaken)), "it is being removed: {announced:?}");
    let taken = catalog.take_abandoned_blobs(holder("a", 0)).await.unwrap();
    assert_eq!(taken, other.blobs.names, "by a server that was killed meanwhile");
    assert!(catalog.take_for_removal(name, file, holder("a", 0)).await.unwrap());
    catalog.forget_pending_blob(name).await.unwrap();
    catalog.announce_blobs(&other.blobs.names, holder("b", 0)).await.unwrap();
}

/// Its bytes may have been removed.
pub(super) async fn an_image_whose_blobs_were_taken_is_not_accepted(catalog: &Catalog) {
    with_bins(catalog).await;
    let image = announced("gw/1/a.bin", "a");
    announce(catalog, &image, 0).await;
    catalog.take_abandoned_blobs(holder("b", 100)).await.unwrap();
    let overtaken = insert(catalog, std::slice::from_ref(&image)).await;
    assert!(matches!(overtaken, Err(Error::Overtaken)), "{overtaken:?}");
    assert!(catalog.find_image(&image.record.path).await.unwrap().is_none());
    assert_eq!(catalog.pending_blobs().await.unwrap(), image.blobs.names);
}

pub(super) async fn pages_follow_each_other_in_the_order_of_paths(catalog: &Catalog) {
    with_bins(catalog).await;
    // By their bytes: no dictionary has this order.
    let paths =
        ["GW/1/b.bin", "gw/1/Z.bin", "gw/1/a-z.bin", "gw/1/a.bin", "gw/20/a.bin", "gw/3/a.bin"];
    let images: Vec<NewImage> = paths.iter().rev().map(|path| image(path, 10)).collect();
    insert(catalog, &images).await.unwrap();
    let (mut walked, mut after) = (Vec::new(), Some(String::new()));
    while let Some(from) = after {
        let page = catalog.list_images(&from, 2).await.unwrap();
        walked.extend(page.items.iter().map(|image| image.path.to_string()));
        after = page.next;
    }
    assert_eq!(walked, paths);
}

pub(super) async fn an_image_for_a_key_that_was_retired_meanwhile_is_not_accepted(
    catalog: &Catalog,
) {
    with_bins(catalog).await;
    let sealed_for = |kid: &str, at: &str| {
        let envelope = format!(r#"{{"recipients":[{{"header":{{"kid":"{kid}"}}}}]}}"#);
        NewImage { envelope, ..image(at, 10) }
    };
    insert(catalog, &[sealed_for("key-1", "gw/1/a.bin")]).await.unwrap();
    catalog.retire_recipient("key-1", None, &author()).await.unwrap();
    let late = insert(catalog, &[sealed_for("key-1", "gw/2/a.bin")]).await;
    assert!(matches!(&late, Err(Error::Retired { kid }) if kid == "key-1"), "{late:?}");
    assert!(catalog.find_image(&path("gw/2/a.bin")).await.unwrap().is_none());
    insert(catalog, &[sealed_for("key-2", "gw/2/a.bin")]).await.unwrap();
}
