//! Metadata in gzip: no more comes out than may, and what comes out whole is the file.
#![no_main]

use libfuzzer_sys::fuzz_target;
use motorcade_uptane::gzip::{GzipError, unpack};

const MAX: u64 = 64 * 1024; // 64 KiB

fuzz_target!(|input: &[u8]| {
    match unpack(input, MAX) {
        Ok(file) => {
            assert!(file.len() as u64 <= MAX);
            assert_eq!(unpack(input, file.len() as u64).ok(), Some(file));
        }
        Err(GzipError::TooLarge { start }) => assert_eq!(start.len() as u64, MAX + 1),
        Err(GzipError::Broken(_)) => {}
    }
});
