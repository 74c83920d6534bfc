//! Points of edwards25519 as public keys (RFC 8032, 5.1).

use std::sync::LazyLock;

use crypto_bigint::modular::{FixedMontyForm, FixedMontyParams};
use crypto_bigint::{JacobiSymbol, Odd, U256};

use super::WeakKey;

/// Checks an Ed25519 public key.
///
/// # Errors
///
/// [`WeakKey::SmallOrder`]: with such a key A the equation of a signature, `[S]B = R + [k]A`, says next to nothing of the
/// message. [`WeakKey::NotAPoint`]: nothing ever verifies under it.
pub fn check_ed25519(key: &[u8; 32]) -> Result<(), WeakKey> {
    let mut y = *key;
    y[31] &= 0x7f; // the sign of x
    let y = U256::from_le_slice(&y);
    if y >= *P {
        return Err(WeakKey::NotAPoint);
    }
    if SMALL_ORDER.contains(&y) {
        return Err(WeakKey::SmallOrder);
    }
    // x² = (y² - 1) / (d y² + 1) has a root if the product of the two has one.
    let (y, one) = (FixedMontyForm::new(&y, &FIELD), FixedMontyForm::one(&FIELD));
    let square = y.square();
    let product = square.sub(&one).mul(&D.mul(&square).add(&one));
    match product.jacobi_symbol_vartime() {
        JacobiSymbol::MinusOne => Err(WeakKey::NotAPoint),
        JacobiSymbol::One | JacobiSymbol::Zero => Ok(()),
    }
}

/// 2^255 - 19.
static P: LazyLock<U256> = LazyLock::new(|| {
    U256::from_be_hex("7fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffed")
});

static FIELD: LazyLock<FixedMontyParams<{ U256::LIMBS }>> = LazyLock::new(|| {
    FixedMontyParams::new_vartime(Odd::new(*P).into_option().expect("the field's prime is odd"))
});

/// -121665/121666.
static D: LazyLock<FixedMontyForm<{ U256::LIMBS }>> = LazyLock::new(|| {
    let d = U256::from_be_hex("52036cee2b6ffe738cc740797779e89800700a4d4141d8ab75eb4dca135978a3");
    FixedMontyForm::new(&d, &FIELD)
});

/// The y of the points of order 1, 2, 4 and 8.
static SMALL_ORDER: LazyLock<[U256; 5]> = LazyLock::new(|| {
    let eighth =
        U256::from_be_hex("05fc536d880238b13933c6d305acdfd5f098eff289f4c345b027b2c28f95e826");
    [U256::ONE, P.wrapping_sub(&U256::ONE), U256::ZERO, eighth, P.wrapping_sub(&eighth)]
});

#[cfg(test)]
mod tests {
    use super::*;

    fn key(hex: &str) -> [u8; 32] {
        hex::decode(hex).unwrap().try_into().unwrap()
    }

    /// RFC 8032, 7.1.
    #[test]
    fn takes_the_keys_of_the_rfc() {
        for public in [
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        ] {
            assert_eq!(check_ed25519(&key(public)), Ok(()), "{public}");
        }
    }

    #[test]
    fn points_of_small_order_are_refused_with_either_sign() {
        for y in [
            "0100000000000000000000000000000000000000000000000000000000000000",
            "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "0000000000000000000000000000000000000000000000000000000000000000",
            "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
            "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        ] {
            let mut point = key(y);
            assert_eq!(check_ed25519(&point), Err(WeakKey::SmallOrder), "{y}");
            point[31] |= 0x80;
            assert_eq!(check_ed25519(&point), Err(WeakKey::SmallOrder), "{y}, x negative");
        }
    }

    #[test]
    fn other_forms_of_a_point_and_what_is_no_point_are_refused() {
        for bytes in [
            "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", // 0, written as p
            "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
            "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
            "0200000000000000000000000000000000000000000000000000000000000000", // no x belongs to it
        ] {
            assert_eq!(check_ed25519(&key(bytes)), Err(WeakKey::NotAPoint), "{bytes}");
        }
    }
}
