//! The video object, read leniently: only `id` and `status` must be there, and what is not understood is not there.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use std::time::Duration;

/// A job, as the server shows it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Video {
    pub(crate) fields: Fields,
    /// Everything, as it came.
    pub(crate) raw: Value,
}

/// What is needed of it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct Fields {
    pub(crate) id: String,
    pub(crate) status: String,
    #[serde(default, deserialize_with = "lenient")]
    pub(crate) status_detail: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    pub(crate) stage: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    pub(crate) step: Option<u64>,
    #[serde(default, deserialize_with = "lenient")]
    pub(crate) steps: Option<u64>,
    #[serde(default, deserialize_with = "lenient")]
    pub(crate) progress: Option<f64>,
    #[serde(default, deserialize_with = "lenient")]
    pub(crate) queue_position: Option<u64>,
    #[serde(default, deserialize_with = "lenient")]
    pub(crate) eta: Option<Eta>,
    #[serde(default, deserialize_with = "lenient")]
    pub(crate) model: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    pub(crate) size: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    pub(crate) created_at: Option<u64>,
    #[serde(default, deserialize_with = "lenient")]
    pub(crate) error: Option<VideoError>,
}

/// Seconds to its end.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub(crate) struct Eta {
    /// As likely less as more.
    pub(crate) p50: f64,
}

/// Why there is no video.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct VideoError {
    #[serde(default, deserialize_with = "lenient")]
    pub(crate) code: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    pub(crate) message: Option<String>,
}

/// A value of another type than expected says nothing, and breaks nothing.
fn lenient<'de, D: Deserializer<'de>, T: DeserializeOwned>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    let value = Value::deserialize(deserializer)?;
    Ok(serde_json::from_value(value).ok())
}

/// A page of jobs.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Page {
    pub(crate) videos: Vec<Video>,
    pub(crate) has_more: bool,
}

impl Video {
    pub(crate) fn read(raw: Value) -> Result<Self, serde_json::Error> {
        let fields = Fields::deserialize(&raw)?;
        Ok(Self { fields, raw })
    }

    pub(crate) fn id(&self) -> &str {
        &self.fields.id
    }

    /// The native state, where the server gives it.
    pub(crate) fn state(&self) -> &str {
        let detail = self.fields.status_detail.as_deref();
        detail.unwrap_or(&self.fields.status)
    }

    pub(crate) fn is_completed(&self) -> bool {
        self.fields.status == "completed"
    }

    pub(crate) fn is_over(&self) -> bool {
        let over = ["completed", "failed", "cancelled", "expired"];
        over.contains(&self.fields.status.as_str())
    }

    pub(crate) fn was_cancelled(&self) -> bool {
        let code = self
            .fields
            .error
            .as_ref()
            .and_then(|error| error.code.as_deref());
        self.state() == "cancelled" || code == Some("cancelled")
    }

    /// Why there is no video, in the server's words.
    pub(crate) fn reason(&self) -> String {
        let error = self.fields.error.as_ref();
        error
            .and_then(|error| error.message.clone().or_else(|| error.code.clone()))
            .unwrap_or_else(|| format!("its status is {}", self.state()))
    }

    pub(crate) fn eta(&self) -> Option<Duration> {
        self.fields
            .eta
            .and_then(|eta| Duration::try_from_secs_f64(eta.p50).ok())
    }

    /// `12/20`, while that says something.
    pub(crate) fn step(&self) -> Option<String> {
        let (step, steps) = (self.fields.step?, self.fields.steps?);
        Some(format!("{step}/{steps}"))
    }
}

impl Page {
    pub(crate) fn read(raw: Value) -> Result<Self, serde_json::Error> {
        #[derive(Deserialize)]
        struct List {
            data: Vec<Value>,
            #[serde(default, deserialize_with = "lenient")]
            has_more: Option<bool>,
        }
        let list = List::deserialize(raw)?;
        let videos: Result<Vec<_>, _> = list.data.into_iter().map(Video::read).collect();
        Ok(Self {
            videos: videos?,
            has_more: list.has_more.unwrap_or(false),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_id_and_a_status_are_enough() {
        let video = Video::read(json!({"id": "video_1", "status": "queued"})).unwrap();
        assert_eq!((video.id(), video.state()), ("video_1", "queued"));
        assert!(!video.is_over() && video.step().is_none());
        assert!(Video::read(json!({"id": "video_1"})).is_err());
    }

    #[test]
    fn what_is_not_understood_is_not_there_and_all_is_kept() {
        let raw = json!({
            "id": "video_1", "status": "failed", "step": "many", "eta": {"at": 3}, "new": [1],
            "error": {"code": 7, "message": "gone"},
        });
        let video = Video::read(raw.clone()).unwrap();
        assert_eq!((video.step(), video.eta()), (None, None));
        assert_eq!(video.reason(), "gone");
        assert_eq!(video.raw, raw);
    }

    #[test]
    fn a_cancelled_job_is_told_from_a_failed_one() {
        let cancelled = json!({"id": "a", "status": "failed", "error": {"code": "cancelled"}});
        assert!(Video::read(cancelled).unwrap().was_cancelled());
        let failed = json!({"id": "a", "status": "failed", "error": {"code": "worker_lost"}});
        assert!(!Video::read(failed).unwrap().was_cancelled());
    }
}
