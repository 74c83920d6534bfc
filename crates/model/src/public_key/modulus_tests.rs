//! Moduli that are bad in one way each, made anew.

use std::time::Instant;

use crypto_bigint::ConcatenatingMul;
use crypto_primes::{Flavor, random_prime};

use super::*;

fn prime(bits: u32) -> BoxedUint {
    random_prime(&mut rand::rng(), Flavor::Any, bits)
}

/// The first prime at or after a number, or nearly.
fn next_prime(from: &BoxedUint) -> BoxedUint {
    let mut number = from.concatenating_add(BoxedUint::from(2_u64));
    while !crypto_primes::is_prime(Flavor::Any, &number) {
        number = number.wrapping_add(BoxedUint::from(2_u64));
    }
    number
}

fn check(n: &BoxedUint) -> Result<(), WeakKey> {
    check_rsa(&n.to_be_bytes(), &[1, 0, 1])
}

fn product(factors: &[&BoxedUint]) -> BoxedUint {
    factors.iter().fold(BoxedUint::one(), |product, factor| product.concatenating_mul(*factor))
}

#[test]
fn good_moduli_pass_whatever_their_size() {
    for bits in [512, 1024, 1536] {
        assert_eq!(check(&product(&[&prime(bits), &prime(bits)])), Ok(()), "{bits}");
    }
}

#[test]
fn small_factors_are_found_up_to_the_last() {
    assert_eq!(
        check_rsa(&[0xff; 256], &[1, 0, 1]),
        Err(WeakKey::SmallFactor { factor: 3 }),
        "all ones"
    );
    for factor in [2_u32, 3, 257, 65521] {
        let n = product(&[&BoxedUint::from(u64::from(factor)), &prime(2040)]);
        assert_eq!(check(&n), Err(WeakKey::SmallFactor { factor }));
    }
    assert_eq!(check(&product(&[&BoxedUint::from(65537_u64), &prime(1024), &prime(1024)])), Ok(()));
}

#[test]
fn powers_are_found_whatever_the_exponent() {
    for (bits, exponent) in
        [(1024, 2), (683, 3), (512, 4), (410, 5), (293, 7), (120, 17), (33, 61), (17, 127)]
    {
        let p = prime(bits);
        assert_eq!(check(&product(&vec![&p; exponent])), Err(WeakKey::Power), "{exponent}");
    }
}

#[test]
fn a_prime_is_no_modulus() {
    assert_eq!(check(&prime(2048)), Err(WeakKey::Prime));
}

#[test]
fn close_primes_are_found() {
    let p = prime(1024);
    let q = next_prime(&p);
    assert_eq!(check(&product(&[&p, &q])), Err(WeakKey::ClosePrimes));
    // Agreeing in their upper half, as in the printers of CVE-2022-26320 and beyond.
    let further = next_prime(&p.concatenating_add(&(BoxedUint::one_with_precision(1024) << 512)));
    assert_eq!(check(&product(&[&p, &further])), Err(WeakKey::ClosePrimes));
    let far = next_prime(&p.concatenating_add(&(BoxedUint::one_with_precision(1024) << 900)));
    assert_eq!(check(&product(&[&p, &far])), Ok(()));
}

/// Primes as RSALib made them, for keys of 2048 bits: M is the product of the first 126 primes.
#[test]
fn the_fingerprint_of_roca_is_found() {
    let m = PRIMES
        .iter()
        .take(126)
        .fold(BoxedUint::one(), |m, prime| m.concatenating_mul(BoxedUint::from(u64::from(*prime))));
    let roca_prime = || loop {
        let mut power = BoxedUint::from(65537_u64);
        for _ in 0..rand::random::<u8>() {
            power = power
                .concatenating_mul(BoxedUint::from(65537_u64))
                .rem_vartime(&NonZero::new(m.clone()).unwrap());
        }
        let k = BoxedUint::from(rand::random::<u64>() >> 16 | 1);
        let candidate = m.concatenating_mul(&k).concatenating_add(&power);
        if crypto_primes::is_prime(Flavor::Any, &candidate) {
            break candidate;
        }
    };
    assert_eq!(check(&product(&[&roca_prime(), &roca_prime()])), Err(WeakKey::Roca));
}

#[test]
fn exponents_are_odd_and_neither_one_nor_huge() {
    let n = product(&[&prime(1024), &prime(1024)]).to_be_bytes();
    for e in [&[][..], &[0], &[1], &[0, 1], &[2], &[1, 0, 0], &[2, 0, 0, 0, 1], &[1; 9]] {
        assert_eq!(check_rsa(&n, e), Err(WeakKey::Exponent), "{e:?}");
    }
    assert_eq!(check_rsa(&n, &[3]), Ok(()));
    assert_eq!(check_rsa(&n, &[1, 0xff, 0xff, 0xff, 0xff]), Ok(()));
}

/// Not a bar: what it costs is in the answer of a request, and with `--nocapture` here.
#[test]
fn shows_what_the_check_costs() {
    for bits in [1024, 1536, 2048] {
        let n = product(&[&prime(bits), &prime(bits)]);
        let times = (0..5).map(|_| {
            let start = Instant::now();
            assert_eq!(check(&n), Ok(()));
            start.elapsed()
        });
        println!("a modulus of {} bits: {:?}", 2 * bits, times.min().unwrap());
    }
}
