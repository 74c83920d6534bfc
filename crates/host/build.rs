//! Links the processor check, `src/cpu_check.c`, into every x86-64 binary.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=src/cpu_check.c");
    if env::var("CARGO_CFG_TARGET_ARCH").as_deref() != Ok("x86_64") {
        return;
    }
    let features = env::var("CARGO_CFG_TARGET_FEATURE").unwrap_or_default();
    let mut build = cc::Build::new();
    build.file("src/cpu_check.c").flag("-march=x86-64").link_lib_modifier("+whole-archive");
    for feature in ["aes", "pclmulqdq", "avx", "avx2", "fma", "bmi2"] {
        if features.split(',').any(|compiled_in| compiled_in == feature) {
            build.define(&format!("NEEDS_{}", feature.to_uppercase()), None);
        }
    }
    build.compile("motorcade_cpu_check");
}
