//! Makes a state directory with many published images, for benchmarks: real metadata and envelopes,
//! and sealed images of which only the digests are real.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use motorcade::app::setup::StateDir;
use motorcade::catalog::{AnnouncedBlobs, ListingBound, NewImage};
use motorcade::envelope::jwe::Envelope;
use motorcade::envelope::key::{DataKey, EscrowKey, RecipientPrivateKey};
use motorcade::model::{
    Clock, ImageDescription, ImagePath, ImageRecord, MAX_BIN_BYTES, RoleName, SealAlgorithm,
    SealedImage, Sha256Digest, SystemClock, TargetEntry,
};
use motorcade::uptane::custom::ImageCustom;
use sha2::{Digest, Sha256};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// State directory to make
    #[arg(long)]
    data_dir: PathBuf,
    /// Images to put into it
    #[arg(long)]
    images: u64,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let state = StateDir::new(&args.data_dir);
    let clock = Arc::new(SystemClock);
    state.init(clock.clone()).await?;
    let (repository, _) = state.repositories().await?;
    let recipient = RecipientPrivateKey::generate_p256();
    // The server's own, so that it can wrap their data keys again.
    let escrow = EscrowKey::from_jwk(&fs::read_to_string(args.data_dir.join("keys/escrow.jwk"))?)?;
    let envelope = Envelope::seal(
        &DataKey::generate(),
        SealAlgorithm::Aes256GcmHkdf1Mb,
        &[recipient.public()],
        Some(&escrow),
    )?;
    let (with_escrow, public) = (envelope.to_json_with_escrow(), envelope.public_json()?);
    let catalog = state.open_catalog().await?;
    let author = motorcade::app::access::local_author(clock.now());
    let bound = ListingBound { role_bytes: MAX_BIN_BYTES, folder: None };
    for first in (0..args.images).step_by(1000) {
        let numbers = first..args.images.min(first + 1000);
        let images = numbers.map(|number| {
            let bin_of = |target: &TargetEntry| repository.bins().of(&target.path);
            let mut image = image(number, &public, clock.now(), bin_of)?;
            image.envelope.clone_from(&with_escrow);
            Ok(image)
        });
        catalog
            .insert_images(&images.collect::<anyhow::Result<Vec<_>>>()?, &bound, &author)
            .await?;
    }
    catalog.close().await;
    println!("{{\"kid\":\"{}\"}}", recipient.public().kid());
    Ok(()) // the server publishes what has changed when it starts
}

fn image(
    number: u64,
    envelope: &str,
    now: motorcade::model::Timestamp,
    bin_of: impl Fn(&TargetEntry) -> RoleName,
) -> anyhow::Result<NewImage> {
    let path: ImagePath =
        format!("seeded/ecu-{:04}/{}.0.0/firmware.bin", number % 1000, number / 1000).parse()?;
    let digest = |text: &str| Sha256Digest::from_bytes(Sha256::digest(text).into());
    let description = ImageDescription {
        name: "firmware".parse()?,
        version: format!("{}.0.0", number / 1000).parse()?,
        hardware_ids: vec![format!("ecu-{:04}", number % 1000).parse()?],
        release_counter: (number / 1000).try_into()?,
        target_format: Default::default(),
        requires: Vec::new(),
        conflicts: Vec::new(),
    };
    let sealed = SealedImage {
        algorithm: SealAlgorithm::Aes256GcmHkdf1Mb,
        length: 1_073_758_760,
        sha256: digest(&format!("sealed {number}")),
        plaintext_length: 1 << 30,
        plaintext_sha256: digest(&format!("plaintext {number}")),
    };
    let custom = Some(ImageCustom::new(&description, &sealed).to_json());
    let image = TargetEntry {
        path: path.to_string(),
        length: sealed.length,
        sha256: sealed.sha256,
        custom,
    };
    let envelope = TargetEntry {
        path: path.envelope_path(),
        length: envelope.len() as u64,
        sha256: digest(envelope),
        custom: None,
    };
    let record = ImageRecord {
        path,
        description,
        sealed,
        created_at: now,
        created_by: "seed".into(),
        yanked_at: None,
    };
    let targets = [image, envelope].map(|target| (bin_of(&target), target)).into();
    let (envelope, blobs) = (String::new(), AnnouncedBlobs::default());
    Ok(NewImage { record, envelope, escrow_kid: None, targets, blobs })
}
