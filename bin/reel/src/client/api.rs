//! One request, one answer.

use super::ServerArgs;
use super::failure::{Failure, Refusal};
use super::video::{Page, Video};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::time::Duration;
use ureq::http::{HeaderValue, Response, Uri, header};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::typestate::{WithBody, WithoutBody};
use ureq::unversioned::multipart::{Form, Part};
use ureq::{Agent, Body, RequestBuilder};

/// Longest wait for a connection.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// Longest wait for one whole answer. A deletion answers when the device is free.
const ANSWER_DEADLINE: Duration = Duration::from_secs(60);
/// Longest silence within a download.
const DOWNLOAD_SILENCE_MAX: Duration = Duration::from_secs(60);
/// Longest silence of an event stream before the job is looked at in another way.
const EVENTS_SILENCE_MAX: Duration = Duration::from_secs(20);
/// The header with which a server says when to ask again.
const POLL_AFTER: &str = "openai-poll-after-ms";
/// The field that carries the first frame.
const IMAGE_FIELD: &str = "input_reference";
/// Longest part of a senseless answer that is repeated.
const QUOTE_CHARS_MAX: usize = 120;

/// A server, with the key for it.
#[derive(Debug)]
pub(crate) struct Api {
    agent: Agent,
    server: String,
    authorization: Option<HeaderValue>,
}

/// A request for a video.
#[derive(Debug, Clone)]
pub(crate) struct CreateRequest {
    pub(crate) fields: Map<String, Value>,
    pub(crate) image: Option<Image>,
}

/// The first frame.
#[derive(Debug, Clone)]
pub(crate) struct Image {
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
}

#[derive(Deserialize)]
struct Envelope {
    error: Message,
}

#[derive(Deserialize)]
struct Message {
    message: String,
    param: Option<String>,
    code: Option<String>,
}

impl Api {
    pub(crate) fn open(args: &ServerArgs) -> Result<Self, Failure> {
        let server = server(&args.server)?;
        let key = args.key.as_deref().map(str::trim);
        let authorization = key
            .filter(|key| !key.is_empty())
            .map(authorization)
            .transpose()?;
        Ok(Self {
            agent: agent(),
            server,
            authorization,
        })
    }

    pub(crate) fn server(&self) -> &str {
        &self.server
    }

    /// Asks for a video. Whoever repeats this with the same `idempotency_key` gets the same job.
    pub(crate) fn create(
        &self,
        request: &CreateRequest,
        idempotency_key: &str,
    ) -> Result<Video, Failure> {
        let post = self
            .post("/v1/videos")
            .header("idempotency-key", idempotency_key);
        let sent = match &request.image {
            None => post.send_json(&request.fields),
            Some(image) => {
                let fields: Vec<_> = request.fields.iter().map(as_text).collect();
                let form = fields
                    .iter()
                    .fold(Form::new(), |form, (name, text)| form.text(name, text));
                let part = Part::bytes(&image.bytes)
                    .file_name(&image.name)
                    .mime_str(mime(&image.bytes))
                    .map_err(|error| self.unreachable(&error))?;
                post.send(form.part(IMAGE_FIELD, part))
            }
        };
        self.video(self.answer(sent)?)
    }

    /// The job, and when the server wants to be asked again.
    pub(crate) fn get(&self, id: &str) -> Result<(Video, Option<Duration>), Failure> {
        let response = self.answer(self.fetch(&format!("/v1/videos/{id}")).call())?;
        let after = response.headers().get(POLL_AFTER);
        let after = after.and_then(|value| value.to_str().ok()?.parse().ok());
        Ok((self.video(response)?, after.map(Duration::from_millis)))
    }

    /// A page of jobs, the newest first.
    pub(crate) fn list(&self, after: Option<&str>, limit: usize) -> Result<Page, Failure> {
        let mut get = self.fetch("/v1/videos").query("limit", limit.to_string());
        if let Some(after) = after {
            get = get.query("after", after);
        }
        let json = self.json(self.answer(get.call())?)?;
        Page::read(json).map_err(|error| self.senseless(error.to_string()))
    }

    pub(crate) fn cancel(&self, id: &str) -> Result<Video, Failure> {
        let sent = self.post(&format!("/v1/videos/{id}/cancel")).send_empty();
        self.video(self.answer(sent)?)
    }

    pub(crate) fn delete(&self, id: &str) -> Result<(), Failure> {
        let delete = self.agent.delete(format!("{}/v1/videos/{id}", self.server));
        self.answer(self.authorized(delete).call()).map(drop)
    }

    /// The file itself; the body is still to be read.
    pub(crate) fn content(
        &self,
        id: &str,
        variant: Option<&str>,
    ) -> Result<Response<Body>, Failure> {
        let mut get = self.fetch(&format!("/v1/videos/{id}/content"));
        if let Some(variant) = variant {
            get = get.query("variant", variant);
        }
        let get = get
            .config()
            .timeout_global(None)
            .timeout_recv_response(Some(ANSWER_DEADLINE))
            .timeout_per_read(Some(DOWNLOAD_SILENCE_MAX))
            .build();
        self.answer(get.call())
    }

    /// The job's event stream, after the event of this id; still to be read, and cut off after `time`.
    pub(crate) fn events(
        &self,
        id: &str,
        after: Option<&str>,
        time: Duration,
    ) -> Result<Response<Body>, Failure> {
        let mut get = self
            .fetch(&format!("/v1/videos/{id}/events"))
            .header(header::ACCEPT, "text/event-stream");
        if let Some(after) = after {
            get = get.header("last-event-id", after);
        }
        let get = get
            .config()
            .timeout_global(Some(time))
            .timeout_recv_response(Some(EVENTS_SILENCE_MAX))
            .timeout_per_read(Some(EVENTS_SILENCE_MAX))
            .build();
        self.answer(get.call())
    }

    fn post(&self, path: &str) -> RequestBuilder<WithBody> {
        self.authorized(self.agent.post(format!("{}{path}", self.server)))
    }

    fn fetch(&self, path: &str) -> RequestBuilder<WithoutBody> {
        self.authorized(self.agent.get(format!("{}{path}", self.server)))
    }

    fn authorized<Any>(&self, request: RequestBuilder<Any>) -> RequestBuilder<Any> {
        match &self.authorization {
            Some(value) => request.header(header::AUTHORIZATION, value),
            None => request,
        }
    }

    /// The answer, if it is a yes.
    fn answer(&self, sent: Result<Response<Body>, ureq::Error>) -> Result<Response<Body>, Failure> {
        let response = sent.map_err(|error| self.unreachable(&error))?;
        match response.status().is_success() {
            true => Ok(response),
            false => Err(Failure::Refused(self.refusal(response))),
        }
    }

    fn refusal(&self, mut response: Response<Body>) -> Refusal {
        let status = response.status();
        let retry_after = response.headers().get(header::RETRY_AFTER);
        let retry_after = retry_after.and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let said = response.body_mut().read_json::<Envelope>().ok();
        let Message {
            message,
            param,
            code,
        } = said.map_or_else(
            || Message {
                message: format!("{} answered {status}", self.server),
                param: None,
                code: None,
            },
            |said| said.error,
        );
        Refusal {
            status: status.as_u16(),
            code,
            param,
            message,
            retry_after: retry_after.map(Duration::from_secs),
        }
    }

    fn video(&self, response: Response<Body>) -> Result<Video, Failure> {
        let json = self.json(response)?;
        Video::read(json).map_err(|error| self.senseless(error.to_string()))
    }

    fn json(&self, mut response: Response<Body>) -> Result<Value, Failure> {
        let text = response
            .body_mut()
            .read_to_string()
            .map_err(|error| self.unreachable(&error))?;
        serde_json::from_str(&text).map_err(|error| {
            let begin: String = text.chars().take(QUOTE_CHARS_MAX).collect();
            self.senseless(format!("{error} in {begin:?}"))
        })
    }

    fn unreachable(&self, error: &ureq::Error) -> Failure {
        let server = self.server.clone();
        let reason = match error {
            ureq::Error::Io(error) => error.to_string(),
            error => error.to_string(),
        };
        match is_of_tls(error) {
            true => Failure::Untrusted { server, reason },
            false => Failure::Unreachable { server, reason },
        }
    }

    fn senseless(&self, reason: String) -> Failure {
        Failure::Senseless {
            server: self.server.clone(),
            reason,
        }
    }
}

fn agent() -> Agent {
    let tls = TlsConfig::builder()
        .root_certs(RootCerts::PlatformVerifier)
        .unversioned_rustls_crypto_provider(rustls::crypto::ring::default_provider().into())
        .build();
    // An error status carries a message that is worth reading.
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .user_agent(concat!("reel/", env!("CARGO_PKG_VERSION")))
        .tls_config(tls)
        .timeout_connect(Some(CONNECT_DEADLINE))
        .timeout_global(Some(ANSWER_DEADLINE))
        .build();
    config.into()
}

fn is_of_tls(error: &ureq::Error) -> bool {
    match error {
        ureq::Error::Rustls(_) | ureq::Error::Tls(_) => true,
        ureq::Error::Io(error) => {
            matches!(error.get_ref(), Some(inner) if inner.is::<rustls::Error>())
        }
        _ => false,
    }
}

/// The address without what paths bring themselves: OpenAI's clients are told the address with `/v1`.
fn server(text: &str) -> Result<String, Failure> {
    let base = text.trim().trim_end_matches('/');
    let base = base.strip_suffix("/v1").unwrap_or(base);
    let url: Option<Uri> = base.parse().ok();
    let scheme = url.as_ref().and_then(Uri::scheme_str);
    match (scheme, url.as_ref().and_then(Uri::host)) {
        (Some("http" | "https"), Some(_)) => Ok(base.to_owned()),
        _ => Err(Failure::Usage(format!(
            "{text:?} is no server's address; it looks like http://127.0.0.1:8000"
        ))),
    }
}

fn authorization(key: &str) -> Result<HeaderValue, Failure> {
    let mut value = HeaderValue::try_from(format!("Bearer {key}"))
        .map_err(|_| Failure::Usage("the API key has characters that no key has".into()))?;
    value.set_sensitive(true);
    Ok(value)
}

fn as_text((name, value): (&String, &Value)) -> (String, String) {
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    (name.clone(), text)
}

/// What the first bytes say; the server looks for itself.
fn mime(image: &[u8]) -> &'static str {
    match image {
        [0x89, b'P', b'N', b'G', ..] => "image/png",
        [0xff, 0xd8, 0xff, ..] => "image/jpeg",
        [
            b'R',
            b'I',
            b'F',
            b'F',
            _,
            _,
            _,
            _,
            b'W',
            b'E',
            b'B',
            b'P',
            ..,
        ] => "image/webp",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_taken_with_or_without_what_paths_bring() {
        for text in [
            "http://a:1",
            "http://a:1/",
            "http://a:1/v1",
            "http://a:1/v1/",
        ] {
            assert_eq!(server(text).unwrap(), "http://a:1");
        }
        assert_eq!(server("https://a/reel").unwrap(), "https://a/reel");
        for bad in ["a:1", "127.0.0.1:8000", "", "ftp://a", "http://"] {
            assert!(server(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_key_never_prints() {
        let args = ServerArgs {
            server: "http://a".into(),
            key: Some("reel_secret".into()),
        };
        let api = Api::open(&args).unwrap();
        assert!(!format!("{api:?}").contains("reel_secret"));
        let broken = ServerArgs {
            key: Some("a\nb".into()),
            ..args
        };
        assert!(matches!(Api::open(&broken), Err(Failure::Usage(_))));
    }
}
