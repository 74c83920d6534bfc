//! `/api/v1/rotations`: keys that go, on every image concerned; and `/api/v1/images/{path}/reseal`,
//! for what re-wrapping can't take back.

use actix_web::web::{self, Json};

use super::path::{InPath, ResealOf};
use super::upload_head::image_path;
use crate::api::{JobBody, NewReseal, NewRotation, Problem};
use crate::app::Error;
use crate::app::images::rewrap::RewrapMode;
use crate::app::jobs::Jobs;
use crate::http::ApiError;
use crate::http::answer::MaybeCreated;
use crate::http::auth::{Access, ManageKeys};

/// Replaces or revokes a key on every image concerned, by wrapping their envelopes again. Sealed
/// images, their digests and their entity tags stay as they are. The answer is a job.
///
/// Whoever has had a data key keeps it: for a compromised key, reseal the images.
/// A key that was revoked can be rotated for the images that nobody else can open; it stays revoked.
#[utoipa::path(
    post, path = "/api/v1/rotations", tag = "recipients", request_body = NewRotation,
    responses(
        (status = 201, body = JobBody, description = "the job that does it"),
        (status = 200, body = JobBody, description = "one that does the same has not ended yet: this one"),
        (status = 400, body = Problem, description = "malformed, or not exactly one key that is to go"),
        (status = 409, body = Problem, description = "the new key is in use, or the old one has another successor"),
        (status = 422, body = Problem, description = "an unknown key that is to go, or a private, weak, broken, revoked or signing key that is to come"),
    )
)]
pub(in crate::http) async fn create_rotation(
    jobs: web::Data<Jobs>,
    access: Access<ManageKeys, Json<NewRotation>>,
) -> Result<MaybeCreated<JobBody>, ApiError> {
    let Access { principal, input: Json(rotation), .. } = access;
    let NewRotation { recipient, revocation, escrow, dry_run } = rotation;
    let mode = if dry_run { RewrapMode::DryRun } else { RewrapMode::Record };
    let (job, is_new) = match (recipient, revocation, escrow) {
        (Some(rotation), None, None) => {
            let public_key = rotation.public_key.text();
            jobs.rotate_recipient(&rotation.kid, &public_key, mode, &principal).await?
        }
        (None, Some(revocation), None) => {
            jobs.revoke_recipient(&revocation.kid, mode, &principal).await?
        }
        (None, None, Some(escrow)) => {
            jobs.rotate_escrow(escrow.key.as_deref(), mode, &principal).await?
        }
        _ => {
            let detail = "give either `recipient` or `revocation` or `escrow`".to_owned();
            return Err(Error::Invalid { code: "bad_rotation", detail }.into());
        }
    };
    Ok(MaybeCreated { is_new, body: job.into() })
}

/// Opens an image and seals it again under a new data key, as an image at another path; the one that
/// is there is yanked, and its assignments move. The answer is a job.
///
/// Whoever could open the image that is yanked, and has kept a copy of it, still can.
/// A supplier's image can't be resealed: the supplier uploads it again at another path, with a token
/// of its own, and then the old one is yanked. If the image is yanked while the job waits or runs, the
/// job fails, and what it has sealed is yanked too.
#[utoipa::path(
    post, path = "/api/v1/images/{path}/reseal", tag = "images",
    params(("path" = String, Path, description = "target path")),
    request_body = NewReseal,
    responses(
        (status = 201, body = JobBody, description = "the job that does it"),
        (status = 200, body = JobBody, description = "one that does the same has not ended yet: this one"),
        (status = 400, body = Problem, description = "malformed"),
        (status = 404, body = Problem, description = "there is no such image"),
        (status = 409, body = Problem, description = "it was yanked, or the other path is taken"),
        (status = 422, body = Problem, description = "there is no path to be found for it: name one; or one of the two is in a supplier's folder and the other isn't"),
    )
)]
pub(in crate::http) async fn reseal_image(
    jobs: web::Data<Jobs>,
    access: Access<ManageKeys, (InPath<ResealOf>, Json<NewReseal>)>,
) -> Result<MaybeCreated<JobBody>, ApiError> {
    let Access { principal, input: (InPath(ResealOf(path)), Json(NewReseal { to })), .. } = access;
    let to = to.as_deref().map(image_path).transpose()?;
    let (job, is_new) = jobs.reseal(&path, to, &principal).await?;
    Ok(MaybeCreated { is_new, body: job.into() })
}
