//! The bare rate of what re-wrapping has to cost at least: wrapping a content encryption key to a
//! P-256 recipient, on all cores and nothing else. Row 10 sets the server's rate against it.

use std::time::{Duration, Instant};

use motorcade::envelope::jwe::Envelope;
use motorcade::envelope::key::{DataKey, EscrowKey, RecipientPrivateKey};
use motorcade::envelope::wrap;
use motorcade::model::SealAlgorithm;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Seconds to measure for
    #[arg(long, default_value_t = 5)]
    seconds: u64,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let cores = std::thread::available_parallelism()?.get();
    let (recipient, escrow) = (RecipientPrivateKey::generate_p256(), EscrowKey::generate());
    let (key, algorithm) = (DataKey::generate(), SealAlgorithm::Aes256GcmHkdf1Mb);
    let envelope = Envelope::seal(&key, algorithm, &[recipient.public()], Some(&escrow))?;
    let escrowed = envelope.escrowed(escrow.kid())?;
    let cek = wrap::unwrap_key(&escrow, escrowed)
        .ok_or_else(|| anyhow::anyhow!("the escrow key does not open its own entry"))?;
    let started = Instant::now();
    let until = started + Duration::from_secs(args.seconds);
    let wraps: u64 = std::thread::scope(|scope| {
        let work = || {
            let mut wraps = 0;
            while Instant::now() < until {
                std::hint::black_box(envelope.for_recipient(&cek, recipient.public()).is_ok());
                wraps += 1;
            }
            wraps
        };
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or(0)).sum()
    });
    println!("{{\"wraps_per_s\":{:.0}}}", wraps as f64 / started.elapsed().as_secs_f64());
    Ok(())
}
