//! The query of an upload: what is signed of it is in order and each once, whatever the order in
//! which it came.
#![no_main]

use libfuzzer_sys::fuzz_target;
use motorcade_fuzz::upload::UploadQuery;

fuzz_target!(|text: &str| {
    let Ok(query) = UploadQuery::parse(text) else { return };
    assert!(!query.hardware_ids.is_empty());
    assert!(query.hardware_ids.is_sorted_by(|one, next| one < next));
    assert!(query.requires.is_sorted_by(|one, next| one < next));
    assert!(query.conflicts.is_sorted_by(|one, next| one < next));
    let members: Vec<_> = text.split('&').collect();
    let sorted = members.iter().rev().copied().collect::<Vec<_>>().join("&");
    let mut turned = UploadQuery::parse(&sorted).expect("the order of members is nothing");
    if let (Some(one), Some(other)) = (&query.recipients, &mut turned.recipients) {
        other.reverse();
        assert_eq!(one, other);
    }
    assert_eq!(turned, query);
});
