//! Whatever a client sends, it gets an answer that the document knows, in time, and what is refused stays outside.
//!
//! Inputs are requests as text: a line with method and target, headers, an empty line, the body. `{completed}` and the
//! like stand for the ids of jobs that are there.

use crate::mutator::{Mutator, directory};
use crate::server::Server;
use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header};
use bytes::Bytes;
use futures_util::FutureExt;
use reel_domain::JobId;
use reel_gateway::GatewayConfig;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::time::Duration;
use tower::ServiceExt;

/// Longest time to an answer: many times what the slowest takes, which makes a picture of a video.
const ANSWER_DEADLINE: Duration = Duration::from_secs(20);
/// Longest sentence of an error, in bytes.
const MESSAGE_BYTES_MAX: usize = 600;
/// Requests that one server gets, so that its journal stays small.
const REQUESTS_PER_SERVER: u64 = 2_000;

/// A server with a job of each kind.
struct World {
    server: Server,
    names: BTreeMap<&'static str, String>,
}

impl World {
    async fn new() -> Self {
        let server = Server::with(GatewayConfig {
            // Nobody computes anything here.
            sync_deadline: Duration::from_millis(1),
            ..GatewayConfig::default()
        });
        let mut world = Self {
            server,
            names: BTreeMap::new(),
        };
        world.renew().await;
        world
    }

    /// Jobs in the place of those that may have been deleted.
    async fn renew(&mut self) {
        let pool = &self.server.pool;
        let [queued, completed, failed, cancelled, expired] = [
            self.job().await,
            self.job().await,
            self.job().await,
            self.job().await,
            self.job().await,
        ];
        pool.complete(completed, &video()).await;
        pool.fail(failed).await;
        self.server
            .send(request("POST", &format!("/v1/videos/{cancelled}/cancel")))
            .await;
        pool.complete(expired, b"video").await;
        pool.expire(expired).await;
        let head = self
            .server
            .get(&format!("/v1/videos/{completed}/content"))
            .await;
        let etag = head.header("etag").to_owned();
        self.names = BTreeMap::from([
            ("{queued}", queued.to_string()),
            ("{completed}", completed.to_string()),
            ("{failed}", failed.to_string()),
            ("{cancelled}", cancelled.to_string()),
            ("{expired}", expired.to_string()),
            ("{etag}", etag),
        ]);
    }

    async fn job(&self) -> JobId {
        let answer = self
            .server
            .create(&json!({"prompt": "a red circle", "fps": 8}))
            .await;
        assert_eq!(answer.status, StatusCode::OK, "{:?}", answer.body);
        answer.json()["id"].as_str().unwrap().parse().unwrap()
    }

    /// What has reached the pool.
    fn reached(&self) -> (usize, usize, usize) {
        let pool = &self.server.pool;
        let submissions = pool.submissions.lock().unwrap().len();
        let orders = pool.orders.lock().unwrap().len();
        (submissions, orders, pool.cancelled.lock().unwrap().len())
    }
}

fn video() -> Vec<u8> {
    std::fs::read(directory().join("video.mp4")).unwrap()
}

fn request(method: &str, path: &str) -> Request<Body> {
    let request = Request::builder().method(method).uri(path);
    request.body(Body::empty()).unwrap()
}

/// The request that an input stands for; `None`: it is not one of HTTP.
fn parse(input: &[u8], names: &BTreeMap<&'static str, String>) -> Option<Request<Body>> {
    let input = named(input, names);
    let end = input.windows(2).position(|pair| pair == b"\n\n");
    let (head, body) = match end {
        Some(end) => (&input[..end], input[end + 2..].to_vec()),
        None => (&input[..], Vec::new()),
    };
    let mut lines = head.split(|byte| *byte == b'\n');
    let mut first = lines.next()?.splitn(2, |byte| *byte == b' ');
    let method = Method::from_bytes(first.next()?).ok()?;
    let uri = Uri::try_from(first.next()?).ok()?;
    // What comes over a connection has a path.
    if !uri.path().starts_with('/') {
        return None;
    }
    let mut request = Request::new(Body::from(body));
    (*request.method_mut(), *request.uri_mut()) = (method, uri);
    for line in lines {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = HeaderName::from_bytes(&line[..colon]).ok()?;
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?;
        request.headers_mut().append(name, value);
    }
    Some(request)
}

fn named(input: &[u8], names: &BTreeMap<&'static str, String>) -> Vec<u8> {
    let mut output = Vec::with_capacity(input.len());
    let mut rest = input;
    while let Some((first, after)) = rest.split_first() {
        match names
            .iter()
            .find(|(name, _)| rest.starts_with(name.as_bytes()))
        {
            Some((name, value)) => {
                output.extend_from_slice(value.as_bytes());
                rest = &rest[name.len()..];
            }
            None => {
                output.push(*first);
                rest = after;
            }
        }
    }
    output
}

/// An answer, without what a stream without an end would send.
struct Answer {
    status: u16,
    headers: axum::http::HeaderMap,
    body: Bytes,
}

async fn answer(world: &World, request: Request<Body>) -> Answer {
    let response = world.server.router.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let kind = parts.headers.get(header::CONTENT_TYPE);
    let body = match kind {
        Some(kind) if kind == "text/event-stream" => Bytes::new(),
        _ => axum::body::to_bytes(body, usize::MAX).await.unwrap(),
    };
    Answer {
        status: parts.status.as_u16(),
        headers: parts.headers,
        body,
    }
}

/// The document, asked what an operation may answer.
struct Document {
    document: Value,
    /// Of parameters and fields, in small letters.
    names: BTreeSet<String>,
}

impl Document {
    fn new() -> Self {
        let document = serde_json::to_value(reel_api::openapi()).unwrap();
        let items = document["paths"].as_object().unwrap().values();
        let operations = items.flat_map(|item| item.as_object().unwrap().values());
        let parameters = operations
            .filter_map(|operation| operation["parameters"].as_array())
            .flatten();
        let parameters = parameters.map(|parameter| parameter["name"].as_str().unwrap());
        let schemas = document["components"]["schemas"].as_object().unwrap();
        let fields = schemas
            .values()
            .filter_map(|schema| schema["properties"].as_object());
        let fields = fields.flat_map(|fields| fields.keys().map(String::as_str));
        Self {
            names: parameters.chain(fields).map(str::to_lowercase).collect(),
            document,
        }
    }

    /// The template of a path and what it says of a method. A template without a name in it goes first.
    fn operation(&self, method: &str, path: &str) -> Option<(&str, &Value)> {
        let paths = self.document["paths"].as_object().unwrap();
        let fits = |template: &str| {
            let (mut left, mut right) = (template.split('/'), path.split('/'));
            loop {
                match (left.next(), right.next()) {
                    (None, None) => return true,
                    (Some("{id}"), Some(part)) if !part.is_empty() => {}
                    (Some(part), Some(same)) if part == same => {}
                    _ => return false,
                }
            }
        };
        let mut fitting: Vec<&String> = paths.keys().filter(|template| fits(template)).collect();
        fitting.sort_by_key(|template| template.contains('{'));
        let template = fitting.first()?;
        let item = &paths[*template];
        // Methods are told apart by case.
        let is_one = !method.bytes().any(|byte| byte.is_ascii_lowercase());
        let operation = item.get(method.to_lowercase()).filter(|_| is_one);
        let operation = match method {
            "HEAD" => operation.or_else(|| item.get("get")),
            _ => operation,
        };
        Some((template.as_str(), operation?))
    }

    fn knows_code(&self, code: &str) -> bool {
        let codes = self.document["components"]["schemas"]["ErrorCode"]["enum"]
            .as_array()
            .unwrap();
        codes.iter().any(|known| known == code)
    }
}

/// The envelope, whole and of bounded length; returns its code.
fn envelope(answer: &Answer, document: &Document) -> String {
    let body: Value = serde_json::from_slice(&answer.body).unwrap();
    let error = body["error"].as_object().unwrap();
    let mut names: Vec<&str> = error.keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["code", "message", "param", "type"]);
    let message = error["message"].as_str().unwrap();
    assert!(
        !message.is_empty() && message.len() <= MESSAGE_BYTES_MAX,
        "{message}"
    );
    let code = error["code"].as_str().unwrap();
    assert!(document.knows_code(code), "{code} is not in the document");
    code.to_owned()
}

/// What came of one request, as far as two can differ.
type Outcome = (String, String, u16, String, String);

async fn try_one(world: &World, document: &Document, request: Request<Body>) -> Outcome {
    let method = request.method().as_str().to_owned();
    let path = request.uri().path().to_owned();
    let before = world.reached();
    let asked = tokio::time::timeout(ANSWER_DEADLINE, answer(world, request));
    let Ok(answer) = asked.await else {
        panic!("no answer within {ANSWER_DEADLINE:?}")
    };
    let status = answer.status;
    let known = document.operation(&method, &path);
    if let Some((template, operation)) = known {
        let described = operation["responses"].get(status.to_string()).is_some();
        assert!(described, "{method} {template} does not answer {status}");
    }
    let template = known.map_or_else(String::new, |(template, _)| template.to_owned());
    // By design: what no model does, what is too much just now, and a video that takes too long to wait for.
    let late = template == "/v1/videos/sync" && status == 504;
    assert!(
        status < 500 || matches!(status, 501 | 503) || late,
        "{status}"
    );
    if status >= 400 && !late {
        let (submissions, orders, cancelled) = before;
        let (submissions_now, orders_now, cancelled_now) = world.reached();
        assert_eq!(
            (submissions, orders),
            (submissions_now, orders_now),
            "it was refused"
        );
        assert!(cancelled == cancelled_now || status == 409);
    }
    let (mut code, mut param) = (String::new(), String::new());
    if status >= 400 && method != "HEAD" {
        code = envelope(&answer, document);
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        let error = &body["error"];
        // Of names that nobody knows there are too many to tell apart.
        let name = error["param"].as_str().unwrap_or_default();
        param = match name {
            "" => kind(error["message"].as_str().unwrap_or_default()),
            name if document.names.contains(name) => name.to_owned(),
            _ => "unknown".to_owned(),
        };
    }
    if status == 206 {
        let length = answer.headers[header::CONTENT_LENGTH].to_str().unwrap();
        assert!(method == "HEAD" || length.parse() == Ok(answer.body.len()));
    }
    (method_name(&method), template, status, code, param)
}

/// A sentence without what it quotes and counts.
fn kind(message: &str) -> String {
    let quoted = |c: char| c == '`' || c == '"';
    let plain = message.split(quoted).step_by(2).collect::<String>();
    plain
        .chars()
        .filter(char::is_ascii_alphabetic)
        .take(60)
        .collect()
}

/// Methods are the client's text.
fn method_name(method: &str) -> String {
    match method {
        "GET" | "HEAD" | "POST" | "DELETE" => method.to_owned(),
        _ => "other".to_owned(),
    }
}

/// `REEL_FUZZ_SECONDS=600 cargo nextest run --profile chaos --package reel-gateway --test surface fuzz` goes on for longer.
#[tokio::test]
async fn nothing_that_a_client_sends_breaks_the_server() {
    let mut paths: Vec<_> = std::fs::read_dir(directory().join("corpus"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    let corpus = paths.iter().map(|path| std::fs::read(path).unwrap());
    let mut mutator = Mutator::new(corpus.collect());
    let document = Document::new();
    let mut world = World::new().await;
    let (mut outcomes, mut sent) = (BTreeSet::new(), 0_u64);
    while let Some(input) = mutator.next() {
        let Some(request) = parse(&input, &world.names) else {
            continue;
        };
        sent += 1;
        let tried = AssertUnwindSafe(try_one(&world, &document, request)).catch_unwind();
        let Ok(outcome) = tried.await else {
            let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("found-by-the-fuzzer");
            std::fs::write(&path, &input).unwrap();
            panic!(
                "the request is in {}: once it passes, it belongs into the corpus",
                path.display()
            )
        };
        let (method, template, status, ..) = &outcome;
        let ends = method == "DELETE" || template.ends_with("/cancel");
        let renews = ends && *status == 200;
        if outcomes.insert(outcome) {
            mutator.keep(input);
        }
        if sent.is_multiple_of(REQUESTS_PER_SERVER) {
            world = World::new().await;
        } else if renews {
            world.renew().await;
        }
    }
    println!(
        "{} inputs, {sent} requests, {} outcomes",
        mutator.made,
        outcomes.len()
    );
    assert!(sent > 0);
}
