//! `reel jobs`: the jobs of a running server.

use super::api::Api;
use super::download::{Downloaded, Wanted, download};
use super::failure::Failure;
use super::interrupts::Interrupts;
use super::progress::{left, message};
use super::video::Video;
use super::{EXIT_CODES, ServerArgs};
use crate::output::{new_table, say};
use clap::{Args, Subcommand};
use comfy_table::{CellAlignment, Table};
use console::Term;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Most jobs of one page, as the server has it.
const PAGE_JOBS_MAX: usize = 100;
/// Most pages that are searched for jobs of one status.
const PAGES_MAX: usize = 100;
/// Time between two looks of `--watch`.
const WATCH_PAUSE: Duration = Duration::from_secs(1);

/// Lists a server's jobs, the newest first, or does something with one of them.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, after_help = EXIT_CODES)]
pub(crate) struct JobsArgs {
    #[command(subcommand)]
    command: Option<JobsCommand>,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Debug, Args)]
struct ListArgs {
    /// Draw the table again every second, until Ctrl-C
    #[arg(long, conflicts_with = "json")]
    watch: bool,
    /// How many jobs at most
    #[arg(long, default_value_t = 20, value_name = "N")]
    limit: usize,
    /// Only jobs of this status, like queued, in_progress, completed, failed or cancelled
    #[arg(long, value_name = "STATUS")]
    status: Option<String>,
    /// The server's video objects as JSON, one a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, Subcommand)]
enum JobsCommand {
    /// Everything that the server says about a job
    Show {
        #[command(flatten)]
        job: JobArgs,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Ask for a job to be cancelled
    Cancel {
        #[command(flatten)]
        job: JobArgs,
    },
    /// Remove a job with its video; cancels it first if it is not over
    Delete {
        #[command(flatten)]
        job: JobArgs,
    },
    /// Fetch a job's video, or what else there is of it
    Download {
        #[command(flatten)]
        job: JobArgs,
        /// Where it goes [default: named after the job, here]
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
        /// What to fetch, like thumbnail [default: the video]
        #[arg(long, value_name = "NAME")]
        variant: Option<String>,
    },
}

#[derive(Debug, Args)]
struct JobArgs {
    /// The job, like video_0123…
    #[arg(value_parser = job_id)]
    id: String,
    #[command(flatten)]
    server: ServerArgs,
}

/// What is put into an address must not change its path.
fn job_id(text: &str) -> Result<String, String> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    match !text.is_empty() && text.bytes().all(good) {
        true => Ok(text.to_owned()),
        false => Err("a job's id is made of letters, digits and `_`".into()),
    }
}

pub(crate) fn run_command(args: &JobsArgs) -> anyhow::Result<()> {
    match &args.command {
        None if args.list.watch => watch(&args.list),
        None => list(&args.list),
        Some(JobsCommand::Show { job, json }) => {
            let (video, _) = Api::open(&job.server)?.get(&job.id)?;
            Ok(show(&video, *json)?)
        }
        Some(JobsCommand::Cancel { job }) => {
            let api = Api::open(&job.server)?;
            match api.cancel(&job.id) {
                Err(Failure::Refused(refusal)) if refusal.has_no_route() => {
                    let text = "this server cancels jobs only by deleting them";
                    let help = format!("help: `reel jobs delete {}`", job.id);
                    Err(Failure::Usage(format!("{text}\n{help}")).into())
                }
                cancelled => Ok(say(format!("{}: {}", job.id, cancelled?.state()))?),
            }
        }
        Some(JobsCommand::Delete { job }) => {
            Api::open(&job.server)?.delete(&job.id)?;
            Ok(say(format!("{}: deleted", job.id))?)
        }
        Some(JobsCommand::Download {
            job,
            output,
            variant,
        }) => {
            let api = Api::open(&job.server)?;
            let wanted = Wanted {
                id: &job.id,
                variant: variant.as_deref(),
                output: output.as_deref(),
            };
            let interrupts = Interrupts::listen(|| {})?;
            let Downloaded { path, bytes } = download(&api, wanted, &interrupts, |_, _| {})?;
            Ok(say(format!("{} ({bytes} bytes)", path.display()))?)
        }
    }
}

fn list(args: &ListArgs) -> anyhow::Result<()> {
    let videos = fetch(&Api::open(&args.server)?, args)?;
    match args.json {
        true => videos.iter().try_for_each(|video| say(&video.raw))?,
        false if videos.is_empty() => say("no jobs")?,
        false => say(table(&videos))?,
    }
    Ok(())
}

/// Ends with Ctrl-C. A server that is away for a while comes back.
fn watch(args: &ListArgs) -> anyhow::Result<()> {
    let (api, term) = (Api::open(&args.server)?, Term::stdout());
    loop {
        let text = match fetch(&api, args) {
            Ok(videos) if videos.is_empty() => "no jobs".into(),
            Ok(videos) => table(&videos).to_string(),
            Err(failure @ Failure::Unreachable { .. }) if term.is_term() => {
                format!("{failure}\ntrying again")
            }
            Err(failure) => return Err(failure.into()),
        };
        if term.is_term() {
            term.clear_screen()?;
            say(format!("{}, Ctrl-C ends\n{text}", api.server()))?;
        } else {
            say(text)?;
        }
        std::thread::sleep(WATCH_PAUSE);
    }
}

/// As many jobs as wanted. The server knows no filter: pages are searched here.
fn fetch(api: &Api, args: &ListArgs) -> Result<Vec<Video>, Failure> {
    let wanted = |video: &Video| match args.status.as_deref() {
        Some(status) => video.fields.status == status || video.state() == status,
        None => true,
    };
    let page_jobs = match &args.status {
        Some(_) => PAGE_JOBS_MAX,
        None => args.limit.clamp(1, PAGE_JOBS_MAX),
    };
    let (mut found, mut after) = (Vec::new(), None::<String>);
    for _ in 0..PAGES_MAX {
        let page = api.list(after.as_deref(), page_jobs)?;
        after = page.videos.last().map(|video| video.id().to_owned());
        found.extend(page.videos.into_iter().filter(wanted));
        if found.len() >= args.limit || !page.has_more || after.is_none() {
            break;
        }
    }
    found.truncate(args.limit);
    Ok(found)
}

fn table(videos: &[Video]) -> Table {
    let mut table = new_table(&[
        "job",
        "status",
        "stage",
        "step",
        "done",
        "before it",
        "left",
        "model",
        "size",
        "created",
    ]);
    for column in [1, 2, 7] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Left);
        }
    }
    let now = SystemTime::now();
    for video in videos {
        let fields = &video.fields;
        let going = !video.is_over();
        table.add_row([
            fields.id.clone(),
            video.state().to_owned(),
            fields.stage.clone().unwrap_or_default(),
            video.step().unwrap_or_default(),
            fields
                .progress
                .map_or_else(String::new, |percent| format!("{percent:.0} %")),
            fields
                .queue_position
                .map_or_else(String::new, |before| before.to_string()),
            video.eta().filter(|_| going).map_or_else(String::new, left),
            fields.model.clone().unwrap_or_default(),
            fields.size.clone().unwrap_or_default(),
            fields
                .created_at
                .map_or_else(String::new, |at| ago(at, now)),
        ]);
    }
    table
}

/// How long ago, in the largest unit that fits.
fn ago(at_s: u64, now: SystemTime) -> String {
    let now_s = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    match now_s.saturating_sub(at_s) {
        age @ 0..120 => format!("{age} s ago"),
        age @ 120..7_200 => format!("{} min ago", age / 60),
        age @ 7_200..172_800 => format!("{} h ago", age / 3_600),
        age => format!("{} d ago", age / 86_400),
    }
}

/// Every field that has a value, as the server calls it.
fn show(video: &Video, json: bool) -> std::io::Result<()> {
    if json {
        return say(&video.raw);
    }
    let Value::Object(fields) = &video.raw else {
        return say(&video.raw);
    };
    let summary = match video.is_over() {
        true => video.state().to_owned(),
        false => message(video),
    };
    say(format!("{}: {summary}", video.id()))?;
    let given = fields
        .iter()
        .filter(|(name, value)| !value.is_null() && !["id", "object"].contains(&name.as_str()));
    for (name, value) in given {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Number(at) if name.ends_with("_at") => moment(at.as_u64()),
            other => other.to_string(),
        };
        say(format!("  {name:<22} {text}"))?;
    }
    Ok(())
}

fn moment(at_s: Option<u64>) -> String {
    let at = at_s.and_then(|at_s| UNIX_EPOCH.checked_add(Duration::from_secs(at_s)));
    match at.filter(|_| at_s < Some(LAST_S)) {
        Some(at) => humantime::format_rfc3339_seconds(at).to_string(),
        None => json!(at_s).to_string(),
    }
}

/// The end of what four digits of a year can say.
const LAST_S: u64 = 253_402_300_800;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_cannot_change_the_path() {
        assert!(job_id("video_0123abc").is_ok());
        for bad in ["", "a/b", "..", "a?b", "ä"] {
            assert!(job_id(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_age_has_one_unit() {
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000);
        let aged = |age: u64| ago(1_000_000 - age, now);
        assert_eq!(aged(5), "5 s ago");
        assert_eq!(aged(600), "10 min ago");
        assert_eq!(aged(7_300), "2 h ago");
        assert_eq!(aged(900_000), "10 d ago");
        assert_eq!(ago(2_000_000, now), "0 s ago");
    }

    #[test]
    fn a_table_has_a_row_for_whatever_little_is_known() {
        let video = json!({"id": "video_1", "status": "queued"});
        let text = table(&[Video::read(video).unwrap()]).to_string();
        assert!(
            text.contains("video_1") && text.contains("queued"),
            "{text}"
        );
    }
}
