//! A worker that does what the prompt says, over the real protocol and with real processes.
//!
//! The last part of `--bundle` is the bundle's id, the one before it the shape. What goes wrong with a job is said in
//! its prompt ([`misdeed`]); beside that: `slow` (a step takes 20 ms), `fail` (the attempt fails), `no-decode` (decoding never ends), `no-encode` (encoding never ends).
//!
//! What goes wrong with a start is said by the bundle's id, or once by a file `boot` in the bundle's directory, which
//! is removed: `mute` (never says hello), `broken` (fails to load), `liar` (claims another bundle), `ancient` (speaks
//! another version), `stuck-load`, `stuck-canary`, `dies-load`, `dies-canary`, `sings-wrong`, `unready` (a step before
//! it is ready). `formed`: nobody joins a batch that has begun.
//!
//! With `--videos`, or for a bundle `videos`, it does nothing and hands a ready-made video over: a small one, or with
//! `mp4:BYTES` in the prompt one of that size.
//!
//! It keeps checkpoints, and prints how many steps of a video it computed itself.
#![forbid(unsafe_code)]

mod misdeed;

use misdeed::Misdeeds;
use reel_domain::Shape;
use reel_protocol::{
    Attempt, Canary, Capabilities, Channel, FromWorker, Item, Saved, Stage, ToWorker,
};
use reel_worker::{Ending, Engine, EngineError, serve};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

/// A real video: nine frames of 64 x 64 pixels.
const SMALL_MP4: &[u8] = include_bytes!("small.mp4");
/// Bytes of the head of a box: its size and its type.
const BOX_HEAD_BYTES: usize = 8;

struct Script {
    channel: Channel<ToWorker, FromWorker>,
    shape: Shape,
    bundle_id: String,
    boot: String,
    /// It hands over ready-made videos.
    videos: bool,
}

struct Run {
    slow: bool,
    misdeeds: Misdeeds,
    given: Vec<u8>,
    step: u32,
    of: u32,
    /// Steps that this worker computed.
    computed: u32,
}

impl Engine for Script {
    type Run = Run;

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            engine: "fake".into(),
            max_batch: if self.videos { 8 } else { 4 },
            continuous: self.bundle_id != "formed",
            pausable: self.bundle_id != "formed",
            videos: self.videos,
        }
    }

    fn bundle_id(&self) -> &str {
        if self.boot == "liar" {
            "another"
        } else {
            &self.bundle_id
        }
    }

    fn canary(&mut self) -> Result<Canary, EngineError> {
        match self.boot.as_str() {
            "stuck-canary" => misdeed::for_ever(),
            "dies-canary" => misdeed::die(11),
            "unready" => {
                let started = FromWorker::Step {
                    attempt: Attempt {
                        job: [0; 16],
                        number: 1,
                    },
                    stage: Stage::Denoise,
                    step: 1,
                    of: 2,
                };
                let _ = self.channel.send(&started, None);
            }
            _ => {}
        }
        Ok(Canary {
            expected: 0.5,
            got: if self.boot == "sings-wrong" { 0.7 } else { 0.5 },
        })
    }

    fn video_bytes(&self) -> usize {
        usize::try_from(self.shape.video_bytes()).expect("test shapes are small")
    }

    fn frame_bytes(&self) -> usize {
        usize::try_from(self.shape.frame_bytes()).expect("test shapes are small")
    }

    fn begin(&mut self, item: &Item, given: &[u8]) -> Result<Run, EngineError> {
        let misdeeds = Misdeeds::parse(&item.prompt);
        if misdeeds.now("fail") {
            return Err(EngineError::soft("the script says so"));
        }
        if misdeeds.now("no-encode") {
            misdeed::for_ever();
        }
        Ok(Run {
            slow: misdeeds.has("slow"),
            given: given.to_vec(),
            misdeeds,
            step: 0,
            of: item.steps,
            computed: 0,
        })
    }

    fn step(&mut self, runs: &mut [&mut Run]) -> Result<(), EngineError> {
        for run in runs {
            run.step += 1;
            run.computed += 1;
            if run.slow {
                misdeed::linger();
            }
            for due in run.misdeeds.at(run.step) {
                misdeed::commit(&due, &self.channel, self.video_bytes())?;
            }
        }
        Ok(())
    }

    fn progress(&self, run: &Run) -> (u32, u32) {
        (run.step, run.of)
    }

    fn state_bytes(&self) -> u64 {
        if self.videos { 0 } else { 64 }
    }

    fn video(&mut self, run: &Run) -> Result<Option<Vec<u8>>, EngineError> {
        Ok(self.videos.then(|| ready_made(run.misdeeds.number("mp4"))))
    }

    fn save(&mut self, run: &Run, state: &mut Vec<u8>) -> Result<(), EngineError> {
        state.extend(run.step.to_le_bytes());
        Ok(())
    }

    fn resume(&mut self, item: &Item, saved: &Saved) -> Result<Run, EngineError> {
        let mut run = self.begin(item, &[])?;
        if item.prompt.contains("forgetful") {
            return Err(EngineError::checkpoint("the script says so"));
        }
        run.step = saved.step;
        Ok(run)
    }

    fn decode(&mut self, run: Run, frames: &mut [u8]) -> Result<(), EngineError> {
        if run.misdeeds.now("no-decode") {
            misdeed::for_ever();
        }
        // What was given comes first, then a ramp: something that an encoder has to work on.
        for (index, byte) in frames.iter_mut().enumerate() {
            *byte = run.given.get(index).copied().unwrap_or((index % 251) as u8);
        }
        eprintln!("computed {} of {} steps", run.computed, run.of);
        Ok(())
    }
}

/// The small video, with a box at its end that players skip if it is to be larger.
fn ready_made(bytes: Option<usize>) -> Vec<u8> {
    let mut mp4 = SMALL_MP4.to_vec();
    let padding = bytes.unwrap_or(0).saturating_sub(mp4.len());
    if padding >= BOX_HEAD_BYTES {
        let length = u32::try_from(padding).expect("test videos are small");
        mp4.extend(length.to_be_bytes());
        mp4.extend(b"free");
        mp4.resize(mp4.len() + padding - BOX_HEAD_BYTES, 0);
    }
    mp4
}

fn main() -> ExitCode {
    let born = Instant::now();
    let bundle = std::env::args()
        .skip_while(|arg| arg != "--bundle")
        .nth(1)
        .map(PathBuf::from);
    let bundle = bundle.expect("--bundle DIR");
    let bundle_id = last_part(&bundle);
    let boot = misdeed_of_start(&bundle).unwrap_or_else(|| bundle_id.clone());
    let shape = last_part(bundle.parent().expect("a parent"))
        .parse()
        .expect("a shape");
    let channel = reel_process::inherit::channel().expect("a channel");
    let flight = reel_process::inherit::flight().expect("a flight recorder");
    match boot.as_str() {
        "mute" => misdeed::for_ever(),
        "ancient" => {
            let hello = FromWorker::Hello {
                protocol: 1,
                pid: 1,
            };
            let _ = channel.send(&hello, None);
            misdeed::for_ever();
        }
        _ => {}
    }
    let ending = serve(&channel, flight, born, || match boot.as_str() {
        "broken" => Err(EngineError::boot("the script says so")),
        "stuck-load" => misdeed::for_ever(),
        "dies-load" => misdeed::die(9),
        _ => Ok(Script {
            channel: channel.clone(),
            shape,
            videos: bundle_id == "videos" || std::env::args().any(|arg| arg == "--videos"),
            bundle_id,
            boot: boot.clone(),
        }),
    });
    match ending {
        Ending::Asked => ExitCode::SUCCESS,
        Ending::Fatal(_) | Ending::Broken(_) => ExitCode::FAILURE,
    }
}

fn last_part(path: &Path) -> String {
    let name = path.file_name().expect("a name");
    name.to_string_lossy().into_owned()
}

/// Whoever moves the file away has it: of several workers that start at once, one.
fn misdeed_of_start(bundle: &Path) -> Option<String> {
    let taken = bundle.join(format!("boot.{}", std::process::id()));
    std::fs::rename(bundle.join("boot"), &taken).ok()?;
    let word = std::fs::read_to_string(&taken).ok();
    let _ = std::fs::remove_file(taken);
    word
}
