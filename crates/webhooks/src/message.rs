//! What a receiver gets: an event like those of OpenAI's webhooks, so that its SDKs can verify and read it.

use reel_domain::{JobStatus, TenantName};
use reel_journal::JobRecord;
use reel_keys::KeyRing;
use reel_outbound::WebhookSecret;
use reel_outbound::standard_webhooks::SIGNATURE_HEADER;
use serde::Serialize;

/// Most signatures of one message: one for each key of its tenant.
const SIGNATURES_MAX: usize = 8;

/// The end of a job, as it is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The same at every try.
    pub id: String,
    /// JSON.
    pub body: Vec<u8>,
}

#[derive(Serialize)]
struct Event<'a> {
    id: &'a str,
    object: &'static str,
    created_at: u64,
    #[serde(rename = "type")]
    kind: &'static str,
    data: Data,
}

#[derive(Serialize)]
struct Data {
    /// The job.
    id: String,
    /// `completed` or `failed`.
    status: &'static str,
    /// The native state.
    status_detail: &'static str,
}

impl Message {
    /// The end of a job that has ended.
    #[must_use]
    pub fn of(record: &JobRecord) -> Self {
        let (kind, status) = match record.status {
            // A video that was made and has been removed since was made.
            JobStatus::Completed | JobStatus::Expired => ("video.completed", "completed"),
            _ => ("video.failed", "failed"),
        };
        let video = record.job.id.to_string();
        let id = video.replacen("video_", "evt_", 1);
        let event = Event {
            id: &id,
            object: "event",
            created_at: record.finished_at_ms.unwrap_or(record.job.created_at_ms) / 1_000,
            kind,
            data: Data {
                id: video,
                status,
                status_detail: record.status.as_str(),
            },
        };
        // Texts and numbers: there is nothing in it that JSON could not say.
        let body = serde_json::to_vec(&event).unwrap_or_default();
        Self { id, body }
    }

    /// The headers of a try: the id, the time, and a signature for each secret, of which the receiver needs to know
    /// one.
    #[must_use]
    pub fn headers(
        &self,
        secrets: &[WebhookSecret],
        timestamp_s: u64,
    ) -> Vec<(&'static str, String)> {
        let mut headers: Vec<(&'static str, String)> = Vec::new();
        for secret in secrets {
            for (name, value) in secret.headers(&self.id, timestamp_s, &self.body) {
                match headers.iter_mut().find(|(known, _)| *known == name) {
                    Some((_, known)) if name == SIGNATURE_HEADER => {
                        *known = format!("{known} {value}");
                    }
                    Some(_) => {}
                    None => headers.push((name, value)),
                }
            }
        }
        headers
    }
}

/// The secrets that a tenant's messages are signed with: those of its newest keys that can be used, and the server's where it has none.
pub(crate) fn secrets(
    ring: &KeyRing,
    tenant: &TenantName,
    server: &WebhookSecret,
    now_ms: u64,
) -> Vec<WebhookSecret> {
    let mut keys: Vec<_> = ring
        .keys()
        .filter(|key| key.tenant == *tenant && key.refusal(now_ms).is_none())
        .collect();
    // Whoever has more keys than fit has changed to the newest ones.
    keys.sort_by_key(|key| std::cmp::Reverse(key.created_ms));
    let secrets = keys
        .into_iter()
        .filter_map(|key| key.webhook_secret.as_ref()?.expose().parse().ok());
    let secrets: Vec<WebhookSecret> = secrets.take(SIGNATURES_MAX).collect();
    match secrets.is_empty() {
        true => vec![server.clone()],
        false => secrets,
    }
}
