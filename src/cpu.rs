//! The processor features that the binary is compiled for (see `.cargo/config.toml`).

/// Checks that this processor has what the code was compiled to use.
///
/// Has to run before anything else does: the compiler may use these instructions anywhere.
///
/// # Errors
///
/// [`MissingFeature`] names what is missing and what to do.
pub fn check() -> Result<(), MissingFeature> {
    #[cfg(target_arch = "x86_64")]
    {
        let wanted = [
            (cfg!(target_feature = "aes"), is_x86_feature_detected!("aes"), "AES-NI"),
            (cfg!(target_feature = "pclmulqdq"), is_x86_feature_detected!("pclmulqdq"), "PCLMULQDQ"),
            (cfg!(target_feature = "avx2"), is_x86_feature_detected!("avx2"), "AVX2"),
            (cfg!(target_feature = "bmi2"), is_x86_feature_detected!("bmi2"), "BMI2"),
            (cfg!(target_feature = "fma"), is_x86_feature_detected!("fma"), "FMA"),
        ];
        return first_missing(&wanted);
    }
    #[cfg(not(target_arch = "x86_64"))]
    Ok(())
}

#[cfg(target_arch = "x86_64")]
fn first_missing(wanted: &[(bool, bool, &'static str)]) -> Result<(), MissingFeature> {
    let missing = wanted.iter().find(|(compiled_for, detected, _)| *compiled_for && !detected);
    missing.map_or(Ok(()), |(_, _, name)| Err(MissingFeature(name)))
}

/// The processor is older than the binary.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "this build needs a processor with {0}, and this one has none\n\
     hint: build for it with `RUSTFLAGS='' cargo build --release`, which is slower but runs on any x86-64"
)]
pub struct MissingFeature(&'static str);

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;

    #[test]
    fn names_the_first_feature_that_is_missing() {
        let wanted = [(true, true, "AES-NI"), (false, false, "AVX2"), (true, false, "BMI2")];
        assert_eq!(first_missing(&wanted), Err(MissingFeature("BMI2")));
        assert_eq!(first_missing(&wanted[..2]), Ok(()));
    }

    #[test]
    fn the_machine_that_runs_the_tests_can_run_the_binary() {
        assert_eq!(check(), Ok(()));
    }
}
