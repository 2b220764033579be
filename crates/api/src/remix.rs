//! Another prompt for an earlier video: the same seed, the same settings.

use crate::create::{Stamp, callback, prompt};
use crate::fields::Fields;
use crate::invalid::Invalid;
use reel_domain::{CallbackUrl, Job, Origin, Prompt, Sampling, Sharing};

/// Every field of a request.
pub(crate) const KNOWN: [&str; 2] = ["prompt", "callback_url"];

/// A request for a remix.
#[derive(Debug, Clone, PartialEq)]
pub struct RemixVideo {
    /// What to show instead.
    pub prompt: Prompt,
    /// Where its end is to be told.
    pub callback: Option<CallbackUrl>,
}

impl RemixVideo {
    /// Reads a request strictly.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn from_fields(mut fields: Fields) -> Result<Self, Invalid> {
        fields.refuse_unknown(&KNOWN)?;
        let request = Self {
            prompt: prompt(&mut fields)?,
            callback: callback(&mut fields)?,
        };
        fields.refuse_rest(&KNOWN)?;
        Ok(request)
    }

    /// The job that this means for the video of `source`, whose given frames it starts from, too.
    ///
    /// # Errors
    /// When that video is itself two, one after the other.
    pub fn into_job(self, source: &Job, stamp: Stamp) -> Result<Job, Invalid> {
        if let Some(Origin::Extension { of, .. }) = source.origin {
            let message = format!(
                "an extended video cannot be remixed as a whole; remix {of}, which it begins with, and extend that"
            );
            return Err(Invalid::value("video_id", message));
        }
        Ok(Job {
            id: stamp.id,
            bundle: source.bundle.clone(),
            mode: source.mode,
            conditioning_frames: source.conditioning_frames,
            sampling: Sampling {
                prompt: self.prompt,
                ..source.sampling.clone()
            },
            sharing: Sharing {
                tenant: stamp.tenant,
                begin_by_ms: None,
                // No more urgent than whoever asks may be.
                priority: source.sharing.priority.max(stamp.priority),
                ..source.sharing.clone()
            },
            origin: Some(Origin::Remix { of: source.id }),
            callback: self.callback.or(stamp.callback),
            trace: stamp.trace,
            created_at_ms: stamp.created_at_ms,
        })
    }
}
