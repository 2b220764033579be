//! A request for a video, and the job that it becomes.

use crate::fields::Fields;
use crate::image::ImageSource;
use crate::invalid::{Invalid, quoted};
use crate::length::Length;
use crate::offer::{Offer, Size};
use reel_domain::client::CallbackUrlError;
use reel_domain::limits::BEGIN_WITHIN_S_MAX;
use reel_domain::{
    BundleKey, CallbackUrl, Fps, Guidance, Job, JobId, Mode, Priority, Prompt, RangeError,
    Sampling, Seed, Sharing, Steps, TenantName, TraceParent,
};

/// The field that carries the first frame; in a form, a file.
pub const IMAGE_FIELD: &str = "input_reference";

/// Every field of a request.
pub(crate) const KNOWN: [&str; 15] = [
    "prompt",
    "model",
    "size",
    "seconds",
    "num_frames",
    "fps",
    "seed",
    "num_inference_steps",
    "guidance_scale",
    "negative_prompt",
    "priority",
    "batch",
    "begin_within_s",
    "callback_url",
    IMAGE_FIELD,
];

/// A request whose every value is in range. Whether somebody serves it is decided by [`CreateVideo::into_job`].
#[derive(Debug, Clone, PartialEq)]
pub struct CreateVideo {
    /// What to show.
    pub prompt: Prompt,
    /// The model, by name.
    pub model: Option<String>,
    /// Width and height.
    pub size: Option<Size>,
    /// How long.
    pub length: Option<Length>,
    /// Frames per second.
    pub fps: Option<Fps>,
    /// Seed of the noise.
    pub seed: Option<Seed>,
    /// Denoising steps.
    pub steps: Option<Steps>,
    /// Classifier-free guidance.
    pub guidance: Option<Guidance>,
    /// What to steer away from.
    pub negative_prompt: Option<Prompt>,
    /// How urgent it is.
    pub priority: Option<Priority>,
    /// It is never computed together with others.
    pub alone: bool,
    /// Seconds within which it must have begun.
    pub begin_within_s: Option<u64>,
    /// Where its end is to be told.
    pub callback: Option<CallbackUrl>,
    /// The first frame, if it is not a file of the form.
    pub image: Option<ImageSource>,
}

/// What the server adds to a request to make it a job.
#[derive(Debug, Clone)]
pub struct Stamp {
    /// The new identity.
    pub id: JobId,
    /// Who asks.
    pub tenant: TenantName,
    /// Now, in milliseconds since the Unix epoch.
    pub created_at_ms: u64,
    /// The seed of a request that names none.
    pub seed: Seed,
    /// An image came with the request.
    pub with_image: bool,
    /// How urgent a job is that does not say.
    pub priority: Priority,
    /// Where the end of a job is told that does not say.
    pub callback: Option<CallbackUrl>,
    /// The trace that the request belongs to.
    pub trace: Option<TraceParent>,
}

impl CreateVideo {
    /// Reads a request strictly: every field known, of its type and in its range.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn from_fields(mut fields: Fields) -> Result<Self, Invalid> {
        fields.refuse_unknown(&KNOWN)?;
        let request = Self {
            prompt: prompt(&mut fields)?,
            model: fields.text("model")?,
            size: size(&mut fields)?,
            length: length(&mut fields)?,
            fps: small(&mut fields, "fps", Fps::new)?,
            seed: seed(&mut fields)?,
            steps: small(&mut fields, "num_inference_steps", Steps::new)?,
            guidance: guidance(&mut fields)?,
            negative_prompt: negative_prompt(&mut fields)?,
            priority: priority(&mut fields)?,
            alone: alone(&mut fields)?,
            begin_within_s: begin_within_s(&mut fields)?,
            callback: callback(&mut fields)?,
            image: ImageSource::take(&mut fields)?,
        };
        fields.refuse_rest(&KNOWN)?;
        Ok(request)
    }

    /// The job that this request means, given what is offered. The first offer is the default model.
    ///
    /// # Errors
    /// When no offer matches; the message says what is offered.
    pub fn into_job(self, offers: &[Offer<'_>], stamp: Stamp) -> Result<Job, Invalid> {
        let offer = find_model(self.model.as_deref(), offers)?;
        let mode = mode(offer, stamp.with_image)?;
        let fps = self.fps.unwrap_or(offer.preset.fps);
        let shape = offer.choose(self.size, self.length, fps)?;
        Ok(Job {
            id: stamp.id,
            bundle: BundleKey {
                model: offer.model.clone(),
                shape,
            },
            mode,
            conditioning_frames: u32::from(stamp.with_image),
            sampling: Sampling {
                prompt: self.prompt,
                negative_prompt: self
                    .negative_prompt
                    .unwrap_or_else(|| offer.preset.negative_prompt.clone()),
                seed: self.seed.unwrap_or(stamp.seed),
                steps: self.steps.unwrap_or(offer.preset.steps),
                guidance: self.guidance.unwrap_or(offer.preset.guidance),
                fps,
            },
            sharing: Sharing {
                tenant: stamp.tenant,
                priority: self.priority.unwrap_or(stamp.priority),
                alone: self.alone,
                begin_by_ms: self
                    .begin_within_s
                    .map(|seconds| stamp.created_at_ms + seconds * 1_000),
            },
            origin: None,
            callback: self.callback.or(stamp.callback),
            trace: stamp.trace,
            created_at_ms: stamp.created_at_ms,
        })
    }
}

pub(crate) fn prompt(fields: &mut Fields) -> Result<Prompt, Invalid> {
    let text = fields.text("prompt")?;
    let text = text.ok_or_else(|| Invalid::missing("prompt"))?;
    Prompt::new(text).map_err(|error| Invalid::value("prompt", error.to_string()))
}

pub(crate) fn negative_prompt(fields: &mut Fields) -> Result<Option<Prompt>, Invalid> {
    let text = fields.text("negative_prompt")?;
    text.map(Prompt::optional)
        .transpose()
        .map_err(|error| Invalid::value("negative_prompt", error.to_string()))
}

pub(crate) fn priority(fields: &mut Fields) -> Result<Option<Priority>, Invalid> {
    let Some(text) = fields.text("priority")? else {
        return Ok(None);
    };
    match text.parse() {
        // Segments of sessions are; nothing that is asked for by itself.
        Ok(Priority::Realtime) | Err(_) => Err(Invalid::value(
            "priority",
            format!(
                "`priority` must be `interactive` or `batch`, not `{}`",
                quoted(&text)
            ),
        )),
        Ok(priority) => Ok(Some(priority)),
    }
}

/// Where the end of a job is to be told.
pub(crate) fn callback(fields: &mut Fields) -> Result<Option<CallbackUrl>, Invalid> {
    let text = fields.text("callback_url")?;
    text.map(|text| text.parse())
        .transpose()
        .map_err(|error: CallbackUrlError| {
            Invalid::value("callback_url", format!("`callback_url` {error}"))
        })
}

fn alone(fields: &mut Fields) -> Result<bool, Invalid> {
    match fields.text("batch")?.as_deref() {
        None | Some("auto") => Ok(false),
        Some("never") => Ok(true),
        Some(other) => Err(Invalid::value(
            "batch",
            format!("`batch` must be `auto` or `never`, not `{}`", quoted(other)),
        )),
    }
}

fn begin_within_s(fields: &mut Fields) -> Result<Option<u64>, Invalid> {
    let seconds = fields.whole("begin_within_s")?;
    match seconds {
        Some(seconds) if !(1..=BEGIN_WITHIN_S_MAX).contains(&seconds) => Err(Invalid::value(
            "begin_within_s",
            format!("`begin_within_s` must be 1 to {BEGIN_WITHIN_S_MAX}, not {seconds}"),
        )),
        seconds => Ok(seconds),
    }
}

fn size(fields: &mut Fields) -> Result<Option<Size>, Invalid> {
    let text = fields.text("size")?;
    text.map(|text| text.parse()).transpose()
}

pub(crate) fn length(fields: &mut Fields) -> Result<Option<Length>, Invalid> {
    let seconds = fields.real_or_text("seconds")?;
    let frames = fields.whole("num_frames")?;
    match (seconds, frames) {
        (None, None) => Ok(None),
        (None, Some(frames)) => Ok(Some(Length::Frames(
            u32::try_from(frames).unwrap_or(u32::MAX),
        ))),
        (Some(seconds), None) if seconds > 0.0 => Ok(Some(Length::Seconds(seconds))),
        (Some(seconds), None) => Err(Invalid::value(
            "seconds",
            format!("`seconds` must be above 0, not {seconds}"),
        )),
        (Some(_), Some(_)) => Err(Invalid::value(
            "num_frames",
            "`num_frames` and `seconds` exclude each other: give one".into(),
        )),
    }
}

pub(crate) fn seed(fields: &mut Fields) -> Result<Option<Seed>, Invalid> {
    let seed = fields.whole("seed")?;
    seed.map(Seed::new)
        .transpose()
        .map_err(|error| out_of_range("seed", &error))
}

pub(crate) fn guidance(fields: &mut Fields) -> Result<Option<Guidance>, Invalid> {
    let guidance = fields.real("guidance_scale")?;
    guidance
        .map(|strength| Guidance::new(strength as f32))
        .transpose()
        .map_err(|error| out_of_range("guidance_scale", &error))
}

pub(crate) fn small<T>(
    fields: &mut Fields,
    name: &str,
    valid: fn(u32) -> Result<T, RangeError>,
) -> Result<Option<T>, Invalid> {
    let number = fields.whole(name)?;
    number
        .map(|number| valid(u32::try_from(number).unwrap_or(u32::MAX)))
        .transpose()
        .map_err(|error| out_of_range(name, &error))
}

fn out_of_range(param: &str, error: &RangeError) -> Invalid {
    Invalid::value(param, format!("`{param}` {error}"))
}

fn find_model<'a, 'b>(
    name: Option<&str>,
    offers: &'a [Offer<'b>],
) -> Result<&'a Offer<'b>, Invalid> {
    let found = match name {
        None => offers.first(),
        Some(name) => offers.iter().find(|offer| offer.model.as_str() == name),
    };
    found.ok_or_else(|| {
        let names: Vec<&str> = offers.iter().map(|offer| offer.model.as_str()).collect();
        let name = quoted(name.unwrap_or_default());
        let message = format!(
            "there is no model `{name}`; available: {}",
            names.join(", ")
        );
        Invalid::new("model", message, "model_not_found")
    })
}

fn mode(offer: &Offer<'_>, with_image: bool) -> Result<Mode, Invalid> {
    let (mode, param) = match with_image {
        true => (Mode::I2v, IMAGE_FIELD),
        false => (Mode::T2v, "prompt"),
    };
    if offer.modes.contains(&mode) {
        return Ok(mode);
    }
    let modes: Vec<&str> = offer.modes.iter().map(|mode| mode.as_str()).collect();
    let message = format!(
        "{} does not serve mode {mode}; it serves {}",
        offer.model,
        modes.join(", ")
    );
    Err(Invalid::new(param, message, "mode_not_supported"))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::offer::Preset;
    use reel_domain::{ModelName, Shape};

    pub(crate) struct Card {
        model: ModelName,
        shapes: Vec<Shape>,
        negative_prompt: Prompt,
    }

    impl Card {
        pub(crate) fn new() -> Self {
            let shapes = ["64x64@17f", "96x64@17f", "64x64@33f"];
            Self {
                model: "tiny-shapes".parse().unwrap(),
                shapes: shapes.map(|shape| shape.parse().unwrap()).to_vec(),
                negative_prompt: Prompt::optional(String::new()).unwrap(),
            }
        }

        pub(crate) fn offer(&self) -> Offer<'_> {
            Offer {
                model: &self.model,
                shapes: &self.shapes,
                modes: &[Mode::T2v, Mode::I2v],
                preset: Preset {
                    shape: self.shapes[0],
                    fps: Fps::new(8).unwrap(),
                    steps: Steps::new(20).unwrap(),
                    guidance: Guidance::new(3.0).unwrap(),
                    negative_prompt: &self.negative_prompt,
                },
            }
        }
    }

    pub(crate) fn stamp() -> Stamp {
        Stamp {
            id: JobId::from_bytes([7; 16]),
            tenant: TenantName::default(),
            created_at_ms: 1,
            seed: Seed::new(42).unwrap(),
            with_image: false,
            priority: Priority::default(),
            callback: None,
            trace: None,
        }
    }

    fn job(body: &str) -> Result<Job, Invalid> {
        let request = CreateVideo::from_fields(Fields::from_json(body.as_bytes())?)?;
        request.into_job(&[Card::new().offer()], stamp())
    }

    #[track_caller]
    fn assert_refused(body: &str, param: &str, part: &str) {
        let invalid = job(body).unwrap_err();
        assert_eq!(invalid.param.as_deref(), Some(param), "{}", invalid.message);
        assert!(invalid.message.contains(part), "{}", invalid.message);
    }

    #[track_caller]
    fn assert_shape(body: &str, shape: &str) {
        assert_eq!(job(body).unwrap().bundle.shape.to_string(), shape);
    }

    #[test]
    fn how_a_job_shares_the_pool_is_the_clients_to_say() {
        let job = job(r#"{"prompt": "a", "priority": "batch", "batch": "never"}"#).unwrap();
        assert_eq!(
            (job.sharing.priority, job.sharing.alone),
            (Priority::Batch, true)
        );
        assert_refused(
            r#"{"prompt": "a", "priority": "realtime"}"#,
            "priority",
            "interactive",
        );
        assert_refused(r#"{"prompt": "a", "batch": "always"}"#, "batch", "never");
    }

    #[test]
    fn brackets_behind_a_name_that_takes_none_are_refused() {
        assert_refused(r#"{"prompt": "a", "seed[x]": 1}"#, "seed[x]", "`seed`");
        let twice = r#"{"prompt": "a", "input_reference": "data:,", "input_reference[image_url]": "data:,"}"#;
        assert_refused(twice, "input_reference[image_url]", "unknown");
    }

    #[test]
    fn the_time_to_begin_counts_from_the_request() {
        let patient = job(r#"{"prompt": "a", "begin_within_s": 60}"#).unwrap();
        assert_eq!(
            patient.sharing.begin_by_ms,
            Some(patient.created_at_ms + 60_000)
        );
        assert_refused(
            r#"{"prompt": "a", "begin_within_s": 0}"#,
            "begin_within_s",
            "604800",
        );
    }

    #[test]
    fn a_prompt_alone_gets_the_model_cards_defaults_and_the_servers_seed() {
        let job = job(r#"{"prompt": "a"}"#).unwrap();
        assert_eq!(job.bundle.to_string(), "tiny-shapes/64x64@17f");
        assert_eq!((job.mode, job.conditioning_frames), (Mode::T2v, 0));
        assert_eq!(job.sampling.seed.value(), 42);
        assert_eq!(job.sampling.steps.value(), 20);
    }

    #[test]
    fn every_field_reaches_the_job() {
        let job = job(
            r#"{"prompt": "a", "model": "tiny-shapes", "size": "64x64", "num_frames": 33, "fps": 12,
                "seed": 9, "num_inference_steps": 5, "guidance_scale": 7.5, "negative_prompt": "b"}"#,
        )
        .unwrap();
        let sampling = job.sampling;
        assert_eq!(job.bundle.shape.to_string(), "64x64@33f");
        assert_eq!((sampling.fps.value(), sampling.seed.value()), (12, 9));
        assert_eq!(
            (sampling.steps.value(), sampling.guidance.value()),
            (5, 7.5)
        );
        assert_eq!(sampling.negative_prompt.as_str(), "b");
    }

    #[test]
    fn an_image_makes_it_image_to_video() {
        let fields = Fields::from_json(br#"{"prompt": "a"}"#).unwrap();
        let request = CreateVideo::from_fields(fields).unwrap();
        let with_image = Stamp {
            with_image: true,
            ..stamp()
        };
        let job = request
            .into_job(&[Card::new().offer()], with_image)
            .unwrap();
        assert_eq!((job.mode, job.conditioning_frames), (Mode::I2v, 1));
    }

    #[test]
    fn seconds_mean_the_menus_shape_of_that_length() {
        assert_shape(r#"{"prompt": "a", "seconds": "2"}"#, "64x64@17f");
        assert_shape(r#"{"prompt": "a", "seconds": 4}"#, "64x64@33f");
        assert_shape(r#"{"prompt": "a", "seconds": "1", "fps": 16}"#, "64x64@17f");
        assert_shape(r#"{"prompt": "a", "seconds": "2.125"}"#, "64x64@17f");
    }

    #[test]
    fn what_a_request_leaves_open_is_filled_from_the_menu() {
        assert_shape(r#"{"prompt": "a", "size": "96x64"}"#, "96x64@17f");
        assert_shape(r#"{"prompt": "a", "num_frames": 33}"#, "64x64@33f");
    }

    #[test]
    fn a_shape_that_is_not_on_the_menu_is_answered_with_the_menu() {
        let menu = "64x64@17f, 96x64@17f, 64x64@33f";
        assert_refused(r#"{"prompt": "a", "size": "65x64"}"#, "size", menu);
        assert_refused(r#"{"prompt": "a", "num_frames": 18}"#, "num_frames", menu);
        assert_refused(r#"{"prompt": "a", "seconds": "12"}"#, "seconds", menu);
        let both = r#"{"prompt": "a", "size": "96x64", "num_frames": 33}"#;
        assert_refused(both, "num_frames", menu);
    }

    #[test]
    fn values_out_of_range_are_named() {
        let too_long = format!(r#"{{"prompt": "{}"}}"#, "x".repeat(2_001));
        for (body, param, part) in [
            (r#"{"prompt": " "}"#, "prompt", "empty"),
            (too_long.as_str(), "prompt", "2001 characters"),
            (
                r#"{"prompt": "a", "num_inference_steps": 0}"#,
                "num_inference_steps",
                "1..=200",
            ),
            (
                r#"{"prompt": "a", "num_inference_steps": 4294967297}"#,
                "num_inference_steps",
                "1..=200",
            ),
            (
                r#"{"prompt": "a", "guidance_scale": 20.5}"#,
                "guidance_scale",
                "0..=20",
            ),
            (r#"{"prompt": "a", "fps": 0}"#, "fps", "1..=120"),
            (
                r#"{"prompt": "a", "seed": 18446744073709551615}"#,
                "seed",
                "outside",
            ),
            (r#"{"prompt": "a", "seconds": "-1"}"#, "seconds", "above 0"),
            (r#"{"prompt": "a", "size": "big"}"#, "size", "1280x720"),
        ] {
            assert_refused(body, param, part);
        }
    }

    #[test]
    fn wrong_types_are_named() {
        for (body, param) in [
            (r#"{"prompt": 3}"#, "prompt"),
            (r#"{"prompt": "a", "seed": "1"}"#, "seed"),
            (r#"{"prompt": "a", "seed": -1}"#, "seed"),
            (r#"{"prompt": "a", "fps": 8.5}"#, "fps"),
            (
                r#"{"prompt": "a", "guidance_scale": "x"}"#,
                "guidance_scale",
            ),
            (r#"{"prompt": "a", "seconds": []}"#, "seconds"),
            (
                r#"{"prompt": "a", "input_reference": {}}"#,
                "input_reference",
            ),
        ] {
            assert_refused(body, param, "must be");
        }
    }

    #[test]
    fn unknown_models_and_fields_and_missing_prompts_are_named() {
        assert_refused(
            r#"{"prompt": "a", "model": "sora-2"}"#,
            "model",
            "tiny-shapes",
        );
        assert_refused(
            r#"{"prompt": "a", "num_step": 3}"#,
            "num_step",
            "did you mean",
        );
        assert_refused("{}", "prompt", "required");
    }

    #[test]
    fn frames_and_seconds_exclude_each_other() {
        let both = r#"{"prompt": "a", "num_frames": 17, "seconds": "2"}"#;
        assert_refused(both, "num_frames", "exclude");
    }
}
