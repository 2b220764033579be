//! A video that goes on where an earlier one ends.

use crate::create::{
    Stamp, callback, guidance, length, negative_prompt, priority, prompt, seed, small,
};
use crate::fields::{Fields, Reference};
use crate::invalid::{Invalid, quoted};
use crate::length::{Length, seconds_text};
use crate::offer::Size;
use reel_domain::{
    CallbackUrl, Fps, Guidance, Job, JobId, Mode, Origin, Priority, Prompt, Sampling, Seed, Shape,
    Sharing, Steps,
};

/// The field that names the earlier video.
pub const VIDEO_FIELD: &str = "video";

/// Every field of a request.
pub(crate) const KNOWN: [&str; 10] = [
    "prompt",
    VIDEO_FIELD,
    "seconds",
    "num_frames",
    "seed",
    "num_inference_steps",
    "guidance_scale",
    "negative_prompt",
    "priority",
    "callback_url",
];

/// A request to go on. Whatever it leaves unsaid is as it was for the earlier video, but for the seed.
#[derive(Debug, Clone, PartialEq)]
pub struct ExtendVideo {
    /// The earlier video.
    pub video: JobId,
    prompt: Prompt,
    length: Option<Length>,
    seed: Option<Seed>,
    steps: Option<Steps>,
    guidance: Option<Guidance>,
    negative_prompt: Option<Prompt>,
    priority: Option<Priority>,
    callback: Option<CallbackUrl>,
}

/// A shape that can go on from so many frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Continuation {
    /// The shape, those frames included.
    pub shape: Shape,
    /// The last frames of the earlier video, which it begins with.
    pub from_frames: u32,
}

impl Continuation {
    /// Frames that it adds.
    #[must_use]
    pub const fn added(self) -> u32 {
        self.shape.frames().saturating_sub(self.from_frames)
    }
}

impl ExtendVideo {
    /// Reads a request strictly.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn from_fields(mut fields: Fields) -> Result<Self, Invalid> {
        fields.refuse_unknown(&KNOWN)?;
        let request = Self {
            video: video(&mut fields)?,
            prompt: prompt(&mut fields)?,
            length: length(&mut fields)?,
            seed: seed(&mut fields)?,
            steps: small(&mut fields, "num_inference_steps", Steps::new)?,
            guidance: guidance(&mut fields)?,
            negative_prompt: negative_prompt(&mut fields)?,
            priority: priority(&mut fields)?,
            callback: callback(&mut fields)?,
        };
        fields.refuse_rest(&KNOWN)?;
        Ok(request)
    }

    /// The job that this means for the video of `source`, which is completed. `shapes`: how its model can go on.
    ///
    /// # Errors
    /// When the model cannot go on, or not for so long; the message says for how long it can.
    pub fn into_job(
        self,
        source: &Job,
        shapes: &[Continuation],
        stamp: Stamp,
    ) -> Result<Job, Invalid> {
        let chosen = self.choose(source, shapes)?;
        let earlier = source.video_frames();
        if earlier < chosen.from_frames {
            let message = format!(
                "{} has {earlier} frames, and going on takes {}",
                source.id, chosen.from_frames
            );
            return Err(Invalid::value(VIDEO_FIELD, message));
        }
        let before = source.sampling.clone();
        Ok(Job {
            id: stamp.id,
            bundle: reel_domain::BundleKey {
                model: source.bundle.model.clone(),
                shape: chosen.shape,
            },
            mode: Mode::Extend,
            conditioning_frames: chosen.from_frames,
            sampling: Sampling {
                prompt: self.prompt,
                negative_prompt: self.negative_prompt.unwrap_or(before.negative_prompt),
                seed: self.seed.unwrap_or(stamp.seed),
                steps: self.steps.unwrap_or(before.steps),
                guidance: self.guidance.unwrap_or(before.guidance),
                fps: before.fps,
            },
            sharing: Sharing {
                tenant: stamp.tenant,
                priority: self
                    .priority
                    .unwrap_or_else(|| source.sharing.priority.max(stamp.priority)),
                alone: source.sharing.alone,
                begin_by_ms: None,
            },
            origin: Some(Origin::Extension {
                of: source.id,
                frames: earlier,
            }),
            callback: self.callback.or(stamp.callback),
            trace: stamp.trace,
            created_at_ms: stamp.created_at_ms,
        })
    }

    fn choose(&self, source: &Job, shapes: &[Continuation]) -> Result<Continuation, Invalid> {
        let size = Size::from(source.bundle.shape);
        let sized: Vec<Continuation> = shapes
            .iter()
            .copied()
            .filter(|continuation| {
                Size::from(continuation.shape) == size && continuation.added() > 0
            })
            .collect();
        let adding = |frames| sized.iter().find(move |one| one.added() == frames);
        let fps = source.sampling.fps;
        let found = match self.length {
            None => {
                let same = sized.iter().find(|one| one.shape == source.bundle.shape);
                same.or(sized.first())
            }
            Some(length) => adding(length.added_frames(fps)),
        };
        found
            .copied()
            .ok_or_else(|| not_offered(source, self.length, &sized, fps))
    }
}

fn not_offered(source: &Job, length: Option<Length>, sized: &[Continuation], fps: Fps) -> Invalid {
    let (model, size) = (&source.bundle.model, Size::from(source.bundle.shape));
    if sized.is_empty() {
        let message = format!("{model} cannot extend a video of {size}");
        return Invalid::new(VIDEO_FIELD, message, "mode_not_supported");
    }
    let lengths: Vec<String> = sized
        .iter()
        .map(|one| {
            format!(
                "{} ({} frames)",
                seconds_text(one.added(), fps),
                one.added()
            )
        })
        .collect();
    let message = format!(
        "{model} has no extension of that length at {size} and {} fps; `seconds` may be {}",
        fps.value(),
        lengths.join(", ")
    );
    let param = length.map_or("seconds", Length::param);
    Invalid::new(param, message, "shape_not_on_menu")
}

fn video(fields: &mut Fields) -> Result<JobId, Invalid> {
    let text = match fields.reference(VIDEO_FIELD, &["id"])? {
        None => return Err(Invalid::missing(VIDEO_FIELD)),
        Some(Reference::Text(text) | Reference::Member(_, text)) => text,
    };
    text.parse().map_err(|_| {
        let message = format!(
            "`{VIDEO_FIELD}` must name a video of this server, as {{\"id\": \"video_…\"}}, not `{}`",
            quoted(&text)
        );
        Invalid::value(VIDEO_FIELD, message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::create::CreateVideo;
    use crate::create::tests::{Card, stamp};

    fn source() -> Job {
        let fields = Fields::from_json(br#"{"prompt": "a", "seed": 9}"#).unwrap();
        let request = CreateVideo::from_fields(fields).unwrap();
        request.into_job(&[Card::new().offer()], stamp()).unwrap()
    }

    fn extend(members: &str) -> Result<Job, Invalid> {
        let body = format!(
            r#"{{"prompt": "b", "video": {{"id": "{}"}}{members}}}"#,
            source().id
        );
        let request = ExtendVideo::from_fields(Fields::from_json(body.as_bytes())?)?;
        let shapes = ["64x64@17f", "64x64@33f", "96x64@33f"].map(|shape| Continuation {
            shape: shape.parse().unwrap(),
            from_frames: 9,
        });
        request.into_job(&source(), &shapes, stamp())
    }

    #[test]
    fn it_goes_on_from_the_last_frames_with_the_settings_of_before() {
        let job = extend("").unwrap();
        assert_eq!((job.mode, job.conditioning_frames), (Mode::Extend, 9));
        assert_eq!(job.video_frames(), 17 + 8);
        assert_eq!(job.sampling.prompt.as_str(), "b");
        assert_eq!(job.sampling.steps, source().sampling.steps);
        assert_eq!(job.sampling.seed.value(), 42, "the same noise would repeat");
        let origin = Origin::Extension {
            of: source().id,
            frames: 17,
        };
        assert_eq!(job.origin, Some(origin));
    }

    #[test]
    fn its_seconds_are_those_that_are_added() {
        let shape = |members| extend(members).map(|job| job.bundle.shape.to_string());
        assert_eq!(shape(r#", "seconds": "1""#), Ok("64x64@17f".into()));
        assert_eq!(shape(r#", "seconds": "3""#), Ok("64x64@33f".into()));
        assert_eq!(shape(r#", "num_frames": 24"#), Ok("64x64@33f".into()));
        let invalid = shape(r#", "seconds": "4""#).unwrap_err();
        assert_eq!(invalid.param.as_deref(), Some("seconds"));
        assert!(
            invalid
                .message
                .ends_with("may be 1 (8 frames), 3 (24 frames)"),
            "{invalid}"
        );
    }

    #[test]
    fn what_names_no_video_is_refused() {
        for body in [
            r#"{"prompt": "b"}"#,
            r#"{"prompt": "b", "video": "x"}"#,
            r#"{"prompt": "b", "video": {"url": "x"}}"#,
        ] {
            let fields = Fields::from_json(body.as_bytes()).unwrap();
            let invalid = ExtendVideo::from_fields(fields).unwrap_err();
            assert_eq!(invalid.param.as_deref(), Some("video"), "{body}");
        }
    }
}
