//! Role keys in AWS KMS: P-256 and RSA of 2048 to 4096 bits, whose private halves nobody has.
//!
//! Region, credentials and endpoint come from where AWS's own programs take them: the environment,
//! its files, the identity of the machine. What is signed goes to KMS, of longer files their digest, and
//! a signature comes back; the public half is read once, when the key is opened.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region};
use aws_sdk_kms::Client;
use aws_sdk_kms::error::DisplayErrorContext;
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{KeyUsageType, MessageType, SigningAlgorithmSpec};
use pkcs8::Document;
use pkcs8::der::pem::LineEnding;
use sha2::{Digest, Sha256};

use super::source::KeySource;
use super::{BackendError, Signer};
use motorcade_uptane::key::{PublicKey, Scheme};

/// A private key in AWS KMS.
pub(super) struct KmsSigner {
    client: Client,
    id: String,
    public: PublicKey,
    algorithm: SigningAlgorithmSpec,
}

impl KmsSigner {
    /// Looks up the key with an id, an alias (`alias/…`) or an ARN.
    ///
    /// # Errors
    ///
    /// Whatever KMS says; that it is no key that signs, or not of a kind that metadata can have.
    pub(super) async fn open(id: &str) -> Result<Self, BackendError> {
        let client = client(id).await;
        let found = client.get_public_key().key_id(id).send().await;
        let found = found.map_err(|error| told(&error))?;
        if found.key_usage() != Some(&KeyUsageType::SignVerify) {
            return Err("it is no key that signs: its usage has to be SIGN_VERIFY".into());
        }
        let der = found.public_key().map(Blob::as_ref).unwrap_or_default();
        let pem = Document::try_from(der)?.to_pem("PUBLIC KEY", LineEnding::LF)?;
        let public = PublicKey::parse(&pem)?.as_named()?;
        let algorithm = match public.scheme() {
            Scheme::EcdsaSha2Nistp256 => SigningAlgorithmSpec::EcdsaSha256,
            Scheme::RsassaPssSha256 => SigningAlgorithmSpec::RsassaPssSha256,
            // KMS signs at most 4096 bytes with it, and metadata is longer.
            Scheme::Ed25519 | Scheme::MlDsa65 => return Err(UNFIT.into()),
        };
        if !found.signing_algorithms().contains(&algorithm) {
            return Err(UNFIT.into());
        }
        Ok(Self { client, id: id.to_owned(), public, algorithm })
    }
}

/// A client for the region of the key, if its ARN says so.
async fn client(id: &str) -> Client {
    let region = id.strip_prefix("arn:").and_then(|arn| arn.split(':').nth(2)).map(str::to_owned);
    let timeouts =
        TimeoutConfig::builder().connect_timeout(CONNECT).operation_timeout(OPERATION).build();
    let loader = aws_config::defaults(BehaviorVersion::latest()).timeout_config(timeouts);
    let loader = match region {
        Some(region) => loader.region(Region::new(region)),
        None => loader,
    };
    Client::new(&loader.load().await)
}

#[async_trait]
impl Signer for KmsSigner {
    fn place(&self) -> String {
        format!("awskms:{}", self.id)
    }

    fn source(&self) -> KeySource {
        KeySource::AwsKms(self.id.clone())
    }

    fn public(&self) -> &PublicKey {
        &self.public
    }

    async fn sign(&self, message: &[u8]) -> Result<Vec<u8>, BackendError> {
        let (message_type, sent) = match message.len() {
            0..=MOST_BYTES => (MessageType::Raw, message.to_vec()),
            _ => (MessageType::Digest, Sha256::digest(message).to_vec()),
        };
        let signed = self
            .client
            .sign()
            .key_id(&self.id)
            .message_type(message_type)
            .message(Blob::new(sent))
            .signing_algorithm(self.algorithm.clone())
            .send()
            .await
            .map_err(|error| told(&error))?;
        let signature = signed.signature().map(Blob::as_ref).unwrap_or_default();
        // What it answers goes into metadata that vehicles take for an attack if it is wrong.
        if !self.public.verifies(message, signature) {
            return Err("what KMS answered is no signature of this key".into());
        }
        Ok(signature.to_vec())
    }
}

impl fmt::Debug for KmsSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KmsSigner({})", self.public.id())
    }
}

/// With its causes, which is where KMS says what is wrong.
fn told<E: std::error::Error>(error: &E) -> BackendError {
    DisplayErrorContext(error).to_string().into()
}

/// KMS takes so much and hashes it itself.
const MOST_BYTES: usize = 4096;
const UNFIT: &str =
    "metadata can't be signed with this kind of key: use ECC_NIST_P256, or RSA_2048 to RSA_4096";
const CONNECT: Duration = Duration::from_secs(3);
/// All tries together: whoever waits for a signature is told in time that there is none.
const OPERATION: Duration = Duration::from_secs(10);
