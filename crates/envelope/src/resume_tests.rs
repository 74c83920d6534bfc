use std::io::Write;

use motorcade_model::SealAlgorithm;
use proptest::prelude::*;

use super::*;
use crate::stream::{SealWriter, SegmentReader};

const SMALL: SealAlgorithm = SealAlgorithm::Aes256GcmHkdf4Kb;
const LARGE: SealAlgorithm = SealAlgorithm::Aes256GcmHkdf1Mb;

fn key() -> DataKey {
    DataKey::from_bytes([9; 32])
}

fn binding(length: u64, algorithm: SealAlgorithm) -> UploadBinding<'static> {
    UploadBinding { id: "0123456789ab", length, algorithm }
}

fn plaintext(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i * 31 % 251) as u8).collect()
}

fn open(sealed: &[u8], algorithm: SealAlgorithm) -> Vec<u8> {
    let mut reader = SegmentReader::new(sealed, &key(), algorithm).unwrap();
    let (mut plaintext, mut segment) = (Vec::new(), Vec::new());
    while reader.next_segment(&mut segment).unwrap().is_some() {
        plaintext.extend_from_slice(&segment);
    }
    plaintext
}

/// Seals an image, and is taken up again before each block in `crashes`.
fn seal(plaintext: &[u8], algorithm: SealAlgorithm, crashes: &[u64]) -> (Vec<u8>, SealedImage) {
    let binding = binding(plaintext.len() as u64, algorithm);
    let mut sealer = ResumableSealer::begin(&key(), binding).unwrap();
    let mut bytes = Vec::new();
    loop {
        if crashes.contains(&sealer.block()) {
            let checkpoint = sealer.checkpoint(b"pending");
            let (again, pending) = ResumableSealer::resume(&key(), binding, &checkpoint).unwrap();
            assert_eq!(pending.as_slice(), b"pending");
            assert_eq!(again.block(), sealer.block());
            sealer = again;
        }
        let blocks = sealer.blocks();
        let from = usize::try_from(blocks.offset(sealer.block())).unwrap();
        let room = blocks.room(sealer.block());
        let withheld = sealer.seal(plaintext[from..from + room].to_vec()).unwrap();
        assert_eq!(blocks.sealed_offset(withheld.block()), bytes.len() as u64);
        let digest = withheld.digest();
        bytes.extend(withheld.release(&digest).unwrap());
        assert_eq!(digest.as_bytes()[..], Sha256::digest(&bytes)[..]);
        if let Some(image) = sealer.sealed_image() {
            return (bytes, image);
        }
    }
}

#[test]
fn opens_as_what_was_sealed_in_one_go_at_every_edge_of_a_block() {
    for algorithm in [SMALL, LARGE] {
        let layout = Layout::of(algorithm);
        let blocks = Blocks::of(algorithm, u64::MAX / 2);
        let [first, second] = [1, 2].map(|block| usize::try_from(blocks.offset(block)).unwrap());
        assert_eq!(layout.sealed_length(first as u64), Some(BLOCK_SIZE as u64));
        for length in [0, 1, first - 1, first, first + 1, second - 1, second, second + 1] {
            let plaintext = plaintext(length);
            let (bytes, image) = seal(&plaintext, algorithm, &[0, 1, 2]);
            assert_eq!(image.length, bytes.len() as u64);
            assert_eq!(image.plaintext_length, length as u64);
            assert_eq!(image.sha256.as_bytes()[..], Sha256::digest(&bytes)[..]);
            assert_eq!(image.plaintext_sha256.as_bytes()[..], Sha256::digest(&plaintext)[..]);
            assert!(open(&bytes, algorithm) == plaintext, "{length}");
            let mut writer = SealWriter::new(Vec::new(), &key(), algorithm).unwrap();
            writer.write_all(&plaintext).unwrap();
            assert_eq!(writer.finish().unwrap().len(), bytes.len());
        }
    }
}

#[test]
fn a_block_is_the_same_again_from_the_same_bytes_and_not_released_from_others() {
    let binding = binding(3_000_000, SMALL);
    let mut sealer = ResumableSealer::begin(&key(), binding).unwrap();
    let checkpoint = sealer.checkpoint(b"");
    let block = plaintext(sealer.blocks().room(0));
    let first = sealer.seal(block.clone()).unwrap();
    let recorded = first.digest();
    let first = first.release(&recorded).unwrap();
    let (mut again, _) = ResumableSealer::resume(&key(), binding, &checkpoint).unwrap();
    assert_eq!(again.seal(block.clone()).unwrap().release(&recorded).unwrap(), first);
    for changed in [0, block.len() / 2, block.len() - 1] {
        let mut other = block.clone();
        other[changed] ^= 1;
        let (mut again, _) = ResumableSealer::resume(&key(), binding, &checkpoint).unwrap();
        let withheld = again.seal(other).unwrap();
        assert_eq!(withheld.release(&recorded), Err(OtherBlock { block: 0 }));
    }
}

#[test]
fn a_block_has_one_size() {
    let mut sealer = ResumableSealer::begin(&key(), binding(10, LARGE)).unwrap();
    for size in [0, 9, 11] {
        let refused = sealer.seal(vec![0; size]).map(drop);
        assert_eq!(refused, Err(SealError::SegmentSize { size, capacity: 10 }));
    }
    assert!(sealer.blocks().is_last(0) && sealer.sealed_image().is_none());
    sealer.seal(vec![0; 10]).unwrap();
    assert_eq!(sealer.seal(Vec::new()).map(drop), Err(SealError::Finished));
}

#[test]
fn an_image_that_the_format_cannot_hold_is_refused_at_once() {
    let most = (1_u64 << 32) * 4080 - 40;
    assert!(ResumableSealer::begin(&key(), binding(most, SMALL)).is_ok());
    let refused = ResumableSealer::begin(&key(), binding(most + 1, SMALL)).map(drop);
    assert_eq!(refused, Err(SealError::TooLong));
}

#[test]
fn a_checkpoint_shows_no_plaintext_and_opens_for_its_upload_alone() {
    let upload = binding(5_000_000, LARGE);
    let mut sealer = ResumableSealer::begin(&key(), upload).unwrap();
    let secret = vec![b'S'; sealer.blocks().room(0)];
    sealer.seal(secret).unwrap();
    let checkpoint = sealer.checkpoint(&[b'S'; 1000]);
    assert!(!checkpoint.windows(4).any(|window| window == b"SSSS"));
    assert_ne!(checkpoint, sealer.checkpoint(&[b'S'; 1000]), "each has a nonce of its own");
    ResumableSealer::resume(&key(), upload, &checkpoint).unwrap();
    for other in [
        UploadBinding { id: "0123456789ac", ..upload },
        UploadBinding { length: 5_000_001, ..upload },
        UploadBinding { algorithm: SMALL, ..upload },
    ] {
        assert!(ResumableSealer::resume(&key(), other, &checkpoint).is_err());
    }
    let other_key = DataKey::from_bytes([8; 32]);
    assert!(ResumableSealer::resume(&other_key, upload, &checkpoint).is_err());
    for at in [0, 1, 13, checkpoint.len() - 1] {
        let mut damaged = checkpoint.clone();
        damaged[at] ^= 1;
        assert!(ResumableSealer::resume(&key(), upload, &damaged).is_err(), "{at}");
    }
    assert!(ResumableSealer::resume(&key(), upload, &checkpoint[..12]).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn opens_wherever_it_was_taken_up_again(
        length in 0..3_500_000_usize, crashes in prop::collection::vec(0..5_u64, 0..5), small: bool,
    ) {
        let algorithm = if small { SMALL } else { LARGE };
        let plaintext = plaintext(length);
        prop_assert!(open(&seal(&plaintext, algorithm, &crashes).0, algorithm) == plaintext);
    }
}
