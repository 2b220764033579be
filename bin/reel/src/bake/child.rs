//! One bake as a child process.

use super::events::Event;
use super::{BakeError, Options, Progress};
use reel_bundle::Model;
use reel_domain::Shape;
use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;

/// Lines of stderr that are kept for a message.
const TAIL_LINES: usize = 30;
/// What nice(2) is told for a bake in the background.
const NICE: &str = "10";

/// Runs a bake to its end; returns the bundle's directory.
pub(super) fn bake(
    options: &Options,
    model: &Model,
    shape: Shape,
    show: &mut dyn FnMut(&Progress),
) -> Result<PathBuf, BakeError> {
    let mut child = start(options, model, shape)?;
    let lost = |source| BakeError::Lost { shape, source };
    // Both are piped, so both are there.
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let tail = thread::spawn(move || stderr.map(keep_tail).unwrap_or_default());
    let last = stdout.map_or(Ok(None), |stdout| listen(stdout, show));
    let status = end(&mut child, last.is_err()).map_err(lost)?;
    let tail = tail.join().unwrap_or_default();
    match last.map_err(lost)? {
        Some(Event::Done { path }) if status.success() => Ok(path),
        Some(Event::Error {
            component,
            message,
            fix,
        }) => Err(BakeError::Refused {
            shape,
            component,
            message,
            fix,
        }),
        _ => Err(BakeError::Died {
            shape,
            status,
            tail,
        }),
    }
}

fn start(options: &Options, model: &Model, shape: Shape) -> Result<Child, BakeError> {
    let python = options.python();
    let mut command = Command::new(python);
    command.args([
        "-W",
        "ignore",
        "-m",
        "reel_bake",
        "--die-with",
        &std::process::id().to_string(),
    ]);
    command
        .arg("--model")
        .arg(&model.dir)
        .arg("--cache")
        .arg(options.cache.root());
    command.args(["--shape", &shape.to_string()]);
    command.args([
        "--device",
        options.device().as_str(),
        "--dtype",
        options.dtype().as_str(),
    ]);
    if let Some(jobs) = options.jobs {
        command.args(["--jobs", &jobs.to_string()]);
    }
    if options.background {
        command.args(["--nice", NICE]);
    }
    command.env("PYTHONPATH", Options::packages());
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command.spawn().map_err(|source| BakeError::Start {
        python: python.into(),
        source,
    })
}

/// Follows the events until the stream ends; returns the one that decides the outcome.
fn listen(stdout: impl Read, show: &mut dyn FnMut(&Progress)) -> io::Result<Option<Event>> {
    let (mut progress, mut last) = (Progress::default(), None);
    for line in BufReader::new(stdout).lines() {
        // Kinds of events that a later version adds are not for us.
        let Ok(event) = serde_json::from_str::<Event>(&line?) else {
            continue;
        };
        progress.note(&event);
        show(&progress);
        if matches!(event, Event::Done { .. } | Event::Error { .. }) {
            last = Some(event);
        }
    }
    Ok(last)
}

fn end(child: &mut Child, kill: bool) -> io::Result<std::process::ExitStatus> {
    if kill {
        child.kill()?;
    }
    child.wait()
}

/// Reads to the end and keeps the last lines.
fn keep_tail(stderr: impl Read) -> String {
    let mut tail = VecDeque::new();
    for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
        if tail.len() == TAIL_LINES {
            tail.pop_front();
        }
        tail.push_back(String::from_utf8_lossy(&line).into_owned());
    }
    Vec::from(tail).join("\n")
}
