//! The words that an answer chooses from. Fields carry them as plain text; here each set of them has a schema.

use reel_domain::{FailureCode, JobStatus, Mode};
use std::borrow::Cow;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::openapi::{RefOr, schema};
use utoipa::{PartialSchema, ToSchema};

/// A text that is one of `words`.
pub(super) fn one_of<'a>(words: impl IntoIterator<Item = &'a str>) -> schema::Object {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .enum_values(Some(words))
        .build()
}

/// Declares a schema of words: its name, what it is, and the words.
macro_rules! words {
    ($($(#[doc = $about:literal])+ $name:ident = $words:expr;)+) => {$(
        $(#[doc = $about])+
        #[derive(Debug)]
        pub(crate) enum $name {}

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                let mut object = one_of($words);
                object.description = Some(concat!($($about),+).trim().to_owned());
                RefOr::T(Schema::Object(object))
            }
        }

        impl ToSchema for $name {
            fn name() -> Cow<'static, str> {
                stringify!($name).into()
            }
        }
    )+};
}

words! {
    /// Where a job stands, in Reel's own words.
    StatusDetail = JobStatus::ALL.map(JobStatus::as_str);
    /// What the worker is doing; `paused` for more urgent work.
    Stage = STAGES;
    /// How a video is made: from text, from an image, from an earlier video.
    ModeName = Mode::ALL.map(Mode::as_str);
    /// How a line of the menu stands.
    ShapeState = SHAPE_STATES;
    /// Whether work goes to a device, and why not.
    DeviceTrust = DEVICE_TRUST;
    /// What a slot is doing.
    SlotState = SLOT_STATES;
    /// How a job ended without a video.
    EndCode = end_codes();
    /// The kind of an error.
    ErrorKind = ERROR_KINDS;
    /// A stable name to branch on.
    ErrorCode = super::errors::codes();
    /// The object's type.
    VideoWord = ["video"];
    /// The object's type.
    DeletedWord = ["video.deleted"];
    /// The object's type.
    ModelWord = ["model"];
    /// The object's type.
    ListWord = ["list"];
    /// Who made it.
    OwnerWord = ["reel"];
}

/// What a worker can be doing, and what the pool says of one that waits.
pub(crate) const STAGES: [&str; 4] = ["encode", "denoise", "decode", "paused"];
/// How a line of a menu can stand.
pub(crate) const SHAPE_STATES: [&str; 5] = ["unbaked", "baking", "failed", "cold", "hot"];
/// What the pool can think of a device.
pub(crate) const DEVICE_TRUST: [&str; 5] = ["good", "cordoned", "suspect", "probation", "stuck"];
/// What a slot can be doing.
pub(crate) const SLOT_STATES: [&str; 9] = [
    "vacant", "starting", "idle", "busy", "draining", "stopping", "killing", "reserved", "backoff",
];
/// OpenAI's kinds of errors.
pub(crate) const ERROR_KINDS: [&str; 5] = [
    "invalid_request_error",
    "authentication_error",
    "permission_error",
    "rate_limit_error",
    "server_error",
];

fn end_codes() -> Vec<&'static str> {
    let failures = FailureCode::ALL.map(FailureCode::as_str);
    let others = [JobStatus::Cancelled, JobStatus::Expired].map(JobStatus::as_str);
    failures.into_iter().chain(others).collect()
}
