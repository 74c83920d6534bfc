//! RSA moduli that anybody factors.
//!
//! What a modulus is tested for is what a stranger would try first, in bounded time: trial
//! division, Fermat's method, powers, ROCA's fingerprint, and whether it is composite at all. A
//! modulus that passes is not proven to be good: nobody but its owner can do that.

use std::sync::LazyLock;

use crypto_bigint::{BoxedUint, ConcatenatingSquare, Limb, NonZero, Odd, Word};
use crypto_primes::hazmat::MillerRabin;

use super::WeakKey;

/// Checks an RSA public key, given as unsigned big-endian numbers. The size of the modulus is the
/// caller's to judge.
///
/// It takes milliseconds, nearly all of them for the test that the modulus is composite, which
/// comes last.
///
/// # Errors
///
/// [`WeakKey`].
pub fn check_rsa(modulus: &[u8], exponent: &[u8]) -> Result<(), WeakKey> {
    check_exponent(exponent)?;
    let n = BoxedUint::from_be_slice_vartime(without_leading_zeros(modulus));
    if let Some(factor) = small_factor(&n) {
        return Err(WeakKey::SmallFactor { factor });
    }
    if has_roca_fingerprint(&n) {
        return Err(WeakKey::Roca);
    }
    let root = n.floor_sqrt_vartime();
    if root.concatenating_square() == n || is_odd_power(&n) {
        return Err(WeakKey::Power);
    }
    if has_close_primes(&n, &root) {
        return Err(WeakKey::ClosePrimes);
    }
    // To the base 2 a modulus of two good primes passes once in far more keys than there will ever
    // be.
    let odd = Odd::new(n).into_option().ok_or(WeakKey::SmallFactor { factor: 2 })?;
    match MillerRabin::new(odd).test_base_two().is_probably_prime() {
        true => Err(WeakKey::Prime),
        false => Ok(()),
    }
}

fn check_exponent(exponent: &[u8]) -> Result<(), WeakKey> {
    let exponent = without_leading_zeros(exponent);
    let value = exponent.iter().fold(0_u64, |value, byte| (value << 8) | u64::from(*byte));
    let is_good = exponent.len() <= 8 && value % 2 == 1 && (3..1 << 33).contains(&value);
    is_good.then_some(()).ok_or(WeakKey::Exponent)
}

fn without_leading_zeros(bytes: &[u8]) -> &[u8] {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    bytes.get(zeros..).unwrap_or_default()
}

/// The smallest prime below 2^16 that divides `n`.
fn small_factor(n: &BoxedUint) -> Option<u32> {
    // One division of the modulus for as many primes as have their product in a word.
    PRIME_PRODUCTS.iter().find_map(|(product, primes)| {
        let rest = rest(n, *product);
        primes.iter().copied().find(|prime| rest.is_multiple_of(Word::from(*prime)))
    })
}

/// Whether `n` is a power of a number, with an odd exponent. A square is one root away and has been
/// looked for.
///
/// A k-th power is one modulo each prime q, too, and if k divides q - 1, that is true of one number
/// in k only. After as many primes as it takes for that to happen by chance once in 2^80 keys, `n`
/// is a power.
fn is_odd_power(n: &BoxedUint) -> bool {
    // With all factors over 2^16, the exponent is at most a 16th of the length.
    let longest = n.bits_vartime() / 16;
    let exponents = PRIMES.iter().copied().filter(|k| *k > 2).take_while(|k| *k <= longest);
    let mut exponents = exponents.into_iter();
    exponents.any(|k| {
        let mut chance = 1.0_f64;
        for q in PRIMES.iter().copied().filter(|q| q % k == 1) {
            if power(rest_u32(n, q), (q - 1) / k, q) != 1 {
                return false;
            }
            chance /= f64::from(k);
            if chance < CHANCE {
                return true;
            }
        }
        false
    })
}

/// Fermat's method: with n = a² - b², the primes are a ± b, and if they are close together, a is
/// just above the root.
///
/// The primes of keys that were broken so (CVE-2022-26320) took fewer than 20 rounds. With as many
/// rounds as here, primes of 1024 bits are found if they agree in their upper 500 bits; for those
/// of a sound generator the chance of that is 2^-500. Numbers that are no square modulo some small
/// prime are passed over without a long division, so that a round costs some nanoseconds.
fn has_close_primes(n: &BoxedUint, root: &BoxedUint) -> bool {
    struct Sieve {
        modulus: u32,
        n: u32,
        root: u32,
        squares: Vec<bool>,
    }
    let sieve = |modulus: u32| {
        let mut squares = vec![false; modulus as usize];
        (0..modulus).for_each(|x| squares[(x * x % modulus) as usize] = true);
        Sieve { modulus, n: rest_u32(n, modulus), root: rest_u32(root, modulus), squares }
    };
    let sieves: Vec<Sieve> = SIEVES.into_iter().map(sieve).collect();
    (1..=FERMAT_ROUNDS).any(|round| {
        let may_be_square = sieves.iter().all(|sieve| {
            let a = (sieve.root + round) % sieve.modulus;
            sieve.squares[((a * a + sieve.modulus - sieve.n) % sieve.modulus) as usize]
        });
        may_be_square && {
            let a = root.concatenating_add(BoxedUint::from(u64::from(round)));
            let difference = a.concatenating_square().wrapping_sub(n);
            difference.floor_sqrt_vartime().concatenating_square() == difference
        }
    })
}

/// Whether `n` looks as if its primes were `k · M + (65537^a mod M)` with a product M of small
/// primes: then it is a power of 65537 modulo each of them. Nemec and others, "The Return of
/// Coppersmith's Attack", 2017, section 2.
///
/// Of sound moduli one in 2^28 looks so by chance, and is refused.
fn has_roca_fingerprint(n: &BoxedUint) -> bool {
    ROCA_PRIMES.iter().all(|prime| {
        let (rest, mut power) = (rest_u32(n, *prime), 1);
        (0..*prime).any(|_| {
            power = power * 65537 % prime;
            power == rest
        })
    })
}

fn rest(n: &BoxedUint, modulus: Word) -> Word {
    n.rem_limb(NonZero::new(Limb(modulus)).into_option().expect("no modulus here is 0")).0
}

fn rest_u32(n: &BoxedUint, modulus: u32) -> u32 {
    u32::try_from(rest(n, Word::from(modulus))).expect("a rest is less than what it is divided by")
}

fn power(base: u32, exponent: u32, modulus: u32) -> u32 {
    let (mut result, mut base, modulus) = (1_u64, u64::from(base), u64::from(modulus));
    for bit in 0..u32::BITS {
        if exponent >> bit & 1 == 1 {
            result = result * base % modulus;
        }
        base = base * base % modulus;
    }
    u32::try_from(result).expect("a rest is less than what it is divided by")
}

/// All primes below 2^16: the largest table for which trial division costs less than a tenth of the
/// whole check.
static PRIMES: LazyLock<Vec<u32>> = LazyLock::new(|| {
    let mut is_prime = vec![true; 1 << 16];
    (2..is_prime.len() as u32)
        .filter(|number| {
            let prime = is_prime[*number as usize];
            if prime {
                (number * 2..1 << 16)
                    .step_by(*number as usize)
                    .for_each(|multiple| is_prime[multiple as usize] = false);
            }
            prime
        })
        .collect()
});

/// The same, in groups whose product fits a word.
static PRIME_PRODUCTS: LazyLock<Vec<(Word, Vec<u32>)>> = LazyLock::new(|| {
    let mut products: Vec<(Word, Vec<u32>)> = Vec::new();
    for prime in PRIMES.iter().copied() {
        match products.last_mut() {
            Some((product, primes)) if product.checked_mul(Word::from(prime)).is_some() => {
                *product *= Word::from(prime);
                primes.push(prime);
            }
            _ => products.push((Word::from(prime), vec![prime])),
        }
    }
    products
});

const FERMAT_ROUNDS: u32 = 1 << 16;
const CHANCE: f64 = 1e-24; // 2^-80

/// Half of all numbers are squares modulo a prime. After these, one in 10^8 is left that is none.
const SIEVES: [u32; 23] =
    [64, 63, 65, 11, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97];

/// Those of the public discriminator modulo which not every number is a power of 65537.
const ROCA_PRIMES: [u32; 17] =
    [11, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157];

#[cfg(test)]
#[path = "modulus_tests.rs"]
mod tests;
