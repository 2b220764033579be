//! Arrivals in a file: CSV with a heading, one line for each job, in the order of their arrival.
//!
//! ```text
//! at_s,shape,tenant,priority,session
//! 0.512,64x64@9f,studio-a,interactive,
//! 1.090,768x512@121f,studio-b,realtime,7
//! ```
//!
//! `at_s`: seconds from the beginning. `shape`: WIDTHxHEIGHT@FRAMESf. `tenant`: a name; empty is the default one.
//! `priority`: `realtime`, `interactive` or `batch`. `session`: the number of the session that it continues, or empty;
//! the column may be absent.

use crate::traffic::{Arrival, MERGE, session_id};
use reel_domain::{Priority, SessionId, Shape, TenantName};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

/// The shapes of a trace, the smallest first, and its arrivals, whose bundles are places among these.
#[derive(Debug, Clone, PartialEq)]
pub struct Trace {
    /// What is asked for.
    pub shapes: Vec<Shape>,
    /// When, and by whom.
    pub arrivals: Vec<Arrival>,
}

/// Why a trace was refused.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// It is not such a table.
    #[error("{0}")]
    Table(#[from] csv::Error),
    /// A value is not what its column holds.
    #[error("line {line}: {column} `{value}` {reason}")]
    Value {
        /// From 1; the heading is the first.
        line: u64,
        /// The column.
        column: &'static str,
        /// What it says.
        value: String,
        /// Why that is refused.
        reason: String,
    },
    /// There is a heading at most.
    #[error("no job in it")]
    Empty,
}

/// A line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    at_s: String,
    shape: String,
    tenant: String,
    priority: String,
    #[serde(default)]
    session: String,
}

/// Reads a trace.
///
/// # Errors
/// The first thing that is wrong, with its line.
pub fn read(from: impl io::Read) -> Result<Trace, TraceError> {
    let mut jobs: Vec<(Shape, Arrival)> = Vec::new();
    let mut reader = csv::Reader::from_reader(from);
    let headers = reader.headers()?.clone();
    let mut record = csv::StringRecord::new();
    while reader.read_record(&mut record)? {
        let line = record.position().map_or(0, csv::Position::line);
        let refused = |(column, value, reason)| TraceError::Value {
            line,
            column,
            value,
            reason,
        };
        let text: Line = record.deserialize(Some(&headers))?;
        let after = jobs.last().map_or(Duration::ZERO, |(_, job)| job.at);
        jobs.push(text.job(after).map_err(refused)?);
    }
    if jobs.is_empty() {
        return Err(TraceError::Empty);
    }
    Ok(Trace::new(jobs))
}

/// Writes arrivals as a trace, to the millisecond. `shapes`: of each bundle.
///
/// # Errors
/// When they cannot be written.
pub fn write(to: impl io::Write, arrivals: &[Arrival], shapes: &[Shape]) -> Result<(), TraceError> {
    let mut writer = csv::Writer::from_writer(to);
    for job in arrivals {
        writer.serialize(Line {
            at_s: format!("{:.3}", job.at.as_secs_f64()),
            shape: shapes[job.bundle].to_string(),
            tenant: job.tenant.to_string(),
            priority: job.priority.to_string(),
            session: job.session.map(session_number).unwrap_or_default(),
        })?;
    }
    Ok(writer.flush().map_err(csv::Error::from)?)
}

impl Trace {
    fn new(jobs: Vec<(Shape, Arrival)>) -> Self {
        let shapes: BTreeSet<Shape> = jobs.iter().map(|(shape, _)| *shape).collect();
        let shapes: Vec<Shape> = shapes.into_iter().collect();
        let arrivals = jobs.into_iter().map(|(shape, job)| Arrival {
            bundle: shapes.partition_point(|other| *other < shape),
            ..job
        });
        Self {
            arrivals: arrivals.collect(),
            shapes,
        }
    }
}

/// A column, what it says, and why that is refused.
type Refused = (&'static str, String, String);

impl Line {
    /// The job of a line; its bundle is known when all lines are. `after`: when the one before arrived.
    fn job(self, after: Duration) -> Result<(Shape, Arrival), Refused> {
        let at = seconds(&self.at_s, after).map_err(|reason| ("at_s", self.at_s, reason))?;
        let shape = self.shape.parse();
        let shape = shape.map_err(|_| {
            let reason = "is not a shape like 64x64@17f".to_owned();
            ("shape", self.shape, reason)
        })?;
        let tenant = tenant(&self.tenant).map_err(|reason| ("tenant", self.tenant, reason))?;
        let class = Priority::ALL
            .into_iter()
            .find(|class| class.as_str() == self.priority);
        let priority = class.ok_or_else(|| {
            let reason = "is none of realtime, interactive, batch".to_owned();
            ("priority", self.priority, reason)
        })?;
        let session = session(&self.session).map_err(|reason| ("session", self.session, reason))?;
        let job = Arrival {
            at,
            bundle: 0,
            tenant,
            priority,
            merge: MERGE,
            session,
        };
        Ok((shape, job))
    }
}

fn seconds(text: &str, after: Duration) -> Result<Duration, String> {
    let number = text.parse().map_err(|_| "is not a number".to_owned())?;
    let at = Duration::try_from_secs_f64(number).map_err(|error| format!("is refused: {error}"))?;
    if at < after {
        return Err(format!(
            "is before the line above ({} s)",
            after.as_secs_f64()
        ));
    }
    Ok(at)
}

fn session(text: &str) -> Result<Option<SessionId>, String> {
    match text {
        "" => Ok(None),
        _ => text
            .parse()
            .map(|number| Some(session_id(number)))
            .map_err(|_| "is not a number".to_owned()),
    }
}

fn session_number(session: SessionId) -> String {
    u128::from_be_bytes(*session.as_bytes()).to_string()
}

fn tenant(text: &str) -> Result<TenantName, String> {
    match text {
        "" => Ok(TenantName::default()),
        _ => text.parse().map_err(|error| format!("is refused: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::{Pattern, Volume, draw};

    fn refused(lines: &str) -> String {
        let text = format!("at_s,shape,tenant,priority\n{lines}");
        let error = read(text.as_bytes()).expect_err("it is wrong");
        error.to_string()
    }

    #[test]
    fn what_is_written_is_read_again() {
        let shapes: Vec<Shape> = ["64x64@9f", "64x64@17f", "96x64@9f"]
            .map(|shape| shape.parse().expect("a shape"))
            .into();
        let volume = Volume {
            jobs: 500,
            rate: 0.5,
            bundles: shapes.len(),
            tenants: 3,
            service: Duration::from_secs(7),
            seed: 1,
        };
        let mut arrivals = draw(Pattern::Sessions, volume);
        for job in &mut arrivals {
            job.at = Duration::from_millis(u64::try_from(job.at.as_millis()).expect("a number"));
        }
        let mut file = Vec::new();
        write(&mut file, &arrivals, &shapes).expect("written");
        let trace = read(file.as_slice()).expect("read");
        assert_eq!(trace, Trace { shapes, arrivals });
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        assert_eq!(
            refused("0,64x64@9f,,batch\nsoon,64x64@9f,,batch\n"),
            "line 3: at_s `soon` is not a number"
        );
        assert_eq!(
            refused("1,64x64@9f,,batch\n0.5,64x64@9f,,batch\n"),
            "line 3: at_s `0.5` is before the line above (1 s)"
        );
        assert_eq!(
            refused("0,64x64,,batch\n"),
            "line 2: shape `64x64` is not a shape like 64x64@17f"
        );
        assert_eq!(
            refused("0,64x64@9f,,urgent\n"),
            "line 2: priority `urgent` is none of realtime, interactive, batch"
        );
        let text = "at_s,shape,tenant,priority,session\n0,64x64@9f,,realtime,mine\n";
        let error = read(text.as_bytes()).expect_err("it is wrong");
        assert_eq!(error.to_string(), "line 2: session `mine` is not a number");
        assert!(refused("0,64x64@9f,a b,batch\n").starts_with("line 2: tenant `a b` is refused: "));
        assert!(refused("-1,64x64@9f,,batch\n").starts_with("line 2: at_s `-1` is refused: "));
        assert_eq!(refused(""), "no job in it");
        assert!(refused("0,64x64@9f\n").contains("line: 2"));
    }
}
