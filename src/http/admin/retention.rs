//! `/api/v1/retentions`: how long images are kept; and `/api/v1/collections`: yanked ones that go.

use actix_web::web::{self, Json};

use super::path::{InPath, RetentionOf};
use super::query;
use crate::api::{JobBody, NewCollection, NewRetention, Problem, RetentionBody};
use crate::app::Error;
use crate::app::images::Images;
use crate::app::images::collect::CollectMode;
use crate::app::jobs::Jobs;
use crate::http::ApiError;
use crate::http::answer::MaybeCreated;
use crate::http::auth::{Access, Manage, Read};
use crate::model::{ImagePath, ImageRetention};

/// Shows how long an image's files are kept.
#[utoipa::path(
    get, path = "/api/v1/retentions/{path}", tag = "images",
    params(("path" = String, Path, description = "target path")),
    responses(
        (status = 200, body = RetentionBody, description = "what was said of it"),
        (status = 400, body = Problem, description = "a path that breaks a rule"),
        (status = 404, body = Problem, description = "there is no such image"),
    )
)]
pub(in crate::http) async fn show_retention(
    images: web::Data<Images>,
    access: Access<Read, InPath<RetentionOf>>,
) -> Result<Json<RetentionBody>, ApiError> {
    let Access { principal, input: InPath(RetentionOf(path)), .. } = access;
    let retention = images.show_retention(&path, &principal).await?;
    Ok(Json(body(&path, retention)))
}

/// Says until when an image's files are kept in any case, yanked or not.
#[utoipa::path(
    put, path = "/api/v1/retentions/{path}", tag = "images",
    params(("path" = String, Path, description = "target path")),
    request_body = NewRetention,
    responses(
        (status = 200, body = RetentionBody, description = "what holds from now on"),
        (status = 400, body = Problem, description = "malformed"),
        (status = 404, body = Problem, description = "there is no such image"),
        (status = 409, body = Problem, description = "its files are gone"),
    )
)]
pub(in crate::http) async fn retain_image(
    images: web::Data<Images>,
    access: Access<Manage, (InPath<RetentionOf>, Json<NewRetention>)>,
) -> Result<Json<RetentionBody>, ApiError> {
    let Access { principal, input: (InPath(RetentionOf(path)), Json(new)), .. } = access;
    let NewRetention { retain_until } = new;
    let until = query::time("retain_until", retain_until)?;
    let retention = images.retain(&path, until, &principal).await?;
    Ok(Json(body(&path, retention)))
}

/// Removes the files of images that were yanked long ago. The answer is a job.
///
/// None goes that metadata lists which somebody may still go by, that a vehicle is to install, or
/// that is to be kept. What is known of an image stays, and its path is never used again.
#[utoipa::path(
    post, path = "/api/v1/collections", tag = "images", request_body = NewCollection,
    responses(
        (status = 201, body = JobBody, description = "the job that does it"),
        (status = 200, body = JobBody, description = "one that does the same has not ended yet: this one"),
        (status = 400, body = Problem, description = "malformed"),
    )
)]
pub(in crate::http) async fn collect_images(
    jobs: web::Data<Jobs>,
    access: Access<Manage, Json<NewCollection>>,
) -> Result<MaybeCreated<JobBody>, ApiError> {
    let Access { principal, input: Json(NewCollection { yanked_for_days, dry_run }), .. } = access;
    if !(1..=MOST_DAYS).contains(&yanked_for_days) {
        let detail = format!("`yanked_for_days` must be from 1 to {MOST_DAYS}");
        return Err(Error::Invalid { code: "bad_collection", detail }.into());
    }
    let mode = if dry_run { CollectMode::DryRun } else { CollectMode::Remove };
    let (job, is_new) = jobs.collect_images(yanked_for_days, mode, &principal).await?;
    Ok(MaybeCreated { is_new, body: job.into() })
}

fn body(path: &ImagePath, retention: ImageRetention) -> RetentionBody {
    let ImageRetention { retain_until, collected_at } = retention;
    RetentionBody {
        path: path.to_string(),
        retain_until: retain_until.map(|time| time.to_string()),
        collected_at: collected_at.map(|time| time.to_string()),
    }
}

const MOST_DAYS: u32 = 36_500;
