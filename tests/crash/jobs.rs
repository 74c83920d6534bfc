//! Jobs under which the server is killed.

use std::time::Duration;

use serde_json::Value;

use crate::support::{Client, Server};
use crate::{Rng, Site};

/// Kills the server again and again until the newest job is done; returns the one that did the rest
/// of it, and adds to `kills`.
pub(crate) async fn kill_until_done(
    site: &Site,
    mut server: Server,
    token: &str,
    rng: &mut Rng,
    kills: &mut usize,
) -> Server {
    for attempt in 0_u32.. {
        // Milliseconds at first: a fast machine is done in ten.
        tokio::time::sleep(rng.duration(Duration::from_millis(2 << attempt.min(8)))).await;
        if is_done(&server.client(token)).await {
            break;
        }
        // A job that gets no further ten times is given up, and a machine may be that slow.
        if attempt < 8 {
            server.process.kill();
            *kills += 1;
            server = site.serve(&[]);
        }
    }
    server
}

async fn is_done(client: &Client) -> bool {
    let jobs: Value = serde_json::from_slice(&client.get("/api/v1/jobs?limit=1").await).unwrap();
    let job = &jobs["jobs"][0];
    assert_ne!(job["state"], "failed", "{job}");
    job["state"] == "done"
}
