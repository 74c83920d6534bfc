//! The hash of an entry (docs/FORMAT.md, section 8).

use sha2::{Digest, Sha256};

use super::AuditEntry;

/// The end of the log: its last entry, or 0 and a hash of zeros before the first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditHead {
    /// Number of the last entry.
    pub seq: u64,
    /// Its hash, in hexadecimal.
    pub hash: String,
}

impl AuditHead {
    /// Before the first entry.
    pub fn before_all() -> Self {
        Self { seq: 0, hash: "0".repeat(64) }
    }
}

/// The hash of an entry that follows one with the hash `previous`: SHA-256, in hexadecimal, over
/// netstrings, so that no two different entries give the same bytes.
pub fn entry_hash(previous: &str, entry: &AuditEntry) -> String {
    let mut bytes = Vec::with_capacity(512);
    for text in [
        previous,
        &entry.seq.to_string(),
        &entry.at.as_millisecond().to_string(),
        &entry.kind,
        &entry.actor_kind,
        &entry.actor,
        &entry.subject,
        &entry.detail,
    ] {
        push_netstring(&mut bytes, text);
    }
    for text in [&entry.actor_role, &entry.request_id] {
        match text {
            Some(text) => push_netstring(&mut bytes, text),
            None => bytes.push(b'-'), // a netstring begins with a digit
        }
    }
    hex::encode(Sha256::digest(&bytes))
}

fn push_netstring(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend_from_slice(text.len().to_string().as_bytes());
    bytes.push(b':');
    bytes.extend_from_slice(text.as_bytes());
    bytes.push(b',');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Timestamp;

    fn entry() -> AuditEntry {
        AuditEntry {
            seq: 1,
            at: Timestamp::from_millisecond(1_795_000_000_123).unwrap(),
            kind: "image_yanked".into(),
            actor_kind: "token".into(),
            actor: "0123456789ab".into(),
            actor_role: Some("engineer".into()),
            subject: "gw/4.2.0/gateway.bin".into(),
            detail: "{}".into(),
            request_id: None,
            hash: String::new(),
        }
    }

    /// docs/FORMAT.md has the same bytes.
    #[test]
    fn a_hash_is_that_of_the_worked_example() {
        let previous = AuditHead::before_all().hash;
        let bytes = format!(
            "64:{previous},1:1,13:1795000000123,12:image_yanked,5:token,12:0123456789ab,\
             20:gw/4.2.0/gateway.bin,2:{{}},8:engineer,-"
        );
        assert_eq!(entry_hash(&previous, &entry()), hex::encode(Sha256::digest(bytes)));
    }

    #[test]
    fn every_field_is_under_the_hash() {
        let known = entry_hash("00", &entry());
        let changes: [fn(&mut AuditEntry); 10] = [
            |entry| entry.seq = 2,
            |entry| entry.at += std::time::Duration::from_millis(1),
            |entry| entry.kind.push('x'),
            |entry| entry.actor_kind.push('x'),
            |entry| entry.actor.push('x'),
            |entry| entry.actor_role = None,
            |entry| entry.subject.push('x'),
            |entry| entry.detail = "{ }".into(),
            |entry| entry.request_id = Some(String::new()),
            |entry| std::mem::swap(&mut entry.actor_role, &mut entry.request_id),
        ];
        for (number, change) in changes.into_iter().enumerate() {
            let mut changed = entry();
            change(&mut changed);
            assert_ne!(entry_hash("00", &changed), known, "change {number}");
        }
        assert_ne!(entry_hash("01", &entry()), known);
    }
}
