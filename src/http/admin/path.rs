//! What a path names, as what it is: a handler gets ids that are parsed.

use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest};
use percent_encoding::percent_decode_str;

use super::upload_head::{IMAGES, image_path};
use crate::app::Error;
use crate::http::ApiError;
use crate::model::{
    EcuSerial, ImagePath, ParseFieldError, ParseSupplierError, RepositorySide, RoleKind, RoleName,
    SupplierName, VehicleId,
};

/// What the path of a request names.
///
/// Who is calling comes first: it stands within [`Access`](crate::http::auth::Access), before the body.
pub(in crate::http) struct InPath<T>(pub(in crate::http) T);

/// An ECU of a vehicle.
pub(in crate::http) type EcuInPath = InPath<(VehicleId, EcuSerial)>;

/// Something that paths name.
pub(in crate::http) trait Named: Sized {
    /// Reads it from the path of a request.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] names the rule that is broken.
    fn in_path(request: &HttpRequest) -> Result<Self, Error>;
}

impl<T: Named> FromRequest for InPath<T> {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(T::in_path(request).map(Self).map_err(ApiError::from))
    }
}

impl<A: Named, B: Named> Named for (A, B) {
    fn in_path(request: &HttpRequest) -> Result<Self, Error> {
        Ok((A::in_path(request)?, B::in_path(request)?))
    }
}

impl Named for VehicleId {
    fn in_path(request: &HttpRequest) -> Result<Self, Error> {
        parameter(request, "vin").parse().map_err(bad_path)
    }
}

impl Named for EcuSerial {
    fn in_path(request: &HttpRequest) -> Result<Self, Error> {
        parameter(request, "serial").parse().map_err(bad_path)
    }
}

impl Named for RepositorySide {
    fn in_path(request: &HttpRequest) -> Result<Self, Error> {
        let name = parameter(request, "repository");
        Self::ALL.into_iter().find(|side| side.as_str() == name).ok_or_else(|| Error::Invalid {
            code: "bad_path",
            detail: "a repository is `image` or `director`".into(),
        })
    }
}

impl Named for RoleKind {
    fn in_path(request: &HttpRequest) -> Result<Self, Error> {
        let name = parameter(request, "role");
        let kinds = RepositorySide::Image.kinds();
        kinds.iter().copied().find(|kind| kind.as_str() == name).ok_or_else(|| Error::Invalid {
            code: "bad_path",
            detail: "a role is `root`, `targets`, `bins`, `snapshot` or `timestamp`".into(),
        })
    }
}

/// One that its owner may sign.
impl Named for RoleName {
    fn in_path(request: &HttpRequest) -> Result<Self, Error> {
        let role = parameter(request, "targets_role").parse::<Self>().ok();
        let kinds = [RoleKind::Targets, RoleKind::Suppliers];
        let role = role.filter(|role| kinds.contains(&role.kind()));
        role.ok_or_else(|| Error::Invalid {
            code: "bad_path",
            detail: "name `targets`, or the role of a supplier, such as supplier-acme".into(),
        })
    }
}

impl Named for ImagePath {
    fn in_path(request: &HttpRequest) -> Result<Self, Error> {
        image_path(request.path().strip_prefix(IMAGES).unwrap_or_default())
    }
}

impl Named for SupplierName {
    fn in_path(request: &HttpRequest) -> Result<Self, Error> {
        let parsed = parameter(request, "supplier").parse();
        parsed.map_err(|rule: ParseSupplierError| Error::Invalid {
            code: "bad_path",
            detail: rule.to_string(),
        })
    }
}

/// The image whose envelope is asked for.
pub(in crate::http) struct EnvelopeOf(pub(in crate::http) ImagePath);

impl Named for EnvelopeOf {
    fn in_path(request: &HttpRequest) -> Result<Self, Error> {
        let path = request.path().strip_prefix(IMAGES);
        let path = path.and_then(|path| path.strip_suffix("/envelope"));
        image_path(path.unwrap_or_default()).map(Self)
    }
}

/// The image that is to be sealed again.
pub(in crate::http) struct ResealOf(pub(in crate::http) ImagePath);

impl Named for ResealOf {
    fn in_path(request: &HttpRequest) -> Result<Self, Error> {
        let path = request.path().strip_prefix(IMAGES);
        let path = path.and_then(|path| path.strip_suffix("/reseal"));
        image_path(path.unwrap_or_default()).map(Self)
    }
}

/// The image whose files are kept for so long.
pub(in crate::http) struct RetentionOf(pub(in crate::http) ImagePath);

impl Named for RetentionOf {
    fn in_path(request: &HttpRequest) -> Result<Self, Error> {
        image_path(request.path().strip_prefix("/api/v1/retentions/").unwrap_or_default()).map(Self)
    }
}

/// Id of a recipient's key, of any form: one that is none is registered nowhere.
pub(in crate::http) struct Kid(pub(in crate::http) String);

impl Named for Kid {
    fn in_path(request: &HttpRequest) -> Result<Self, Error> {
        Ok(Self(parameter(request, "kid")))
    }
}

/// Id of an assignment, of any form: one that is none is no vehicle's.
pub(in crate::http) struct AssignmentId(pub(in crate::http) String);

impl Named for AssignmentId {
    fn in_path(request: &HttpRequest) -> Result<Self, Error> {
        Ok(Self(parameter(request, "id")))
    }
}

/// Id of a job, of any form: one that is none is no job's.
pub(in crate::http) struct JobId(pub(super) String);

impl Named for JobId {
    fn in_path(request: &HttpRequest) -> Result<Self, Error> {
        Ok(Self(parameter(request, "id")))
    }
}

/// Id of an upload, of any form: one that is none is no upload's.
pub(in crate::http) struct UploadId(pub(super) String);

impl Named for UploadId {
    fn in_path(request: &HttpRequest) -> Result<Self, Error> {
        Ok(Self(parameter(request, "id")))
    }
}

fn parameter(request: &HttpRequest, name: &str) -> String {
    let value = request.match_info().query(name);
    percent_decode_str(value).decode_utf8_lossy().into_owned()
}

fn bad_path(rule: ParseFieldError) -> Error {
    Error::Invalid { code: "bad_path", detail: rule.to_string() }
}
