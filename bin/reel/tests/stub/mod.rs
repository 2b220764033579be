//! A small HTTP server that answers as a test wants it to and remembers what it was asked, and the program under test.

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// Longest wait for a request that must come.
const REQUEST_DEADLINE: Duration = Duration::from_secs(30);
/// Largest body of a request.
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// One request.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    /// `POST /v1/videos?limit=3`
    pub(crate) line: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// How many of the same line came before.
    pub(crate) before: usize,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

type Answer = dyn Fn(&Seen) -> Response + Send + Sync;

struct Shared {
    answer: Box<Answer>,
    seen: Mutex<Vec<Seen>>,
    told: Mutex<Sender<Seen>>,
}

/// The server; it ends with its test.
pub(crate) struct Stub {
    pub(crate) url: String,
    shared: Arc<Shared>,
    requests: Receiver<Seen>,
    _runtime: Runtime,
}

impl Stub {
    pub(crate) fn new(answer: impl Fn(&Seen) -> Response + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (told, requests) = channel();
        let shared = Arc::new(Shared {
            answer: Box::new(answer),
            seen: Mutex::default(),
            told: Mutex::new(told),
        });
        let router = Router::new()
            .fallback(serve)
            .with_state(Arc::clone(&shared));
        let runtime = Runtime::new().unwrap();
        runtime.spawn(async {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            axum::serve(listener, router).await.unwrap();
        });
        Self {
            url,
            shared,
            requests,
            _runtime: runtime,
        }
    }

    /// Everything that it was asked.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// Those of one line.
    pub(crate) fn asked(&self, line: &str) -> Vec<Seen> {
        let mut seen = self.seen();
        seen.retain(|seen| seen.line == line);
        seen
    }

    /// Waits until it is asked this.
    #[track_caller]
    pub(crate) fn wait_for(&self, line: &str) -> Seen {
        loop {
            let seen = self.requests.recv_timeout(REQUEST_DEADLINE);
            let seen = seen.unwrap_or_else(|_| panic!("nobody asks {line}: {:?}", self.seen()));
            if seen.line == line {
                return seen;
            }
        }
    }

    /// The program, on its way, in `directory`.
    pub(crate) fn start(&self, directory: &Path, arguments: &[&str]) -> Child {
        command(directory, arguments)
            .env("REEL_SERVER", &self.url)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// The program, to its end.
    pub(crate) fn run(&self, directory: &Path, arguments: &[&str]) -> Output {
        self.start(directory, arguments).wait_with_output().unwrap()
    }
}

pub(crate) fn command(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_reel"));
    command
        .args(arguments)
        .current_dir(directory)
        .env_clear()
        .env("PATH", "/usr/bin:/bin");
    command
}

async fn serve(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = to_bytes(body, BODY_BYTES_MAX).await.unwrap();
    let line = format!("{} {}", head.method, head.uri);
    let seen = {
        let mut all = shared.seen.lock().unwrap();
        let before = all.iter().filter(|seen| seen.line == line).count();
        let seen = Seen {
            line,
            headers: head.headers,
            body,
            before,
        };
        all.push(seen.clone());
        seen
    };
    let answer = (shared.answer)(&seen);
    // A test that has ended hears nothing more.
    let _ = shared.told.lock().unwrap().send(seen);
    answer
}

/// A video object with the fields that matter, and more.
pub(crate) fn video(id: &str, status: &str, more: Value) -> Value {
    let mut video = json!({
        "id": id, "object": "video", "status": status, "model": "tiny-shapes", "size": "64x64",
        "created_at": 1_900_000_000, "progress": 0, "steps": 20, "step": 0, "error": null,
    });
    for (name, value) in more.as_object().into_iter().flatten() {
        video[name] = value.clone();
    }
    video
}

pub(crate) fn ok(body: &Value) -> Response {
    (
        [(header::CONTENT_TYPE, "application/json")],
        body.to_string(),
    )
        .into_response()
}

pub(crate) fn error(status: u16, code: &str, message: &str, param: Option<&str>) -> Response {
    let body = json!({"error": {"message": message, "type": "x", "param": param, "code": code}});
    let status = StatusCode::from_u16(status).unwrap();
    let kind = [(header::CONTENT_TYPE, "application/json")];
    (status, kind, body.to_string()).into_response()
}

pub(crate) fn unknown_route() -> Response {
    error(404, "unknown_route", "there is no such route", None)
}

pub(crate) fn event(id: u32, video: &Value) -> String {
    format!("event: video.progress\nid: {id}\ndata: {video}\n\n")
}

/// A stream of events that ends with the last of them.
pub(crate) fn events(events: &[String]) -> Response {
    let kind = [(header::CONTENT_TYPE, "text/event-stream")];
    (kind, events.concat()).into_response()
}

/// A stream of events that goes on for as long as the test wants.
pub(crate) fn open_events() -> (UnboundedSender<String>, Response) {
    let (sender, receiver) = unbounded_channel();
    let kind = [(header::CONTENT_TYPE, "text/event-stream")];
    (sender, (kind, body_of(receiver)).into_response())
}

/// A body that ends when its sender is gone.
fn body_of(receiver: UnboundedReceiver<String>) -> Body {
    let chunks = stream::unfold(receiver, async |mut receiver| {
        let chunk: String = receiver.recv().await?;
        Some((Ok::<_, Infallible>(chunk), receiver))
    });
    Body::from_stream(chunks)
}
