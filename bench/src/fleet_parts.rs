//! What serving a fleet has to cost at least: the signature checks of one poll, and the bare
//! primitives that wrap a data key, in microseconds of CPU time; and what the project's own
//! wrapping takes.

use std::hint::black_box;

use aes_kw::KwAes256;
use aes_kw::cipher::KeyInit;
use motorcade::envelope::jwe::Envelope;
use motorcade::envelope::key::{DataKey, EscrowKey, RecipientKey, RecipientPrivateKey};
use motorcade::model::SealAlgorithm;
use motorcade::uptane::key::SigningKey;
use p256::ecdh::EphemeralSecret;
use p256::elliptic_curve::Generate;
use p256::pkcs8::DecodePublicKey;
use rand::rngs::SysRng;
use rsa::rand_core::UnwrapErr;
use sha2::{Digest, Sha256};

pub(crate) fn run() -> anyhow::Result<()> {
    println!(
        "{{\"poll_checks_us\":{:.2},\"wrap_p256_us\":{:.2},\"bare_p256_us\":{:.2},\"wrap_rsa2048_us\":{:.2},\
         \"bare_rsa2048_us\":{:.2},\"read_rsa2048_key_us\":{:.2}}}",
        poll_checks(),
        wrap(&RecipientPrivateKey::generate_p256())?,
        bare_p256()?,
        wrap(&rsa_key()?)?,
        bare_rsa()?,
        read_key(&rsa_key()?)
    );
    Ok(())
}

/// A vehicle with two ECUs: the Primary's signature over the manifest, and each ECU's over its
/// report.
fn poll_checks() -> f64 {
    let keys = [1, 2].map(|seed| SigningKey::ed25519_from_seed(&[seed; 32]));
    let (report, manifest) = ([7; 300], [7; 1300]);
    let signed = [(&keys[0], &manifest[..]), (&keys[0], &report[..]), (&keys[1], &report[..])];
    let signed = signed.map(|(key, message)| (key.public(), message, key.sign(message)));
    micros(2000, || {
        assert!(
            signed
                .iter()
                .all(|(key, message, signature)| key.verifies(black_box(message), signature))
        );
    })
}

/// As the Director wraps for one ECU whose key it has read: from the stored envelope's text to the
/// flattened JWE's.
fn wrap(ecu: &RecipientPrivateKey) -> anyhow::Result<f64> {
    let escrow = EscrowKey::generate();
    let (one, other) = (RecipientPrivateKey::generate_p256(), RecipientPrivateKey::generate_p256());
    let recipients = [one.public(), other.public()];
    let envelope = Envelope::seal(
        &DataKey::generate(),
        SealAlgorithm::Aes256GcmHkdf1Mb,
        &recipients,
        Some(&escrow),
    )?;
    let (stored, key) = (envelope.to_json_with_escrow(), ecu.public());
    Ok(micros(1000, || {
        let envelope = Envelope::parse(stored.as_bytes()).expect("it is an envelope");
        black_box(envelope.for_recipient_via_escrow(&escrow, key).expect("it opens").to_string());
    }))
}

/// Reading an ECU's key, which is done once while its vehicle is in memory.
fn read_key(ecu: &RecipientPrivateKey) -> f64 {
    let jwk = ecu.public().to_jwk();
    micros(1000, || drop(black_box(RecipientKey::from_jwk(black_box(&jwk)))))
}

/// ECDH-ES+A256KW (RFC 7518, 4.6) and nothing else: ephemeral key, agreement, key derivation, AES
/// key wrap.
fn bare_p256() -> anyhow::Result<f64> {
    let pem = RecipientPrivateKey::generate_p256().public().to_public_pem();
    let public = p256::PublicKey::from_public_key_pem(&pem)?;
    Ok(micros(1000, || {
        let ephemeral = EphemeralSecret::generate();
        let shared = ephemeral.diffie_hellman(&public);
        let key = Sha256::digest(shared.raw_secret_bytes());
        let mut wrapped = [0; 40];
        KwAes256::new(&key).wrap_key(&[7; 32], &mut wrapped).expect("40 bytes hold it");
        black_box((ephemeral.public_key(), wrapped));
    }))
}

fn rsa_key() -> anyhow::Result<RecipientPrivateKey> {
    Ok(RecipientPrivateKey::generate_rsa(2048)?)
}

/// RSA-OAEP-256 (RFC 8017, 7.1) and nothing else.
fn bare_rsa() -> anyhow::Result<f64> {
    let pem = rsa_key()?.public().to_public_pem();
    let public = rsa::RsaPublicKey::from_public_key_pem(&pem)?;
    Ok(micros(1000, || {
        let padding = rsa::Oaep::<Sha256>::new();
        black_box(public.encrypt(&mut UnwrapErr(SysRng), padding, &[7; 32]).expect("32 bytes fit"));
    }))
}

/// CPU time of one call on this thread: the median of five rounds.
fn micros(calls: u32, mut work: impl FnMut()) -> f64 {
    let now = || {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        time.tv_sec as f64 * 1e6 + time.tv_nsec as f64 / 1e3
    };
    let mut rounds: Vec<f64> = (0..5)
        .map(|_| {
            let before = now();
            (0..calls).for_each(|_| work());
            (now() - before) / f64::from(calls)
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    rounds[2]
}
