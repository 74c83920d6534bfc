//! Where secrets come from.

use zeroize::Zeroizing;

/// Fills an array from the operating system's randomness.
pub(crate) fn random<const N: usize>() -> Zeroizing<[u8; N]> {
    let mut bytes = Zeroizing::new([0; N]);
    getrandom::fill(&mut *bytes).expect("a running operating system has randomness");
    bytes
}
