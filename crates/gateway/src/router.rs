//! The table of routes.

use crate::caller::{identify, identify_admin, identify_neighbour};
use crate::gateway::{Gateway, Parts};
use crate::respond::ApiError;
use crate::{content, create, docs, events, health, leftover, metrics, models, operate, videos};
use axum::Router;
use axum::http::Method;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{get, post};
use std::sync::Arc;
use tower_http::cors::{AllowHeaders, Any, CorsLayer};

/// What of OpenAI's API there is not, and why.
const NO_CHARACTERS: &str = "characters need a model that keeps a person the same over videos, and none of this server's does; \
    describe them in the prompt, or give a first frame as `input_reference`";
const NO_EDITS: &str = "editing a video needs a model that takes a whole video, and none of this server's does; \
    `POST /v1/videos/{id}/remix` makes it again with another prompt";

/// The routers of one gateway.
#[derive(Debug)]
pub struct Routers {
    /// Everything, with keys where there are some.
    pub public: Router,
    /// What operators use. On loopback without keys, and otherwise with an operator's.
    pub admin: Router,
}

/// Every route, with its measurements, over `parts`.
pub fn routers(parts: Parts) -> Routers {
    let gateway = Arc::new(Gateway::new(parts));
    let door = from_fn_with_state(Arc::clone(&gateway), identify);
    let admin_door = from_fn_with_state(Arc::clone(&gateway), identify_admin);
    let neighbour = from_fn_with_state(Arc::clone(&gateway), identify_neighbour);
    let admin = match gateway.config.admin_is_local {
        true => operators().route_layer(neighbour),
        false => operators().route_layer(admin_door.clone()),
    };
    let public = probes()
        .merge(docs::routes())
        .merge(api().route_layer(door))
        .merge(operators().route_layer(admin_door))
        .route("/v1/videos/{id}/content", get(content::content));
    let public = finish(public, &gateway);
    // Outside everything else: a browser asks first with a method that no route has.
    let public = match gateway.config.cors_origins.is_empty() {
        true => public,
        false => public.layer(cors(&gateway)),
    };
    Routers {
        public: public.with_state(Arc::clone(&gateway)),
        admin: finish(probes().merge(admin), &gateway).with_state(gateway),
    }
}

/// Probes cost nobody anything, and need no key.
fn probes() -> Router<Arc<Gateway>> {
    Router::new()
        .route("/livez", get(health::livez))
        .route("/startupz", get(health::startupz))
        .route("/readyz", get(health::readyz))
}

fn api() -> Router<Arc<Gateway>> {
    Router::new()
        .route("/v1/videos", get(videos::list).post(create::create))
        .route("/v1/videos/sync", post(create::create_sync))
        .route("/v1/videos/extensions", post(create::extend))
        .route("/v1/videos/{id}", get(videos::get).delete(videos::delete))
        .route("/v1/videos/{id}/cancel", post(videos::cancel))
        .route("/v1/videos/{id}/remix", post(create::remix))
        .route("/v1/videos/{id}/events", get(events::of_video))
        .route(
            "/v1/videos/edits",
            post(async || ApiError::NotImplemented(NO_EDITS)),
        )
        .route(
            "/v1/videos/characters",
            post(async || ApiError::NotImplemented(NO_CHARACTERS)),
        )
        .route(
            "/v1/videos/characters/{id}",
            get(async || ApiError::NotImplemented(NO_CHARACTERS)),
        )
        .route("/v1/events", get(events::of_all))
        .route("/v1/models", get(models::list))
        .route("/v1/models/{id}", get(models::get))
}

fn operators() -> Router<Arc<Gateway>> {
    Router::new()
        .route("/metrics", get(metrics::page))
        .route("/v1/pool", get(operate::get))
        .route("/v1/pool/{command}", post(operate::command))
}

/// Web pages of the origins that the operator names may call; of no others.
fn cors(gateway: &Gateway) -> CorsLayer {
    CorsLayer::new()
        .allow_origin(gateway.config.cors_origins.clone())
        .allow_methods([Method::GET, Method::POST, Method::DELETE])
        // A star would not stand for `Authorization`.
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers(Any)
}

fn finish(router: Router<Arc<Gateway>>, gateway: &Arc<Gateway>) -> Router<Arc<Gateway>> {
    router
        .fallback(async || ApiError::UnknownRoute)
        .method_not_allowed_fallback(async || ApiError::WrongMethod)
        .layer(from_fn_with_state(Arc::clone(gateway), metrics::observe))
        .layer(from_fn(leftover::forget))
        .with_state(Arc::clone(gateway))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    /// One route of the router is a route for each of these in the document, because each has a body of its own.
    const COMMANDS: [&str; 6] = ["drain", "cordon", "uncordon", "replace", "roll", "release"];

    #[test]
    fn every_route_is_in_the_document() {
        let source = include_str!("router.rs").split("mod tests").next();
        let source: String = source.into_iter().flat_map(str::split_whitespace).collect();
        let routes = source.split(".route(\"").skip(1);
        let mut routed: BTreeSet<String> = routes
            .filter_map(|rest| rest.split('"').next())
            .map(str::to_owned)
            .collect();
        assert!(routed.remove("/v1/pool/{command}"));
        routed.extend(COMMANDS.map(|command| format!("/v1/pool/{command}")));
        routed.insert("/openapi.json".into());
        let described: BTreeSet<String> = reel_api::openapi().paths.paths.into_keys().collect();
        assert_eq!(described, routed);
    }
}
