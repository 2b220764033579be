//! How a client's command can end, each with its exit code:
//! 0 done, 1 failed, 2 asked wrongly, 3 cancelled, 4 no answer from the server.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// A job or a request failed, on the server or here.
const EXIT_FAILED: u8 = 1;
/// What was asked for makes no sense, or may not be asked for. The same as for a wrong flag.
const EXIT_USAGE: u8 = 2;
/// Somebody cancelled it.
const EXIT_CANCELLED: u8 = 3;
/// The server does not answer.
const EXIT_UNREACHABLE: u8 = 4;

/// Why a command did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// Nobody answers.
    #[error(
        "no answer from {server}: {reason}\nhelp: is `reel serve` running there? --server or REEL_SERVER names another server"
    )]
    Unreachable { server: String, reason: String },
    /// Somebody answers, but not with a certificate that counts.
    #[error(
        "{server} cannot be trusted: {reason}\nhelp: SSL_CERT_FILE names a file of certificates to trust instead of the system's"
    )]
    Untrusted { server: String, reason: String },
    /// The server answered, and it was a no.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The answer makes no sense.
    #[error(
        "{server} answers something else than a Reel server: {reason}\nhelp: is --server right?"
    )]
    Senseless { server: String, reason: String },
    /// The job ended without a video.
    #[error("{id} failed: {message}")]
    Failed { id: String, message: String },
    /// The job was cancelled, here or elsewhere.
    #[error("{id} was cancelled")]
    Cancelled { id: String },
    /// Ctrl-C when there was a video already.
    #[error("the download was cancelled; `reel jobs download {id}` fetches the video")]
    NotFetched { id: String },
    /// Ctrl-C before there was a job.
    #[error("cancelled; no job was made")]
    NotBegun,
    /// Ctrl-C, and the server has not said what became of it.
    #[error(
        "{id} is asked to be cancelled, but the server does not say that it is; see `reel jobs show {id}`"
    )]
    Unconfirmed { id: String },
    /// It takes longer than its asker would wait.
    #[error("{id} is not finished after {} s; it goes on at the server: `reel jobs show {id}`", .after.as_secs())]
    Late { id: String, after: Duration },
    /// What was downloaded is not what was announced.
    #[error(
        "the download of {id} is broken: {reason}\nhelp: `reel jobs download {id}` tries again"
    )]
    BrokenDownload { id: String, reason: String },
    /// A file of ours.
    #[error("cannot write {}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    /// An argument.
    #[error("{0}")]
    Usage(String),
    /// Some of several.
    #[error("{failed} of {of} videos were not made")]
    Several { failed: usize, of: usize, exit: u8 },
}

impl Failure {
    /// The exit code, as `docs/command-line.md` lists them.
    pub(crate) fn exit(&self) -> u8 {
        match self {
            Self::Unreachable { .. } | Self::Untrusted { .. } => EXIT_UNREACHABLE,
            Self::Refused(refusal) => refusal.exit(),
            Self::Usage(_) => EXIT_USAGE,
            Self::Cancelled { .. }
            | Self::NotFetched { .. }
            | Self::NotBegun
            | Self::Unconfirmed { .. } => EXIT_CANCELLED,
            Self::Several { exit, .. } => *exit,
            Self::Senseless { .. }
            | Self::Failed { .. }
            | Self::Late { .. }
            | Self::BrokenDownload { .. }
            | Self::File { .. } => EXIT_FAILED,
        }
    }
}

/// A server's no, in its own words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.text())]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) code: Option<String>,
    pub(crate) param: Option<String>,
    pub(crate) message: String,
    pub(crate) retry_after: Option<Duration>,
}

impl Refusal {
    pub(crate) fn has_code(&self, code: &str) -> bool {
        self.code.as_deref() == Some(code)
    }

    /// Whether the same request may be answered otherwise in a moment.
    pub(crate) fn may_pass(&self) -> bool {
        // A bundle that cannot be baked does not come by waiting, and a server that ends takes nothing more.
        let for_good = self.has_code("bundle_failed") || self.has_code("draining");
        matches!(self.status, 429 | 503) && !for_good
    }

    /// The server has no such route: it is older than this program, or leaves it out.
    pub(crate) fn has_no_route(&self) -> bool {
        self.has_code("unknown_route") || matches!(self.status, 405 | 406 | 501)
    }

    fn exit(&self) -> u8 {
        match self.status {
            429 => EXIT_FAILED,
            400..=499 => EXIT_USAGE,
            _ => EXIT_FAILED,
        }
    }

    fn text(&self) -> String {
        let mut text = match &self.param {
            // Only a body has parameters that somebody can mend.
            Some(param) if self.status == 400 && !self.message.contains(param.as_str()) => {
                format!("{param}: {}", self.message)
            }
            _ => self.message.clone(),
        };
        if let 401 | 403 = self.status {
            text.push_str(
                "\nhelp: REEL_API_KEY or --key gives the key; `reel key create` makes one",
            );
        }
        if self.may_pass()
            && let Some(after) = self.retry_after
        {
            text.push_str(&format!(
                "\nhelp: the server asks to try again in {} s; --wait-ready keeps trying",
                after.as_secs()
            ));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(status: u16, code: &str) -> Refusal {
        Refusal {
            status,
            code: Some(code.into()),
            param: Some("size".into()),
            message: "the shape is not on the menu".into(),
            retry_after: None,
        }
    }

    #[test]
    fn what_the_asker_can_mend_is_told_from_what_the_server_can() {
        assert_eq!(Failure::from(refusal(400, "invalid_value")).exit(), 2);
        assert_eq!(Failure::from(refusal(401, "invalid_api_key")).exit(), 2);
        assert_eq!(Failure::from(refusal(429, "queue_full")).exit(), 1);
        assert_eq!(Failure::from(refusal(500, "internal_error")).exit(), 1);
    }

    #[test]
    fn waiting_helps_only_where_something_can_change() {
        assert!(refusal(503, "bundle_not_ready").may_pass());
        assert!(refusal(429, "queue_full").may_pass());
        assert!(!refusal(503, "bundle_failed").may_pass());
        assert!(!refusal(400, "invalid_value").may_pass());
    }

    #[test]
    fn a_refusal_names_the_parameter_and_the_way_out() {
        let text = refusal(400, "invalid_value").to_string();
        assert_eq!(text, "size: the shape is not on the menu");
        assert!(refusal(401, "x").to_string().contains("REEL_API_KEY"));
    }
}
