//! A router with everything behind it, and requests to it.

use crate::pool::TestPool;
use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, Response, StatusCode, header};
use bytes::Bytes;
use reel_artifacts::Store;
use reel_domain::{BundleKey, Fps, Guidance, JobId, Mode, Prompt, Steps};
use reel_gateway::{GatewayConfig, ImageFetch, Keys, Parts, routers};
use reel_journal::Journal;
use reel_keys::{KeyFile, NewKey, SharedKeyRing, UrlSigner};
use reel_media::{Ffmpeg, ImageDecoder};
use reel_pool::{
    BundleState, Catalog, Defaults, Estimates, JobBoard, ModelEntry, ModelState, PoolHandle,
    PoolState,
};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Instant;
use tempfile::TempDir;
use tokio::sync::{mpsc, watch};
use tower::ServiceExt;

pub(crate) struct Server {
    pub(crate) router: Router,
    pub(crate) admin: Router,
    pub(crate) pool: Arc<TestPool>,
    pub(crate) state: watch::Sender<Arc<PoolState>>,
    pub(crate) estimates: Arc<Estimates>,
    pub(crate) keys: KeyFile,
    pub(crate) signer: UrlSigner,
    pub(crate) directory: TempDir,
}

/// A server that has not started.
pub(crate) struct Setup {
    directory: TempDir,
    keys: KeyFile,
    pub(crate) config: GatewayConfig,
    pub(crate) image_fetch: Option<ImageFetch>,
    pub(crate) image_decoder: ImageDecoder,
}

impl Setup {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self {
            keys: KeyFile::of(directory.path()),
            directory,
            config: GatewayConfig::default(),
            image_fetch: None,
            image_decoder: image_decoder(),
        }
    }

    /// Makes a key of a tenant, and returns its text.
    pub(crate) fn key(&self, tenant: &str, change: impl FnOnce(&mut NewKey)) -> String {
        new_key(&self.keys, tenant, change)
    }

    pub(crate) fn start(self) -> Server {
        Server::start(self)
    }
}

/// Makes a key of a tenant, and returns its text.
pub(crate) fn new_key(keys: &KeyFile, tenant: &str, change: impl FnOnce(&mut NewKey)) -> String {
    let mut new = NewKey {
        tenant: tenant.parse().unwrap(),
        ..NewKey::default()
    };
    change(&mut new);
    keys.create(new, 1_790_000_000_000).unwrap().text
}

/// A response, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Server {
    pub(crate) fn new() -> Self {
        Self::with(GatewayConfig::default())
    }

    pub(crate) fn with(config: GatewayConfig) -> Self {
        let mut setup = Setup::new();
        setup.config = config;
        setup.start()
    }

    fn start(setup: Setup) -> Self {
        let Setup {
            directory,
            keys: key_file,
            config,
            image_fetch,
            image_decoder,
        } = setup;
        let (journal, reader) = Journal::open(&directory.path().join("journal.sqlite")).unwrap();
        let store = Store::open(directory.path()).unwrap();
        let (requests, inbox) = mpsc::channel(64);
        let (state, watcher) = watch::channel(Arc::new(PoolState::default()));
        let pool = Arc::new(test_pool(journal, store.clone()));
        tokio::spawn(Arc::clone(&pool).run(inbox));
        let estimates = Arc::new(Estimates::new(1));
        let board = Arc::clone(&pool.board);
        let keys = keys(&key_file, directory.path());
        let signer = keys.signer.clone();
        let routers = routers(Parts {
            pool: PoolHandle::new(requests, watcher, board, Arc::clone(&estimates)),
            keys,
            catalog: Arc::new(catalog()),
            reader,
            store,
            ffmpeg: Ffmpeg::locate(None).unwrap(),
            image_decoder,
            image_fetch,
            registry: prometheus::Registry::new(),
            config,
        });
        Self {
            router: routers.public,
            admin: routers.admin,
            pool,
            state,
            estimates,
            keys: key_file,
            signer,
            directory,
        }
    }

    /// The head of a response, whose body may never end.
    pub(crate) async fn open(&self, request: Request<Body>) -> Response<Body> {
        self.router.clone().oneshot(request).await.unwrap()
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        read(self.open(request).await).await
    }

    /// As [`send`](Self::send), through the operators' own door.
    pub(crate) async fn send_to_admin(&self, request: Request<Body>) -> Answer {
        read(self.admin.clone().oneshot(request).await.unwrap()).await
    }

    /// A request with a key and, perhaps, a JSON body.
    pub(crate) async fn ask(
        &self,
        key: &str,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Answer {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::AUTHORIZATION, format!("Bearer {key}"));
        self.send(with_json(request, body)).await
    }

    /// A POST without a key.
    pub(crate) async fn post_to(&self, path: &str, body: Option<Value>) -> Answer {
        self.send(with_json(Request::post(path), body)).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Request::get(path).body(Body::empty()).unwrap())
            .await
    }

    pub(crate) async fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request = Request::get(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(Body::empty()).unwrap()).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.send(Request::delete(path).body(Body::empty()).unwrap())
            .await
    }

    pub(crate) async fn post(&self, content_type: &str, body: impl Into<Body>) -> Answer {
        let request = Request::post("/v1/videos").header(header::CONTENT_TYPE, content_type);
        self.send(request.body(body.into()).unwrap()).await
    }

    pub(crate) async fn create(&self, body: &Value) -> Answer {
        self.post("application/json", body.to_string()).await
    }

    /// Creates a job that is fine, and returns its id.
    pub(crate) async fn job(&self) -> JobId {
        let answer = self.create(&json!({"prompt": "a red circle"})).await;
        assert_eq!(answer.status, StatusCode::OK, "{:?}", answer.body);
        answer.json()["id"].as_str().unwrap().parse().unwrap()
    }
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }

    /// Checks the status and OpenAI's envelope, and returns the error in it.
    #[track_caller]
    pub(crate) fn error(&self, status: u16, code: &str) -> Value {
        assert_eq!(self.status.as_u16(), status, "{:?}", self.body);
        let body = self.json();
        let error = body["error"].as_object().expect("an error object");
        let mut names: Vec<_> = error.keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["code", "message", "param", "type"]);
        assert_eq!(error["code"], code, "{body}");
        Value::Object(error.clone())
    }
}

async fn read(response: Response<Body>) -> Answer {
    let (parts, body) = response.into_parts();
    Answer {
        status: parts.status,
        headers: parts.headers,
        body: axum::body::to_bytes(body, usize::MAX).await.unwrap(),
    }
}

pub(crate) fn with_json(
    request: axum::http::request::Builder,
    body: Option<Value>,
) -> Request<Body> {
    match body {
        None => request.body(Body::empty()).unwrap(),
        Some(body) => request
            .header(header::CONTENT_TYPE, "application/json")
            .body(body.to_string().into())
            .unwrap(),
    }
}

/// A form with text fields and, perhaps, one file.
pub(crate) fn form(fields: &[(&str, &str)], file: Option<(&str, &[u8])>) -> (String, Vec<u8>) {
    let mut body = Vec::new();
    for (name, value) in fields {
        body.extend(
            format!("--XyZ\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
                .bytes(),
        );
    }
    if let Some((name, bytes)) = file {
        let head = format!(
            "--XyZ\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"../../etc/passwd\"\r\n\
             Content-Type: image/png\r\n\r\n"
        );
        body.extend(head.bytes());
        body.extend(bytes);
        body.extend(b"\r\n");
    }
    body.extend(b"--XyZ--\r\n");
    ("multipart/form-data; boundary=XyZ".into(), body)
}

pub(crate) fn bundle(shape: &str, state: BundleState) -> ModelState {
    let key = BundleKey {
        model: "tiny-shapes".parse().unwrap(),
        shape: shape.parse().unwrap(),
    };
    ModelState {
        key,
        state,
        extend_frames: Some(9),
    }
}

/// Built beside the tests.
fn image_decoder() -> ImageDecoder {
    let tests = std::env::current_exe().unwrap();
    let target = tests.parent().and_then(Path::parent).unwrap();
    ImageDecoder::new(target.join("examples/image_decoder"))
}

fn keys(keys: &KeyFile, directory: &Path) -> Keys {
    Keys {
        ring: Arc::new(SharedKeyRing::open(keys.path(), Instant::now(), drop).unwrap()),
        signer: UrlSigner::open(directory).unwrap(),
    }
}

fn test_pool(journal: Journal, store: Store) -> TestPool {
    TestPool {
        journal,
        store,
        board: Arc::new(JobBoard::new(0)),
        rejection: Mutex::default(),
        cancel_error: Mutex::default(),
        submissions: Mutex::default(),
        cancelled: Mutex::default(),
        delete_error: Mutex::default(),
        orders: Mutex::default(),
        stop: tokio::sync::Notify::default(),
        stopped: tokio::sync::Notify::default(),
    }
}

fn catalog() -> Catalog {
    let shapes = ["64x64@17f", "96x64@17f", "64x64@33f"].map(|shape| shape.parse().unwrap());
    Catalog::new(vec![ModelEntry {
        name: "tiny-shapes".parse().unwrap(),
        description: "Coloured shapes that move".into(),
        shapes: shapes.to_vec(),
        modes: vec![Mode::T2v, Mode::I2v],
        defaults: Defaults {
            shape: shapes[0],
            fps: Fps::new(8).unwrap(),
            steps: Steps::new(20).unwrap(),
            guidance: Guidance::new(3.0).unwrap(),
            negative_prompt: Prompt::optional(String::new()).unwrap(),
        },
        created_at_s: 1_790_000_000,
    }])
    .unwrap()
}
