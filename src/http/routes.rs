//! Every call of the server, said once.
//!
//! A handler says its method, path and what it takes and answers in `#[utoipa::path]`, and who may
//! call it in the type of an argument. [`TABLE`] has all of them; the resources that actix-web
//! routes to, the methods that are allowed at each, and the OpenAPI document are made from it.

use std::sync::LazyLock;

use actix_web::http::Method;
use actix_web::http::header::HeaderValue;
use actix_web::web::ServiceConfig;
use actix_web::{FromRequest, Handler, HttpRequest, Resource, Responder, Route, guard, web};
use utoipa::OpenApi;
use utoipa::openapi::path::PathItem;

use super::admin::{
    assignments, audit, doctor, escrow, images, jobs, quarantine, recipients, retention, roles,
    roots, rotations, suppliers, targets, uploads, vehicle, vehicles,
};
use super::callers::{Arguments, Callers};
use super::{director, error, openapi, operate, page, repo};

/// A method at a path, and the handler behind it.
struct Call {
    method: Method,
    /// The path with its parameters, as actix-web reads it.
    pattern: String,
    /// Who may make the call, as the type of its handler says.
    callers: Callers,
    /// The call's part of the OpenAPI document; none for what only vehicles call, which the Uptane
    /// Standard and docs/POUF.md describe.
    described: Option<utoipa::openapi::OpenApi>,
    route: Box<dyn Fn() -> Route + Send + Sync>,
}

/// Calls that the OpenAPI document has: the handlers' paths.
macro_rules! described {
    ($($module:ident::$handler:ident),* $(,)?) => {
        [$({
            #[derive(OpenApi)]
            #[openapi(paths($module::$handler))]
            struct Described;
            Call::described(Described::openapi(), $module::$handler)
        }),*]
    };
}

/// In the order in which paths are compared with a request's: what is asked for most comes first,
/// and what is more special before what would match, too.
static TABLE: LazyLock<Vec<Call>> = LazyLock::new(|| {
    let vehicles = [
        Call::new(Method::PUT, "/director/manifest", director::submit_manifest),
        Call::new(
            Method::GET,
            "/director/{name:([1-9][0-9]*[.])?root[.]json}",
            director::serve_root,
        ),
        Call::new(Method::POST, "/director/ecus", director::enrol),
        Call::new(Method::PUT, "/director/ecus/{serial}/encryption-key", director::change_key),
        Call::new(Method::GET, "/director/{name}", director::serve_file),
        Call::new(Method::GET, "/repo/{name:.*}", repo::serve_file),
    ];
    let operators = described![
        operate::healthz,
        operate::readyz,
        operate::metrics,
        operate::version,
        openapi::show_openapi,
    ];
    let people = described![
        page::show_page,
        images::list_images,
        images::show_envelope,
        rotations::reseal_image,
        images::show_image,
        images::upload_image,
        images::yank_image,
        uploads::show_abilities,
        uploads::create_upload,
        uploads::show_upload,
        uploads::append,
        uploads::terminate_upload,
        retention::show_retention,
        retention::retain_image,
        retention::collect_images,
        recipients::list_recipients,
        recipients::register_recipient,
        recipients::remove_recipient,
        escrow::show_escrow,
        roles::list_roles,
        roles::rotate_role,
        rotations::create_rotation,
        suppliers::list_suppliers,
        suppliers::add_supplier,
        suppliers::rotate_supplier,
        suppliers::give_supplier_keys,
        suppliers::remove_supplier,
        targets::show_targets,
        targets::stage_targets,
        targets::show_staged_targets,
        targets::cancel_staged_targets,
        targets::bring_targets_signatures,
        targets::publish_targets,
        vehicles::list_vehicles,
        vehicles::register_vehicles,
        vehicles::show_vehicle,
        vehicle::remove_vehicle,
        vehicles::list_ecus,
        vehicle::approve_replacement,
        vehicle::approve_key_change,
        vehicle::accept_installed,
        vehicle::approve_re_enrolment,
        vehicle::list_history,
        vehicle::clear_quarantine,
        vehicle::issue_token,
        assignments::list_assignments,
        assignments::assign,
        assignments::cancel_assignment,
        quarantine::clear_many,
        roots::show_root,
        roots::stage_root,
        roots::show_staged,
        roots::cancel_staged,
        roots::bring_signatures,
        roots::sign_staged,
        roots::publish_root,
        audit::list_audit,
        doctor::examine,
        jobs::list_jobs,
        jobs::create_job,
        jobs::show_job,
        jobs::cancel_job,
    ];
    vehicles.into_iter().chain(operators).chain(people).collect()
});

/// Registers every call.
pub(super) fn configure(config: &mut ServiceConfig) {
    let mut patterns: Vec<(&str, Vec<&Call>)> = Vec::new();
    for call in TABLE.iter() {
        match patterns.iter_mut().find(|(pattern, _)| *pattern == call.pattern) {
            Some((_, calls)) => calls.push(call),
            None => patterns.push((&call.pattern, vec![call])),
        }
    }
    for (pattern, calls) in patterns {
        config.service(resource(pattern, &calls));
    }
    config.app_data(web::Data::new(openapi::DocumentText(openapi_document())));
    config.default_service(web::to(error::no_route));
}

/// The OpenAPI document, as JSON.
pub fn openapi_document() -> &'static str {
    static DOCUMENT: LazyLock<String> = LazyLock::new(|| {
        let described = TABLE.iter().filter_map(|call| {
            Some(openapi::Described { call: call.described.as_ref()?, callers: call.callers })
        });
        openapi::document(described)
    });
    &DOCUMENT
}

/// A path with its calls, which answers other methods with 405.
fn resource(pattern: &str, calls: &[&Call]) -> Resource {
    let is_allowed = |method: &&Method| {
        let is_had = |asked: &Method| calls.iter().any(|call| call.method == *asked);
        is_had(method) || **method == Method::HEAD && is_had(&Method::GET)
    };
    let allowed: Vec<&str> = METHODS.iter().filter(is_allowed).map(Method::as_str).collect();
    let allowed = HeaderValue::from_str(&allowed.join(", ")).expect("methods are letters");
    let refuse = move |request: HttpRequest| {
        let response = error::method_not_allowed(&request, &allowed);
        async { response }
    };
    let resource = web::resource(pattern).default_service(web::to(refuse));
    calls.iter().fold(resource, |resource, call| resource.route((call.route)()))
}

impl Call {
    /// A call that the document does not have.
    fn new<F, A>(method: Method, pattern: &str, handler: F) -> Self
    where
        F: Handler<A> + Send + Sync,
        A: FromRequest + Arguments + 'static,
        F::Output: Responder + 'static,
    {
        let guarded = method.clone();
        let route = move || match guarded {
            // Where there is GET, there is HEAD (RFC 9110, 9.1).
            Method::GET => web::route().guard(guard::Any(guard::Get()).or(guard::Head())),
            _ => web::method(guarded.clone()),
        };
        let route = Box::new(move || route().to(handler.clone()));
        Self { method, pattern: pattern.to_owned(), callers: A::CALLERS, described: None, route }
    }

    /// The one call that `document` describes.
    fn described<F, A>(document: utoipa::openapi::OpenApi, handler: F) -> Self
    where
        F: Handler<A> + Send + Sync,
        A: FromRequest + Arguments + 'static,
        F::Output: Responder + 'static,
    {
        let described = document.paths.paths.first_key_value().expect("a handler has a path");
        let (template, item) = described;
        let method = method_of(item).expect("a handler has one of METHODS");
        let call = Self::new(method, &pattern_of(template), handler);
        Self { described: Some(document), ..call }
    }
}

fn method_of(item: &PathItem) -> Option<Method> {
    match item {
        PathItem { get: Some(_), .. } => Some(Method::GET),
        PathItem { put: Some(_), .. } => Some(Method::PUT),
        PathItem { post: Some(_), .. } => Some(Method::POST),
        PathItem { delete: Some(_), .. } => Some(Method::DELETE),
        PathItem { patch: Some(_), .. } => Some(Method::PATCH),
        PathItem { head: Some(_), .. } => Some(Method::HEAD),
        PathItem { options: Some(_), .. } => Some(Method::OPTIONS),
        _ => None,
    }
}

/// An image's path has slashes in it, and nothing else has.
fn pattern_of(template: &str) -> String {
    let inner = template.replace("{path}/", "{path:.+}/");
    inner.strip_suffix("{path}").map_or(inner.clone(), |before| format!("{before}{{path:.*}}"))
}

/// In the order in which `Allow` names them.
const METHODS: [Method; 7] = [
    Method::GET,
    Method::HEAD,
    Method::PUT,
    Method::POST,
    Method::PATCH,
    Method::DELETE,
    Method::OPTIONS,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_of_the_api_says_in_its_type_who_may_make_it() {
        for call in TABLE.iter() {
            let Call { method, pattern, callers, .. } = call;
            let is_api = pattern.starts_with("/api/v1/");
            let is_closed = matches!(callers, Callers::Roles(_));
            assert_eq!(is_closed, is_api, "{method} {pattern} is for {callers:?}");
            let is_for_vehicles =
                pattern.starts_with("/director/") || pattern.starts_with("/repo/");
            assert_eq!(call.described.is_none(), is_for_vehicles, "{method} {pattern}");
        }
    }

    #[test]
    fn an_image_s_path_takes_the_rest_of_a_path() {
        for (template, pattern) in [
            ("/api/v1/images/{path}", "/api/v1/images/{path:.*}"),
            ("/api/v1/images/{path}/envelope", "/api/v1/images/{path:.+}/envelope"),
            ("/api/v1/vehicles/{vin}/history", "/api/v1/vehicles/{vin}/history"),
        ] {
            assert_eq!(pattern_of(template), pattern);
        }
    }
}
