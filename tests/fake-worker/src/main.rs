//! A worker that does what the prompt says, over the real protocol and with real processes.
//!
//! The last part of `--bundle` is the bundle's id, the one before it the shape. Words in the prompt:
//! `slow` (a step takes 20 ms), `fail` (the attempt fails), `crash` (the process aborts at step 2),
//! `crash-once:PATH` (it aborts unless PATH exists, and makes PATH), `hang` (a step never ends),
//! `late` (what happens at step 2 happens at step 9), `flood` (messages without end), `finish-again:JOB`
//! (a job that ended is finished once more), `babble` (garbage on the channel), `short` (a memory file of the wrong size), `stderr` (a last word before
//! a crash). Bundle ids: `mute` (never ready), `broken` (fails to boot), `liar` (claims another bundle),
//! `formed` (nobody joins a batch that has begun).
#![forbid(unsafe_code)]

use reel_domain::Shape;
use reel_protocol::{
    Attempt, Canary, Capabilities, Channel, FromWorker, Item, MemoryUse, Pixels, Stage, Timings,
    ToWorker,
};
use reel_worker::{Ending, Engine, EngineError, serve};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

struct Script {
    channel: Channel<ToWorker, FromWorker>,
    shape: Shape,
    bundle_id: String,
    short: bool,
}

struct Run {
    prompt: String,
    given: Vec<u8>,
    step: u32,
    of: u32,
}

impl Engine for Script {
    type Run = Run;

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            engine: "fake".into(),
            max_batch: 4,
            continuous: self.bundle_id != "formed",
            pausable: self.bundle_id != "formed",
        }
    }

    fn bundle_id(&self) -> &str {
        if self.bundle_id == "liar" {
            "another"
        } else {
            &self.bundle_id
        }
    }

    fn canary(&mut self) -> Result<Canary, EngineError> {
        Ok(Canary {
            expected: 0.5,
            got: 0.5,
        })
    }

    fn video_bytes(&self) -> usize {
        let bytes = usize::try_from(self.shape.video_bytes()).expect("test shapes are small");
        if self.short { bytes - 1 } else { bytes }
    }

    fn frame_bytes(&self) -> usize {
        usize::try_from(self.shape.frame_bytes()).expect("test shapes are small")
    }

    fn begin(&mut self, item: &Item, given: &[u8]) -> Result<Run, EngineError> {
        if item.prompt.contains("fail") {
            return Err(EngineError::soft("the script says so"));
        }
        self.short = item.prompt.contains("short");
        Ok(Run {
            prompt: item.prompt.clone(),
            given: given.to_vec(),
            step: 0,
            of: item.steps,
        })
    }

    fn step(&mut self, runs: &mut [&mut Run]) -> Result<(), EngineError> {
        for run in runs {
            run.step += 1;
            self.misbehave(&run.prompt, run.step);
        }
        Ok(())
    }

    fn progress(&self, run: &Run) -> (u32, u32) {
        (run.step, run.of)
    }

    fn decode(&mut self, run: Run, frames: &mut [u8]) -> Result<(), EngineError> {
        // What was given comes first, then a ramp: something that an encoder has to work on.
        for (index, byte) in frames.iter_mut().enumerate() {
            *byte = run.given.get(index).copied().unwrap_or((index % 251) as u8);
        }
        Ok(())
    }
}

impl Script {
    fn finish_again(&self, attempt: Attempt) {
        let pixels = Pixels::new(&vec![0; self.video_bytes()]).expect("memory");
        let finished = FromWorker::Finished {
            attempt,
            timings: Timings::default(),
            memory: MemoryUse::default(),
        };
        self.channel
            .send(&finished, Some(pixels.as_fd()))
            .expect("a channel");
    }

    fn misbehave(&self, prompt: &str, step: u32) {
        if prompt.contains("slow") {
            std::thread::sleep(Duration::from_millis(20));
        }
        if prompt.contains("hang") {
            loop {
                std::thread::park();
            }
        }
        if prompt.contains("babble") {
            rustix::net::send(&self.channel, b"\xff\xff", rustix::net::SendFlags::empty())
                .expect("a channel");
        }
        if prompt.contains("flood") {
            let step = FromWorker::Step {
                attempt: stranger("0"),
                stage: Stage::Denoise,
                step: 1,
                of: 2,
            };
            loop {
                self.channel.send(&step, None).expect("a channel");
            }
        }
        if let Some(job) = prompt
            .strip_prefix("finish-again:video_")
            .filter(|_| step == 1)
        {
            self.finish_again(stranger(job));
        }
        if step < if prompt.contains("late") { 9 } else { 2 } {
            return;
        }
        if prompt.contains("crash") {
            crash(prompt);
        }
    }
}

/// The first attempt at the job of that hexadecimal number.
fn stranger(job: &str) -> Attempt {
    let number = u128::from_str_radix(job, 16).expect("a hexadecimal number");
    Attempt {
        job: number.to_be_bytes(),
        number: 1,
    }
}

fn crash(prompt: &str) {
    if let Some(path) = prompt
        .split("crash-once:")
        .nth(1)
        .map(|rest| PathBuf::from(rest.trim()))
    {
        if path.exists() {
            return;
        }
        std::fs::write(&path, "crashed").expect("a writable path");
    }
    eprintln!("last words");
    std::process::abort();
}

fn main() -> ExitCode {
    let born = Instant::now();
    let bundle = std::env::args()
        .skip_while(|arg| arg != "--bundle")
        .nth(1)
        .map(PathBuf::from);
    let bundle = bundle.expect("--bundle DIR");
    let part = |path: &std::path::Path| {
        path.file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned()
    };
    let bundle_id = part(&bundle);
    let shape = part(bundle.parent().expect("a parent"))
        .parse()
        .expect("a shape");
    let channel = reel_process::inherit::channel().expect("a channel");
    let ending = serve(&channel, born, || match bundle_id.as_str() {
        "broken" => Err(EngineError::boot("the script says so")),
        "mute" => loop {
            std::thread::park();
        },
        _ => Ok(Script {
            channel: channel.clone(),
            shape,
            bundle_id: bundle_id.clone(),
            short: false,
        }),
    });
    match ending {
        Ending::Asked => ExitCode::SUCCESS,
        Ending::Fatal(_) | Ending::Broken(_) => ExitCode::FAILURE,
    }
}
