//! Root metadata, as it comes and as the members of one that is signed: whatever is taken is the
//! next version, and a root to start from.
#![no_main]

use libfuzzer_sys::fuzz_target;
use motorcade_fuzz::signer::{add_root_key, file_of, trusted};
use motorcade_uptane::verify::fixture::now;
use motorcade_uptane::verify::{Rules, TrustedSet};

fuzz_target!(|input: &[u8]| {
    let _ = TrustedSet::new(input, Rules::Tuf, now());
    let _ = trusted().update_root(input);
    let Some((_, file)) = add_root_key(input).and_then(|members| file_of("root", &members)) else {
        return;
    };
    let mut set = trusted();
    match set.update_root(&file) {
        Ok(()) => {
            assert_eq!(set.root_version(), 2);
            let first = TrustedSet::new(&file, Rules::Image, now()).expect("it was taken");
            assert_eq!(first.finish_root(), set.finish_root());
        }
        Err(_) => assert_eq!(set.root_version(), 1),
    }
});
