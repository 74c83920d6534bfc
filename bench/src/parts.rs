//! What ingesting an image has to cost at least: two SHA-256, one AES-256-GCM and one file write,
//! each alone on one core, in CPU seconds per GB (10^9 bytes). Row 3 sets the server's own CPU time
//! against their sum, and row 11 against what resealing needs besides: a file read and one more
//! AES-256-GCM.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::PathBuf;

use motorcade::envelope::key::DataKey;
use motorcade::envelope::segment::{Position, SegmentSealer};
use motorcade::model::SealAlgorithm;
use sha2::{Digest, Sha256};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Bytes to process
    #[arg(long, default_value_t = 4 << 30)]
    size: u64,
    /// Where the file is written
    #[arg(long, default_value = ".")]
    dir: PathBuf,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let mut block = vec![0x5a; 1 << 20];
    let blocks = args.size / block.len() as u64;
    let gigabytes = (blocks * block.len() as u64) as f64 / 1e9;

    let mut hasher = Sha256::new();
    let sha256 = cpu_seconds(|| {
        (0..blocks).for_each(|_| hasher.update(&block));
        Ok(())
    })?;
    std::hint::black_box(hasher.finalize());

    let mut sealer = SegmentSealer::new(&DataKey::generate(), SealAlgorithm::Aes256GcmHkdf1Mb)
        .map_err(std::io::Error::other)?;
    let aes_gcm = cpu_seconds(|| {
        for _ in 0..blocks {
            block.truncate(sealer.next_capacity());
            sealer.seal(&mut block, Position::Middle).map_err(std::io::Error::other)?;
            block.resize(1 << 20, 0x5a);
        }
        Ok(())
    })?;

    let mut file: File = tempfile::tempfile_in(&args.dir)?;
    let write = cpu_seconds(|| {
        (0..blocks).try_for_each(|_| file.write_all(&block))?;
        file.sync_all()
    })?;

    file.rewind()?;
    let read = cpu_seconds(|| (0..blocks).try_for_each(|_| file.read_exact(&mut block)))?;

    println!(
        "{{\"sha256_s_per_gb\":{:.4},\"aes_gcm_s_per_gb\":{:.4},\"write_s_per_gb\":{:.4},\"read_s_per_gb\":{:.4}}}",
        sha256 / gigabytes,
        aes_gcm / gigabytes,
        write / gigabytes,
        read / gigabytes
    );
    Ok(())
}

/// User and system time that `work` takes on this thread.
fn cpu_seconds(work: impl FnOnce() -> std::io::Result<()>) -> std::io::Result<f64> {
    let now = || {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
    };
    let before = now();
    work()?;
    Ok(now() - before)
}
