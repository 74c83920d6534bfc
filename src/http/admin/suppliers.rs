//! `/api/v1/suppliers`.

use actix_web::web::{self, Json};

use super::path::InPath;
use crate::api::{
    NewSupplierBody, Problem, RemovedSupplierBody, SupplierBody, SupplierKeys, SupplierList,
};
use crate::app;
use crate::app::suppliers::{NewSupplier, OwnKeys, Suppliers};
use crate::http::ApiError;
use crate::http::answer::MaybeCreated;
use crate::http::auth::{Access, ManageKeys, Read};
use crate::model::{HardwareId, SupplierName};

/// Adds a supplier: makes its keys and delegates its folder to it; or takes its public keys, and
/// delegates to it once it has signed its first file.
#[utoipa::path(
    post, path = "/api/v1/suppliers", tag = "suppliers", request_body = NewSupplierBody,
    responses(
        (status = 201, body = SupplierBody, description = "added, and published; or to be published once it has signed"),
        (status = 409, body = Problem, description = "the name was used, the folder is another's, others list images in it, or a key has another use"),
        (status = 422, body = Problem, description = "a threshold that can't be met, or a key that is none"),
        (status = 503, body = Problem, description = "accepted, and not published yet: the server's clock is wrong"),
        (status = 507, body = Problem, description = "accepted, and not published yet: no space is left"),
    )
)]
pub(in crate::http) async fn add_supplier(
    suppliers: web::Data<Suppliers>,
    access: Access<ManageKeys, Json<NewSupplierBody>>,
) -> Result<MaybeCreated<SupplierBody>, ApiError> {
    let Access { principal, input: Json(body), .. } = access;
    let added = suppliers.add(parse(body)?, &principal).await?;
    Ok(MaybeCreated { is_new: true, body: added.into() })
}

/// Lists suppliers: all of them, or the one whose folder the caller's token is bound to.
#[utoipa::path(
    get, path = "/api/v1/suppliers", tag = "suppliers",
    responses(
        (status = 200, body = SupplierList, description = "the suppliers"),
    )
)]
pub(in crate::http) async fn list_suppliers(
    suppliers: web::Data<Suppliers>,
    access: Access<Read>,
) -> Result<Json<SupplierList>, ApiError> {
    let suppliers = suppliers.list(&access.principal).await?;
    Ok(Json(SupplierList { suppliers: suppliers.into_iter().map(SupplierBody::from).collect() }))
}

/// Gives a supplier other keys, made by the server, as many as it has.
#[utoipa::path(
    post, path = "/api/v1/suppliers/{supplier}/rotation", tag = "suppliers", params(("supplier" = String, Path)),
    responses(
        (status = 200, body = SupplierBody, description = "the supplier with its new keys; published"),
        (status = 404, body = Problem, description = "there is none"),
        (status = 409, body = Problem, description = "it keeps its keys itself"),
        (status = 503, body = Problem, description = "accepted, and not published yet: the server's clock is wrong"),
        (status = 507, body = Problem, description = "accepted, and not published yet: no space is left"),
    )
)]
pub(in crate::http) async fn rotate_supplier(
    suppliers: web::Data<Suppliers>,
    access: Access<ManageKeys, InPath<SupplierName>>,
) -> Result<Json<SupplierBody>, ApiError> {
    let Access { principal, input: InPath(name), .. } = access;
    Ok(Json(suppliers.rotate(&name, &principal).await?.into()))
}

/// Has a supplier sign with other keys, which it keeps, from its next file on.
#[utoipa::path(
    put, path = "/api/v1/suppliers/{supplier}/keys", tag = "suppliers", params(("supplier" = String, Path)),
    request_body = SupplierKeys,
    responses(
        (status = 200, body = SupplierBody, description = "the supplier with these keys; what is published stays until they have signed"),
        (status = 404, body = Problem, description = "there is none"),
        (status = 409, body = Problem, description = "a key has another use"),
        (status = 422, body = Problem, description = "a threshold that can't be met, or a key that is none"),
    )
)]
pub(in crate::http) async fn give_supplier_keys(
    suppliers: web::Data<Suppliers>,
    access: Access<ManageKeys, (InPath<SupplierName>, Json<SupplierKeys>)>,
) -> Result<Json<SupplierBody>, ApiError> {
    let Access { principal, input: (InPath(name), Json(body)), .. } = access;
    let public_keys = body.public_keys.iter().map(|key| key.text()).collect();
    let new = OwnKeys { public_keys, threshold: body.threshold };
    Ok(Json(suppliers.give_keys(&name, new, &principal).await?.into()))
}

/// Removes a supplier, its images and its tokens.
#[utoipa::path(
    delete, path = "/api/v1/suppliers/{supplier}", tag = "suppliers", params(("supplier" = String, Path)),
    responses(
        (status = 200, body = RemovedSupplierBody, description = "removed, and published"),
        (status = 404, body = Problem, description = "there is none"),
        (status = 503, body = Problem, description = "accepted, and not published yet: the server's clock is wrong"),
        (status = 507, body = Problem, description = "accepted, and not published yet: no space is left"),
    )
)]
pub(in crate::http) async fn remove_supplier(
    suppliers: web::Data<Suppliers>,
    access: Access<ManageKeys, InPath<SupplierName>>,
) -> Result<Json<RemovedSupplierBody>, ApiError> {
    let Access { principal, input: InPath(name), .. } = access;
    let removed = suppliers.remove(&name, &principal).await?;
    Ok(Json(RemovedSupplierBody { images: removed.images, tokens: removed.tokens }))
}

fn parse(body: NewSupplierBody) -> Result<NewSupplier, app::Error> {
    let hardware_ids = body.hardware_ids.unwrap_or_default();
    let hardware_ids: Result<Vec<HardwareId>, _> =
        hardware_ids.iter().map(|id| id.parse()).collect();
    Ok(NewSupplier {
        name: body.supplier.parse().map_err(bad("bad_supplier"))?,
        folder: body.folder.map(|text| text.parse()).transpose().map_err(bad("bad_folder"))?,
        hardware_ids: hardware_ids.map_err(bad("bad_hardware_id"))?,
        threshold: body.threshold,
        keys: body.keys,
        public_keys: body.public_keys.iter().map(|key| key.text()).collect(),
        terminating: body.terminating,
    })
}

fn bad<E: std::error::Error>(code: &'static str) -> impl FnOnce(E) -> app::Error {
    move |rule| app::Error::Invalid { code, detail: rule.to_string() }
}
