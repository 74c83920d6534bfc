//! Attacks as plain files, for any client.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::attack::{Attack, Behaviour, Expect, Step};
use super::image::sha256_hex;
use super::repository::{Side, Tree};
use super::vehicle::{Ecu, EcuKeys};
use super::world::Lab;

/// Writes `attack` to a folder of its own below `folder`.
pub(crate) fn write(folder: &Path, lab: &Lab, keys: &[EcuKeys], attack: &Attack) -> io::Result<()> {
    let folder = folder.join(attack.id());
    fs::create_dir_all(folder.join("trusted"))?;
    for side in Side::BOTH {
        fs::write(
            folder.join(format!("trusted/{}-root.json", side.as_str())),
            &*lab.keys.first_root(side),
        )?;
    }
    fs::create_dir_all(folder.join("keys"))?;
    for ecu in keys {
        fs::write(folder.join(format!("keys/snakeoil_{}_signing.pem", ecu.serial)), &ecu.signing)?;
        fs::write(
            folder.join(format!("keys/snakeoil_{}_encryption.pem", ecu.serial)),
            &ecu.encryption,
        )?;
    }
    let mut written = Written::new();
    for (number, step) in (1..).zip(&attack.steps) {
        let folder = folder.join(number.to_string());
        write_tree(&folder.join("director"), &step.site.director, &mut written)?;
        write_tree(&folder.join("repo"), &step.site.repo, &mut written)?;
    }
    let description = format!("{:#}\n", describe(lab, attack));
    fs::write(folder.join("attack.json"), description)
}

/// Where a file has been written already, by where it is in memory.
type Written = BTreeMap<*const Vec<u8>, PathBuf>;

/// What several steps serve is one file with several names, where the file system can.
///
/// A file whose name would lead out of its folder is left out: no client may ask for it.
fn write_tree(folder: &Path, tree: &Tree, written: &mut Written) -> io::Result<()> {
    for (name, bytes) in tree {
        let is_inside =
            |part: &str| !part.is_empty() && !part.starts_with("..") && !part.contains('\0');
        if !name.split('/').all(is_inside) {
            continue;
        }
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap_or(folder))?;
        let before = written.insert(Arc::as_ptr(bytes), path.clone());
        if before.is_none_or(|before| fs::hard_link(before, &path).is_err()) {
            fs::write(path, &**bytes)?;
        }
    }
    Ok(())
}

fn describe(lab: &Lab, attack: &Attack) -> Value {
    let ecu = |ecu: &Ecu| json!({ "hardware_id": ecu.hardware_id, "role": ecu.role, "serial": ecu.serial });
    json!({
        "description": attack.description,
        "ecus": lab.vehicle.ecus.iter().map(ecu).collect::<Vec<_>>(),
        "id": attack.id(),
        "name": attack.name,
        "row": attack.row,
        "steps": (1..).zip(&attack.steps).map(|(number, step)| describe_step(number, step)).collect::<Vec<_>>(),
        "vin": lab.vehicle.vin,
    })
}

fn describe_step(number: u32, step: &Step) -> Value {
    let mut object = json!({ "dir": number.to_string() });
    match step.expect {
        Expect::Updated => {
            let installed = step.site.installed.iter();
            let installed =
                installed.map(|(serial, image)| (serial.clone(), json!(sha256_hex(image))));
            object["expect"] = json!("accept");
            object["installed"] = installed.collect::<Map<_, _>>().into();
        }
        Expect::Partial => object["expect"] = json!("partial"),
        Expect::UpToDate => object["expect"] = json!("accept"),
        Expect::Refused(name) => {
            object["expect"] = json!("refuse");
            object["attack"] = json!(name);
        }
        Expect::RefusedBy(name, serial) => {
            object["expect"] = json!("refuse");
            object["attack"] = json!(name);
            object["ecu"] = json!(serial);
        }
        Expect::Faulted(name) => {
            object["expect"] = json!("refuse");
            object["fault"] = json!(name);
        }
        Expect::FaultedBy(name, serial) => {
            object["expect"] = json!("refuse");
            object["fault"] = json!(name);
            object["ecu"] = json!(serial);
        }
        Expect::Contained => object["expect"] = json!("either"),
    }
    if let Some(clock) = step.clock {
        object["clock"] = json!(clock);
    }
    if !step.serve.is_empty() {
        let serve = step
            .serve
            .iter()
            .map(|(path, behaviour)| (path.clone(), describe_behaviour(behaviour)));
        object["serve"] = serve.collect::<Map<_, _>>().into();
    }
    object
}

fn describe_behaviour(behaviour: &Behaviour) -> Value {
    match behaviour {
        Behaviour::Endless => json!("endless"),
        Behaviour::EndlessHead => json!("endless-head"),
        Behaviour::GzipBomb => json!("gzip-bomb"),
        Behaviour::Drip => json!("drip"),
        Behaviour::Stall => json!("stall"),
        Behaviour::Cut(bytes) => json!({ "cut": bytes }),
        Behaviour::Missing => json!("missing"),
        Behaviour::IgnoreRange => json!("ignore-range"),
        Behaviour::Redirect(location) => json!({ "redirect": location }),
    }
}
