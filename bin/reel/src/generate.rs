//! `reel generate`: one video from a running server, as any client of the API would ask for it.

use anyhow::{Context, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Pause between two looks at a job, unless the server says otherwise.
const POLL: Duration = Duration::from_millis(100);
/// Longest wait for one answer of the server.
const ANSWER_DEADLINE: Duration = Duration::from_secs(60);

#[derive(Debug, Args)]
pub(crate) struct GenerateArgs {
    /// What to show
    prompt: String,
    /// Where the MP4 goes
    #[arg(short, long, default_value = "out.mp4", value_name = "FILE")]
    output: PathBuf,
    /// The server
    #[arg(
        long,
        env = "REEL_BASE_URL",
        default_value = "http://127.0.0.1:8000",
        value_name = "URL"
    )]
    base_url: String,
    /// The model [default: the server's first]
    #[arg(long)]
    model: Option<String>,
    /// Width and height in pixels, like 64x64 [default: the model's]
    #[arg(long, value_name = "WxH")]
    size: Option<String>,
    /// Frames [default: the model's]
    #[arg(long, value_name = "N")]
    num_frames: Option<u32>,
    /// Frames per second [default: the model's]
    #[arg(long)]
    fps: Option<u32>,
    /// Seed of the noise [default: a random one, shown in the answer]
    #[arg(long)]
    seed: Option<u64>,
    /// Denoising steps [default: the model's]
    #[arg(long, value_name = "N")]
    steps: Option<u32>,
    /// Classifier-free guidance [default: the model's]
    #[arg(long)]
    guidance: Option<f32>,
    /// What to steer away from
    #[arg(long, value_name = "TEXT")]
    negative_prompt: Option<String>,
    /// Longest wait for the video, in seconds
    #[arg(long, default_value_t = 3_600, value_name = "SECONDS")]
    timeout: u64,
    /// Keep asking this many seconds while the server starts or bakes the shape
    #[arg(long, default_value_t = 0, value_name = "SECONDS")]
    wait_ready: u64,
}

/// What is needed of the video object.
#[derive(Debug, Deserialize)]
struct Video {
    id: String,
    status: String,
    progress: u64,
    stage: Option<String>,
    error: Option<ApiMessage>,
}

#[derive(Debug, Deserialize)]
struct ApiMessage {
    message: String,
    param: Option<String>,
    code: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Envelope {
    error: ApiMessage,
}

/// The server's way, with its address.
struct Client {
    agent: ureq::Agent,
    base: String,
}

/// Asks, waits with a progress bar, and writes the MP4.
pub(crate) fn run(args: &GenerateArgs) -> anyhow::Result<()> {
    let client = Client::new(&args.base_url);
    let video = client.create_when_ready(&request(args), Duration::from_secs(args.wait_ready))?;
    let video = client.wait(&video, Instant::now() + Duration::from_secs(args.timeout))?;
    if let Some(error) = video.error {
        bail!("{}: {}", video.id, error.message);
    }
    let bytes = client.download(&video.id, &args.output)?;
    writeln!(
        std::io::stdout(),
        "{} ({bytes} bytes, {})",
        args.output.display(),
        video.id
    )?;
    Ok(())
}

fn request(args: &GenerateArgs) -> Value {
    let fields = [
        ("prompt", Some(json!(args.prompt))),
        ("model", args.model.as_ref().map(|value| json!(value))),
        ("size", args.size.as_ref().map(|value| json!(value))),
        ("num_frames", args.num_frames.map(|value| json!(value))),
        ("fps", args.fps.map(|value| json!(value))),
        ("seed", args.seed.map(|value| json!(value))),
        ("num_inference_steps", args.steps.map(|value| json!(value))),
        ("guidance_scale", args.guidance.map(|value| json!(value))),
        (
            "negative_prompt",
            args.negative_prompt.as_ref().map(|value| json!(value)),
        ),
    ];
    let given = fields
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Value::Object(given.collect::<Map<_, _>>())
}

impl Client {
    fn new(base: &str) -> Self {
        // An error status carries a message that is worth reading.
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(ANSWER_DEADLINE))
            .build();
        Self {
            agent: config.into(),
            base: base.trim_end_matches('/').to_owned(),
        }
    }

    /// Creates the job; while the server is not there or the shape not baked, tries again until `patience` is over.
    fn create_when_ready(&self, request: &Value, patience: Duration) -> anyhow::Result<Video> {
        let deadline = Instant::now() + patience;
        let bar = ProgressBar::new_spinner().with_message("waiting for the server");
        loop {
            let outcome = self.create(request)?;
            match outcome {
                Created::Accepted(video) => {
                    bar.finish_and_clear();
                    return Ok(video);
                }
                Created::NotYet(why) if Instant::now() >= deadline => bail!(why),
                Created::NotYet(why) => {
                    bar.set_message(why);
                    bar.tick();
                    std::thread::sleep(POLL);
                }
            }
        }
    }

    fn create(&self, request: &Value) -> anyhow::Result<Created> {
        let sent = self
            .agent
            .post(format!("{}/v1/videos", self.base))
            .send_json(request);
        let mut response = match sent {
            Ok(response) => response,
            Err(error) => {
                let why = format!(
                    "no server at {} ({error}); start one with `reel serve`",
                    self.base
                );
                return Ok(Created::NotYet(why));
            }
        };
        match response.status().as_u16() {
            200..=299 => Ok(Created::Accepted(response.body_mut().read_json()?)),
            503 => not_yet(&mut response),
            _ => Err(explain(&mut response)),
        }
    }

    fn wait(&self, video: &Video, deadline: Instant) -> anyhow::Result<Video> {
        let style = ProgressStyle::with_template("{msg:>12} [{bar:40}] {percent:>3} %  {elapsed}")?;
        let bar = ProgressBar::new(100).with_style(style.progress_chars("=> "));
        loop {
            let video = self.get(&video.id)?;
            bar.set_position(video.progress);
            bar.set_message(video.stage.clone().unwrap_or_else(|| video.status.clone()));
            match video.status.as_str() {
                "completed" | "failed" => {
                    bar.finish_and_clear();
                    return Ok(video);
                }
                _ if Instant::now() >= deadline => {
                    bail!(
                        "{} is not finished in time; it goes on at the server",
                        video.id
                    )
                }
                _ => std::thread::sleep(POLL),
            }
        }
    }

    fn get(&self, id: &str) -> anyhow::Result<Video> {
        let mut response = self
            .agent
            .get(format!("{}/v1/videos/{id}", self.base))
            .call()?;
        match response.status().is_success() {
            true => Ok(response.body_mut().read_json()?),
            false => Err(explain(&mut response)),
        }
    }

    fn download(&self, id: &str, output: &Path) -> anyhow::Result<u64> {
        let mut response = self
            .agent
            .get(format!("{}/v1/videos/{id}/content", self.base))
            .call()?;
        if !response.status().is_success() {
            return Err(explain(&mut response));
        }
        let mut file = std::fs::File::create(output)
            .with_context(|| format!("cannot write {}", output.display()))?;
        Ok(std::io::copy(
            &mut response.body_mut().as_reader(),
            &mut file,
        )?)
    }
}

/// What became of a create.
enum Created {
    Accepted(Video),
    /// It may work later; why not now.
    NotYet(String),
}

/// Whether waiting helps: a bundle that could not be baked will not come.
fn not_yet(response: &mut ureq::http::Response<ureq::Body>) -> anyhow::Result<Created> {
    let Envelope { error } = response.body_mut().read_json()?;
    match error.code.as_deref() {
        Some("bundle_failed" | "draining") => bail!(error.message),
        _ => Ok(Created::NotYet(error.message)),
    }
}

/// The server's own words, with the field that they are about.
fn explain(response: &mut ureq::http::Response<ureq::Body>) -> anyhow::Error {
    let status = response.status();
    match response.body_mut().read_json::<Envelope>() {
        Ok(Envelope {
            error:
                ApiMessage {
                    message,
                    param: Some(param),
                    ..
                },
        }) => anyhow::anyhow!("{param}: {message}"),
        Ok(Envelope { error }) => anyhow::anyhow!("{}", error.message),
        Err(_) => anyhow::anyhow!("the server answered {status}"),
    }
}
