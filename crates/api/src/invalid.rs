//! What was wrong with a request.

use crate::openapi::names::{ErrorCode, ErrorKind};
use serde::Serialize;
use utoipa::ToSchema;

/// Longest piece of a client's text that a message repeats, in characters.
const QUOTE_CHARS_MAX: usize = 64;

/// Longest sentence about a whole body, in characters: what reads bodies may repeat a piece of them.
const BODY_MESSAGE_CHARS_MAX: usize = 256;

/// A request that cannot be served as it stands. The `Display` text is what the client reads.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Invalid {
    /// One sentence for a person.
    pub message: String,
    /// The parameter at fault, if it is one.
    pub param: Option<String>,
    /// A stable name to branch on.
    pub code: &'static str,
}

impl Invalid {
    /// The body as a whole cannot be read.
    #[must_use]
    pub fn body(message: String) -> Self {
        Self {
            message: message.chars().take(BODY_MESSAGE_CHARS_MAX).collect(),
            param: None,
            code: "invalid_body",
        }
    }

    /// A parameter has a value that is not allowed.
    #[must_use]
    pub fn value(param: &str, message: String) -> Self {
        Self::new(param, message, "invalid_value")
    }

    /// A parameter is of the wrong type.
    #[must_use]
    pub fn wrong_type(param: &str, expected: &str) -> Self {
        let message = format!("`{}` must be {expected}", quoted(param));
        Self::new(param, message, "invalid_type")
    }

    /// A parameter that must be there is not.
    #[must_use]
    pub fn missing(param: &str) -> Self {
        let message = format!("`{param}` is required");
        Self::new(param, message, "missing_required_parameter")
    }

    /// A parameter was given more than once.
    #[must_use]
    pub fn duplicate(param: &str) -> Self {
        let message = format!("`{}` is given more than once", quoted(param));
        Self::new(param, message, "duplicate_parameter")
    }

    /// A parameter that nobody knows; the nearest known one is suggested.
    #[must_use]
    pub fn unknown(param: &str, known: &[&str]) -> Self {
        let mut message = format!("unknown parameter `{}`", quoted(param));
        match nearest(param, known) {
            Some(name) => message.push_str(&format!("; did you mean `{name}`?")),
            None => message.push_str(&format!("; known are {}", known.join(", "))),
        }
        Self::new(param, message, "unknown_parameter")
    }

    /// A parameter names what is not there.
    #[must_use]
    pub fn not_among<'a>(param: &str, name: &str, known: impl Iterator<Item = &'a str>) -> Self {
        let known: Vec<&str> = known.collect();
        let message = format!(
            "there is no {param} `{}`; there are {}",
            quoted(name),
            known.join(", ")
        );
        Self::value(param, message)
    }

    pub(crate) fn new(param: &str, message: String, code: &'static str) -> Self {
        Self {
            message,
            param: Some(quoted(param)),
            code,
        }
    }
}

/// A client's text, cut to a length that a message can repeat.
pub(crate) fn quoted(text: &str) -> String {
    text.chars().take(QUOTE_CHARS_MAX).collect()
}

fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    /// Below this similarity a suggestion would confuse more than help (Jaro-Winkler, 0 to 1).
    const SIMILAR_MIN: f64 = 0.8;
    let name = quoted(name);
    known
        .iter()
        .map(|candidate| (strsim::jaro_winkler(&name, candidate), *candidate))
        .filter(|(similarity, _)| *similarity >= SIMILAR_MIN)
        .max_by(|left, right| left.0.total_cmp(&right.0))
        .map(|(_, candidate)| candidate)
}

/// OpenAI's error envelope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ErrorBody {
    /// The error.
    pub error: ErrorObject,
}

/// What is in the envelope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ErrorObject {
    /// One sentence for a person.
    pub message: String,
    /// The kind: `invalid_request_error`, `rate_limit_error` or `server_error`.
    #[serde(rename = "type")]
    #[schema(value_type = ErrorKind)]
    pub kind: &'static str,
    /// The parameter at fault.
    pub param: Option<String>,
    /// A stable name to branch on.
    #[schema(value_type = Option<ErrorCode>)]
    pub code: Option<&'static str>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_parameter_gets_a_suggestion() {
        let invalid = Invalid::unknown("promt", &["prompt", "model"]);
        assert_eq!(
            invalid.message,
            "unknown parameter `promt`; did you mean `prompt`?"
        );
    }

    #[test]
    fn an_alien_parameter_gets_the_list() {
        let invalid = Invalid::unknown("zzz", &["prompt", "model"]);
        assert_eq!(
            invalid.message,
            "unknown parameter `zzz`; known are prompt, model"
        );
    }

    #[test]
    fn a_message_never_repeats_more_than_a_little_of_what_came() {
        let long = "x".repeat(1_000_000);
        assert_eq!(
            Invalid::body(long.clone()).message.len(),
            BODY_MESSAGE_CHARS_MAX
        );
        for invalid in [
            Invalid::unknown(&long, &["prompt"]),
            Invalid::duplicate(&long),
            Invalid::wrong_type(&long, "a number"),
        ] {
            assert!(invalid.message.len() < 200 && invalid.param.unwrap().len() == QUOTE_CHARS_MAX);
        }
    }
}
