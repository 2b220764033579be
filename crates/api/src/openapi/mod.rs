//! The API as an OpenAPI 3.1 document, made from the types that are sent and the limits that are held.
//!
//! Answers have their schemas by derivation, on the types themselves. Requests are parsed by hand, and have theirs in
//! [`requests`]; routes are told once more in [`routes`], which the gateway's tests hold to its router.

mod errors;
pub(crate) mod names;
mod operation;
mod requests;
mod routes;

use crate::{DeletedVideo, ErrorBody, MissedEvents, ModelList, PoolObject, Readiness, VideoList};
use operation::KEY;
use utoipa::ToSchema;
use utoipa::openapi::schema::{Components, ComponentsBuilder, Object, Schema};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::tag::{Tag, TagBuilder};
use utoipa::openapi::{InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder, RefOr, ServerBuilder};

const ABOUT: &str = "OpenAI's Videos API, as its SDKs speak it, and a few fields more (`Extension` below). Nothing is \
    guessed: an unknown field, a wrong type or a value out of range is answered with 400, the parameter's name, and a \
    suggestion where there is one.\n\n\
    Every error is `{\"error\": {\"message\", \"type\", \"param\", \"code\"}}`, with `Retry-After` where trying again \
    can help. Any route answers a method that it does not have with 405 and `Allow`, and any other path is a 404. \
    What is not HTTP, or has too large a head, gets 400, 414 or 431 without a body before there is a route.";

/// The whole document.
#[must_use]
pub fn openapi() -> OpenApi {
    let info = InfoBuilder::new()
        .title("Reel")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(ABOUT))
        .license(Some(
            LicenseBuilder::new()
                .name("Apache-2.0")
                .identifier(Some("Apache-2.0"))
                .build(),
        ));
    let here = ServerBuilder::new()
        .url("/")
        .description(Some("This server"));
    OpenApiBuilder::new()
        .info(info)
        .servers(Some([here.build()]))
        .tags(Some(tags()))
        .paths(routes::paths())
        .components(Some(components()))
        .build()
}

fn tags() -> [Tag; 5] {
    let tag = |name: &str, about: &str| {
        TagBuilder::new()
            .name(name)
            .description(Some(about))
            .build()
    };
    [
        tag(routes::VIDEOS, "Jobs, and the videos that they become."),
        tag(routes::EVENTS, "What happens to jobs, as it happens."),
        tag(routes::MODELS, "What is served, and how it stands."),
        tag(routes::POOL, "What operators see and steer."),
        tag(routes::PROBES, "Health, numbers, and this document."),
    ]
}

fn components() -> Components {
    let key = Http::builder()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("A key of `reel key add`. A server without keys, which listens on loopback only, asks for none."));
    let mut schemas = Vec::new();
    sent::<VideoList>(&mut schemas);
    sent::<DeletedVideo>(&mut schemas);
    sent::<MissedEvents>(&mut schemas);
    sent::<ModelList>(&mut schemas);
    sent::<Readiness>(&mut schemas);
    sent::<PoolObject>(&mut schemas);
    sent::<ErrorBody>(&mut schemas);
    let requests = [
        ("CreateVideo", requests::create()),
        ("ExtendVideo", requests::extend()),
        ("RemixVideo", requests::remix()),
    ];
    for (name, json) in requests {
        schemas.push((format!("{name}Form"), object(requests::form(&json))));
        schemas.push((name.into(), object(json)));
    }
    let mut components = ComponentsBuilder::new()
        .schemas_from_iter(schemas)
        .security_scheme(KEY, SecurityScheme::Http(key.build()));
    for (name, response) in operation::error_responses() {
        components = components.response(name, response);
    }
    components.build()
}

fn object(object: Object) -> RefOr<Schema> {
    RefOr::T(Schema::Object(object))
}

/// Adds the schema of what is sent, and of everything in it. Every field is there, though it may be null.
fn sent<T: ToSchema>(schemas: &mut Vec<(String, RefOr<Schema>)>) {
    let mut found = vec![(T::name().into_owned(), T::schema())];
    T::schemas(&mut found);
    for (name, mut schema) in found {
        if let RefOr::T(Schema::Object(object)) = &mut schema {
            object.required = object.properties.keys().cloned().collect();
        }
        schemas.push((name, schema));
    }
}
