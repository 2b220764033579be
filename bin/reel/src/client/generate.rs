//! `reel generate`: videos from a running server, as any client of the API would ask for them.
//!
//! Each video has a thread that asks, follows and downloads. They tell the main thread what happens; it draws the
//! bars, and asks the server to cancel when somebody presses Ctrl-C.

use super::api::{Api, CreateRequest, Image};
use super::create::{Patience, create};
use super::download::{Downloaded, Wanted, download};
use super::failure::Failure;
use super::follow::Follower;
use super::interrupts::Interrupts;
use super::progress::Bars;
use super::video::Video;
use super::{GENERATE_HELP, ServerArgs, cancel};
use crate::output::say;
use clap::Args;
use reel_domain::{Mode, Priority};
use serde_json::{Map, Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

/// Most videos of one call.
const COUNT_MAX: i64 = 100;
/// How long a server that does not answer is asked again, unless somebody says so: a restart takes that long.
const AWAY_PATIENCE: Duration = Duration::from_secs(5);
/// How long a server that is busy is asked again, unless somebody says so.
const BUSY_PATIENCE: Duration = Duration::from_secs(30);
/// Largest image that is sent; the server takes less.
const IMAGE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Asks a running server for videos, shows how they come along, and downloads them.
#[derive(Debug, Args)]
#[command(after_help = GENERATE_HELP)]
pub(crate) struct GenerateArgs {
    /// What to show
    prompt: String,
    /// Where the MP4 goes; several are numbered, like out-1.mp4
    #[arg(short, long, default_value = "out.mp4", value_name = "FILE")]
    output: PathBuf,
    #[command(flatten)]
    server: ServerArgs,
    /// The model [default: the server's first]
    #[arg(long)]
    model: Option<String>,
    /// Width and height in pixels, like 64x64 [default: the model's]
    #[arg(long, value_name = "WxH")]
    size: Option<String>,
    /// How long it lasts [default: the model's]
    #[arg(long, value_name = "S", conflicts_with = "frames")]
    seconds: Option<f64>,
    /// Frames [default: the model's]
    #[arg(long, alias = "num-frames", value_name = "N")]
    frames: Option<u32>,
    /// Frames per second [default: the model's]
    #[arg(long, value_name = "N")]
    fps: Option<u32>,
    /// Seed of the noise; several videos count up from it [default: random ones, shown in the answer]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Denoising steps [default: the model's]
    #[arg(long, value_name = "N")]
    steps: Option<u32>,
    /// Classifier-free guidance [default: the model's]
    #[arg(long, value_name = "X")]
    guidance: Option<f32>,
    /// What to steer away from
    #[arg(long, value_name = "TEXT")]
    negative_prompt: Option<String>,
    /// The image to start from: PNG, JPEG or WebP
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,
    /// t2v or i2v, to be sure of it [default: i2v with --image, else t2v]
    #[arg(long)]
    mode: Option<Mode>,
    /// How urgent it is: interactive or batch [default: interactive]
    #[arg(long, value_name = "CLASS")]
    priority: Option<Priority>,
    /// How many videos
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=COUNT_MAX))]
    count: u32,
    /// Print the id of each job and leave it to the server
    #[arg(long)]
    no_wait: bool,
    /// Print the server's video objects as JSON, one a line, with `file` and `bytes` added
    #[arg(long)]
    json: bool,
    /// Longest wait for a video, in seconds
    #[arg(long, default_value_t = 3_600, value_name = "SECONDS")]
    timeout: u64,
    /// Keep asking this many seconds while the server starts, is busy or bakes the shape [default: 30, but 5 while nobody answers]
    #[arg(long, value_name = "SECONDS")]
    wait_ready: Option<u64>,
}

impl GenerateArgs {
    fn patience(&self) -> Patience {
        let given = self.wait_ready.map(Duration::from_secs);
        Patience {
            away: given.unwrap_or(AWAY_PATIENCE),
            busy: given.unwrap_or(BUSY_PATIENCE),
        }
    }
}

/// One of the videos.
#[derive(Debug)]
struct Task {
    request: CreateRequest,
    output: PathBuf,
}

/// What a video's thread says to the main one, after the video's number.
enum News {
    /// Why there is no job yet.
    Waits(String),
    /// There is a job.
    Created(String),
    Progress(Box<Video>),
    Downloading(u64, Option<u64>),
    Ended(Box<Result<Produced, Failure>>),
}

enum Event {
    News(usize, News),
    Interrupted,
}

/// A job, and its file if it was fetched.
struct Produced {
    video: Video,
    file: Option<Downloaded>,
}

/// What all threads share.
struct Producer<'a> {
    args: &'a GenerateArgs,
    api: &'a Api,
    interrupts: &'a Interrupts,
}

/// Asks, waits with progress bars, and writes the MP4s.
pub(crate) fn run(args: &GenerateArgs) -> anyhow::Result<()> {
    let tasks = tasks(args)?;
    let api = Api::open(&args.server)?;
    let (sender, events) = channel();
    let interrupted = sender.clone();
    let interrupts = Interrupts::listen(move || {
        // Nobody hears it when everything is over: all the better.
        let _ = interrupted.send(Event::Interrupted);
    })?;
    let producer = Producer {
        args,
        api: &api,
        interrupts: &interrupts,
    };
    let results = std::thread::scope(|scope| {
        for (number, task) in tasks.iter().enumerate() {
            let (sender, producer) = (sender.clone(), &producer);
            scope.spawn(move || {
                let reporter = Reporter { number, sender };
                let result = producer.produce(task, &reporter);
                reporter.send(News::Ended(Box::new(result)));
            });
        }
        watch(&api, &tasks, bars(args, &tasks), &events)
    });
    report(args, &tasks, results)
}

/// Everything that can be wrong with the arguments is said before anything is asked for.
fn tasks(args: &GenerateArgs) -> Result<Vec<Task>, Failure> {
    check_mode(args)?;
    let image = args.image.as_deref().map(image).transpose()?;
    let tasks = (0..args.count).map(|number| {
        let output = match args.count {
            1 => args.output.clone(),
            _ => numbered(&args.output, number + 1),
        };
        if !args.no_wait {
            check_output(&output)?;
        }
        let seed = args.seed.map(|seed| seed.saturating_add(number.into()));
        Ok(Task {
            request: CreateRequest {
                fields: fields(args, seed),
                image: image.clone(),
            },
            output,
        })
    });
    tasks.collect()
}

fn fields(args: &GenerateArgs, seed: Option<u64>) -> Map<String, Value> {
    let fields = [
        ("prompt", Some(json!(args.prompt))),
        ("model", args.model.as_ref().map(|value| json!(value))),
        ("size", args.size.as_ref().map(|value| json!(value))),
        ("seconds", args.seconds.map(|value| json!(value))),
        ("num_frames", args.frames.map(|value| json!(value))),
        ("fps", args.fps.map(|value| json!(value))),
        ("seed", seed.map(|value| json!(value))),
        ("num_inference_steps", args.steps.map(|value| json!(value))),
        // By its text: the next number of 64 bits is not what was typed.
        (
            "guidance_scale",
            args.guidance
                .and_then(|value| serde_json::from_str(&value.to_string()).ok()),
        ),
        (
            "negative_prompt",
            args.negative_prompt.as_ref().map(|value| json!(value)),
        ),
        ("priority", args.priority.map(|value| json!(value.as_str()))),
    ];
    let given = fields
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)));
    given.collect()
}

/// The API tells modes by what comes with the prompt: there is nothing to send.
fn check_mode(args: &GenerateArgs) -> Result<(), Failure> {
    let wrong = match (args.mode, &args.image) {
        (None, _) | (Some(Mode::T2v), None) | (Some(Mode::I2v), Some(_)) => return Ok(()),
        (Some(Mode::T2v), Some(_)) => "--mode t2v begins with text alone: leave out --image",
        (Some(Mode::I2v), None) => "--mode i2v begins with an image: add --image FILE",
        (Some(Mode::Extend), _) => "--mode extend is not offered here: use t2v or i2v",
    };
    Err(Failure::Usage(wrong.into()))
}

fn image(path: &Path) -> Result<Image, Failure> {
    let wrong = |reason: String| {
        Failure::Usage(format!(
            "cannot read the image {}: {reason}",
            path.display()
        ))
    };
    let bytes = fs::metadata(path)
        .map_err(|error| wrong(error.to_string()))?
        .len();
    if bytes > IMAGE_BYTES_MAX {
        return Err(wrong(format!("{bytes} bytes are too many")));
    }
    let name = path.file_name().unwrap_or(path.as_os_str());
    Ok(Image {
        name: name.to_string_lossy().into_owned(),
        bytes: fs::read(path).map_err(|error| wrong(error.to_string()))?,
    })
}

/// `out.mp4`, the second: `out-2.mp4`.
fn numbered(output: &Path, number: u32) -> PathBuf {
    let mut name = output.file_stem().unwrap_or_default().to_owned();
    name.push(format!("-{number}"));
    if let Some(extension) = output.extension() {
        name.push(".");
        name.push(extension);
    }
    output.with_file_name(name)
}

/// Better said now than after the video was made.
fn check_output(output: &Path) -> Result<(), Failure> {
    let directory = output
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let reason = match () {
        () if output.is_dir() => "is a directory: name a file",
        () if output.file_name().is_none() => "is no file's name",
        () if !directory.is_dir() => "lies in a directory that is not there",
        () => return Ok(()),
    };
    Err(Failure::Usage(format!("{} {reason}", output.display())))
}

/// Tells the main thread about one video.
struct Reporter {
    number: usize,
    sender: Sender<Event>,
}

impl Reporter {
    fn send(&self, news: News) {
        // The main thread listens until the last video has ended.
        let _ = self.sender.send(Event::News(self.number, news));
    }
}

impl Producer<'_> {
    fn produce(&self, task: &Task, reporter: &Reporter) -> Result<Produced, Failure> {
        let patience = self.args.patience();
        let notice = |failure: &Failure| reporter.send(News::Waits(first_line(failure)));
        let video = create(self.api, &task.request, patience, self.interrupts, notice)?;
        reporter.send(News::Created(video.id().to_owned()));
        if self.interrupts.since().is_some() {
            // The main thread may not have known of it yet. Whether it helps is seen at the job itself.
            let _ = cancel(self.api, video.id());
        }
        if self.args.no_wait {
            return Ok(Produced { video, file: None });
        }
        let video = self.finish(video, reporter)?;
        let file = self.fetch(&video, task, reporter)?;
        Ok(Produced {
            video,
            file: Some(file),
        })
    }

    fn finish(&self, video: Video, reporter: &Reporter) -> Result<Video, Failure> {
        let follower = Follower {
            api: self.api,
            interrupts: self.interrupts,
            patience: Duration::from_secs(self.args.timeout),
        };
        let on_update = |video: &Video| reporter.send(News::Progress(Box::new(video.clone())));
        let video = follower.follow(video.id(), on_update)?;
        let id = video.id().to_owned();
        match video.is_completed() {
            true => Ok(video),
            false if video.was_cancelled() => Err(Failure::Cancelled { id }),
            false => Err(Failure::Failed {
                id,
                message: video.reason(),
            }),
        }
    }

    fn fetch(
        &self,
        video: &Video,
        task: &Task,
        reporter: &Reporter,
    ) -> Result<Downloaded, Failure> {
        let wanted = Wanted {
            id: video.id(),
            variant: None,
            output: Some(&task.output),
        };
        download(self.api, wanted, self.interrupts, |bytes, of| {
            reporter.send(News::Downloading(bytes, of));
        })
    }
}

fn first_line(failure: &Failure) -> String {
    let text = failure.to_string();
    text.lines().next().unwrap_or_default().to_owned()
}

fn bars(args: &GenerateArgs, tasks: &[Task]) -> Bars {
    match (args.json || args.no_wait, tasks) {
        (true, _) => Bars::none(),
        (false, [_]) => Bars::new([String::new()].into_iter()),
        (false, tasks) => Bars::new(
            tasks
                .iter()
                .map(|task| format!("{} ", task.output.display())),
        ),
    }
}

/// Draws until every video has ended, in whatever way.
fn watch(
    api: &Api,
    tasks: &[Task],
    bars: Bars,
    events: &Receiver<Event>,
) -> Vec<Result<Produced, Failure>> {
    let mut ids: Vec<Option<String>> = vec![None; tasks.len()];
    let mut results: Vec<Option<_>> = tasks.iter().map(|_| None).collect();
    while results.iter().any(Option::is_none) {
        let Ok(event) = events.recv() else {
            break;
        };
        match event {
            Event::Interrupted => {
                bars.note("cancelling; Ctrl-C again leaves without waiting for it");
                for id in ids.iter().flatten() {
                    if let Err(failure) = cancel(api, id) {
                        bars.note(&format!("{id} cannot be cancelled: {failure}"));
                    }
                }
            }
            Event::News(number, News::Waits(why)) => bars.say(number, why),
            Event::News(number, News::Created(id)) => ids[number] = Some(id),
            Event::News(number, News::Progress(video)) => bars.update(number, &video),
            Event::News(number, News::Downloading(bytes, of)) => bars.download(number, bytes, of),
            Event::News(number, News::Ended(result)) => {
                bars.end(number);
                ids[number] = None;
                results[number] = Some(*result);
            }
        }
    }
    results.into_iter().flatten().collect()
}

/// What came of it, in order: files on standard output, what went wrong on the other.
fn report(
    args: &GenerateArgs,
    tasks: &[Task],
    results: Vec<Result<Produced, Failure>>,
) -> anyhow::Result<()> {
    let mut failures = Vec::new();
    for (result, task) in results.into_iter().zip(tasks) {
        match result {
            Ok(produced) => tell(args, produced)?,
            Err(failure) => failures.push((failure, task)),
        }
    }
    match (failures.pop(), tasks) {
        (None, _) => Ok(()),
        (Some((failure, _)), [_]) => Err(failure.into()),
        (Some(last), _) => {
            failures.push(last);
            for (failure, task) in &failures {
                eprintln!("error: {}: {failure}", task.output.display());
            }
            let exit = failures.iter().map(|(failure, _)| failure.exit()).max();
            Err(Failure::Several {
                failed: failures.len(),
                of: tasks.len(),
                exit: exit.unwrap_or_default(),
            }
            .into())
        }
    }
}

fn tell(args: &GenerateArgs, produced: Produced) -> std::io::Result<()> {
    let Produced { video, file } = produced;
    if args.json {
        let mut object = video.raw;
        if let Some(file) = file {
            object["file"] = json!(file.path);
            object["bytes"] = json!(file.bytes);
        }
        return say(object);
    }
    match file {
        Some(Downloaded { path, bytes }) => say(format!(
            "{} ({bytes} bytes, {})",
            path.display(),
            video.id()
        )),
        None => say(video.id()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: GenerateArgs,
    }

    fn parse(arguments: &[&str]) -> GenerateArgs {
        let arguments = ["generate", "a prompt"].iter().chain(arguments);
        Cli::parse_from(arguments).args
    }

    #[test]
    fn only_what_was_said_is_sent() {
        let only = fields(&parse(&[]), None);
        assert_eq!(Value::from(only), json!({"prompt": "a prompt"}));
        let all = parse(&[
            "--model=m",
            "--size=64x64",
            "--seconds=2",
            "--fps=8",
            "--steps=4",
            "--guidance=3.1",
            "--negative-prompt=x",
            "--priority=batch",
        ]);
        let expected = json!({
            "prompt": "a prompt", "model": "m", "size": "64x64", "seconds": 2.0, "fps": 8,
            "num_inference_steps": 4, "guidance_scale": 3.1, "negative_prompt": "x", "priority": "batch",
            "seed": 9,
        });
        assert_eq!(Value::from(fields(&all, Some(9))), expected);
    }

    #[test]
    fn several_videos_have_their_own_seeds_and_names() {
        let tasks = tasks(&parse(&["--count=3", "--seed=7", "-o", "a.b.mp4"])).unwrap();
        let named: Vec<_> = tasks
            .iter()
            .map(|task| (task.output.to_str().unwrap(), &task.request.fields["seed"]))
            .collect();
        assert_eq!(
            named,
            [
                ("a.b-1.mp4", &json!(7)),
                ("a.b-2.mp4", &json!(8)),
                ("a.b-3.mp4", &json!(9))
            ]
        );
    }

    #[test]
    fn what_cannot_be_is_said_before_anything_is_asked_for() {
        for (arguments, part) in [
            (&["--mode=i2v"][..], "--image"),
            (&["--mode=extend"], "t2v or i2v"),
            (&["-o", "/"], "directory"),
            (&["-o", "/nowhere/out.mp4"], "not there"),
            (&["--image=/nowhere.png"], "/nowhere.png"),
        ] {
            let failure = tasks(&parse(arguments)).unwrap_err();
            assert_eq!(failure.exit(), 2);
            assert!(failure.to_string().contains(part), "{failure}");
        }
    }
}
