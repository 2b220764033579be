//! Every route, as `crates/gateway/src/router.rs` serves it.

use super::names::one_of;
use super::operation::{Making, Told, item};
use super::requests::{self, VIDEO_ID};
use crate::{
    DeletedVideo, LIST_LIMIT_DEFAULT, LIST_LIMIT_MAX, ModelList, ModelObject, PoolObject,
    Readiness, VideoList, VideoObject,
};
use reel_domain::Variant;
use reel_domain::limits::{IDEMPOTENCY_KEY_BYTES_MAX, TENANT_NAME_BYTES_MAX};
use utoipa::openapi::HttpMethod::{Delete, Get, Head, Post};
use utoipa::openapi::path::{PathItem, Paths, PathsBuilder};
use utoipa::openapi::schema::{Object, ObjectBuilder, Type};

pub(super) const VIDEOS: &str = "Videos";
pub(super) const EVENTS: &str = "Events";
pub(super) const MODELS: &str = "Models";
pub(super) const POOL: &str = "Pool";
pub(super) const PROBES: &str = "Probes";

/// What can go wrong with every request that has to be let in.
const DOOR: [u16; 3] = [400, 401, 403];
/// What can go wrong with every request for a video.
const CREATES: [u16; 12] = [400, 401, 403, 408, 409, 413, 415, 422, 429, 500, 503, 507];

/// What can happen to one job.
const VIDEO_EVENTS: [&str; 4] = [
    "video.queued",
    "video.in_progress",
    "video.completed",
    "video.failed",
];
/// What can happen in the stream of all jobs.
const ALL_EVENTS: [&str; 5] = [
    "video.queued",
    "video.in_progress",
    "video.completed",
    "video.failed",
    "events.missed",
];

/// All of them.
pub(super) fn paths() -> Paths {
    let routes: [(&str, PathItem); 26] = [
        ("/v1/videos", item([list(), create()])),
        ("/v1/videos/sync", item([create_sync()])),
        ("/v1/videos/extensions", item([extend()])),
        ("/v1/videos/edits", item([edits()])),
        ("/v1/videos/characters", item([characters()])),
        ("/v1/videos/characters/{id}", item([character()])),
        ("/v1/videos/{id}", item([video(), delete()])),
        ("/v1/videos/{id}/cancel", item([cancel()])),
        ("/v1/videos/{id}/remix", item([remix()])),
        ("/v1/videos/{id}/content", item([content(), content_head()])),
        ("/v1/videos/{id}/events", item([video_events()])),
        ("/v1/events", item([events()])),
        ("/v1/models", item([models()])),
        ("/v1/models/{id}", item([model()])),
        ("/v1/pool", item([pool()])),
        ("/v1/pool/drain", item([drain()])),
        ("/v1/pool/cordon", item([cordon()])),
        ("/v1/pool/uncordon", item([uncordon()])),
        ("/v1/pool/replace", item([replace()])),
        ("/v1/pool/roll", item([roll()])),
        ("/v1/pool/release", item([release()])),
        ("/livez", item([livez()])),
        ("/startupz", item([startupz()])),
        ("/readyz", item([readyz()])),
        ("/metrics", item([metrics()])),
        ("/openapi.json", item([document()])),
    ];
    let add = |paths: PathsBuilder, (path, item)| paths.path(path, item);
    routes.into_iter().fold(PathsBuilder::new(), add).build()
}

fn list() -> Making {
    let limit = ObjectBuilder::new()
        .schema_type(Type::Integer)
        .minimum(Some(1_u32))
        .maximum(Some(LIST_LIMIT_MAX))
        .default(Some(LIST_LIMIT_DEFAULT.into()));
    let order = ObjectBuilder::from(one_of(["asc", "desc"])).default(Some("desc".into()));
    project(Making::new(Get, VIDEOS, "listVideos", "A page of the jobs"))
        .query("after", "The last job of the page before.", id())
        .query("limit", "Most jobs to return.", limit.build())
        .query(
            "order",
            "`desc`: the newest first; `asc`: the oldest first.",
            order.build(),
        )
        .answers::<VideoList>(200, "The page.", &[])
        .errors(&DOOR)
        .errors(&[500])
}

fn create() -> Making {
    asks(Making::new(Post, VIDEOS, "createVideo", "Ask for a video"))
        .about("Answers when the job is durable. The result is exactly one shape of the menu, or 400 with the menu.")
        .json_or_form("CreateVideo")
        .answers_video(&[poll_after()])
        .errors(&CREATES)
}

fn create_sync() -> Making {
    let summary = "Ask for a video, and wait for it";
    asks(Making::new(Post, VIDEOS, "createVideoSync", summary))
        .about("Answers with the video itself. When that takes too long the job goes on, and `X-Video-Id` names it.")
        .json_or_form("CreateVideo")
        .sends(200, "The MP4.", &["video/mp4"], &content_headers_with_id())
        .errors(&CREATES)
        .errors(&[404, 410, 504])
}

fn extend() -> Making {
    let summary = "Go on where a video ends";
    asks(Making::new(Post, VIDEOS, "extendVideo", summary))
        .about("The new video begins with the earlier one. What is left unsaid is as it was for that, the seed excepted.")
        .json_or_form("ExtendVideo")
        .answers_video(&[poll_after()])
        .errors(&CREATES)
        .errors(&[404, 410])
}

fn remix() -> Making {
    let summary = "Another prompt for an earlier video";
    asks(of_video(Making::new(Post, VIDEOS, "remixVideo", summary)))
        .about("The same seed, shape and settings, and the same first frame.")
        .json_or_form("RemixVideo")
        .answers_video(&[poll_after()])
        .errors(&CREATES)
        .errors(&[404, 410])
}

fn edits() -> Making {
    not_here(Post, "editVideo", "Edit a video: not here")
}

fn characters() -> Making {
    not_here(Post, "createCharacter", "Make a character: not here")
}

fn character() -> Making {
    not_here(Get, "getCharacter", "Look at a character: not here").path("id", "Any text.", text())
}

/// What OpenAI's API has and no model of this server does.
fn not_here(method: utoipa::openapi::HttpMethod, id: &str, summary: &str) -> Making {
    project(Making::new(method, VIDEOS, id, summary))
        .about("Always 501; the message says why, and what to do instead.")
        .errors(&DOOR)
        .errors(&[501])
}

fn video() -> Making {
    let summary = "How a job stands";
    project(of_video(Making::new(Get, VIDEOS, "getVideo", summary)))
        .answers_video(&[poll_after()])
        .errors(&DOOR)
        .errors(&[404, 500])
}

fn delete() -> Making {
    let summary = "Delete a job and its video";
    project(of_video(Making::new(Delete, VIDEOS, "deleteVideo", summary)))
        .about("Cancels a job that is not over, and answers when its device is free and nothing is left of it.")
        .answers::<DeletedVideo>(200, "It is gone.", &[])
        .errors(&DOOR)
        .errors(&[404, 409, 500, 503])
}

fn cancel() -> Making {
    let summary = "Cancel a job";
    project(of_video(Making::new(Post, VIDEOS, "cancelVideo", summary)))
        .about("Answers when the job's device is free of it. A job that was cancelled before is cancelled.")
        .answers::<VideoObject>(200, "The video object.", &[])
        .errors(&DOOR)
        .errors(&[404, 409, 500, 503])
}

fn content() -> Making {
    let about = "With a key, or with `expires` and `signature` of a `download_url` in its place.";
    content_of(Making::new(
        Get,
        VIDEOS,
        "getVideoContent",
        "The video, or a picture of it",
    ))
    .about(about)
}

fn content_head() -> Making {
    content_of(Making::new(
        Head,
        VIDEOS,
        "headVideoContent",
        "The head of the same answer",
    ))
}

fn content_of(making: Making) -> Making {
    let variants = Variant::ALL.map(Variant::as_str);
    let variant = ObjectBuilder::from(one_of(variants)).default(Some("video".into()));
    let expires = ObjectBuilder::new()
        .schema_type(Type::Integer)
        .minimum(Some(0_u32));
    let types = Variant::ALL.map(Variant::content_type);
    let whole = "All of it.";
    project(of_video(making))
        .query("variant", "What is wanted.", variant.build())
        .query(
            "expires",
            "Of a signed address: until when it holds, in seconds since the Unix epoch.",
            expires.build(),
        )
        .query("signature", "Of a signed address.", text())
        .header(
            "Range",
            "One range of bytes; several are answered with the whole.",
            text(),
        )
        .header(
            "If-Range",
            "The range is wanted of this very file only: its `ETag`.",
            text(),
        )
        .header(
            "If-None-Match",
            "Tags of files that the client has.",
            text(),
        )
        .sends(200, whole, &types, &content_headers())
        .sends(206, "The part.", &types, &part_headers())
        .sends(
            304,
            "The client has it.",
            &[],
            &[Told("ETag", "Its tag.", Type::String)],
        )
        .errors(&DOOR)
        .errors(&[404, 410, 416, 500])
}

fn video_events() -> Making {
    let summary = "One job until its end";
    project(of_video(Making::new(Get, EVENTS, "videoEvents", summary)))
        .about("Server-sent events `video.queued`, `video.in_progress`, `video.completed` and `video.failed`; the data of each is a `VideoObject`, its id the object's `sequence`. The stream ends with the job.")
        .header("Last-Event-ID", "The last event that the client has.", event_id())
        .streams("The events.", &VIDEO_EVENTS, &["VideoObject"])
        .sends(204, "The job is over, and the client has seen its end.", &[], &[])
        .errors(&DOOR)
        .errors(&[404, 500])
}

fn events() -> Making {
    project(Making::new(Get, EVENTS, "events", "Every job of the caller"))
        .about("Like the events of one job; the id of an event is its number among all changes. `events.missed` says that changes before a number are not kept any more. The stream has no end.")
        .header("Last-Event-ID", "The last event that the client has; missing: from now on.", event_id())
        .streams("The events.", &ALL_EVENTS, &["VideoObject", "MissedEvents"])
        .errors(&DOOR)
}

fn models() -> Making {
    project(Making::new(
        Get,
        MODELS,
        "listModels",
        "The models and their menus",
    ))
    .answers::<ModelList>(200, "The models, the default one first.", &[])
    .errors(&DOOR)
}

fn model() -> Making {
    project(Making::new(
        Get,
        MODELS,
        "getModel",
        "One model and its menu",
    ))
    .path("id", "Its name.", text())
    .answers::<ModelObject>(200, "The model.", &[])
    .errors(&DOOR)
    .errors(&[404])
}

fn pool() -> Making {
    project(Making::new(
        Get,
        POOL,
        "getPool",
        "Devices, slots and workers",
    ))
    .about("With keys, for an operator's key only; so is every route of the pool.")
    .answers::<PoolObject>(200, "The pool.", &[])
    .errors(&DOOR)
}

fn drain() -> Making {
    let summary = "Take no new work, finish what runs, end";
    ordered("drainPool", summary).json(requests::empty(), false)
}

fn cordon() -> Making {
    ordered("cordonDevice", "Give a device no more work")
        .json(requests::command("device", "Its name.", true), true)
}

fn uncordon() -> Making {
    ordered("uncordonDevice", "Use a device again")
        .json(requests::command("device", "Its name.", true), true)
}

fn replace() -> Making {
    let summary = "Replace the worker of a slot after what it has";
    ordered("replaceWorker", summary).json(requests::command("slot", "Its name.", true), true)
}

fn roll() -> Making {
    let summary = "Replace every worker, one after the other";
    let device = "Its name; missing: all devices.";
    ordered("rollWorkers", summary).json(requests::command("device", device, false), false)
}

fn release() -> Making {
    let case = "Its name, as the rejected request was told it: `case-` and hexadecimal digits.";
    ordered("releaseCase", "Accept a quarantined request again")
        .json(requests::command("case", case, true), true)
}

/// A command: it is given when it is answered; how the pool stands tells what came of it.
fn ordered(id: &str, summary: &str) -> Making {
    project(Making::new(Post, POOL, id, summary))
        .answers::<PoolObject>(202, "The order is given.", &[])
        .errors(&DOOR)
        .errors(&[408, 413, 415, 503])
}

fn livez() -> Making {
    Making::open(Get, PROBES, "livez", "The process answers").sends(
        200,
        "`ok`.",
        &["text/plain"],
        &[],
    )
}

fn startupz() -> Making {
    let summary = "The first shape could be served once";
    Making::open(Get, PROBES, "startupz", summary)
        .answers::<Readiness>(200, "It could.", &[])
        .answers::<Readiness>(503, "Not yet.", &[])
}

fn readyz() -> Making {
    let summary = "Work is taken";
    Making::open(Get, PROBES, "readyz", summary)
        .answers::<Readiness>(200, "It is.", &[])
        .answers::<Readiness>(503, "It is not; `shapes` say why.", &[])
}

fn metrics() -> Making {
    project(Making::new(Get, PROBES, "metrics", "What is measured"))
        .about("Prometheus text. With keys, for an operator's key only.")
        .sends(200, "The page.", &["text/plain"], &[])
        .errors(&DOOR)
        .errors(&[500])
}

fn document() -> Making {
    Making::open(Get, PROBES, "openapi", "This document").sends(
        200,
        "OpenAPI 3.1.",
        &["application/json"],
        &[],
    )
}

/// Whose request it is, where no keys are configured.
fn project(making: Making) -> Making {
    let name = ObjectBuilder::new()
        .schema_type(Type::String)
        .min_length(Some(1))
        .max_length(Some(TENANT_NAME_BYTES_MAX))
        .pattern(Some("^[0-9A-Za-z][0-9A-Za-z._-]*$"));
    let about = "The tenant, on a server without keys: jobs of different tenants take turns. With keys, the key says.";
    making.header("OpenAI-Project", about, name.build())
}

/// What every request for a video can say in its head.
fn asks(making: Making) -> Making {
    let key = ObjectBuilder::new()
        .schema_type(Type::String)
        .min_length(Some(1))
        .max_length(Some(IDEMPOTENCY_KEY_BYTES_MAX))
        .pattern(Some("^[ -~]+$"));
    let about = "Makes all tries of one request one job; another request with the same key is refused with 409.";
    project(making)
        .header("Idempotency-Key", about, key.build())
        .header("traceparent", "The trace that the request belongs to (W3C Trace Context); one that cannot be read is none.", text())
}

fn of_video(making: Making) -> Making {
    making.path("id", "The video's id.", id())
}

fn id() -> Object {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .pattern(Some(VIDEO_ID))
        .build()
}

/// A header is text, and this one a whole number in it.
fn event_id() -> Object {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .pattern(Some("^[0-9]{1,20}$"))
        .build()
}

fn text() -> Object {
    Object::with_type(Type::String)
}

const fn poll_after() -> Told {
    Told(
        "openai-poll-after-ms",
        "When to ask again; missing: the job is over.",
        Type::Integer,
    )
}

fn content_headers() -> Vec<Told> {
    vec![
        Told("ETag", "Its SHA-256, in quotes.", Type::String),
        Told("Content-Length", "Its size in bytes.", Type::Integer),
        Told("Accept-Ranges", "`bytes`.", Type::String),
        Told("Content-Disposition", "A name for it.", Type::String),
    ]
}

fn part_headers() -> Vec<Told> {
    let mut headers = content_headers();
    let about = "Which bytes of how many.";
    headers.push(Told("Content-Range", about, Type::String));
    headers
}

fn content_headers_with_id() -> Vec<Told> {
    let mut headers = content_headers();
    headers.push(Told(
        "X-Video-Id",
        "The job, whatever becomes of the request.",
        Type::String,
    ));
    headers
}
