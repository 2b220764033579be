//! Watching a job to its end.
//!
//! The job is asked for first, and again whenever the event stream ends: what the stream does not say, for whatever
//! reason, is found out that way. A server without event streams is asked as often as it wants to be.

use super::api::Api;
use super::events::Events;
use super::failure::Failure;
use super::interrupts::Interrupts;
use super::video::Video;
use std::io::BufReader;
use std::time::{Duration, Instant};
use ureq::Body;
use ureq::http::{Response, header};

/// Pause between two looks when the server names none.
const POLL_PAUSE: Duration = Duration::from_millis(250);
/// Shortest and longest pause that a server can ask for.
const POLL_PAUSE_MIN: Duration = Duration::from_millis(50);
const POLL_PAUSE_MAX: Duration = Duration::from_secs(10);
/// A server that does not answer for longer is given up.
const AWAY_MAX: Duration = Duration::from_secs(60);
/// Longest wait for the end of a job that was asked to be cancelled.
const CANCEL_WAIT_MAX: Duration = Duration::from_secs(30);

/// Follows one job.
pub(crate) struct Follower<'a> {
    pub(crate) api: &'a Api,
    pub(crate) interrupts: &'a Interrupts,
    /// How long, at most.
    pub(crate) patience: Duration,
}

impl Follower<'_> {
    /// The job, once it is over.
    pub(crate) fn follow(
        &self,
        id: &str,
        mut on_update: impl FnMut(&Video),
    ) -> Result<Video, Failure> {
        let deadline = Instant::now() + self.patience;
        let mut streams = true;
        let mut last_event = None;
        let mut away_since = None;
        loop {
            let seen = self.interrupts.since().is_some();
            let pause = match self.api.get(id) {
                Ok((video, _)) if video.is_over() => return Ok(video),
                Ok((video, pause)) => {
                    away_since = None;
                    on_update(&video);
                    pause.unwrap_or(POLL_PAUSE)
                }
                Err(failure) => {
                    self.tolerate(id, failure, &mut away_since)?;
                    POLL_PAUSE
                }
            };
            self.check(id, deadline)?;
            if streams && away_since.is_none() {
                let left = deadline.saturating_duration_since(Instant::now());
                match self.api.events(id, last_event.as_deref(), left) {
                    Ok(response) if is_stream(&response) => {
                        let over = self.read(response, &mut last_event, deadline, &mut on_update);
                        if let Some(video) = over {
                            return Ok(video);
                        }
                    }
                    // Not offered, whatever it is that the server says instead.
                    Ok(_) | Err(Failure::Refused(_)) => streams = false,
                    Err(_) => {}
                }
            }
            let pause = pause.clamp(POLL_PAUSE_MIN, POLL_PAUSE_MAX);
            self.interrupts.pause(pause, seen);
        }
    }

    /// Reads a stream until it ends, the job is over, or nobody waits any more.
    fn read(
        &self,
        response: Response<Body>,
        last_event: &mut Option<String>,
        deadline: Instant,
        on_update: &mut impl FnMut(&Video),
    ) -> Option<Video> {
        let reader = BufReader::new(response.into_body().into_reader());
        for event in Events::new(reader) {
            let event = event.ok()?;
            let video = serde_json::from_str(&event.data).ok();
            let video = Video::read(video?).ok()?;
            *last_event = event.id.or(last_event.take());
            if video.is_over() {
                return Some(video);
            }
            on_update(&video);
            if self.check(video.id(), deadline).is_err() {
                return None;
            }
        }
        None
    }

    fn check(&self, id: &str, deadline: Instant) -> Result<(), Failure> {
        if let Some(since) = self.interrupts.since()
            && since.elapsed() > CANCEL_WAIT_MAX
        {
            return Err(Failure::Unconfirmed { id: id.into() });
        }
        match Instant::now() < deadline {
            true => Ok(()),
            false => Err(Failure::Late {
                id: id.into(),
                after: self.patience,
            }),
        }
    }

    /// A server may be away for a while, and a job may be gone when its end was wanted.
    fn tolerate(
        &self,
        id: &str,
        failure: Failure,
        away_since: &mut Option<Instant>,
    ) -> Result<(), Failure> {
        match failure {
            Failure::Refused(refusal)
                if refusal.status == 404 && self.interrupts.since().is_some() =>
            {
                Err(Failure::Cancelled { id: id.into() })
            }
            Failure::Refused(ref refusal) if refusal.status < 500 && refusal.status != 429 => {
                Err(failure)
            }
            failure => {
                let since = *away_since.get_or_insert_with(Instant::now);
                match since.elapsed() > AWAY_MAX {
                    true => Err(failure),
                    false => Ok(()),
                }
            }
        }
    }
}

fn is_stream(response: &Response<Body>) -> bool {
    let kind = response.headers().get(header::CONTENT_TYPE);
    kind.and_then(|kind| kind.to_str().ok())
        .is_some_and(|kind| kind.starts_with("text/event-stream"))
}
