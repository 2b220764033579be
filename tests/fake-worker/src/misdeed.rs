//! What the prompt tells a worker to do wrong, one word each: `WORD[:ARGUMENT][@STEP]`, at step 2 unless it says
//! otherwise. `once:PATH` makes all of them happen only if PATH does not exist, and makes it. An engine does not know
//! its attempts: what is said about one takes the job's id as its argument, and means its first attempt.

use crate::SMALL_MP4;
use reel_protocol::{
    Attempt, Channel, FailureClass, FromWorker, MemoryUse, OutputKind, Pixels, Stage, Timings,
    ToWorker, Video,
};
use reel_worker::EngineError;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::process::{Signal, getpid, kill_process};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// It has the length of a video, and nothing else of one.
const NO_MP4: &[u8] = b"\0\0\0\x18moov, and no video at all";
/// Steps that a million steps are.
const MILLION: u32 = 1_000_000;
/// Bytes that `eat` takes at a time.
const BITE: usize = 8 << 20;

/// One thing that goes wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Misdeed {
    word: String,
    argument: String,
    step: u32,
}

/// Everything that a prompt asks for.
#[derive(Debug, Clone)]
pub(crate) struct Misdeeds {
    all: Vec<Misdeed>,
    /// The file that says that they have happened, and who did it.
    once: Option<String>,
}

impl Misdeeds {
    pub(crate) fn parse(prompt: &str) -> Self {
        let mut all: Vec<_> = prompt.split_whitespace().map(Misdeed::parse).collect();
        let once = all.iter().position(|misdeed| misdeed.word == "once");
        let once = once.map(|place| all.remove(place).argument);
        Self { all, once }
    }

    /// This one happens now, if it is asked for and has not happened.
    pub(crate) fn now(&self, word: &str) -> bool {
        self.all.iter().any(|misdeed| misdeed.word == word) && self.begin()
    }

    /// It is asked for, whether it has happened or not.
    pub(crate) fn has(&self, word: &str) -> bool {
        self.all.iter().any(|misdeed| misdeed.word == word)
    }

    /// The number that comes with a word.
    pub(crate) fn number(&self, word: &str) -> Option<usize> {
        let misdeed = self.all.iter().find(|misdeed| misdeed.word == word)?;
        misdeed.number()?.try_into().ok()
    }

    /// What happens at this step, unless it has happened.
    pub(crate) fn at(&self, step: u32) -> Vec<Misdeed> {
        let is_due = |misdeed: &&Misdeed| misdeed.step == step && ACTS.contains(&&*misdeed.word);
        let due: Vec<_> = self.all.iter().filter(is_due).cloned().collect();
        match due.is_empty() || self.begin() {
            true => due,
            false => Vec::new(),
        }
    }

    /// Whether nobody has begun before; now somebody has.
    fn begin(&self) -> bool {
        let Some(path) = &self.once else { return true };
        let mark = OpenOptions::new().write(true).create_new(true).open(path);
        mark.and_then(|mut mark| write!(mark, "{}", std::process::id()))
            .is_ok()
    }
}

/// The words that mean something at a step.
const ACTS: [&str; 30] = [
    "crash",
    "die",
    "exit",
    "stop",
    "hang",
    "deaf",
    "close",
    "oom",
    "device",
    "eat",
    "leak",
    "fork",
    "babble",
    "oversized",
    "empty",
    "flood",
    "stale",
    "shout",
    "again",
    "backwards",
    "million",
    "hello",
    "pong",
    "unsealed",
    "naked",
    "short",
    "finish-again",
    "ready-made",
    "open-mp4",
    "no-mp4",
];

impl Misdeed {
    fn parse(text: &str) -> Self {
        let (text, step) = match text.rsplit_once('@') {
            Some((text, step)) if step.parse::<u32>().is_ok() => (text, step.parse().unwrap_or(2)),
            _ => (text, 2),
        };
        let (word, argument) = text.split_once(':').unwrap_or((text, ""));
        Self {
            word: word.into(),
            argument: argument.into(),
            step,
        }
    }

    fn number(&self) -> Option<u64> {
        self.argument.parse().ok()
    }
}

/// Does it, in the middle of the step of an attempt.
pub(crate) fn commit(
    misdeed: &Misdeed,
    channel: &Channel<ToWorker, FromWorker>,
    video_bytes: usize,
) -> Result<(), EngineError> {
    let say = |message: FromWorker| channel.send(&message, None);
    let attempt = || first_attempt(&misdeed.argument);
    let raw = |bytes: &[u8]| {
        let _ = rustix::net::send(channel, bytes, rustix::net::SendFlags::empty());
    };
    match misdeed.word.as_str() {
        "crash" => {
            eprintln!("last words");
            std::process::abort();
        }
        "die" => die(misdeed.number().unwrap_or(9)),
        "exit" => std::process::exit(misdeed.number().unwrap_or(3) as i32),
        "stop" => {
            let _ = kill_process(getpid(), Signal::STOP);
        }
        "hang" => for_ever(),
        "deaf" => {
            // SIGTERM is taken note of, and nothing follows from it.
            let noted = Arc::new(AtomicBool::new(false));
            let _ = signal_hook::flag::register(signal_hook::consts::SIGTERM, noted);
        }
        "close" => {
            // The process lives on without it.
            let _ = rustix::net::shutdown(channel, rustix::net::Shutdown::Both);
            for_ever();
        }
        "oom" => return Err(fatal(FailureClass::Oom, "CUDA out of memory")),
        "device" => {
            return Err(fatal(
                FailureClass::DeviceFatal,
                "CUDA error: illegal address",
            ));
        }
        "eat" => return Err(eat()),
        "leak" => (0..misdeed.number().unwrap_or(50)).for_each(|_| {
            if let Ok(file) = File::open("/dev/null") {
                std::mem::forget(file);
            }
        }),
        "fork" => fork(),
        "babble" => raw(b"\xff\xff"),
        "oversized" => raw(&vec![0; 70_000]),
        "empty" => raw(b"\xff"),
        "flood" => loop {
            let _ = say(step_of(first_attempt(""), 1, 2));
        },
        "stale" => {
            let _ = say(step_of(first_attempt(""), 1, 2));
        }
        "shout" => shout(misdeed.number().unwrap_or(1)),
        "again" => {
            let _ = say(FromWorker::Started { attempt: attempt() });
        }
        "backwards" => {
            let _ = say(step_of(attempt(), 1, 10));
        }
        "million" => {
            let _ = say(step_of(attempt(), 3, MILLION));
        }
        "hello" => {
            let _ = say(FromWorker::Hello {
                protocol: reel_protocol::VERSION,
                pid: 1,
            });
        }
        "pong" => {
            let _ = say(FromWorker::Pong { nonce: 1 });
        }
        "unsealed" => {
            let file = rustix::fs::memfd_create("x", rustix::fs::MemfdFlags::CLOEXEC);
            let file = File::from(file.map_err(|_| EngineError::soft("no memory"))?);
            let _ = file.set_len(video_bytes as u64);
            let _ = channel.send(&finished(attempt()), Some(file.as_fd()));
        }
        "short" => {
            let pixels = Pixels::new(&vec![0; video_bytes - 1]);
            let pixels = pixels.map_err(|_| EngineError::soft("no memory"))?;
            let _ = channel.send(&finished(attempt()), Some(pixels.as_fd()));
        }
        "naked" => {
            let _ = say(finished(attempt()));
        }
        "ready-made" => {
            let video = Video::new(SMALL_MP4).map_err(|_| EngineError::soft("no memory"))?;
            let _ = channel.send(&finished_video(attempt()), Some(video.as_fd()));
        }
        "open-mp4" => {
            // It could still be written to.
            let pixels = Pixels::new(SMALL_MP4).map_err(|_| EngineError::soft("no memory"))?;
            let _ = channel.send(&finished_video(attempt()), Some(pixels.as_fd()));
        }
        "no-mp4" => {
            let _ = channel.send(&finished_video(attempt()), Some(sealed(NO_MP4)?.as_fd()));
        }
        "finish-again" => {
            let pixels = Pixels::new(&vec![0; video_bytes]);
            let pixels = pixels.map_err(|_| EngineError::soft("no memory"))?;
            let _ = channel.send(&finished(attempt()), Some(pixels.as_fd()));
        }
        _ => {}
    }
    Ok(())
}

/// Ends this process by a signal.
pub(crate) fn die(signal: u64) -> ! {
    let signal = i32::try_from(signal).ok().and_then(Signal::from_named_raw);
    // The standard library's handler of SIGSEGV takes the first one, and then itself away.
    loop {
        let _ = kill_process(getpid(), signal.unwrap_or(Signal::KILL));
    }
}

pub(crate) fn for_ever() -> ! {
    loop {
        std::thread::park();
    }
}

fn fatal(class: FailureClass, message: &str) -> EngineError {
    EngineError {
        class,
        message: message.into(),
    }
}

/// Takes memory until there is no more, or until somebody notices.
fn eat() -> EngineError {
    let food = vec![1_u8; BITE];
    let mut eaten: Vec<Vec<u8>> = Vec::new();
    loop {
        let mut bite = Vec::new();
        if bite.try_reserve_exact(BITE).is_err() {
            return fatal(FailureClass::Oom, "cannot allocate memory");
        }
        bite.extend_from_slice(&food);
        eaten.push(bite);
    }
}

/// A grandchild in a session of its own, whose parent is gone at once.
fn fork() {
    let script = "setsid sleep 1000 < /dev/null > /dev/null 2>&1 &";
    let _ = Command::new("sh").args(["-c", script]).status();
}

/// So many megabytes of output.
fn shout(megabytes: u64) {
    let line = format!("{}\n", "words and words ".repeat(63));
    let mut out = std::io::stdout().lock();
    for _ in 0..megabytes * 1_000_000 / line.len() as u64 {
        if out.write_all(line.as_bytes()).is_err() {
            return;
        }
    }
}

/// Something takes its time.
pub(crate) fn linger() {
    std::thread::sleep(Duration::from_millis(20));
}

fn step_of(attempt: Attempt, step: u32, of: u32) -> FromWorker {
    FromWorker::Step {
        attempt,
        stage: Stage::Denoise,
        step,
        of,
    }
}

fn finished(attempt: Attempt) -> FromWorker {
    FromWorker::Finished {
        attempt,
        output: OutputKind::Frames,
        timings: Timings::default(),
        memory: MemoryUse::default(),
    }
}

fn finished_video(attempt: Attempt) -> FromWorker {
    match finished(attempt) {
        FromWorker::Finished {
            timings, memory, ..
        } => FromWorker::Finished {
            attempt,
            output: OutputKind::Video,
            timings,
            memory,
        },
        other => other,
    }
}

/// A memory file that nobody can change any more.
fn sealed(bytes: &[u8]) -> Result<File, EngineError> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    let soft = |error: &dyn std::fmt::Display| EngineError::soft(error.to_string());
    let mut file = File::from(memfd_create("sealed", flags).map_err(|error| soft(&error))?);
    file.write_all(bytes).map_err(|error| soft(&error))?;
    fcntl_add_seals(&file, seals).map_err(|error| soft(&error))?;
    Ok(file)
}

/// The first attempt at a job; at one that nobody knows if none is named.
fn first_attempt(job: &str) -> Attempt {
    let number = u128::from_str_radix(job.trim_start_matches("video_"), 16).unwrap_or(0);
    Attempt {
        job: number.to_be_bytes(),
        number: 1,
    }
}
