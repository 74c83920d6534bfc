//! Servers that show that they are there.

use super::seconds_later;
use crate::catalog::{BlobsOf, Catalog, ServerRecord, Shown};

fn server(id: &str, process: &str, place: &str, blobs: BlobsOf) -> ServerRecord {
    let described = format!("process {process} at {place}");
    ServerRecord { id: id.into(), process: process.into(), place: place.into(), blobs, described }
}

/// The processes that a server can't be beside, ten seconds before its lease would end.
async fn show(catalog: &Catalog, server: &ServerRecord, shown: Shown, at: u64) -> Vec<String> {
    let times = (seconds_later(at), seconds_later(at + 10));
    let others = catalog.show_server(server, shown, times).await.unwrap();
    others.into_iter().map(|other| other.server.process).collect()
}

pub(super) async fn servers_that_share_their_blobs_are_beside_each_other(catalog: &Catalog) {
    let [one, two] = ["one", "two"].map(|id| server(id, id, id, BlobsOf::All));
    for at in [0, 5] {
        for server in [&one, &two] {
            assert_eq!(show(catalog, server, Shown::AtStart, at).await, [""; 0]);
            assert_eq!(show(catalog, server, Shown::Again, at + 1).await, [""; 0]);
        }
    }
    let alone = server("three", "three", "three", BlobsOf::One);
    assert_eq!(show(catalog, &alone, Shown::AtStart, 7).await, ["one", "two"]);
    assert_eq!(show(catalog, &one, Shown::Again, 8).await, [""; 0], "it was not let in");
}

pub(super) async fn a_server_with_blobs_of_its_own_is_alone(catalog: &Catalog) {
    let [one, two] = ["one", "two"].map(|id| server(id, id, id, BlobsOf::One));
    assert_eq!(show(catalog, &one, Shown::AtStart, 0).await, [""; 0]);
    let shares = server("three", "three", "three", BlobsOf::All);
    for other in [&two, &shares] {
        assert_eq!(show(catalog, other, Shown::AtStart, 9).await, ["one"]);
    }
    let times = (seconds_later(9), seconds_later(19));
    let before = catalog.show_server(&two, Shown::AtStart, times).await.unwrap();
    assert_eq!(show(catalog, &one, Shown::Again, 9).await, [""; 0]);
    let after = catalog.show_server(&two, Shown::AtStart, times).await.unwrap();
    assert_eq!(before[0].server, after[0].server);
    assert!(before[0].shown < after[0].shown, "it lives");
    // One that was paused finds who came meanwhile.
    assert_eq!(show(catalog, &two, Shown::AtStart, 19).await, [""; 0]);
    assert_eq!(show(catalog, &one, Shown::Again, 20).await, ["two"]);
    catalog.end_server("two").await.unwrap();
    assert_eq!(show(catalog, &one, Shown::Again, 20).await, [""; 0]);
}

pub(super) async fn of_one_id_there_is_one_server(catalog: &Catalog) {
    let here = server("one", "first", "here", BlobsOf::All);
    assert_eq!(show(catalog, &here, Shown::AtStart, 0).await, [""; 0]);
    let copy = server("one", "copy", "elsewhere", BlobsOf::All);
    assert_eq!(show(catalog, &copy, Shown::AtStart, 1).await, ["first"]);
    // Who has the lock of the same directory knows that the one before is gone.
    let again = server("one", "second", "here", BlobsOf::All);
    assert_eq!(show(catalog, &again, Shown::AtStart, 1).await, [""; 0]);
    assert_eq!(show(catalog, &here, Shown::Again, 2).await, ["second"]);
    catalog.end_server("first").await.unwrap();
    assert_eq!(show(catalog, &copy, Shown::AtStart, 2).await, ["second"]);
    assert_eq!(show(catalog, &copy, Shown::AtStart, 11).await, [""; 0], "its time is over");
    // By a clock that had jumped; nobody waits for so long.
    let times = (seconds_later(12), seconds_later(30 * 24 * 60 * 60));
    assert_eq!(catalog.show_server(&copy, Shown::Again, times).await.unwrap(), []);
    assert_eq!(show(catalog, &here, Shown::AtStart, 13).await, [""; 0]);
}
