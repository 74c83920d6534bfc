//! Files that clients could read in different ways, and names that lead astray.

use serde_json::{Value, json};

use crate::hostile::attack::{Attack, Row};
use crate::hostile::image::Image;
use crate::hostile::keys::RoleKeys;
use crate::hostile::repository::{BINS, Delegation, Side, TargetsRole};
use crate::hostile::rows::signatures::insert_after;
use crate::hostile::vehicle::{PRIMARY, PRIMARY_HARDWARE};
use crate::hostile::world::{Lab, World};

/// One role's file in place of another's.
pub(crate) fn at_32(lab: &Lab) -> Vec<Attack> {
    let mut row = Row::new(lab, "AT-32");
    for side in Side::BOTH {
        for role in side.roles() {
            for other in ["root", "timestamp", "snapshot", "targets"] {
                if other == *role || (other == "targets" && *role == BINS) {
                    continue;
                }
                let variant = format!("{}-{role}-as-{other}", side.as_str());
                let description = format!(
                    "The {} repository's {role}, well signed, says that it is a {other}.",
                    side.as_str()
                );
                row.refuse("mix-and-match", variant, description, |world| {
                    world.update_edited(side, role, move |draft| {
                        draft.signed["_type"] = json!(other)
                    });
                });
            }
        }
        let description =
            format!("The {} repository serves its snapshot as its timestamp.", side.as_str());
        row.refuse_keyless(
            "mix-and-match",
            format!("{}-swapped", side.as_str()),
            description,
            |world| {
                let repository = world.repository(side);
                let snapshot = repository.tree
                    [&format!("{}.snapshot.json", repository.version("snapshot"))]
                    .to_vec();
                repository.store("timestamp.json", snapshot);
            },
        );
    }
    row.attacks
}

/// Names of targets and roles that are paths to somewhere else.
pub(crate) fn at_40(lab: &Lab) -> Vec<Attack> {
    let mut row = Row::new(lab, "AT-40");
    for (variant, path) in TARGET_PATHS {
        let description = format!("Both repositories, by their keys, list an image at {path:?}.");
        row.contain(format!("target-{variant}"), description, |world| {
            world.release_next();
            let evil = Image::seal("evil", PRIMARY_HARDWARE, world.counter).at(path);
            world.release(&evil);
            world.assign(PRIMARY, &evil);
            world.publish();
        });
    }
    for (variant, name) in ROLE_NAMES {
        let description = format!("The Image repository delegates to a role called {name:?}.");
        row.contain(format!("role-{variant}"), description, |world| {
            world.release_next();
            let keys = RoleKeys::generate();
            world
                .image
                .top()
                .delegations
                .insert(0, Delegation::to(name, &keys).paths(&["evil/*/*"]));
            world.image.add_role(name, TargetsRole::new(&keys));
            let evil = Image::seal("evil", PRIMARY_HARDWARE, world.counter);
            world.release_in(name, &evil);
            world.assign(PRIMARY, &evil);
            world.publish();
            serve_under_all_names(&mut world.image.tree, name);
        });
    }
    row.attacks
}

/// Serves a role's file also as clients may ask for it: quoted, and with its dots resolved.
fn serve_under_all_names(tree: &mut crate::hostile::repository::Tree, role: &str) {
    let file = format!("1.{role}.json");
    let bytes = tree[&file].clone();
    let quoted = |all: bool| -> String {
        let quote = |byte: u8| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            b'.' if !all => ".".to_owned(),
            byte => format!("%{byte:02X}"),
        };
        role.bytes().map(quote).collect()
    };
    for name in [quoted(false), quoted(true)] {
        tree.insert(format!("1.{name}.json"), bytes.clone());
    }
}

/// What a network makes of a file. It takes no attacker, and is refused.
const GARBLED: [&str; 5] = ["byte-order-mark", "cut", "empty", "portal", "other-json"];

const TARGET_PATHS: [(&str, &str); 12] = [
    ("parent", "../evil.bin"),
    ("parents", "../../../../../../tmp/evil.bin"),
    ("within", "gateway/../../evil.bin"),
    ("absolute", "/tmp/motorcade-evil.bin"),
    ("dot", "gateway/./evil.bin"),
    ("empty-part", "gateway//evil.bin"),
    ("backslash", "gateway\\..\\..\\evil.bin"),
    ("percent", "gateway/%2e%2e/%2e%2e/evil.bin"),
    ("nul", "gateway/evil\u{0}.bin"),
    ("newline", "gateway/evil\n.bin"),
    ("query", "gateway/evil.bin?x=1#y"),
    ("empty", ""),
];

const ROLE_NAMES: [(&str, &str); 8] = [
    ("parent", "../evil"),
    ("parents", "../../../../ecus/evil"),
    ("absolute", "/tmp/motorcade-evil"),
    ("slash", "a/evil"),
    ("backslash", "..\\evil"),
    ("percent", "%2e%2e%2fevil"),
    ("dots", ".."),
    ("query", "evil?x=1"),
];

/// JSON that is not canonical, and JSON that two readers may read differently.
pub(crate) fn at_49(lab: &Lab) -> Vec<Attack> {
    let mut row = Row::new(lab, "AT-49");
    type Bytes = fn(&mut Vec<u8>);
    let harmless: [(&str, &str, Bytes); 3] = [
        ("spaces", "white space", |bytes| {
            let value: Value = serde_json::from_slice(bytes).unwrap();
            *bytes = serde_json::to_vec_pretty(&value).unwrap();
        }),
        ("escapes", "escapes where none are needed", |bytes| {
            replace(bytes, "\"_type\"", "\"\\u005ftype\"")
        }),
        ("last-line", "a last line that is empty", |bytes| bytes.push(b'\n')),
    ];
    let hostile: [(&str, &str, Bytes); 12] = [
        ("member-twice", "the member `version` twice", |bytes| {
            insert_after(bytes, "\"signed\":{", "\"version\":1,")
        }),
        ("signed-twice", "the member `signed` twice", |bytes| {
            insert_after(bytes, "{", "\"signed\":{},")
        }),
        ("escaped-twice", "a member twice, once escaped", |bytes| {
            insert_after(bytes, "\"signed\":{", "\"\\u0076ersion\":1,");
        }),
        ("trailing", "a second document behind it", |bytes| bytes.extend(b"{}")),
        ("byte-order-mark", "a byte order mark", |bytes| {
            drop(bytes.splice(0..0, *b"\xef\xbb\xbf"))
        }),
        ("not-utf8", "bytes that are not UTF-8", |bytes| {
            replace_bytes(bytes, b"\"signed\":{", b"\"signed\":{\"\xff\":1,")
        }),
        ("surrogate", "half of a surrogate pair", |bytes| {
            insert_after(bytes, "\"signed\":{", "\"x\":\"\\ud800\",")
        }),
        ("deep", "100000 brackets", |bytes| {
            let brackets = format!("\"x\":{}{},", "[".repeat(100_000), "]".repeat(100_000));
            insert_after(bytes, "\"signed\":{", &brackets);
        }),
        ("cut", "only its first half", |bytes| bytes.truncate(bytes.len() / 2)),
        ("empty", "nothing in it", Vec::clear),
        ("portal", "a login page in its place", |bytes| {
            *bytes = b"<!DOCTYPE html><title>Log in</title>\n".repeat(2000)
        }),
        ("other-json", "the error of another service in its place", |bytes| {
            *bytes = b"{\"error\":\"log in\"}".to_vec()
        }),
    ];
    // One parser reads them all; these come first, last and in between.
    for (side, roles) in [(Side::Director, ["timestamp", "targets"]), (Side::Image, ["root", BINS])]
    {
        for role in roles {
            for (variant, what, change) in harmless {
                let variant = format!("{variant}-{}-{role}", side.as_str());
                let description = format!("The {} repository's {role} has {what}.", side.as_str());
                row.accept("none", variant, description, |world| {
                    world.update_edited(side, role, move |draft| draft.bytes(change));
                });
            }
            for (variant, what, change) in hostile {
                let attack = if variant == "deep" && role == "timestamp" {
                    "endless-data"
                } else {
                    "malformed"
                };
                let is_fault = GARBLED.contains(&variant);
                let variant = format!("{variant}-{}-{role}", side.as_str());
                let description = format!("The {} repository's {role} has {what}.", side.as_str());
                let hostile = |world: &mut World| {
                    world.update_edited(side, role, move |draft| draft.bytes(change))
                };
                match is_fault {
                    true => row.fault(attack, "garbled", variant, description, hostile),
                    false => row.refuse(attack, variant, description, hostile),
                };
            }
            type Signed = fn(&mut Value);
            let signed: [(&str, &str, Signed); 7] = [
                ("fraction", "the version 3.5", |signed| signed["version"] = json!(3.5)),
                ("text-version", "a version in quotes", |signed| signed["version"] = json!("3")),
                ("huge-version", "a version over 64 bits", |signed| {
                    signed["version"] = json!(1.8446744073709552e19)
                }),
                ("version-0", "the version 0", |signed| signed["version"] = json!(0)),
                ("negative", "a version below 0", |signed| signed["version"] = json!(-3)),
                ("no-expiry", "no expiry", |signed| {
                    drop(signed.as_object_mut().unwrap().remove("expires"))
                }),
                ("local-expiry", "an expiry in local time", |signed| {
                    signed["expires"] = json!("2041-01-01T00:00:00")
                }),
            ];
            for (variant, what, change) in signed {
                let variant = format!("{variant}-{}-{role}", side.as_str());
                let description =
                    format!("The {} repository's {role}, well signed, has {what}.", side.as_str());
                row.refuse("malformed", variant, description, |world| {
                    world.update_edited(side, role, move |draft| change(&mut draft.signed));
                });
            }
        }
    }
    let (composed, decomposed) = ("gateway/3/\u{e9}.bin", "gateway/3/e\u{301}.bin");
    let description =
        "The Director lists a name in one Unicode form, and the Image repository in another.";
    row.refuse("malformed", "unicode-forms", description, |world| {
        world.release_next();
        let image = Image::seal("gateway", PRIMARY_HARDWARE, 3);
        world.release(&image.clone().at(composed));
        world.assign(PRIMARY, &image.at(decomposed));
        world.publish();
    });
    row.attacks
}

fn replace(bytes: &mut Vec<u8>, from: &str, to: &str) {
    replace_bytes(bytes, from.as_bytes(), to.as_bytes());
}

fn replace_bytes(bytes: &mut Vec<u8>, from: &[u8], to: &[u8]) {
    let at = bytes.windows(from.len()).position(|window| window == from).expect("it is there");
    bytes.splice(at..at + from.len(), to.iter().copied());
}
