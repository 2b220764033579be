//! Tries of requests that have no idempotency key.
//!
//! OpenAI's SDKs send a POST again when its answer was lost, without an idempotency key, but they count their tries in a
//! header. So the first try of a request gets a key from the server, which is remembered by what the request asks for; a
//! later try of the same gets the same key. Whoever asks for the same thing a second time sends a first try, and gets a
//! second job.

use axum::http::HeaderMap;
use reel_domain::{IdempotencyKey, TenantName};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// Where OpenAI's SDKs count their tries, from 0.
const COUNT_HEADER: &str = "x-stainless-retry-count";
/// How long the first try of a request is remembered. The SDKs give up an answer after ten minutes.
const REMEMBERED_FOR: Duration = Duration::from_secs(15 * 60);
/// First tries that are remembered; beyond that the oldest are forgotten.
const REMEMBERED_MAX: usize = 4_096;
/// What these keys begin with.
const PREFIX: &str = "reel-try-";

/// What a request asks for, and who asks.
type Wish = (TenantName, [u8; 32]);

/// The first tries of late.
#[derive(Debug, Default)]
pub(crate) struct Tries {
    first: Mutex<BTreeMap<Wish, (IdempotencyKey, Instant)>>,
}

/// The number of this try, if its sender counts.
pub(crate) fn count(headers: &HeaderMap) -> Option<u32> {
    headers.get(COUNT_HEADER)?.to_str().ok()?.parse().ok()
}

impl Tries {
    /// The key of a try: a new one for the first, and for a later one that of the first.
    pub(crate) fn key(
        &self,
        tenant: &TenantName,
        digest: [u8; 32],
        count: u32,
        now: Instant,
    ) -> Option<IdempotencyKey> {
        let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        let wish = (tenant.clone(), digest);
        let remembered = first.get(&wish).filter(|(_, at)| is_fresh(*at, now));
        if let Some((key, _)) = remembered.filter(|_| count > 0) {
            return Some(key.clone());
        }
        let key: IdempotencyKey = format!("{PREFIX}{}", Uuid::new_v4().simple())
            .parse()
            .ok()?;
        first.insert(wish, (key.clone(), now));
        make_room(&mut first, now);
        Some(key)
    }
}

fn is_fresh(at: Instant, now: Instant) -> bool {
    now.saturating_duration_since(at) < REMEMBERED_FOR
}

/// Forgets the old ones when there are too many, and the older half if they are all young.
fn make_room(first: &mut BTreeMap<Wish, (IdempotencyKey, Instant)>, now: Instant) {
    if first.len() <= REMEMBERED_MAX {
        return;
    }
    first.retain(|_, (_, at)| is_fresh(*at, now));
    if first.len() > REMEMBERED_MAX / 2 {
        let mut moments: Vec<Instant> = first.values().map(|(_, at)| *at).collect();
        moments.sort_unstable();
        let middle = moments[moments.len() / 2];
        first.retain(|_, (_, at)| *at >= middle);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(tries: &Tries, wish: u8, count: u32, now: Instant) -> String {
        let tenant = TenantName::default();
        let key = tries.key(&tenant, [wish; 32], count, now).unwrap();
        key.as_str().to_owned()
    }

    #[test]
    fn a_later_try_has_the_key_of_the_first_and_a_second_wish_its_own() {
        let (tries, now) = (Tries::default(), Instant::now());
        let first = key(&tries, 1, 0, now);
        assert_eq!(key(&tries, 1, 1, now), first);
        assert_eq!(key(&tries, 1, 2, now), first);
        assert_ne!(key(&tries, 2, 1, now), first, "it asks for something else");
        let second = key(&tries, 1, 0, now);
        assert_ne!(second, first);
        assert_eq!(key(&tries, 1, 1, now), second);
        let other: TenantName = "acme".parse().unwrap();
        let others = tries.key(&other, [1; 32], 1, now).unwrap();
        assert_ne!(others.as_str(), second);
    }

    #[test]
    fn first_tries_are_remembered_for_a_while_and_not_too_many() {
        let (tries, now) = (Tries::default(), Instant::now());
        let first = key(&tries, 1, 0, now);
        assert_ne!(key(&tries, 1, 1, now + REMEMBERED_FOR), first);
        for number in 0..3 * REMEMBERED_MAX {
            let mut digest = [0; 32];
            digest[..8].copy_from_slice(&number.to_be_bytes());
            let later = now + Duration::from_millis(number as u64);
            tries.key(&TenantName::default(), digest, 0, later);
            assert!(tries.first.lock().unwrap().len() <= REMEMBERED_MAX);
        }
    }

    #[test]
    fn who_does_not_count_has_no_number() {
        let headers = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(COUNT_HEADER, value.parse().unwrap());
            headers
        };
        assert_eq!(count(&headers("2")), Some(2));
        for value in ["", "-1", "one", "99999999999"] {
            assert_eq!(count(&headers(value)), None, "{value}");
        }
        assert_eq!(count(&HeaderMap::new()), None);
    }
}
