//! The client of a store: where it is, how long is waited, and what is tried again.

use std::sync::Arc;
use std::time::Duration;

use aws_config::BehaviorVersion;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{
    Builder, Credentials, Region, RequestChecksumCalculation, ResponseChecksumValidation,
    StalledStreamProtectionConfig,
};
use aws_sdk_s3::presigning::PresigningConfig;
use tokio::runtime::Handle;
use url::Url;

use super::fault::{Fault, Kind};
use super::objects::Objects;
use super::timeouts::{TRIES, timeouts, tries};
use crate::model::{Addressing, Bucket};

/// Connects to nothing yet; finds out where the store is. Without `keys` it takes them from where AWS's
/// own programs do.
///
/// # Errors
///
/// [`Kind::Away`] if there are no credentials, or nothing says where the store is.
pub(super) async fn open(
    bucket: &Bucket,
    keys: Option<Credentials>,
    runtime: Handle,
) -> Result<Arc<Objects>, Fault> {
    let loader = aws_config::defaults(BehaviorVersion::latest());
    let loader = match keys {
        Some(keys) => loader.credentials_provider(keys),
        None => loader,
    };
    let shared = loader.load().await;
    let region = shared.region().cloned().unwrap_or(Region::from_static(DEFAULT_REGION));
    let checksums =
        shared.request_checksum_calculation().unwrap_or(RequestChecksumCalculation::WhenRequired);
    let validation =
        shared.response_checksum_validation().unwrap_or(ResponseChecksumValidation::WhenRequired);
    let builder = Builder::from(&shared)
        .region(region)
        // Trailing checksums, which the SDK would send otherwise, fail at stores that don't know them.
        .request_checksum_calculation(checksums)
        .response_checksum_validation(validation)
        // A clock that is wrong is told of, since what is signed for vehicles has its time.
        .disable_clock_skew_correction(true)
        // What is read is sent on as slowly as a client takes it; whoever waits has a limit of its own.
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .retry_config(tries(TRIES))
        .timeout_config(timeouts(ATTEMPT, OPERATION));
    let builder = match &bucket.endpoint {
        Some(endpoint) => builder.endpoint_url(endpoint.as_str()),
        None => builder,
    };
    let endpoint = endpoint(builder.clone(), bucket).await?;
    let is_path = match bucket.addressing {
        Some(addressing) => addressing == Addressing::Path,
        None => !endpoint.host_str().is_some_and(|host| host.ends_with(".amazonaws.com")),
    };
    let config = builder.force_path_style(is_path).build();
    let presigner = match &bucket.public_endpoint {
        Some(public) => config.to_builder().endpoint_url(public.as_str()).build(),
        None => config.clone(),
    };
    Ok(Arc::new(Objects {
        client: Client::from_conf(config),
        presigner: Client::from_conf(presigner),
        url: bucket.url.clone(),
        encryption: bucket.encryption.clone(),
        store: endpoint.origin().ascii_serialization(),
        runtime,
    }))
}

/// Where requests would go, whatever says so: a setting, a variable, a profile, or the region.
async fn endpoint(builder: Builder, bucket: &Bucket) -> Result<Url, Fault> {
    let unusable = |fault: String| Fault::new(Kind::Away, fault);
    let client = Client::from_conf(builder.force_path_style(true).build());
    let presigning = PresigningConfig::expires_in(Duration::from_secs(60));
    let presigning = presigning.map_err(|error| unusable(error.to_string()))?;
    let request = client.get_object().bucket(&bucket.url.bucket).key("x").presigned(presigning);
    let presigned = request.await.map_err(|error| {
        let fault = Fault::of("the store", &bucket.url.bucket, &error);
        unusable(format!("{NO_CREDENTIALS}: {}", fault.reason()))
    })?;
    Url::parse(presigned.uri()).map_err(|error| unusable(error.to_string()))
}

/// Signatures name one; a store that has none takes this.
const DEFAULT_REGION: &str = "us-east-1";
const NO_CREDENTIALS: &str = "no request to the object store can be signed; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or have \
     credentials where AWS's own programs find them";
/// Of what is small.
const ATTEMPT: Duration = Duration::from_secs(20);
const OPERATION: Duration = Duration::from_secs(60);
