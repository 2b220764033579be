//! What is measured about requests, and the page that shows it.

use crate::gateway::Gateway;
use crate::respond::ApiError;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry, TextEncoder};
use std::sync::Arc;
use std::time::Instant;

/// Upper bounds of the latency buckets, in seconds: status reads at one end, submissions at the other.
const LATENCY_BUCKETS_S: [f64; 12] = [
    0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.1, 0.5, 2.0, 10.0, 30.0,
];

/// The label of requests that match no route. Raw paths never become labels.
const UNMATCHED: &str = "unmatched";

#[derive(Debug)]
pub(crate) struct HttpMetrics {
    requests: IntCounterVec,
    seconds: HistogramVec,
}

impl HttpMetrics {
    pub(crate) fn register(registry: &Registry) -> Self {
        let requests = Opts::new(
            "reel_http_requests_total",
            "HTTP requests by route template, method and status",
        );
        let seconds = HistogramOpts::new(
            "reel_http_request_seconds",
            "Time from a request's head to its response's head",
        )
        .buckets(LATENCY_BUCKETS_S.to_vec());
        let metrics = Self {
            requests: IntCounterVec::new(requests, &["route", "method", "status"])
                .expect("constant names are valid"),
            seconds: HistogramVec::new(seconds, &["route", "method"])
                .expect("constant names are valid"),
        };
        metrics.join(registry);
        metrics
    }

    fn join(&self, registry: &Registry) {
        let collectors: [Box<dyn prometheus::core::Collector>; 2] = [
            Box::new(self.requests.clone()),
            Box::new(self.seconds.clone()),
        ];
        for collector in collectors {
            // Only a second gateway on one registry gets here; its numbers would double the first one's.
            if let Err(error) = registry.register(collector) {
                tracing::warn!(%error, "http metrics are not shown");
            }
        }
    }
}

/// Counts and times every request.
pub(crate) async fn observe(
    State(gateway): State<Arc<Gateway>>,
    request: Request,
    next: Next,
) -> Response {
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route = route.as_ref().map_or(UNMATCHED, MatchedPath::as_str);
    let method = method_label(request.method());
    let begin = Instant::now();
    let response = next.run(request).await;
    let metrics = &gateway.metrics;
    metrics
        .requests
        .with_label_values(&[route, method, response.status().as_str()])
        .inc();
    metrics
        .seconds
        .with_label_values(&[route, method])
        .observe(begin.elapsed().as_secs_f64());
    response
}

/// Methods are the client's text: only the usual ones become labels.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::DELETE => "DELETE",
        _ => "other",
    }
}

/// `GET /metrics`
pub(crate) async fn page(State(gateway): State<Arc<Gateway>>) -> Result<Response, ApiError> {
    let text = TextEncoder::new()
        .encode_to_string(&gateway.registry.gather())
        .map_err(|error| ApiError::Internal(error.to_string()))?;
    let content_type = [(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)];
    Ok((content_type, text).into_response())
}
