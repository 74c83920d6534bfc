//! The roots that a factory gives to a vehicle: whether each is the one that it is said to be.
//!
//! Whoever takes the Director's for the Image repository's gets a vehicle that refuses everything
//! as unsigned, which looks like an attack for as long as it lives.

use std::path::Path;

use super::Error;
use super::files::find;
use super::http::Http;
use super::names::metadata_file;
use super::redirect::Redirects;
use super::source::Source;
use super::store::Store;
use motorcade_model::{Clock, RoleName, SystemClock, VehicleId};
use motorcade_uptane::verify::{Limits, Rules, TrustedSet, VerifyError};

/// Both roots, as bytes.
pub(super) struct Roots {
    pub(super) director: Vec<u8>,
    pub(super) image: Vec<u8>,
    versions: [u64; 2],
}

impl Roots {
    /// Reads both, and refuses what is no root, or one in two places.
    pub(super) fn read(director: &Path, image: &Path, vin: &VehicleId) -> Result<Self, Error> {
        let of_director = Rules::Director { vin: vin.clone(), ecus: None };
        let (director_bytes, director_version) = read(director, of_director)?;
        let (image_bytes, image_version) = read(image, Rules::Image)?;
        if director_bytes == image_bytes {
            return Err(unusable(
                image,
                "it is the same as the Director's root; each repository has its own",
            ));
        }
        Ok(Self {
            director: director_bytes,
            image: image_bytes,
            versions: [director_version, image_version],
        })
    }

    /// Compares both with what the servers have under the same versions, as far as they say.
    pub(super) fn check(
        &self,
        http: &Http,
        urls: [&str; 2],
        paths: [&Path; 2],
    ) -> Result<(), Error> {
        let ours = [&self.director, &self.image];
        for (own, other) in [(0, 1), (1, 0)] {
            let served = |place: usize| {
                let url = format!(
                    "{}/{}",
                    urls[place],
                    metadata_file(&RoleName::Root, Some(self.versions[own]))
                );
                // A server that can't be reached, or that wants a token, does not say.
                http.fetch(&url, None, Limits::ROOT, Redirects::Refused).ok().flatten()
            };
            if served(own).is_none_or(|root| root == *ours[own]) {
                continue;
            }
            let fault = match served(other).is_some_and(|root| root == *ours[own]) {
                true => {
                    "it is the root of the other repository: `--director-root` and `--image-root` have changed places"
                }
                false => {
                    "the server has another root with this version; get the one of this server"
                }
            };
            return Err(unusable(paths[own], fault));
        }
        Ok(())
    }
}

/// Says of a vehicle that has never verified anything, and can't verify the Director's metadata,
/// that its roots have changed places if that is why: whoever built it did that, and nobody attacks
/// it. Other errors stay what they are.
///
/// What tells it is a file of this vehicle that is signed by what is trusted as the Image
/// repository. That root alone does not, nor does a timestamp of the Image repository, which has no
/// `vin`: both are public, and an attacker could serve them.
pub(super) fn explain(
    error: Error,
    of_director: &Rules,
    director: &Store,
    image: &Store,
    source: &dyn Source,
) -> Error {
    let is_unsigned = matches!(error, Error::Verify(VerifyError::ThresholdNotMet { .. }));
    if !is_unsigned || director.find(&RoleName::Timestamp).is_some() {
        return error;
    }
    let read = |root: &[u8]| TrustedSet::new(root, of_director.clone(), SystemClock.now());
    let Ok(mut set) = image.root(read) else { return error };
    let served = |name: String, limit| source.fetch(&name, limit).ok().flatten();
    for _ in 0..Limits::ROOT_ROTATIONS {
        let next =
            served(metadata_file(&RoleName::Root, Some(set.root_version() + 1)), Limits::ROOT);
        if next.is_none_or(|root| set.update_root(&root).is_err()) {
            break;
        }
    }
    let timestamp = served(metadata_file(&RoleName::Timestamp, None), Limits::TIMESTAMP);
    if timestamp.is_some_and(|timestamp| set.load_stored_timestamp(&timestamp).is_ok()) {
        let fault = "the Director's root is in the place of the Image repository's: provision the vehicle with each in its place";
        return unusable(&image.root_path(), fault);
    }
    error
}

/// A root, and its version.
fn read(path: &Path, rules: Rules) -> Result<(Vec<u8>, u64), Error> {
    let root = find(path, Limits::ROOT)?.ok_or_else(|| unusable(path, "it is not there"))?;
    // What a person gives is a file that can't be used, and never an attack.
    let set = TrustedSet::new(&root, rules, SystemClock.now())
        .map_err(|error| unusable(path, &error.to_string()))?;
    Ok((root, set.root_version()))
}

fn unusable(path: &Path, fault: &str) -> Error {
    Error::Setting { path: path.to_owned(), fault: fault.to_owned() }
}
