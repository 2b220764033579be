//! Synthetic traffic: who asks for what, and when. Seeded: the same on every machine.

use rand::RngExt;
use rand_distr::{Distribution, Exp, Zipf};
use rand_pcg::Pcg64;
use rand_pcg::rand_core::SeedableRng;
use reel_domain::{Priority, TenantName};
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
}

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
}

impl Pattern {
    /// Every pattern.
    pub const ALL: [Self; 5] = [Self::Zipf, Self::Bursty, Self::Day, Self::Cyclic, Self::Hog];

    /// The name on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Zipf => "zipf",
            Self::Bursty => "bursty",
            Self::Day => "day",
            Self::Cyclic => "cyclic",
            Self::Hog => "hog",
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
    /// Seed of everything random.
    pub seed: u64,
}

/// Jobs of one burst, on average.
const BURST_JOBS: f64 = 20.0;
/// How much faster than on average jobs arrive within a burst.
const BURST_SPEED: f64 = 10.0;
/// Length of the wave of [`Pattern::Day`].
const DAY: Duration = Duration::from_secs(86_400);
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
    };
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
            Pattern::Zipf | Pattern::Hog => {
                self.pause(self.volume.rate);
                self.popular(self.volume.bundles)
            }
        };
        let tenant = match pattern {
            Pattern::Hog if self.random.random_bool(0.5) => 0,
            _ => self.random.random_range(0..self.volume.tenants.max(1)),
        };
        Arrival {
            at: Duration::from_secs_f64(self.now),
            bundle,
            tenant: tenant_name(tenant),
            priority: Priority::Interactive,
            merge: Merge {
                never: false,
                guided: true,
                signature: 0,
            },
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

fn tenant_name(number: usize) -> TenantName {
    format!("tenant-{number}").parse().unwrap_or_default()
}
