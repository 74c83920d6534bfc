//! Clients that remember what they have seen.

use reqwest::Method;
use serde_json::Value;

use super::drill::Drill;
use crate::director::vehicle::TestVehicle;
use crate::support::{Client, http};

/// A vehicle in the field: a TUF client with a memory for the Image repository, and one that asks
/// the Director.
pub(crate) struct Field {
    vehicle: TestVehicle,
    /// Its own token, and not a person's.
    client: Client,
}

impl Field {
    pub(crate) async fn join(drill: &Drill, vin: &str) -> Self {
        let vehicle = TestVehicle::new(vin);
        let engineer = drill.client();
        let url = format!("{}/api/v1/vehicles", engineer.url);
        let registering = engineer.http.post(url).bearer_auth(&engineer.token);
        let answer = registering.json(&vehicle.record()).send().await.unwrap();
        assert_eq!(answer.status(), 201, "{}", answer.text().await.unwrap());
        drill.shell(
            "curl --noproxy '*' -fso first-root.json $MOTORCADE_SERVER/repo/1.root.json
             motorcade-vehicle tuf --metadata-dir trusted init first-root.json",
        );
        let client = Client { token: vehicle.token.clone(), ..engineer };
        Self { vehicle, client }
    }

    /// Brings what the client trusts up to date, as the same vehicle would.
    pub(crate) fn try_to_refresh(drill: &Drill) -> (bool, String) {
        drill.try_shell(
            "motorcade-vehicle tuf --metadata-dir trusted refresh --metadata-url $MOTORCADE_SERVER/repo",
        )
    }

    #[track_caller]
    pub(crate) fn refresh(drill: &Drill) {
        let (is_fine, said) = Self::try_to_refresh(drill);
        assert!(is_fine, "{said}");
    }

    /// Reports to the Director, and returns the version of the metadata that it gets.
    pub(crate) async fn poll(&mut self) -> u64 {
        self.client.http = http(); // a server that was restarted has closed the connections before
        let Client { http, url, token } = &self.client;
        let manifest = self.vehicle.next_manifest().to_string();
        let request = http.request(Method::PUT, format!("{url}/director/manifest"));
        let answer = request.bearer_auth(token).body(manifest).send().await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
        let bytes = self.client.get("/director/timestamp.json").await;
        let timestamp: Value = serde_json::from_slice(&bytes).unwrap();
        timestamp["signed"]["version"].as_u64().unwrap()
    }
}
