//! What a deployment offers, as far as a request needs to know.

use crate::invalid::{Invalid, quoted};
use crate::length::Length;
use reel_domain::{Fps, Guidance, Mode, ModelName, Prompt, Shape, Steps};
use std::fmt;
use std::str::FromStr;

/// One model with its menu.
#[derive(Debug, Clone, Copy)]
pub struct Offer<'a> {
    /// Its name.
    pub model: &'a ModelName,
    /// Every shape that it serves.
    pub shapes: &'a [Shape],
    /// The modes that it serves.
    pub modes: &'a [Mode],
    /// What a request gets that does not say.
    pub preset: Preset<'a>,
}

/// A model card's defaults.
#[derive(Debug, Clone, Copy)]
pub struct Preset<'a> {
    /// The shape.
    pub shape: Shape,
    /// Frames per second.
    pub fps: Fps,
    /// Denoising steps.
    pub steps: Steps,
    /// Classifier-free guidance.
    pub guidance: Guidance,
    /// What to steer away from.
    pub negative_prompt: &'a Prompt,
}

/// Width and height, as `1280x720`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
}

impl From<Shape> for Size {
    fn from(shape: Shape) -> Self {
        Self {
            width: shape.width(),
            height: shape.height(),
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.width, self.height)
    }
}

impl FromStr for Size {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let side = |digits: &str| {
            let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
            plain.then(|| digits.parse().ok()).flatten()
        };
        text.split_once('x')
            .and_then(|(width, height)| {
                Some(Self {
                    width: side(width)?,
                    height: side(height)?,
                })
            })
            .ok_or_else(|| {
                let message = format!("`{}` is not a size like 1280x720", quoted(text));
                Invalid::value("size", message)
            })
    }
}

impl Offer<'_> {
    /// The one shape of the menu that a request means. What it leaves open is taken from the default shape if that
    /// fits the rest, and else from the first shape that fits.
    ///
    /// # Errors
    /// When nothing on the menu fits; the message lists the menu.
    pub(crate) fn choose(
        &self,
        size: Option<Size>,
        length: Option<Length>,
        fps: Fps,
    ) -> Result<Shape, Invalid> {
        let sized: Vec<Shape> = self
            .by_preference()
            .filter(|shape| size.is_none_or(|size| size == Size::from(*shape)))
            .collect();
        match (size, length) {
            (Some(size), _) if sized.is_empty() => Err(self.not_offered("size", &size.to_string())),
            (_, None) => Ok(sized[0]),
            (_, Some(length)) => {
                let fitting = |frames| sized.iter().find(move |shape| shape.frames() == frames);
                let mut found = length.frames(fps).into_iter().filter_map(fitting);
                found
                    .next()
                    .copied()
                    .ok_or_else(|| self.not_offered(length.param(), &described(length, fps)))
            }
        }
    }

    fn by_preference(&self) -> impl Iterator<Item = Shape> {
        let default = std::iter::once(self.preset.shape);
        default.chain(self.shapes.iter().copied())
    }

    fn not_offered(&self, param: &str, wanted: &str) -> Invalid {
        let menu: Vec<String> = self.shapes.iter().map(Shape::to_string).collect();
        let message = format!(
            "{} has no shape with {wanted}; its menu (widthxheight@frames) is {}",
            self.model,
            menu.join(", ")
        );
        Invalid::new(param, message, "shape_not_on_menu")
    }
}

fn described(length: Length, fps: Fps) -> String {
    match length {
        Length::Frames(frames) => format!("{frames} frames"),
        Length::Seconds(seconds) => {
            let frames = length.frames(fps)[0];
            format!("{seconds} seconds ({frames} frames at {} fps)", fps.value())
        }
    }
}
