//! A path below /repo/: whatever blob it means has that name, and no name leads out of the store.
#![no_main]

use libfuzzer_sys::fuzz_target;
use motorcade_fuzz::key::BlobKey;
use motorcade_fuzz::model::{ImagePath, Sha256Digest};

fuzz_target!(|name: &str| {
    for key in BlobKey::candidates(name) {
        let names = [Some(key.name()), key.alias()];
        assert!(names.iter().flatten().any(|known| known == name), "{key:?}");
        assert!(
            !names
                .iter()
                .flatten()
                .any(|known| known.starts_with('/') || known.split('/').any(|p| p == ".."))
        );
    }
    let Ok(path) = name.parse::<ImagePath>() else { return };
    assert_eq!(path.as_str(), name);
    for target in [path.to_string(), path.envelope_path()] {
        let key = BlobKey::target(target, Sha256Digest::from_bytes([0xab; 32]));
        assert!(BlobKey::candidates(&key.name()).contains(&key));
        assert!(key.alias().is_none_or(|alias| BlobKey::candidates(&alias).contains(&key)));
    }
});
