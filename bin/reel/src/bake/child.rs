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

#[cfg(test)]
mod tests {
    use super::super::{BakeError, Options, bake_shape};
    use reel_bundle::{Cache, Digest, Menu, Model, Requirements};
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;
    use std::sync::Mutex;

    /// A script cannot be started while a child that another test is starting still has it open for writing.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

    const MENU: &str = r#"
        name = "tiny"
        pipeline = "LTXConditionPipeline"
        description = "small"
        shapes = ["64x64@17f"]
        modes = ["t2v"]
        max_batch = 8
        text_tokens = 32
        [defaults]
        shape = "64x64@17f"
        fps = 8
        num_inference_steps = 20
        guidance_scale = 3.0
        negative_prompt = ""
    "#;

    /// Bakes with a script in Python's place; returns what was shown and what went wrong.
    fn bake_with(dir: &Path, script: &str) -> (Vec<String>, BakeError) {
        let _alone = ONE_AT_A_TIME.lock();
        fs::write(dir.join("model.toml"), MENU).unwrap();
        let menu = Menu::load(dir).unwrap();
        let shape = menu.shapes[0];
        let model = Model {
            dir: dir.into(),
            menu,
            digest: Digest::of(b"model"),
        };
        let python = dir.join("python");
        fs::write(&python, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&python, Permissions::from_mode(0o755)).unwrap();
        let options = Options {
            cache: Cache::new(dir.join("cache")),
            python: Some(python),
            needs: Requirements::cpu(),
            jobs: None,
            background: false,
        };
        let mut shown = Vec::new();
        let error = bake_shape(&options, &model, shape, &mut |progress| {
            shown.push(progress.now());
        });
        (shown, error.unwrap_err())
    }

    #[test]
    fn an_error_names_shape_component_and_fix() {
        let dir = tempfile::tempdir().unwrap();
        let event =
            r#"{"event": "error", "component": "transformer", "message": "no", "fix": "do it"}"#;
        let (_, error) = bake_with(dir.path(), &format!("echo '{event}'; exit 1"));
        assert_eq!(error.to_string(), "64x64@17f, transformer: no; do it");
    }

    #[test]
    fn a_bake_that_dies_leaves_its_last_words() {
        let dir = tempfile::tempdir().unwrap();
        let (_, error) = bake_with(dir.path(), "seq 100 >&2; exit 3");
        let message = error.to_string();
        assert!(
            message.contains("exit status: 3") && message.ends_with("\n99\n100"),
            "{message}"
        );
        assert!(!message.contains("\n70\n"), "{message}");
    }

    #[test]
    fn a_bake_that_says_done_and_fails_is_not_done() {
        let dir = tempfile::tempdir().unwrap();
        let (_, error) = bake_with(
            dir.path(),
            r#"echo '{"event": "done", "path": "/tmp"}'; exit 1"#,
        );
        assert!(matches!(error, BakeError::Died { .. }), "{error}");
    }

    #[test]
    fn what_was_published_is_checked() {
        let dir = tempfile::tempdir().unwrap();
        let (_, error) = bake_with(dir.path(), r#"echo '{"event": "done", "path": "/tmp"}'"#);
        assert!(matches!(error, BakeError::Published { .. }), "{error}");
    }

    #[test]
    fn progress_is_shown_and_unknown_events_are_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let script = r#"
            echo '{"event": "start", "components": ["transformer"]}'
            echo '{"event": "weather", "sun": true}'
            echo 'not an event'
            echo '{"event": "component", "component": "transformer", "stage": "compiling", "fraction": 0.1}'
            exit 1
        "#;
        let (shown, _) = bake_with(dir.path(), script);
        assert_eq!(shown, ["", "compiling transformer"]);
    }
}
