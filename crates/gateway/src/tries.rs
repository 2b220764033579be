//! Tries of requests that have no idempotency key.
//!
//! OpenAI's SDKs send a POST again when its answer was lost, without an idempotency key, but they count their tries in a
//! header. So the first try of a request gets a key from the server, which is remembered by what the request asks for; a
//! later try of the same gets the same key. Whoever asks for the same thing a second time sends a first try, and gets a
//! second job.

use axum::http::HeaderMap;
use reel_domain::{IdempotencyKey, TenantName};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// Where OpenAI's SDKs count their tries, from 0.
const COUNT_HEADER: &str = "x-stainless-retry-count";
/// How long the first try of a request is remembered while it has no answer. The SDKs give up after ten minutes.
const REMEMBERED_FOR: Duration = Duration::from_secs(15 * 60);
/// And how long after its answer: whoever loses that asks again within eight seconds.
const REMEMBERED_ANSWERED_FOR: Duration = Duration::from_secs(60);
/// First tries that are remembered; beyond that the oldest are forgotten.
const REMEMBERED_MAX: usize = 4_096;
/// What these keys begin with.
const PREFIX: &str = "reel-try-";

/// What a request asks for, and who asks.
type Wish = (TenantName, [u8; 32]);

/// The first tries of late.
#[derive(Debug, Default, Clone)]
pub(crate) struct Tries {
    first: Arc<Mutex<BTreeMap<Wish, First>>>,
}

/// The first try of a wish.
#[derive(Debug, Clone)]
struct First {
    key: IdempotencyKey,
    /// Until when a later try is taken for one of the same wish.
    until: Instant,
}

/// A try that has no answer yet; dropped with its answer.
#[derive(Debug)]
pub(crate) struct Try {
    tries: Tries,
    wish: Wish,
    pub(crate) key: IdempotencyKey,
}

impl Drop for Try {
    fn drop(&mut self) {
        let until = Instant::now() + REMEMBERED_ANSWERED_FOR;
        if let Some(first) = self.tries.lock().get_mut(&self.wish)
            && first.key == self.key
        {
            first.until = until;
        }
    }
}

/// The number of this try, if its sender counts.
pub(crate) fn count(headers: &HeaderMap) -> Option<u32> {
    headers.get(COUNT_HEADER)?.to_str().ok()?.parse().ok()
}

impl Tries {
    /// A try: the first of a new wish, or a later one with the key of the first.
    pub(crate) fn begin(
        &self,
        tenant: &TenantName,
        digest: [u8; 32],
        count: u32,
        now: Instant,
    ) -> Option<Try> {
        let wish = (tenant.clone(), digest);
        let mut firsts = self.lock();
        let remembered = firsts
            .get(&wish)
            .filter(|first| count > 0 && now < first.until);
        let key = match remembered {
            Some(first) => first.key.clone(),
            None => format!("{PREFIX}{}", Uuid::new_v4().simple())
                .parse()
                .ok()?,
        };
        let first = First {
            key: key.clone(),
            until: now + REMEMBERED_FOR,
        };
        firsts.insert(wish.clone(), first);
        make_room(&mut firsts, now);
        drop(firsts);
        Some(Try {
            tries: self.clone(),
            wish,
            key,
        })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Wish, First>> {
        self.first.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Forgets the old ones when there are too many, and the older half if they are all young.
fn make_room(firsts: &mut BTreeMap<Wish, First>, now: Instant) {
    if firsts.len() <= REMEMBERED_MAX {
        return;
    }
    firsts.retain(|_, first| now < first.until);
    if firsts.len() > REMEMBERED_MAX / 2 {
        let mut moments: Vec<Instant> = firsts.values().map(|first| first.until).collect();
        moments.sort_unstable();
        let middle = moments[moments.len() / 2];
        firsts.retain(|_, first| first.until >= middle);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(tries: &Tries, wish: u8, count: u32, now: Instant) -> String {
        let tenant = TenantName::default();
        let begun = tries.begin(&tenant, [wish; 32], count, now).unwrap();
        let key = begun.key.as_str().to_owned();
        // Its answer is still to come.
        std::mem::forget(begun);
        key
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
        let others = tries.begin(&other, [1; 32], 1, now).unwrap();
        assert_ne!(others.key.as_str(), second);
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
            drop(tries.begin(&TenantName::default(), digest, 0, later));
            assert!(tries.lock().len() <= REMEMBERED_MAX);
        }
    }

    #[test]
    fn an_answer_that_may_have_been_lost_is_asked_for_again_soon_or_not_at_all() {
        let (tries, now) = (Tries::default(), Instant::now());
        let begun = tries
            .begin(&TenantName::default(), [1; 32], 0, now)
            .unwrap();
        let first = begun.key.as_str().to_owned();
        drop(begun);
        let soon = now + REMEMBERED_ANSWERED_FOR / 2;
        let again = tries
            .begin(&TenantName::default(), [1; 32], 1, soon)
            .unwrap();
        assert_eq!(again.key.as_str(), first);
        drop(again);
        let late = Instant::now() + REMEMBERED_ANSWERED_FOR;
        assert_ne!(key(&tries, 1, 1, late), first);
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
