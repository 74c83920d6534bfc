//! ML-DSA (FIPS 204): public keys whose secret is nothing.

use super::WeakKey;

/// Checks the raw public key of ML-DSA-65 (FIPS 204, algorithm 22): a seed, and the high bits of
/// the 1536 coefficients of `t`, 10 bits each.
///
/// A verifier computes `A·z - c·t`. Where `t` is small, and 0 and 1023 both mean that, the second
/// term vanishes in the rounding, and `z` can be anything: anybody can sign. A key that was made has
/// three such coefficients, and one in a thousand keys has ten.
///
/// # Errors
///
/// [`WeakKey::NotModule`] for another length, [`WeakKey::SmallModule`].
pub fn check_ml_dsa_65(raw: &[u8]) -> Result<(), WeakKey> {
    let packed = raw.get(SEED_BYTES..).filter(|_| raw.len() == ML_DSA_65_BYTES);
    let packed = packed.ok_or(WeakKey::NotModule)?;
    let small = packed.chunks_exact(5).flat_map(coefficients).filter(|t| matches!(t, 0 | 1023));
    if small.count() > COEFFICIENTS / 2 {
        return Err(WeakKey::SmallModule);
    }
    Ok(())
}

/// Four numbers of 10 bits, the low bits first (FIPS 204, algorithm 16).
fn coefficients(packed: &[u8]) -> [u16; 4] {
    let all = packed.iter().rev().fold(0_u64, |all, byte| all << 8 | u64::from(*byte));
    [0, 10, 20, 30].map(|shift| (all >> shift & 0x3ff) as u16)
}

const SEED_BYTES: usize = 32;
const COEFFICIENTS: usize = 6 * 256;
const ML_DSA_65_BYTES: usize = SEED_BYTES + COEFFICIENTS * 10 / 8; // 1952

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_keys_whose_secret_is_nothing() {
        for (byte, outcome) in
            [(0x00, Err(WeakKey::SmallModule)), (0xff, Err(WeakKey::SmallModule)), (0x5a, Ok(()))]
        {
            let key = [vec![7; SEED_BYTES], vec![byte; 1920]].concat();
            assert_eq!(check_ml_dsa_65(&key), outcome);
            assert_eq!(check_ml_dsa_65(&key[1..]), Err(WeakKey::NotModule));
        }
    }

    #[test]
    fn coefficients_are_packed_low_bits_first() {
        assert_eq!(coefficients(&[0x01, 0x08, 0x30, 0x00, 0x01]), [1, 2, 3, 4]);
    }
}
