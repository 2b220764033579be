//! What clients send and receive: OpenAI's Videos API, strictly typed, with documented extensions.
//!
//! - [`CreateVideo`] is a request, parsed field by field from JSON or a form, and turned into a
//!   [`Job`](reel_domain::Job) against the [`Offer`]s of a deployment.
//! - [`RemixVideo`] and [`ExtendVideo`] are requests that build on an earlier video.
//! - [`VideoObject`], [`ModelObject`] and their lists are answers.
//! - [`Invalid`] says which parameter was wrong and how; [`ErrorBody`] is its envelope.
//!
//! Nothing here knows of sockets, files or clocks.
#![forbid(unsafe_code)]

mod create;
mod extension;
mod fields;
mod health;
mod image;
mod invalid;
mod length;
mod list;
mod models;
mod offer;
mod openapi;
mod pool;
mod remix;
mod video;

pub use create::{CreateVideo, IMAGE_FIELD, Stamp};
pub use extension::{Continuation, ExtendVideo, VIDEO_FIELD};
pub use fields::Fields;
pub use health::{Readiness, ShapeReadiness};
pub use image::ImageSource;
pub use invalid::{ErrorBody, ErrorObject, Invalid};
pub use length::{Length, seconds_text};
pub use list::{ContentQuery, LIST_LIMIT_DEFAULT, LIST_LIMIT_MAX, ListVideos, SortOrder};
pub use models::{ModelDefaults, ModelList, ModelObject, ShapeObject};
pub use offer::{Offer, Preset, Size};
pub use openapi::openapi;
pub use pool::{DeviceObject, PoolCommand, PoolObject, SlotObject};
pub use remix::RemixVideo;
pub use video::{
    DeletedVideo, Eta, MissedEvents, Progress, Timings, VideoError, VideoList, VideoObject,
    VideoStatus,
};
