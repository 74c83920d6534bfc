//! The processor features that the binary is compiled for (see `.cargo/config.toml`).

/// Checks that this processor has what the code was compiled to use.
///
/// Has to run before anything else does: the compiler may use these instructions anywhere. It asks the processor itself,
/// because `is_x86_feature_detected!` is always true for features that are compiled in.
///
/// # Errors
///
/// [`MissingFeature`] names what is missing and what to do.
pub fn check() -> Result<(), MissingFeature> {
    #[cfg(target_arch = "x86_64")]
    {
        let cpuid = raw_cpuid::CpuId::new();
        let basic = cpuid.get_feature_info();
        let basic = |has: fn(&raw_cpuid::FeatureInfo) -> bool| basic.as_ref().is_some_and(has);
        let extended = cpuid.get_extended_feature_info();
        let extended = |has: fn(&raw_cpuid::ExtendedFeatures) -> bool| extended.as_ref().is_some_and(has);
        let wanted = [
            (cfg!(target_feature = "aes"), basic(|info| info.has_aesni()), "AES-NI"),
            (cfg!(target_feature = "pclmulqdq"), basic(|info| info.has_pclmulqdq()), "PCLMULQDQ"),
            (cfg!(target_feature = "avx"), basic(|info| info.has_avx() && info.has_oxsave()), "AVX"),
            (cfg!(target_feature = "fma"), basic(|info| info.has_fma()), "FMA"),
            (cfg!(target_feature = "avx2"), extended(|info| info.has_avx2()), "AVX2"),
            (cfg!(target_feature = "bmi2"), extended(|info| info.has_bmi2()), "BMI2"),
        ];
        first_missing(&wanted)
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
