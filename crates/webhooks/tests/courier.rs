//! Ends of jobs, told to real receivers on this machine.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops")]

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use reel_domain::{
    BundleKey, Durations, Failure, FailureCode, Fps, Guidance, Job, JobId, Mode, Outcome, Prompt,
    Sampling, Seed, Sharing, Steps,
};
use reel_journal::{Ending, Journal, Reader, VideoMeta, WriteError};
use reel_keys::{KeyFile, NewKey, SharedKeyRing};
use reel_outbound::client::Limits;
use reel_outbound::standard_webhooks::{ID_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER};
use reel_outbound::{Hosts, Outbound, Schemes, SystemResolver, UrlPolicy, WebhookSecret};
use reel_webhooks::{BACK_OFF, Courier, DELIVERIES_OF_TENANT_MAX, Parts};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;

/// Longest wait for what has to happen.
const PATIENCE: Duration = Duration::from_secs(30);
/// What a receiver that hangs costs.
const TOTAL: Duration = Duration::from_secs(3);
/// Pauses that no test notices.
const HASTE: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(2)];

/// What a receiver got.
#[derive(Debug)]
struct Received {
    path: String,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Received {
    fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }

    fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// One of its signatures is of this secret.
    fn is_signed_with(&self, secret: &WebhookSecret) -> bool {
        let timestamp_s = self.header(TIMESTAMP_HEADER).parse().unwrap();
        let expected = secret.sign(self.header(ID_HEADER), timestamp_s, &self.body);
        let mut signatures = self.header(SIGNATURE_HEADER).split(' ');
        signatures.any(|signature| signature == expected)
    }
}

/// How a receiver answers.
#[derive(Debug, Clone, Copy)]
enum Manner {
    Status(u16),
    Redirect,
    Hang,
}

#[derive(Clone)]
struct Script {
    received: mpsc::UnboundedSender<Received>,
    /// The next answers; 200 when there is none.
    manners: Arc<Mutex<VecDeque<Manner>>>,
}

async fn receive(
    State(script): State<Script>,
    Path(path): Path<String>,
    headers: HeaderMap,
    body: axum::body::Bytes,
) -> Response {
    let hangs = path == "hang";
    let received = Received {
        path,
        headers,
        body: body.into(),
    };
    script.received.send(received).unwrap();
    let next = script.manners.lock().unwrap().pop_front();
    match next {
        _ if hangs => std::future::pending().await,
        Some(Manner::Hang) => std::future::pending().await,
        None => StatusCode::OK.into_response(),
        Some(Manner::Status(status)) => StatusCode::from_u16(status).unwrap().into_response(),
        Some(Manner::Redirect) => {
            (StatusCode::FOUND, [(header::LOCATION, "/elsewhere")]).into_response()
        }
    }
}

/// A receiver, and a journal whose ends of jobs it is told.
struct Office {
    directory: TempDir,
    journal: Journal,
    reader: Reader,
    keys: KeyFile,
    secret: WebhookSecret,
    registry: prometheus::Registry,
    owed: Arc<Notify>,
    address: SocketAddr,
    received: mpsc::UnboundedReceiver<Received>,
}

impl Office {
    async fn open(manners: &[Manner]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (journal, reader) = Journal::open(&directory.path().join("journal.sqlite")).unwrap();
        let (sender, received) = mpsc::unbounded_channel();
        let script = Script {
            received: sender,
            manners: Arc::new(Mutex::new(manners.iter().copied().collect())),
        };
        let router = Router::new()
            .route("/{path}", post(receive))
            .with_state(script);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self {
            keys: KeyFile::of(directory.path()),
            directory,
            journal,
            reader,
            secret: WebhookSecret::mint().unwrap(),
            registry: prometheus::Registry::new(),
            owed: Arc::default(),
            address,
            received,
        }
    }

    fn courier(&self, back_off: &[Duration], registry: prometheus::Registry) -> Courier {
        let keys = SharedKeyRing::open(self.keys.path(), Instant::now(), drop).unwrap();
        let limits = Limits {
            total: TOTAL,
            ..Limits::default()
        };
        let parts = Parts {
            journal: self.journal.clone(),
            reader: self.reader.clone(),
            keys: Arc::new(keys),
            server_secret: self.secret.clone(),
            outbound: Outbound::new(Arc::new(SystemResolver), limits),
            policy: UrlPolicy {
                schemes: Schemes::HttpsAndHttp,
                hosts: Hosts::Any,
                ports: vec![self.address.port()],
                private_addresses: true,
            },
            back_off: back_off.to_vec(),
            owed: Arc::clone(&self.owed),
            registry,
        };
        Courier::new(parts).unwrap()
    }

    fn run(&self, back_off: &[Duration]) -> JoinHandle<()> {
        let courier = self.courier(back_off, self.registry.clone());
        tokio::spawn(courier.run())
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }

    /// A job of a tenant has ended.
    async fn end(&self, number: u8, tenant: &str, url: &str, outcome: Outcome) -> JobId {
        let job = job(number, tenant, url);
        stored(|done| self.journal.insert(&job, done)).await;
        let video = (outcome == Outcome::Completed).then(|| VideoMeta {
            bytes: 5,
            sha256: "0".repeat(64),
        });
        let ending = Ending {
            outcome,
            finished_at_ms: 1_790_000_000_000,
            video,
            expires_at_ms: None,
            sequence: 9,
            device: None,
            durations: Durations::default(),
        };
        stored(|done| self.journal.finish(job.id, 1, ending, done)).await;
        self.owed.notify_one();
        job.id
    }

    async fn completed(&self, number: u8) -> JobId {
        let url = self.url("hook");
        self.end(number, "a", &url, Outcome::Completed).await
    }

    async fn next(&mut self) -> Received {
        let received = tokio::time::timeout(PATIENCE, self.received.recv()).await;
        received.expect("a message in time").unwrap()
    }

    fn owed(&self) -> Vec<(JobId, u32, u64)> {
        let owed = self.reader.callbacks(u64::MAX, 99).unwrap();
        let owed = owed.iter();
        owed.map(|owed| (owed.id, owed.tries, owed.due_ms))
            .collect()
    }

    async fn until(&self, what: &str, happened: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !happened(self) {
            assert!(Instant::now() < deadline, "{what}, in time");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Nothing is owed any more, and nothing more was sent.
    async fn until_settled(&mut self) {
        self.until("settled", |office| office.owed().is_empty())
            .await;
        assert!(self.received.try_recv().is_err(), "one message too many");
    }

    fn counted(&self, outcome: &str) -> f64 {
        let families = self.registry.gather();
        let mut metrics = families
            .iter()
            .filter(|family| family.name() == "reel_webhook_deliveries_total")
            .flat_map(prometheus::proto::MetricFamily::get_metric);
        let metric = metrics.find(|metric| metric.get_label()[0].value() == outcome);
        metric.unwrap().get_counter().get_value()
    }
}

type Done = Box<dyn FnOnce(Result<(), WriteError>) + Send>;

async fn stored(write: impl FnOnce(Done)) {
    let (sender, receiver) = oneshot::channel();
    write(Box::new(move |result| drop(sender.send(result))));
    receiver.await.unwrap().unwrap();
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(since.as_millis()).unwrap()
}

fn job(number: u8, tenant: &str, url: &str) -> Job {
    Job {
        id: JobId::from_bytes([number; 16]),
        bundle: BundleKey {
            model: "tiny".parse().unwrap(),
            shape: "64x64@17f".parse().unwrap(),
        },
        mode: Mode::T2v,
        conditioning_frames: 0,
        sampling: Sampling {
            prompt: Prompt::new("a secret".into()).unwrap(),
            negative_prompt: Prompt::optional(String::new()).unwrap(),
            seed: Seed::new(1).unwrap(),
            steps: Steps::new(20).unwrap(),
            guidance: Guidance::new(1.0).unwrap(),
            fps: Fps::new(8).unwrap(),
        },
        sharing: Sharing {
            tenant: tenant.parse().unwrap(),
            ..Sharing::default()
        },
        origin: None,
        callback: Some(url.parse().unwrap()),
        trace: None,
        created_at_ms: 1_789_999_000_000,
    }
}

#[tokio::test]
async fn the_end_of_a_job_is_told_once_and_signed() {
    let mut office = Office::open(&[]).await;
    office.run(&BACK_OFF);
    let id = office.completed(7).await;
    let message = office.next().await;
    assert_eq!(message.header("content-type"), "application/json");
    let event = message.json();
    let expected = serde_json::json!({
        "id": message.header(ID_HEADER), "object": "event", "created_at": 1_790_000_000_u64,
        "type": "video.completed",
        "data": {"id": id.to_string(), "status": "completed", "status_detail": "completed"},
    });
    assert_eq!(event, expected, "nothing of what was asked for is in it");
    assert!(message.is_signed_with(&office.secret));
    assert!(!message.is_signed_with(&WebhookSecret::mint().unwrap()));
    let sent_s: u64 = message.header(TIMESTAMP_HEADER).parse().unwrap();
    assert!(sent_s.abs_diff(now_ms() / 1_000) < 300);
    office.until_settled().await;
    assert!((office.counted("delivered") - 1.0).abs() < f64::EPSILON);
}

#[tokio::test]
async fn a_job_that_failed_or_was_cancelled_is_told_as_failed() {
    let mut office = Office::open(&[]).await;
    office.run(&BACK_OFF);
    let failure = Failure {
        code: FailureCode::WorkerLost,
        message: "gone".into(),
    };
    let url = office.url("hook");
    for (number, outcome, detail) in [
        (1, Outcome::Failed(failure), "failed"),
        (2, Outcome::Cancelled, "cancelled"),
    ] {
        office.end(number, "a", &url, outcome).await;
        let event = office.next().await.json();
        assert_eq!(event["type"], "video.failed");
        assert_eq!(event["data"]["status"], "failed");
        assert_eq!(event["data"]["status_detail"], detail);
    }
}

#[tokio::test]
async fn every_key_of_a_tenant_can_check_it_and_no_other_can() {
    let mut office = Office::open(&[]).await;
    let create = |tenant: &str| {
        let new = NewKey {
            tenant: tenant.parse().unwrap(),
            ..NewKey::default()
        };
        let key = office.keys.create(new, 1_790_000_000_000).unwrap().key;
        let secret = key.webhook_secret.unwrap().expose().parse().unwrap();
        (key.id, secret)
    };
    let (_, first) = create("a");
    let (_, second) = create("a");
    let (revoked_id, revoked) = create("a");
    let (_, other) = create("b");
    office.keys.revoke(&revoked_id, 1_790_000_000_000).unwrap();
    office.run(&BACK_OFF);
    office.completed(1).await;
    let message = office.next().await;
    assert!(message.is_signed_with(&first) && message.is_signed_with(&second));
    for secret in [&revoked, &other, &office.secret] {
        assert!(!message.is_signed_with(secret));
    }
    assert_eq!(message.header(SIGNATURE_HEADER).split(' ').count(), 2);
}

#[tokio::test]
async fn a_receiver_that_fails_gets_the_same_message_again() {
    let manners = [Manner::Status(500), Manner::Status(404)];
    let mut office = Office::open(&manners).await;
    office.run(&HASTE);
    office.completed(1).await;
    let first = office.next().await;
    for _ in 0..2 {
        let again = office.next().await;
        assert_eq!(again.header(ID_HEADER), first.header(ID_HEADER));
        assert_eq!(again.body, first.body);
        assert!(again.is_signed_with(&office.secret));
    }
    office.until_settled().await;
    assert!((office.counted("later") - 2.0).abs() < f64::EPSILON);
    assert!((office.counted("delivered") - 1.0).abs() < f64::EPSILON);
}

#[tokio::test]
async fn the_next_try_is_due_after_the_first_pause() {
    let mut office = Office::open(&[Manner::Status(503)]).await;
    let before_ms = now_ms();
    office.run(&BACK_OFF);
    let id = office.completed(1).await;
    office.next().await;
    let delayed = |office: &Office| office.owed().iter().any(|(_, tries, _)| *tries == 1);
    office.until("delayed", delayed).await;
    let (owed, _, due_ms) = office.owed()[0];
    assert_eq!(owed, id);
    let pause_ms = u64::try_from(BACK_OFF[0].as_millis()).unwrap();
    assert!((before_ms + pause_ms..=now_ms() + pause_ms).contains(&due_ms));
}

#[test]
fn pauses_grow_over_more_than_a_weekend() {
    assert!(BACK_OFF.is_sorted_by(|shorter, longer| shorter < longer));
    let whole: Duration = BACK_OFF.iter().sum();
    assert!(whole > Duration::from_secs(60 * 3_600));
}

#[tokio::test]
async fn a_receiver_that_never_takes_it_is_given_up_after_the_last_pause() {
    let mut office = Office::open(&[Manner::Status(500); 9]).await;
    office.run(&HASTE);
    office.completed(1).await;
    for _ in 0..=HASTE.len() {
        office.next().await;
    }
    office.until_settled().await;
    assert!((office.counted("later") - 2.0).abs() < f64::EPSILON);
    assert!((office.counted("given_up") - 1.0).abs() < f64::EPSILON);
}

#[tokio::test]
async fn a_receiver_that_is_gone_for_good_is_not_asked_again() {
    let mut office = Office::open(&[Manner::Status(410)]).await;
    office.run(&HASTE);
    office.completed(1).await;
    office.next().await;
    office.until_settled().await;
    assert!((office.counted("given_up") - 1.0).abs() < f64::EPSILON);
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let mut office = Office::open(&[Manner::Redirect]).await;
    office.run(&HASTE);
    office.completed(1).await;
    assert_eq!(office.next().await.path, "hook");
    // It is a failure like others: tried again, where it was to go.
    assert_eq!(office.next().await.path, "hook");
    office.until_settled().await;
}

#[tokio::test]
async fn a_receiver_that_must_not_be_asked_is_not() {
    let mut office = Office::open(&[]).await;
    office.run(&HASTE);
    let url = "http://127.0.0.1:22/";
    office.end(1, "a", url, Outcome::Completed).await;
    office.until_settled().await;
    assert!((office.counted("given_up") - 1.0).abs() < f64::EPSILON);
}

#[tokio::test]
async fn a_tenant_whose_receivers_hang_holds_up_nobody_else() {
    let mut office = Office::open(&[]).await;
    let (hang, hook) = (office.url("hang"), office.url("hook"));
    for number in 0..100 {
        office.end(number, "a", &hang, Outcome::Completed).await;
    }
    let id = office.end(200, "b", &hook, Outcome::Completed).await;
    office.run(&HASTE);
    let mut hanging = 0;
    loop {
        let message = office.next().await;
        if message.path == "hook" {
            assert_eq!(message.json()["data"]["id"], id.to_string());
            break;
        }
        hanging += 1;
    }
    assert!(hanging <= DELIVERIES_OF_TENANT_MAX, "{hanging}");
}

#[tokio::test]
async fn what_was_under_way_at_the_end_of_a_courier_is_told_by_the_next() {
    let mut office = Office::open(&[Manner::Hang]).await;
    let courier = office.run(&HASTE);
    office.completed(1).await;
    let first = office.next().await;
    courier.abort();
    assert!(courier.await.unwrap_err().is_cancelled());
    let next = office.courier(&HASTE, prometheus::Registry::new());
    tokio::spawn(next.run());
    let again = office.next().await;
    assert_eq!(again.header(ID_HEADER), first.header(ID_HEADER));
    office.until_settled().await;
}

#[tokio::test]
async fn what_is_owed_is_told_after_a_restart() {
    let mut office = Office::open(&[]).await;
    let id = office.completed(1).await;
    let path = office.directory.path().join("journal.sqlite");
    office.journal.clone().close();
    // The thread of the journal holds the file until its last word.
    (office.journal, office.reader) = Journal::open(&path).unwrap();
    office.owed = Arc::default();
    office.run(&BACK_OFF);
    assert_eq!(office.next().await.json()["data"]["id"], id.to_string());
    office.until_settled().await;
}

#[tokio::test]
async fn a_job_that_is_deleted_is_not_told_any_more() {
    let mut office = Office::open(&[Manner::Status(500)]).await;
    let (gone, other) = (office.completed(1).await, office.completed(2).await);
    stored(|done| office.journal.delete(gone, done)).await;
    office.run(&[Duration::from_secs(3_600)]);
    let message = office.next().await;
    assert_eq!(message.json()["data"]["id"], other.to_string());
    let delayed = |office: &Office| office.owed().iter().any(|(_, tries, _)| *tries == 1);
    office.until("delayed", delayed).await;
    stored(|done| office.journal.delete(other, done)).await;
    office.until_settled().await;
}

#[tokio::test]
async fn an_outcome_that_cannot_be_stored_does_not_become_a_storm() {
    let mut office = Office::open(&[]).await;
    office.completed(1).await;
    office.journal.clone().close();
    office.run(&BACK_OFF);
    office.next().await;
    let told = |office: &Office| office.counted("delivered") > 0.5;
    office.until("told", told).await;
    // Whoever looks again finds it owed still, and leaves it for a while.
    for _ in 0..50 {
        office.owed.notify_one();
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert!(office.received.try_recv().is_err());
}
