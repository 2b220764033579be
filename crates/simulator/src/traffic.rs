//! Synthetic traffic: who asks for what, and when. Seeded: the same on every machine.

use rand::RngExt;
use rand_distr::{Distribution, Exp, Zipf};
use rand_pcg::Pcg64;
use rand_pcg::rand_core::SeedableRng;
use reel_domain::{Priority, SessionId, TenantName};
use reel_scheduler::Merge;
use std::time::Duration;

/// One job that somebody asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct Arrival {
    /// When, from the beginning.
    pub at: Duration,
    /// Which bundle of the menu.
    pub bundle: usize,
    /// Who.
    pub tenant: TenantName,
    /// How urgent.
    pub priority: Priority,
    /// With what it can share a worker.
    pub merge: Merge,
    /// The session that it continues.
    pub session: Option<SessionId>,
}

/// All jobs of traffic that nobody recorded can share a worker, if they want the same bundle.
pub(crate) const MERGE: Merge = Merge {
    never: false,
    guided: true,
    signature: 0,
};

/// A pattern of traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pattern {
    /// Few shapes get most of the jobs.
    Zipf,
    /// Bursts of one shape at a time, with silence between.
    Bursty,
    /// A day: a wave between a tenth and the full rate.
    Day,
    /// One shape after the other, round and round: the worst for the least recently used.
    Cyclic,
    /// One tenant asks for half of everything.
    Hog,
    /// Half of the jobs are segments of videos that somebody watches while they are made, one after the other.
    Sessions,
}

impl Pattern {
    /// Every pattern.
    pub const ALL: [Self; 6] = [
        Self::Zipf,
        Self::Bursty,
        Self::Day,
        Self::Cyclic,
        Self::Hog,
        Self::Sessions,
    ];

    /// The name on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Zipf => "zipf",
            Self::Bursty => "bursty",
            Self::Day => "day",
            Self::Cyclic => "cyclic",
            Self::Hog => "hog",
            Self::Sessions => "sessions",
        }
    }
}

/// How much of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Volume {
    /// Jobs in all.
    pub jobs: usize,
    /// Jobs per second, on average (at the peak, for a day).
    pub rate: f64,
    /// Shapes on the menu.
    pub bundles: usize,
    /// Tenants that ask.
    pub tenants: usize,
    /// One job alone on its worker; the next segment of a session is asked for when the one before may be done.
    pub service: Duration,
    /// Seed of everything random.
    pub seed: u64,
}

/// Jobs of one burst, on average.
const BURST_JOBS: f64 = 20.0;
/// How much faster than on average jobs arrive within a burst.
const BURST_SPEED: f64 = 10.0;
/// Length of the wave of [`Pattern::Day`].
const DAY: Duration = Duration::from_secs(86_400);
/// Segments of the shortest session.
const SEGMENTS_MIN: u32 = 3;
/// Segments of the longest session.
const SEGMENTS_MAX: u32 = 30;
/// Share of the jobs of [`Pattern::Sessions`] that are segments.
const SEGMENT_SHARE: f64 = 0.5;
/// From the end of a segment to the request for the next, at least, as a share of its service.
const PAUSE_MIN: f64 = 0.02;
/// The same, at most.
const PAUSE_MAX: f64 = 0.10;
/// Exponent of the popularity of shapes and tenants.
const ZIPF_EXPONENT: f64 = 1.1;

/// Draws the traffic of a pattern, in the order of arrival.
#[must_use]
pub fn draw(pattern: Pattern, volume: Volume) -> Vec<Arrival> {
    let mut source = Source {
        random: Pcg64::seed_from_u64(volume.seed),
        volume,
        now: 0.0,
        burst: None,
        begun_sessions: 0,
    };
    if pattern == Pattern::Sessions {
        return source.sessions();
    }
    (0..volume.jobs)
        .map(|index| source.next(pattern, index))
        .collect()
}

struct Source {
    random: Pcg64,
    volume: Volume,
    /// Seconds.
    now: f64,
    /// Bundle and jobs left of the burst that is going on.
    burst: Option<(usize, u32)>,
    begun_sessions: u64,
}

impl Source {
    fn next(&mut self, pattern: Pattern, index: usize) -> Arrival {
        let bundle = match pattern {
            Pattern::Bursty => self.burst(),
            Pattern::Cyclic => {
                self.pause(self.volume.rate);
                index % self.volume.bundles
            }
            Pattern::Day => {
                let phase = self.now / DAY.as_secs_f64() * std::f64::consts::TAU;
                self.pause(self.volume.rate * (0.55 - 0.45 * phase.cos()));
                self.popular(self.volume.bundles)
            }
            Pattern::Zipf | Pattern::Hog | Pattern::Sessions => {
                self.pause(self.volume.rate);
                self.popular(self.volume.bundles)
            }
        };
        let tenant = match pattern {
            Pattern::Hog if self.random.random_bool(0.5) => 0,
            _ => self.random.random_range(0..self.volume.tenants.max(1)),
        };
        arrival(self.now, bundle, tenant, Priority::Interactive)
    }

    /// Sessions that begin independently of each other, among single jobs.
    fn sessions(&mut self) -> Vec<Arrival> {
        // Sessions and single jobs that begin, per job.
        let segments = f64::from(SEGMENTS_MIN + SEGMENTS_MAX) / 2.0;
        let sessions = SEGMENT_SHARE / segments;
        let is_session = sessions / (sessions + 1.0 - SEGMENT_SHARE);
        let begins = self.volume.rate * (sessions + 1.0 - SEGMENT_SHARE);
        let mut jobs = Vec::new();
        while jobs.len() < self.volume.jobs {
            self.pause(begins);
            let bundle = self.popular(self.volume.bundles);
            let tenant = self.random.random_range(0..self.volume.tenants.max(1));
            if self.random.random_bool(is_session) {
                self.segments(bundle, tenant, &mut jobs);
            } else {
                jobs.push(arrival(self.now, bundle, tenant, Priority::Interactive));
            }
        }
        jobs.sort_by_key(|job| job.at);
        jobs.truncate(self.volume.jobs);
        jobs
    }

    /// One session, each segment asked for when the one before may be done.
    fn segments(&mut self, bundle: usize, tenant: usize, jobs: &mut Vec<Arrival>) {
        let service = self.volume.service.as_secs_f64();
        let mut now = self.now;
        self.begun_sessions += 1;
        let session = Some(session_id(self.begun_sessions));
        for _ in 0..self.random.random_range(SEGMENTS_MIN..=SEGMENTS_MAX) {
            jobs.push(Arrival {
                session,
                ..arrival(now, bundle, tenant, Priority::Realtime)
            });
            now += service * (1.0 + self.random.random_range(PAUSE_MIN..PAUSE_MAX));
        }
    }

    /// Lets time pass to the next of jobs that arrive independently of each other.
    fn pause(&mut self, rate: f64) {
        if let Ok(pause) = Exp::new(rate) {
            self.now += pause.sample(&mut self.random);
        }
    }

    fn popular(&mut self, count: usize) -> usize {
        let rank = Zipf::new(count as f64, ZIPF_EXPONENT)
            .map_or(1.0, |popularity| popularity.sample(&mut self.random));
        (rank as usize).clamp(1, count) - 1
    }

    fn burst(&mut self) -> usize {
        if let Some((bundle, left)) = self.burst.filter(|(_, left)| *left > 0) {
            self.pause(self.volume.rate * BURST_SPEED);
            self.burst = Some((bundle, left - 1));
            return bundle;
        }
        self.pause(self.volume.rate / BURST_JOBS);
        let bundle = self.popular(self.volume.bundles);
        let length =
            Exp::new(1.0 / BURST_JOBS).map_or(1.0, |length| length.sample(&mut self.random));
        self.burst = Some((bundle, length as u32));
        bundle
    }
}

fn arrival(seconds: f64, bundle: usize, tenant: usize, priority: Priority) -> Arrival {
    Arrival {
        at: Duration::from_secs_f64(seconds),
        bundle,
        tenant: tenant_name(tenant),
        priority,
        merge: MERGE,
        session: None,
    }
}

/// The sessions of a trace have numbers.
pub(crate) fn session_id(number: u64) -> SessionId {
    SessionId::from_bytes(u128::from(number).to_be_bytes())
}

fn tenant_name(number: usize) -> TenantName {
    format!("tenant-{number}").parse().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_asks_for_one_shape_and_for_a_segment_at_a_time() {
        let volume = Volume {
            jobs: 1_000,
            rate: 0.02,
            bundles: 4,
            // So many that hardly two sessions are of the same.
            tenants: 100_000,
            service: Duration::from_secs(7),
            seed: 1,
        };
        let jobs = draw(Pattern::Sessions, volume);
        assert!(jobs.is_sorted_by_key(|job| job.at));
        let (segments, single): (Vec<_>, Vec<_>) = jobs
            .iter()
            .partition(|job| job.priority == Priority::Realtime);
        assert!(segments.len() > 300 && single.len() > 300);
        let of = |tenant| segments.iter().filter(move |job| job.tenant == tenant);
        let first: Vec<_> = of(segments[0].tenant.clone()).collect();
        assert!((3..=30).contains(&first.len()), "{}", first.len());
        for pair in first.windows(2) {
            assert_eq!(pair[0].bundle, pair[1].bundle);
            let pause = pair[1].at - pair[0].at;
            assert!(pause > volume.service && pause < volume.service.mul_f64(1.2));
        }
    }
}
