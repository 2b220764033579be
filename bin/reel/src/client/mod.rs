//! The command line as a client of the HTTP API: nothing here knows more than `docs/http.md` says.
//!
//! - [`api`] sends one request and reads one answer; [`video`] is what is read, as leniently as a client should.
//! - [`create`] asks for a video, again and again while that can help, and never for two.
//! - [`follow`] watches a job to its end, by its event stream or by asking; [`events`] reads the stream.
//! - [`download`] brings the file, whole or not at all.
//! - [`interrupts`] turns Ctrl-C into a cancellation, [`progress`] draws bars.
//! - [`generate`] and [`jobs`] are the commands; [`failure`] their ends, each with its exit code.

mod api;
mod create;
mod download;
mod events;
mod failure;
mod follow;
pub(crate) mod generate;
mod interrupts;
pub(crate) mod jobs;
mod progress;
mod video;

pub(crate) use failure::Failure;

use api::Api;
use clap::Args;

/// What every client's command says below its options.
const EXIT_CODES: &str =
    "Exit codes: 0 done, 1 failed, 2 asked wrongly, 3 cancelled, 4 no answer from the server";
/// `reel generate` has more to say.
const GENERATE_HELP: &str = "Ctrl-C asks the server to cancel; a second one leaves without waiting for it.\n\n\
    Exit codes: 0 done, 1 failed, 2 asked wrongly, 3 cancelled, 4 no answer from the server;\n\
    of several videos, the highest";

/// Which server, and who asks.
#[derive(Debug, Clone, Args)]
pub(crate) struct ServerArgs {
    /// The server's address
    #[arg(
        long,
        alias = "base-url",
        env = "REEL_SERVER",
        default_value = "http://127.0.0.1:8000",
        value_name = "URL"
    )]
    server: String,
    /// The API key, where the server wants one; the variable keeps it out of the process list
    #[arg(long, env = "REEL_API_KEY", hide_env_values = true, value_name = "KEY")]
    key: Option<String>,
}

/// Asks for a job's end. A server that has no other way to cancel a job is asked to delete it.
fn cancel(api: &Api, id: &str) -> Result<(), Failure> {
    match api.cancel(id) {
        Err(Failure::Refused(refusal)) if refusal.has_no_route() => api.delete(id),
        cancelled => cancelled.map(drop),
    }
}
