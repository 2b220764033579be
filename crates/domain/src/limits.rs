//! Every bound of the domain, with its name, its unit and its default.

/// Longest prompt (and negative prompt), in Unicode scalar values.
pub const PROMPT_CHARS_MAX: usize = 2_000;
/// Fewest denoising steps.
pub const STEPS_MIN: u32 = 1;
/// Most denoising steps.
pub const STEPS_MAX: u32 = 200;
/// Weakest classifier-free guidance; at or below 1 the unconditional pass is skipped.
pub const GUIDANCE_MIN: f32 = 0.0;
/// Strongest classifier-free guidance.
pub const GUIDANCE_MAX: f32 = 20.0;
/// Slowest playback, in frames per second.
pub const FPS_MIN: u32 = 1;
/// Fastest playback, in frames per second.
pub const FPS_MAX: u32 = 120;
/// Largest seed: what a signed 64-bit generator seed can hold.
pub const SEED_MAX: u64 = i64::MAX as u64;
/// Largest width or height of a shape, in pixels.
pub const SIDE_PIXELS_MAX: u32 = 8_192;
/// Most frames of a shape.
pub const FRAMES_MAX: u32 = 10_000;
/// Longest model name, in bytes.
pub const MODEL_NAME_BYTES_MAX: usize = 96;
/// Longest tenant name, in bytes.
pub const TENANT_NAME_BYTES_MAX: usize = 64;
/// Longest time within which a job must have begun, in seconds: a week.
pub const BEGIN_WITHIN_S_MAX: u64 = 7 * 24 * 3_600;
/// Jobs that may wait or run at once over the whole pool.
pub const QUEUE_JOBS_MAX: usize = 10_000;
/// Jobs of one tenant that may wait or run at once.
pub const TENANT_JOBS_MAX: usize = 2_000;
/// Longest callback URL, in bytes.
pub const CALLBACK_URL_BYTES_MAX: usize = 2_048;
/// Longest idempotency key, in bytes.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 256;
/// Attempts at one job before it fails for good: the first, and one retry when a worker dies under it.
pub const ATTEMPTS_MAX: u32 = 2;
