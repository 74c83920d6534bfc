//! Throughput of sealing and opening, beside the hash that goes with it, and the cost of an
//! envelope for each kind of key.
//!
//! `cargo bench --bench envelope`. The figures of whole uploads are `scripts/bench`'s.

use std::hint::black_box;
use std::io::{Read, Write};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use motorcade_envelope::jwe::Envelope;
use motorcade_envelope::key::{DataKey, EscrowKey, RecipientPrivateKey};
use motorcade_envelope::stream::{RandomReader, SealWriter};
use motorcade_model::SealAlgorithm;
use sha2::{Digest, Sha256};

const SIZE: usize = 16 * 1024 * 1024; // 16 MiB

fn sealed_images(criterion: &mut Criterion) {
    let plaintext = vec![0x5a; SIZE];
    let mut group = criterion.benchmark_group("image of 16 MiB");
    group.throughput(Throughput::Bytes(SIZE as u64));
    group
        .bench_function("sha256", |bencher| bencher.iter(|| Sha256::digest(black_box(&plaintext))));
    for algorithm in [SealAlgorithm::Aes256GcmHkdf1Mb, SealAlgorithm::Aes256GcmHkdf4Kb] {
        let key = DataKey::generate();
        let sealed = seal(&plaintext, &key, algorithm);
        group.bench_function(format!("seal {algorithm}"), |bencher| {
            bencher.iter(|| seal(&plaintext, &key, algorithm))
        });
        group.bench_function(format!("open {algorithm}"), |bencher| {
            bencher.iter(|| open(black_box(&sealed), &key, algorithm));
        });
    }
    group.finish();
}

fn seal(plaintext: &[u8], key: &DataKey, algorithm: SealAlgorithm) -> Vec<u8> {
    let sink = Vec::with_capacity(SIZE + SIZE / 128);
    let mut writer = SealWriter::new(sink, key, algorithm).expect("writing to memory");
    writer.write_all(plaintext).expect("writing to memory");
    writer.finish().expect("writing to memory")
}

fn open(sealed: &[u8], key: &DataKey, algorithm: SealAlgorithm) -> u64 {
    let mut reader = RandomReader::new(std::io::Cursor::new(sealed), key, algorithm)
        .expect("it was just sealed");
    let mut block = vec![0; 1024 * 1024];
    let mut length = 0;
    while let Ok(count @ 1..) = reader.read(&mut block) {
        length += count as u64;
    }
    length
}

fn envelopes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("envelope for one recipient");
    let escrow = EscrowKey::generate();
    let algorithm = SealAlgorithm::Aes256GcmHkdf1Mb;
    let rsa = |bits| RecipientPrivateKey::generate_rsa(bits).expect("a supported size");
    let recipients = [
        ("P-256", RecipientPrivateKey::generate_p256()),
        ("RSA-2048", rsa(2048)),
        ("RSA-4096", rsa(4096)),
    ];
    for (name, recipient) in &recipients {
        let data_key = DataKey::generate();
        let wrap = || Envelope::seal(&data_key, algorithm, &[recipient.public()], Some(&escrow));
        let envelope = wrap().expect("one recipient");
        group.bench_function(format!("wrap, {name}"), |bencher| bencher.iter(wrap));
        group.bench_function(format!("unwrap, {name}"), |bencher| {
            bencher.iter(|| envelope.open(recipient))
        });
    }
    group.finish();
}

criterion_group!(benches, sealed_images, envelopes);
criterion_main!(benches);
