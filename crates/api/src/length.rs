//! How long a video is: in frames, or in seconds.

use reel_domain::Fps;

/// What a client asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Length {
    /// So many frames.
    Frames(u32),
    /// So many seconds, at the frame rate of the request.
    Seconds(f64),
}

impl Length {
    /// The frame counts that satisfy it, the best first.
    ///
    /// Video models make `n * k + 1` frames, so a second at 16 frames per second is 17 of them to such a model:
    /// one frame more than the seconds say is accepted.
    #[must_use]
    pub fn frames(self, fps: Fps) -> [u32; 2] {
        match self {
            Self::Frames(frames) => [frames, frames],
            Self::Seconds(seconds) => {
                // A cast of a float saturates; absurd lengths match no shape.
                let frames = (seconds * f64::from(fps.value())).round() as u32;
                [frames, frames.saturating_add(1)]
            }
        }
    }

    /// The number of frames that it adds to a video, which has its first frame already.
    #[must_use]
    pub fn added_frames(self, fps: Fps) -> u32 {
        self.frames(fps)[0]
    }

    /// The name of the parameter that gave it.
    #[must_use]
    pub const fn param(self) -> &'static str {
        match self {
            Self::Frames(_) => "num_frames",
            Self::Seconds(_) => "seconds",
        }
    }
}

/// The duration of so many frames in seconds, as OpenAI's string: at most three decimals, no trailing zeros.
#[must_use]
pub fn seconds_text(frames: u32, fps: Fps) -> String {
    let seconds = f64::from(frames) / f64::from(fps.value());
    let text = format!("{seconds:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_as_seconds_is_understood_as_seconds() {
        for frames in [1, 16, 17, 33, 81, 121] {
            for fps in [1, 7, 8, 16, 24, 25, 30, 60] {
                let fps = Fps::new(fps).unwrap();
                let seconds = seconds_text(frames, fps).parse().unwrap();
                assert_eq!(Length::Seconds(seconds).frames(fps)[0], frames);
            }
        }
    }

    #[test]
    fn seconds_have_no_trailing_zeros() {
        let text = |frames, fps| seconds_text(frames, Fps::new(fps).unwrap());
        assert_eq!(
            [text(16, 8), text(17, 8), text(17, 24), text(100, 10)],
            ["2", "2.125", "0.708", "10"]
        );
    }

    #[test]
    fn absurd_seconds_do_not_overflow() {
        assert_eq!(
            Length::Seconds(1e300).frames(Fps::new(24).unwrap()),
            [u32::MAX; 2]
        );
    }
}
