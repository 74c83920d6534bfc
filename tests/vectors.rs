//! Runs `tests/vectors/`, which programs that share no code with ours have made: the file name is
//! the case, its header says what has to come out.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod support;

use std::collections::HashMap;
use std::fs;
use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use motorcade::envelope::jwe::{Envelope, EnvelopeError};
use motorcade::envelope::key::{DataKey, RecipientPrivateKey};
use motorcade::envelope::segment::{Layout, OpenError};
use motorcade::envelope::stream::{RandomReader, SegmentReader};
use motorcade::model::SealAlgorithm;
use serde_json::Value;
use sha2::{Digest, Sha256};
use support::{noise, project, python, run, sha256};

/// A sealed image and what is known of it.
struct Sealed {
    name: String,
    fields: HashMap<String, String>,
    bytes: Vec<u8>,
}

/// What an opener says, in the words of docs/FORMAT.md 2.4.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Opened { plaintext_sha256: String },
    Header,
    Truncated,
    Authentication,
}

impl Sealed {
    fn read(path: &Path) -> Self {
        let file = fs::read(path).unwrap();
        let end = file.windows(2).position(|pair| pair == b"\n\n").unwrap();
        let (header, body) = file.split_at(end);
        let lines = std::str::from_utf8(header).unwrap().lines();
        let fields = lines
            .map(|line| line.split_once(": ").unwrap())
            .map(|(k, v)| (k.to_owned(), v.to_owned()));
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        Self { name, fields: fields.collect(), bytes: body[2..].to_vec() }
    }

    fn field(&self, name: &str) -> &str {
        self.fields.get(name).unwrap_or_else(|| panic!("{} has no {name}", self.name))
    }

    fn is_recipe(&self) -> bool {
        self.field("body") == "recipe"
    }

    fn algorithm(&self) -> SealAlgorithm {
        self.field("alg").parse().unwrap()
    }

    fn data_key(&self) -> DataKey {
        DataKey::from_bytes(hex::decode(self.field("key")).unwrap().try_into().unwrap())
    }

    fn plaintext(&self) -> Vec<u8> {
        noise(self.field("plaintext-seed"), self.field("plaintext-length").parse().unwrap())
    }

    fn expected(&self) -> Outcome {
        match self.field("expect") {
            "success" => {
                Outcome::Opened { plaintext_sha256: self.field("plaintext-sha256").to_owned() }
            }
            "header failure" => Outcome::Header,
            "truncated" => Outcome::Truncated,
            "authentication failure" => Outcome::Authentication,
            other => panic!("{} expects {other:?}", self.name),
        }
    }

    fn open_in_order(&self) -> Outcome {
        let opened =
            SegmentReader::new(Cursor::new(&self.bytes), &self.data_key(), self.algorithm());
        let digest = opened.and_then(|mut reader| {
            let (mut hasher, mut segment) = (Sha256::new(), Vec::new());
            while reader.next_segment(&mut segment)?.is_some() {
                hasher.update(&segment);
            }
            Ok(hex::encode(hasher.finalize()))
        });
        outcome(digest)
    }

    fn open_at_random(&self) -> Outcome {
        let opened =
            RandomReader::new(Cursor::new(&self.bytes), &self.data_key(), self.algorithm());
        let digest = opened.and_then(|mut reader| {
            let mut plaintext = Vec::new();
            reader.read_to_end(&mut plaintext).map_err(reason)?;
            Ok(sha256(&plaintext))
        });
        outcome(digest)
    }
}

fn outcome(opened: Result<String, OpenError>) -> Outcome {
    match opened {
        Ok(plaintext_sha256) => Outcome::Opened { plaintext_sha256 },
        Err(OpenError::Header) => Outcome::Header,
        Err(OpenError::Truncated) => Outcome::Truncated,
        Err(OpenError::Authentication) => Outcome::Authentication,
        Err(OpenError::Read(error)) => panic!("memory can be read: {error}"),
    }
}

/// The [`OpenError`] that a reader has put into an I/O error.
fn reason(error: io::Error) -> OpenError {
    *error.into_inner().unwrap().downcast().unwrap()
}

fn folder(name: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(project("tests/vectors").join(name)).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.file_name().unwrap() != "README.md");
    paths.sort();
    assert!(paths.len() > 50, "the vectors of {name} are there");
    paths
}

fn sealed() -> Vec<Sealed> {
    folder("sealed").iter().map(|path| Sealed::read(path)).collect()
}

fn with_bytes() -> Vec<Sealed> {
    sealed().into_iter().filter(|vector| !vector.is_recipe()).collect()
}

/// Recipes with their bytes, which the folder's own sealer makes: they would fill the folder, and
/// our sealer takes no salt from outside.
fn from_recipes() -> Vec<Sealed> {
    const SEAL: &str = "
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from check_with_tink import read_vector, reseal
for name in sys.argv[3:]:
    fields, _ = read_vector(Path(sys.argv[1], 'sealed', name))
    Path(sys.argv[2], name).write_bytes(reseal(fields))
";
    let out = tempfile::tempdir().unwrap();
    let mut recipes: Vec<Sealed> = sealed().into_iter().filter(Sealed::is_recipe).collect();
    let names = recipes.iter().map(|vector| vector.name.clone());
    run(python().args(["-c", SEAL]).arg(project("tests/vectors")).arg(out.path()).args(names));
    for vector in &mut recipes {
        vector.bytes = fs::read(out.path().join(&vector.name)).unwrap();
    }
    assert!(!recipes.is_empty());
    recipes
}

/// Compares all of them before it fails, so that one run shows every case that is wrong.
fn check(
    vectors: Vec<Sealed>,
    open: impl Fn(&Sealed) -> Outcome,
    expected: impl Fn(&Sealed) -> Outcome,
) {
    let wrong = vectors.iter().filter(|vector| open(vector) != expected(vector));
    let wrong: Vec<String> = wrong
        .map(|v| {
            format!("{} ({}): {:?}, not {:?}", v.name, v.field("comment"), open(v), expected(v))
        })
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn vectors_are_what_their_headers_say() {
    for vector in with_bytes() {
        assert_eq!(
            vector.bytes.len().to_string(),
            vector.field("sealed-length"),
            "{}",
            vector.name
        );
        assert_eq!(sha256(&vector.bytes), vector.field("sealed-sha256"), "{}", vector.name);
    }
}

#[test]
fn the_stream_reader_says_of_every_vector_what_it_expects() {
    check(with_bytes(), Sealed::open_in_order, Sealed::expected);
}

#[test]
fn the_random_reader_takes_what_a_sealer_writes_and_nothing_else() {
    check(with_bytes(), Sealed::open_at_random, |vector| {
        // It knows the length first, so that a length that no sealer gives comes before all else.
        let length = Layout::of(vector.algorithm()).plaintext_length(vector.bytes.len() as u64);
        length.map_or(Outcome::Truncated, |_| vector.expected())
    });
}

#[test]
fn an_empty_last_segment_opens_in_a_stream_as_it_does_in_tink() {
    let vector = Sealed::read(&project("tests/vectors/sealed/4kb_empty_last"));
    assert_eq!(vector.open_in_order(), vector.expected());
    assert_eq!(vector.open_at_random(), Outcome::Truncated);
}

#[test]
fn both_readers_open_what_the_recipes_make() {
    for vector in from_recipes() {
        assert_eq!(sha256(&vector.bytes), vector.field("sealed-sha256"), "{}", vector.name);
        assert_eq!(vector.open_in_order(), vector.expected(), "{}", vector.name);
        assert_eq!(vector.open_at_random(), vector.expected(), "{}", vector.name);
    }
}

#[test]
fn lengths_are_computed_as_the_vectors_have_them() {
    for vector in sealed().iter().filter(|vector| vector.field("expect") == "success") {
        if vector.name == "4kb_empty_last" {
            continue; // a length that no sealer gives
        }
        let (plaintext, sealed) =
            (vector.plaintext().len() as u64, vector.field("sealed-length").parse().unwrap());
        let layout = Layout::of(vector.algorithm());
        assert_eq!(layout.sealed_length(plaintext), Some(sealed), "{}", vector.name);
        assert_eq!(layout.plaintext_length(sealed).unwrap(), plaintext, "{}", vector.name);
    }
}

#[test]
fn any_part_of_an_image_is_that_part_of_its_plaintext() {
    for vector in from_recipes().iter().filter(|vector| vector.field("alg").ends_with("4KB")) {
        let plaintext = vector.plaintext();
        let mut reader =
            RandomReader::new(Cursor::new(&vector.bytes), &vector.data_key(), vector.algorithm())
                .unwrap();
        assert_eq!(reader.plaintext_length(), plaintext.len() as u64);
        for start in [0, 1, 4039, 4040, 4041, 8119, 8120, plaintext.len() - 1] {
            for length in [1, 41, 4080, plaintext.len()] {
                let Some(expected) = plaintext.get(start..plaintext.len().min(start + length))
                else {
                    continue;
                };
                let mut part = vec![0; expected.len()];
                reader.seek(SeekFrom::Start(start as u64)).unwrap();
                reader.read_exact(&mut part).unwrap();
                assert_eq!(part, expected, "{} from {start}, {length} bytes", vector.name);
            }
        }
    }
}

/// An envelope, the key to open it with, and what has to come out.
struct Sent {
    name: String,
    case: Value,
}

impl Sent {
    fn text(&self, member: &str) -> &str {
        self.case[member].as_str().unwrap_or_else(|| panic!("{} has no {member}", self.name))
    }

    fn open(&self) -> Result<(DataKey, SealAlgorithm), EnvelopeError> {
        let key = fs::read_to_string(support::snakeoil(self.text("key"))).unwrap();
        let key = RecipientPrivateKey::parse(&key).unwrap();
        let envelope = match &self.case["raw"] {
            Value::String(raw) => raw.clone(),
            _ => self.case["envelope"].to_string(),
        };
        Envelope::parse(envelope.as_bytes())?.open(&key)
    }
}

fn envelopes(expect: impl Fn(&str) -> bool) -> Vec<Sent> {
    let read = |path: PathBuf| Sent {
        name: path.file_stem().unwrap().to_str().unwrap().to_owned(),
        case: serde_json::from_slice(&fs::read(&path).unwrap()).unwrap(),
    };
    let found: Vec<Sent> = folder("envelope")
        .into_iter()
        .map(read)
        .filter(|sent| expect(sent.text("expect")))
        .collect();
    assert!(!found.is_empty());
    found
}

/// The classes of tests/vectors/envelope/README.md.
fn class(error: &EnvelopeError) -> &'static str {
    use EnvelopeError as E;
    match error {
        E::NotAJwe | E::BadJson { .. } | E::DuplicateMember { .. } | E::MixedSerialization => {
            "malformed"
        }
        E::RepeatedHeader { .. } | E::Missing { .. } | E::BadMember { .. } | E::NoRecipients => {
            "malformed"
        }
        E::BadEphemeralKey { .. } | E::BadPayload => "malformed",
        E::UnsupportedAlg { .. } | E::UnsupportedEnc { .. } | E::UnsupportedCty { .. } => {
            "unsupported"
        }
        E::UnsupportedFeature { .. } => "unsupported",
        E::NoEntry { .. } => "no recipient",
        E::DoesNotOpen => "authentication failure",
        other => panic!("no vector is about {other:?}"),
    }
}

/// Where our errors draw the line elsewhere than the vectors.
fn expected_class(sent: &Sent) -> &str {
    match sent.name.as_str() {
        "crit_empty" => "unsupported", // what `crit` holds is not looked at
        "changed_protected" => "unsupported", // the changed `cty` is refused before the tag is looked at
        "epk_p384" | "payload_alg_unknown" => "malformed", // one error for any key that is not of the one right kind
        _ => sent.text("expect"),
    }
}

#[test]
fn envelopes_for_a_key_give_it_the_data_key() {
    let wrong: Vec<String> = envelopes(|expect| expect == "success")
        .iter()
        .filter_map(|sent| {
            let opened = sent
                .open()
                .map(|(key, alg)| (URL_SAFE_NO_PAD.encode(key.as_bytes()), alg.to_string()));
            let expected = Ok((sent.text("k").to_owned(), sent.text("alg").to_owned()));
            (opened != expected)
                .then(|| format!("{} ({}): {opened:?}", sent.name, sent.text("comment")))
        })
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_other_envelope_is_refused_for_its_reason() {
    let wrong: Vec<String> = envelopes(|expect| expect != "success")
        .iter()
        .filter_map(|sent| {
            let (error, expected) = (sent.open().map(drop), expected_class(sent));
            let is_right = error.as_ref().is_err_and(|error| class(error) == expected);
            (!is_right).then(|| {
                format!("{} ({}): {error:?}, not {expected}", sent.name, sent.text("comment"))
            })
        })
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}
