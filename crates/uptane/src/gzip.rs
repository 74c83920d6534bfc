//! Metadata in gzip (RFC 1952), unpacked within bounds.

use std::io::{self, Read};

use flate2::read::MultiGzDecoder;

/// Unpacks a file of at most `max` bytes. A few bytes can stand for gigabytes: what comes out is
/// bounded, and not only what goes in.
///
/// # Errors
///
/// [`GzipError`].
pub fn unpack(coded: &[u8], max: u64) -> Result<Vec<u8>, GzipError> {
    let mut file = Vec::new();
    let mut decoder = MultiGzDecoder::new(coded).take(max.saturating_add(1));
    decoder.read_to_end(&mut file).map_err(GzipError::Broken)?;
    if file.len() as u64 > max { Err(GzipError::TooLarge { start: file }) } else { Ok(file) }
}

/// Unpacks how a file begins: at most `most` bytes, and less of one that is broken.
pub fn beginning(coded: &[u8], most: u64) -> Vec<u8> {
    let mut file = Vec::new();
    let _ = MultiGzDecoder::new(coded).take(most).read_to_end(&mut file); // as much as there is
    file
}

/// Why a file could not be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum GzipError {
    /// Not gzip, cut off, or with another checksum.
    #[error("not a whole file in gzip")]
    Broken(#[source] io::Error),
    /// It has more bytes than it may have.
    #[error("more bytes than such a file may have")]
    TooLarge {
        /// How it begins: one byte more than it may have.
        start: Vec<u8>,
    },
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn pack(file: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(file).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn a_file_comes_out_whole_or_not_at_all() {
        let coded = pack(&[7; 1000]);
        assert_eq!(unpack(&coded, 1000).unwrap(), [7; 1000]);
        let Err(GzipError::TooLarge { start }) = unpack(&coded, 999) else { panic!("it is long") };
        assert_eq!(start.len(), 1000);
        for length in 0..coded.len() {
            let cut = unpack(&coded[..length], 1000);
            assert!(matches!(cut, Err(GzipError::Broken(_))), "{length}");
        }
        assert_eq!(beginning(&coded, 10), [7; 10]);
        assert!(beginning(b"<html>", 10).is_empty());
    }
}
