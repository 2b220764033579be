//! Every status of an error, with the codes that it comes with.

/// An error status.
pub(super) struct ErrorStatus {
    pub(super) status: u16,
    /// What it means, for a person.
    pub(super) meaning: &'static str,
    pub(super) codes: &'static [&'static str],
    /// Headers that can come with it, and what they say.
    pub(super) headers: &'static [(&'static str, &'static str)],
}

const RETRY_AFTER: (&str, &str) = ("Retry-After", "Seconds until trying again can help.");

const SHOULD_RETRY: (&str, &str) = (
    "x-should-retry",
    "`false`, for OpenAI's clients, where to ask again changes nothing.",
);

/// All of them. The gateway's `respond` is where they are decided.
pub(super) const ERRORS: [ErrorStatus; 18] = [
    error(
        400,
        "The request cannot be served as it stands; `param` names what is wrong",
        &[
            "invalid_body",
            "invalid_value",
            "invalid_type",
            "invalid_image",
            "missing_required_parameter",
            "unknown_parameter",
            "duplicate_parameter",
            "shape_not_on_menu",
            "mode_not_supported",
            "mode_unsupported",
            "model_not_found",
            "bundle_unknown",
            "image_url_not_allowed",
            "image_not_fetched",
            "body_broken",
        ],
    ),
    error(
        401,
        "The server asks for a key, and there was no good one",
        &["invalid_api_key"],
    )
    .with(&[("WWW-Authenticate", "`Bearer`.")]),
    error(
        403,
        "The key, the signature of the address, or where the request comes from, does not allow it",
        &[
            "unknown_host",
            "foreign_origin",
            "not_an_admin",
            "priority_not_allowed",
            "address_expired",
            "wrong_signature",
        ],
    ),
    error(
        404,
        "There is no such thing, or it has no content (yet)",
        &[
            "video_not_found",
            "model_not_found",
            "unknown_route",
            "video_not_ready",
            "video_failed",
            "video_cancelled",
        ],
    ),
    error(
        405,
        "The route does not have that method",
        &["method_not_allowed"],
    )
    .with(&[("Allow", "The methods that it has.")]),
    error(408, "The body did not arrive in time", &["body_late"]),
    error(
        409,
        "The job, or an earlier request with this key, stands against it",
        &["still_stopping", "not_running", "idempotency_conflict"],
    )
    .with(&[RETRY_AFTER, SHOULD_RETRY]),
    error(
        410,
        "The video was there, and is gone",
        &["video_expired", "source_gone"],
    ),
    error(413, "The body is too large", &["body_too_large"]),
    error(
        415,
        "The body is of no type that is read here",
        &["unsupported_media_type"],
    ),
    error(
        416,
        "The range is outside the file",
        &["range_not_satisfiable"],
    )
    .with(&[("Content-Range", "`bytes */` and the size of the file.")]),
    error(
        422,
        "Workers died under this very request, or the job failed",
        &["quarantined", "video_failed"],
    ),
    error(
        429,
        "The queue is full, or a limit of the key is reached",
        &[
            "queue_full",
            "tenant_queue_full",
            "rate_limited",
            "too_many_unfinished_jobs",
        ],
    )
    .with(&[RETRY_AFTER]),
    error(
        500,
        "Something failed inside the server; its log says what",
        &["internal_error"],
    ),
    error(
        501,
        "No model of this server can do that",
        &["not_implemented"],
    )
    .with(&[SHOULD_RETRY]),
    error(
        503,
        "The server cannot take the work now",
        &[
            "overloaded",
            "draining",
            "bundle_not_ready",
            "bundle_resting",
            "bundle_failed",
            "does_not_fit",
            "not_durable",
        ],
    )
    .with(&[RETRY_AFTER, SHOULD_RETRY]),
    error(
        504,
        "The video is not ready in time; its job goes on",
        &["still_running"],
    )
    .with(&[SHOULD_RETRY]),
    error(
        507,
        "There is no space for new work; finished videos can be downloaded and deleted",
        &["storage_full"],
    )
    .with(&[SHOULD_RETRY]),
];

const fn error(status: u16, meaning: &'static str, codes: &'static [&'static str]) -> ErrorStatus {
    ErrorStatus {
        status,
        meaning,
        codes,
        headers: &[],
    }
}

impl ErrorStatus {
    const fn with(mut self, headers: &'static [(&'static str, &'static str)]) -> Self {
        self.headers = headers;
        self
    }
}

/// Every code, once.
pub(super) fn codes() -> Vec<&'static str> {
    let mut codes: Vec<&str> = ERRORS
        .iter()
        .flat_map(|error| error.codes)
        .copied()
        .collect();
    codes.sort_unstable();
    codes.dedup();
    codes
}
