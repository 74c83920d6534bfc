//! A data key and a sealed image of it: both readers agree, whatever the bytes are.
#![no_main]

use std::io::{Cursor, Read};

use libfuzzer_sys::fuzz_target;
use motorcade_fuzz::envelope::key::DataKey;
use motorcade_fuzz::envelope::segment::OpenError;
use motorcade_fuzz::envelope::stream::{RandomReader, SegmentReader};
use motorcade_fuzz::model::SealAlgorithm;

fuzz_target!(|input: &[u8]| {
    let Some((key, sealed)) = input.split_first_chunk::<32>() else { return };
    let (key, algorithm) = (DataKey::from_bytes(*key), SealAlgorithm::Aes256GcmHkdf4Kb);
    let in_order = SegmentReader::new(sealed, &key, algorithm).and_then(|mut reader| {
        let (mut plaintext, mut segment) = (Vec::new(), Vec::new());
        while reader.next_segment(&mut segment)?.is_some() {
            plaintext.extend_from_slice(&segment);
        }
        Ok(plaintext)
    });
    let at_random =
        RandomReader::new(Cursor::new(sealed), &key, algorithm).and_then(|mut reader| {
            let mut plaintext = Vec::new();
            reader.read_to_end(&mut plaintext).map(|_| plaintext).map_err(OpenError::Read)
        });
    match (in_order, at_random) {
        (Ok(one), Ok(other)) => assert_eq!(one, other),
        // Only a stream can end with an empty segment, as in Tink.
        (Ok(_), Err(error)) => assert!(matches!(error, OpenError::Truncated), "{error:?}"),
        (Err(error), at_random) => assert!(at_random.is_err(), "{error:?}"),
    }
});
