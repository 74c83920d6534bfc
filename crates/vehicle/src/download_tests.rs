use std::path::PathBuf;
use std::time::Duration;

use motorcade_uptane::verify::{Attack, Fault, Finding, Hashes};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::{Wanted, fetch};
use crate::Error;
use crate::clients::Tls;
use crate::http::Http;
use crate::http_error::HttpError;
use crate::testing::server::{Manner, Server};
use crate::testing::small_disk::SmallDisk;
use crate::waiting::Patience;

struct Case {
    server: Server,
    folder: TempDir,
    file: Vec<u8>,
}

impl Case {
    fn new(length: usize, manner: Manner) -> Self {
        let file: Vec<u8> = (0..length).map(|i| (i * 31 % 251) as u8).collect();
        let server = Server::start();
        server.put("/f", &file);
        server.behave("/f", manner);
        Self { server, folder: tempfile::tempdir().unwrap(), file }
    }

    fn partial(&self) -> PathBuf {
        self.folder.path().join("partial")
    }

    fn fetch(&self) -> Result<(), Error> {
        let second = Duration::from_secs(1);
        let patience =
            Patience { answer: second * 5, stall: second, min_speed: 1024, window: second };
        let http = Http::new(Tls::default(), patience).unwrap();
        let hashes = serde_json::json!({ "sha256": hex::encode(Sha256::digest(&self.file)) });
        let hashes: Hashes = serde_json::from_value(hashes).unwrap();
        let url = format!("{}/f", self.server.url);
        let wanted = Wanted {
            name: "f",
            url: &url,
            token: None,
            length: self.file.len() as u64,
            hashes: &hashes,
        };
        fetch(&http, &wanted, &self.partial())
    }

    fn ranges(&self) -> Vec<Option<String>> {
        self.server.requests().into_iter().map(|(_, _, range)| range).collect()
    }

    fn assert_done(&self) {
        assert_eq!(std::fs::read(self.partial()).unwrap(), self.file);
    }
}

const LENGTH: usize = 3 * 1024 * 1024 + 17;

#[test]
fn a_download_that_is_cut_goes_on_where_it_was() {
    let case = Case::new(LENGTH, Manner::CutOnce(1_500_000));
    case.fetch().unwrap();
    case.assert_done();
    let ranges = case.ranges();
    assert_eq!((ranges.len(), &ranges[0]), (2, &None));
    let from: usize = ranges[1]
        .as_ref()
        .unwrap()
        .strip_prefix("bytes=")
        .unwrap()
        .trim_end_matches('-')
        .parse()
        .unwrap();
    assert!((1_000_000..=1_500_000).contains(&from), "{from}");
}

#[test]
fn a_download_goes_on_after_a_reboot_and_is_not_fetched_twice() {
    let case = Case::new(LENGTH, Manner::Well);
    std::fs::write(case.partial(), &case.file[..1000]).unwrap();
    case.fetch().unwrap();
    case.assert_done();
    assert_eq!(case.ranges(), [Some("bytes=1000-".to_owned())]);
    case.fetch().unwrap();
    assert_eq!(case.ranges(), [], "it is there");
}

#[test]
fn a_server_that_knows_no_ranges_is_good_enough() {
    let case = Case::new(LENGTH, Manner::Whole);
    std::fs::write(case.partial(), &case.file[..1000]).unwrap();
    case.fetch().unwrap();
    case.assert_done();
}

#[test]
fn a_file_that_was_replaced_meanwhile_is_fetched_from_its_start() {
    let case = Case::new(LENGTH, Manner::Replaced);
    std::fs::write(case.partial(), vec![0; 1000]).unwrap();
    std::fs::write(case.folder.path().join("partial.etag"), "\"one\"").unwrap();
    case.fetch().unwrap();
    case.assert_done();
}

#[test]
fn bytes_that_did_not_survive_are_fetched_again() {
    let case = Case::new(LENGTH, Manner::Well);
    std::fs::write(case.partial(), vec![0; 2_000_000]).unwrap();
    case.fetch().unwrap();
    case.assert_done();
    assert_eq!(case.ranges(), [Some("bytes=2000000-".to_owned()), None]);
    std::fs::write(case.partial(), vec![0; LENGTH + 1]).unwrap();
    case.fetch().unwrap();
    case.assert_done();
}

/// AT-16.
#[test]
fn not_one_byte_more_is_taken_than_was_signed() {
    let case = Case::new(LENGTH, Manner::Endless);
    let error = case.fetch().unwrap_err();
    assert!(
        matches!(error, Error::Http(HttpError::TooLarge { limit, .. }) if limit == LENGTH as u64),
        "{error}"
    );
    assert_eq!(error.attack(), Some(Attack::EndlessData));
    let longer = Case { file: vec![1; 10], ..Case::new(11, Manner::Well) };
    assert!(
        matches!(longer.fetch(), Err(Error::Http(HttpError::TooLarge { .. }))),
        "announced by Content-Length"
    );
}

/// AT-5. What stands still is a bad link, and what trickles each time is slow retrieval.
#[test]
fn a_server_that_stalls_or_drips_is_given_up_and_what_came_is_kept() {
    let case = Case::new(LENGTH, Manner::StallAfter(1000));
    std::fs::write(case.partial(), &case.file[..1_000_000]).unwrap();
    let error = case.fetch().unwrap_err();
    assert!(matches!(error, Error::Http(HttpError::Stalled { .. })), "{error}");
    assert_eq!(error.finding(), Some(Finding::Fault(Fault::Stalled)));
    assert!(std::fs::metadata(case.partial()).unwrap().len() >= 1_000_000);
    assert!(case.ranges().len() > 2, "it was tried again");
    let case = Case::new(LENGTH, Manner::Drip);
    let error = case.fetch().unwrap_err();
    assert!(matches!(error, Error::Http(HttpError::TooSlow { .. })), "{error}");
    assert_eq!(error.finding(), Some(Finding::Attack(Attack::SlowRetrieval)));
    assert!(case.ranges().len() > 1, "once is not enough");
}

/// A tunnel, a suspended vehicle, a server that was paused.
#[test]
fn a_download_that_stood_still_goes_on_where_it_was() {
    let case = Case::new(LENGTH, Manner::StallOnce(1_500_000));
    case.fetch().unwrap();
    case.assert_done();
    let ranges = case.ranges();
    assert_eq!((ranges.len(), &ranges[0]), (2, &None));
    assert!(ranges[1].as_ref().is_some_and(|range| range.starts_with("bytes=1")), "{ranges:?}");
}

/// A link of which each try brings something is of use, however often it is cut.
#[test]
fn a_link_that_is_cut_again_and_again_gets_there() {
    let case = Case::new(12 * 1024 * 1024, Manner::CutAfter(1_100_000));
    case.fetch().unwrap();
    case.assert_done();
    assert!(case.ranges().len() > 8);
}

/// And one that begins from the start each time is given up.
#[test]
fn a_server_that_begins_again_each_time_is_given_up() {
    let case = Case::new(LENGTH, Manner::WholeCutAfter(1_100_000));
    let error = case.fetch().unwrap_err();
    assert_eq!(error.finding(), Some(Finding::Fault(Fault::Unreachable)), "{error}");
    assert!(case.ranges().len() < 12);
}

#[test]
fn a_login_page_is_no_image_and_costs_nothing_of_what_is_there() {
    let case = Case::new(LENGTH, Manner::PortalOnce);
    std::fs::write(case.partial(), &case.file[..1000]).unwrap();
    let error = case.fetch().unwrap_err();
    assert_eq!(error.finding(), Some(Finding::Fault(Fault::Garbled)), "{error}");
    assert_eq!(std::fs::metadata(case.partial()).unwrap().len(), 1000);
    case.ranges();
    case.fetch().unwrap();
    case.assert_done();
    assert_eq!(case.ranges(), [Some("bytes=1000-".to_owned())]);
}

/// AT-21.
#[test]
fn other_bytes_than_were_signed_are_refused_and_not_kept() {
    let case = Case::new(1000, Manner::Well);
    case.server.put("/f", &[7; 1000]);
    let error = case.fetch().unwrap_err();
    assert!(matches!(error, Error::WrongTarget { .. }), "{error}");
    assert_eq!(error.attack(), Some(Attack::ArbitrarySoftware));
    assert!(!case.partial().exists());
}

#[test]
fn an_empty_file_is_a_file() {
    let case = Case::new(0, Manner::Well);
    case.fetch().unwrap();
    case.assert_done();
}

#[test]
fn an_image_that_somebody_compressed_on_the_way_is_a_broken_transfer() {
    let case = Case::new(1000, Manner::Coded("gzip"));
    let error = case.fetch().unwrap_err();
    assert!(matches!(error, Error::Http(HttpError::Network { .. })), "{error:?}");
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
