//! A real object store that runs as long as the tests do, with a bucket for each that asks for one.
//!
//! It is Swift with its S3 API, or Ceph's RADOS Gateway if `MOTORCADE_TEST_STORE=rgw` says so.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{
    BehaviorVersion, Credentials, Region, RequestChecksumCalculation, ResponseChecksumValidation,
};

use super::script::ControlledScript;

/// A running store; it ends with this, or with this process.
pub(crate) struct ObjectStore {
    /// Where it answers.
    pub(crate) endpoint: String,
    pub(crate) access_key: String,
    pub(crate) secret_key: String,
    script: ControlledScript,
}

impl ObjectStore {
    /// One store that all tests of a process share.
    pub(crate) fn shared() -> &'static Self {
        static STORE: OnceLock<ObjectStore> = OnceLock::new();
        STORE.get_or_init(Self::start)
    }

    /// A store of one's own.
    pub(crate) fn start() -> Self {
        Self::start_in(&[])
    }

    /// The same in an environment with more in it.
    pub(crate) fn start_in(environment: &[(&str, &str)]) -> Self {
        let (script, [endpoint, access_key, secret_key, _]) =
            ControlledScript::start_in(&Self::kind(), environment);
        Self { endpoint, access_key, secret_key, script }
    }

    /// `swift` or `rgw`.
    pub(crate) fn kind() -> String {
        std::env::var("MOTORCADE_TEST_STORE").unwrap_or_else(|_| "swift".into())
    }

    /// What a process is to have in its environment to use the store.
    pub(crate) fn environment(&self) -> [(&'static str, &str); 5] {
        [
            ("AWS_ACCESS_KEY_ID", &self.access_key),
            ("AWS_SECRET_ACCESS_KEY", &self.secret_key),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ENDPOINT_URL_S3", &self.endpoint),
            ("AWS_EC2_METADATA_DISABLED", "true"),
        ]
    }

    /// A client of another make than the server's settings.
    pub(crate) fn client(&self) -> Client {
        let keys = Credentials::new(&self.access_key, &self.secret_key, None, None, "test");
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .endpoint_url(&self.endpoint)
            .credentials_provider(keys)
            .region(Region::new("us-east-1"))
            .force_path_style(true)
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
        Client::from_conf(config.build())
    }

    /// Makes a bucket, and returns its name.
    pub(crate) async fn bucket(&self) -> String {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("motorcade-{}-{number}", std::process::id());
        let mut tries = 0;
        // Swift's container servers may lag behind what answers.
        while let Err(error) = self.client().create_bucket().bucket(&name).send().await {
            tries += 1;
            assert!(tries < 60, "no bucket can be made: {error:?}");
            tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        }
        name
    }

    /// The keys of all objects in a bucket, and of all multipart uploads that were not ended.
    pub(crate) async fn content(&self, bucket: &str) -> (Vec<String>, Vec<String>) {
        let client = self.client();
        let mut keys = Vec::new();
        let mut pages = client.list_objects_v2().bucket(bucket).into_paginator().send();
        while let Some(page) = pages.next().await {
            let page = page.expect("a bucket can be listed");
            keys.extend(
                page.contents().iter().filter_map(|object| object.key()).map(str::to_owned),
            );
        }
        let uploads = client.list_multipart_uploads().bucket(bucket).send().await;
        let uploads = uploads.expect("uploads can be listed");
        let uploads = uploads.uploads().iter().filter_map(|upload| upload.key());
        (keys, uploads.map(str::to_owned).collect())
    }

    /// Ends what answers, or starts it again.
    pub(crate) fn tell(&self, command: &str) {
        self.script.tell(command);
    }
}
