//! Every error there is, and where it is documented.

use super::*;
use reel_domain::{BundleKey, FailureCode, Mode};
use std::collections::BTreeSet;
use std::io;
use std::num::NonZeroU32;
use std::path::Path;

/// A number for each error: whoever adds one is led here by the compiler, and by the first test to [`errors`].
fn number(error: &ApiError) -> usize {
    use ApiError as E;
    match error {
        E::Invalid(_) => 0,
        E::Image(_) => 1,
        E::BodyTooLarge(_) => 2,
        E::BodyLate(_) => 3,
        E::BodyBroken => 4,
        E::UnsupportedMediaType => 5,
        E::UnknownRoute => 6,
        E::WrongMethod => 7,
        E::NoKey => 8,
        E::Key(_) => 9,
        E::Signed(_) => 10,
        E::NotAnAdmin => 11,
        E::PriorityForbidden(_) => 12,
        E::TooFast(_) => 13,
        E::UnfinishedJobs { .. } => 14,
        E::ImageUrlForbidden => 15,
        E::VideoUpload => 16,
        E::ImageFetch(_) => 17,
        E::Still(_) => 18,
        E::LastFrames(_) => 19,
        E::SourceGone => 20,
        E::StillRunning { .. } => 21,
        E::NotGenerated(_) => 22,
        E::NotImplemented(_) => 23,
        E::UnknownVideo => 24,
        E::UnknownModel => 25,
        E::NoContent(_) => 26,
        E::RangeNotSatisfiable { .. } => 27,
        E::Rejected(_) => 28,
        E::Shed => 29,
        E::Cancel(_) => 30,
        E::Delete(_) => 31,
        E::Journal(_) => 32,
        E::Store(_) => 33,
        E::ContentMissing => 34,
        E::Internal(_) => 35,
        E::UnknownHost => 36,
        E::ForeignOrigin => 37,
    }
}

/// As [`number`], of what the pool does not take.
fn number_of(rejection: &Rejection) -> usize {
    use Rejection as R;
    match rejection {
        R::QueueFull { .. } => 0,
        R::TenantQueueFull { .. } => 1,
        R::Quarantined { .. } => 2,
        R::DoesNotFit { .. } => 3,
        R::BundleUnknown(_) => 4,
        R::BundleNotReady(_) => 5,
        R::BundleFailed(_) => 6,
        R::BundleResting(_) => 7,
        R::ModeUnsupported { .. } => 8,
        R::Draining => 9,
        R::Overloaded => 10,
        R::NotDurable => 11,
        R::Repeated { .. } => 12,
        R::SourceGone { .. } => 13,
        R::StorageFull => 14,
    }
}

fn id() -> JobId {
    JobId::from_bytes([7; 16])
}

fn rejections() -> Vec<Rejection> {
    let bundle = || BundleKey {
        model: "tiny".parse().unwrap(),
        shape: "64x64@17f".parse().unwrap(),
    };
    let (limit, retry_after_s) = (1, 2);
    vec![
        Rejection::QueueFull {
            limit,
            retry_after_s,
        },
        Rejection::TenantQueueFull {
            limit,
            retry_after_s,
        },
        Rejection::Quarantined {
            case: "case-1".into(),
        },
        Rejection::DoesNotFit {
            bundle: bundle(),
            needs_bytes: 2,
            device_bytes: 1,
        },
        Rejection::BundleUnknown(bundle()),
        Rejection::BundleNotReady(bundle()),
        Rejection::BundleFailed(bundle()),
        Rejection::BundleResting(bundle()),
        Rejection::ModeUnsupported {
            bundle: bundle(),
            mode: Mode::I2v,
        },
        Rejection::Draining,
        Rejection::Overloaded,
        Rejection::NotDurable,
        Rejection::Repeated {
            id: id(),
            same: false,
        },
        Rejection::SourceGone { id: id() },
        Rejection::StorageFull,
    ]
}

fn store_error() -> StoreError {
    let directory = tempfile::tempdir().unwrap();
    let store = reel_artifacts::Store::open(directory.path()).unwrap();
    store.given(id()).unwrap_err()
}

/// One of each kind at least.
fn errors() -> Vec<ApiError> {
    use ApiError as E;
    let deadline = Duration::from_secs(1);
    let failure = Failure {
        code: FailureCode::WorkerLost,
        message: "gone".into(),
    };
    let limited = Limited {
        per_minute: NonZeroU32::MIN,
        retry_after: deadline,
    };
    let unavailable = ImageError::DecoderUnavailable {
        cause: "/srv/reel".into(),
    };
    let mut errors = vec![
        E::Invalid(Invalid::body("no".into())),
        E::Image(ImageError::Empty),
        E::Image(unavailable),
        E::BodyTooLarge(1),
        E::BodyLate(deadline),
        E::BodyBroken,
        E::UnsupportedMediaType,
        E::UnknownRoute,
        E::WrongMethod,
        E::NoKey,
        E::Key(KeyError::Revoked),
        E::Signed(SignedUrlError::Malformed),
        E::Signed(SignedUrlError::Wrong),
        E::Signed(SignedUrlError::Expired),
        E::NotAnAdmin,
        E::PriorityForbidden(Priority::Interactive),
        E::TooFast(limited),
        E::UnfinishedJobs {
            limit: 1,
            retry_after: None,
        },
        E::UnknownHost,
        E::ForeignOrigin,
        E::ImageUrlForbidden,
        E::VideoUpload,
        E::ImageFetch(FetchError::NoHosts),
        E::Still(StillError::Interrupted("/srv/reel".into())),
        E::LastFrames(MediaError::Io(io::Error::other("/srv/reel"))),
        E::SourceGone,
        E::StillRunning { id: id(), deadline },
        E::NotGenerated(Some(failure)),
        E::NotImplemented("no"),
        E::UnknownVideo,
        E::UnknownModel,
        E::RangeNotSatisfiable { bytes: 1 },
        E::Shed,
        E::Cancel(CancelError::NotRunning),
        E::Cancel(CancelError::StillStopping),
        E::Cancel(CancelError::Overloaded),
        E::Delete(DeleteError::Unknown),
        E::Delete(DeleteError::Running),
        E::Delete(DeleteError::Storage("/srv/reel".into())),
        E::Delete(DeleteError::Overloaded),
        E::Journal(unreadable()),
        E::Store(store_error()),
        E::ContentMissing,
        E::Internal("/srv/reel".into()),
    ];
    errors.extend(
        JobStatus::ALL
            .into_iter()
            .filter(|status| *status != JobStatus::Completed)
            .map(E::NoContent),
    );
    errors.extend(rejections().into_iter().map(E::Rejected));
    errors
}

fn unreadable() -> ReadError {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal.sqlite");
    let (journal, reader) = reel_journal::Journal::open(&path).unwrap();
    drop(journal);
    std::fs::remove_file(&path).unwrap();
    reader.get(id()).unwrap_err()
}

/// Every code that a request can be refused with before it is a job, from where they are written.
fn codes_of_invalid_requests() -> BTreeSet<String> {
    let sources =
        ["../api/src", "src"].map(|path| Path::new(env!("CARGO_MANIFEST_DIR")).join(path));
    let mut codes = BTreeSet::new();
    for source in sources {
        for file in std::fs::read_dir(source).unwrap() {
            let path = file.unwrap().path();
            if !path.is_file() {
                continue;
            }
            let text = std::fs::read_to_string(path).unwrap();
            // As in `Invalid::new(param, message, "code")` and `Invalid { code: "code" }`.
            for begin in ["message, \"", "code: \""] {
                let found = text.split(begin).skip(1);
                codes.extend(found.filter_map(|rest| Some(rest.split_once('"')?.0.to_owned())));
            }
        }
    }
    let failures = FailureCode::ALL.map(|code| code.as_str().to_owned());
    assert!(codes.contains("shape_not_on_menu") && codes.contains("invalid_body"));
    codes.retain(|code| !failures.contains(code));
    codes
}

/// Statuses and codes of the table of errors.
fn documented() -> BTreeSet<(u16, String)> {
    let text = include_str!("../../../../docs/http.md");
    let (_, table) = text
        .split_once("\n## Errors\n")
        .expect("a section on errors");
    let table = table.split("\n## ").next().unwrap_or_default();
    let rows = table.lines().filter_map(|line| {
        let mut cells = line.split('|').skip(1);
        let status: u16 = cells.next()?.trim().parse().ok()?;
        Some((status, cells.next()?))
    });
    let is_code = |text: &&str| {
        !text.is_empty()
            && text
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte == b'_')
    };
    rows.flat_map(|(status, cell)| {
        let quoted = cell.split('`').skip(1).step_by(2).filter(is_code);
        quoted.map(move |code| (status, code.to_owned()))
    })
    .collect()
}

#[test]
fn every_kind_of_error_is_looked_at() {
    let numbers: BTreeSet<usize> = errors().iter().map(number).collect();
    assert!(numbers.iter().copied().eq(0..38), "{numbers:?}");
    let rejections: BTreeSet<usize> = rejections().iter().map(number_of).collect();
    assert!(rejections.iter().copied().eq(0..15), "{rejections:?}");
}

#[test]
fn every_error_is_in_the_table_of_the_documentation_and_no_other_is() {
    let mut answered: BTreeSet<(u16, String)> = errors()
        .iter()
        .map(ApiError::mapping)
        .map(|mapping| (mapping.status.as_u16(), mapping.code.to_owned()))
        .collect();
    answered.extend(
        codes_of_invalid_requests()
            .into_iter()
            .map(|code| (400, code)),
    );
    let documented = documented();
    let missing: Vec<_> = answered.difference(&documented).collect();
    assert!(missing.is_empty(), "not in docs/http.md: {missing:?}");
    let stale: Vec<_> = documented.difference(&answered).collect();
    assert!(stale.is_empty(), "only in docs/http.md: {stale:?}");
}

#[test]
fn no_error_tells_what_lies_inside_the_server() {
    for error in errors() {
        let message = message(&error);
        assert!(!message.contains("/srv/reel"), "{message}");
        assert!(!message.contains("/tmp"), "{message}");
        assert!(!message.is_empty() && !message.ends_with('.'), "{message}");
    }
}

#[test]
fn whoever_may_try_again_is_told_when_and_nobody_else_is() {
    for error in errors() {
        let mapping = error.mapping();
        let again = mapping.retry_after.map(|delay| delay.as_secs());
        assert_ne!(again, Some(0), "{error}");
        if mapping.status == StatusCode::TOO_MANY_REQUESTS {
            assert!(again.is_some(), "{error}");
        }
        let helps = [409, 429, 503].contains(&mapping.status.as_u16());
        assert!(helps || again.is_none(), "{error}");
    }
}

fn is_final(error: ApiError) -> bool {
    let response = error.into_response();
    response
        .headers()
        .get(SHOULD_RETRY)
        .is_some_and(|value| value == "false")
}

#[test]
fn clients_are_told_when_asking_again_is_no_use() {
    let repeated = Rejection::Repeated {
        id: JobId::from_bytes([7; 16]),
        same: false,
    };
    let running = ApiError::StillRunning {
        id: JobId::from_bytes([7; 16]),
        deadline: Duration::from_secs(1),
    };
    assert!(is_final(ApiError::NotImplemented("never")));
    assert!(is_final(repeated.into()));
    assert!(is_final(running), "it would be made twice");
    assert!(!is_final(ApiError::Cancel(CancelError::StillStopping)));
    assert!(!is_final(ApiError::Shed));
    assert!(!is_final(ApiError::Internal("a disk".into())));
}
