/*
 * Ends the process with a message on a processor that lacks what the Rust code is compiled for.
 *
 * In C, because Rust code can't check this for itself: whatever the compiler makes of it may already use the missing
 * instructions, the check included. A constructor runs before any of it, and this file is compiled for any x86-64.
 * build.rs says which features are compiled in.
 */
#include <string.h>
#include <unistd.h>

static void refuse(const char *feature) {
    const char *parts[] = {
        "error: this build needs a processor with ", feature, ", and this one has none\n",
        "hint: build it with `RUSTFLAGS='-C target-cpu=x86-64' cargo build --release`: slower, but it runs on any x86-64\n",
    };
    for (unsigned i = 0; i < sizeof parts / sizeof *parts; i++) {
        if (write(STDERR_FILENO, parts[i], strlen(parts[i])) < 0) {
            break;
        }
    }
    _exit(1);
}

__attribute__((constructor(101))) static void check_processor(void) {
    __builtin_cpu_init();
#ifdef NEEDS_AES
    if (!__builtin_cpu_supports("aes")) refuse("AES-NI");
#endif
#ifdef NEEDS_PCLMULQDQ
    if (!__builtin_cpu_supports("pclmul")) refuse("PCLMULQDQ");
#endif
#ifdef NEEDS_AVX
    if (!__builtin_cpu_supports("avx")) refuse("AVX");
#endif
#ifdef NEEDS_AVX2
    if (!__builtin_cpu_supports("avx2")) refuse("AVX2");
#endif
#ifdef NEEDS_FMA
    if (!__builtin_cpu_supports("fma")) refuse("FMA");
#endif
#ifdef NEEDS_BMI2
    if (!__builtin_cpu_supports("bmi2")) refuse("BMI2");
#endif
}
