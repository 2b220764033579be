//! Who asks, and what they may.
//!
//! With keys, a request is its key's: it sees and counts for that key's tenant. Without keys the server listens on
//! loopback only, everybody sees everything, and the project that OpenAI's clients name is a label for fairness. Web
//! pages that a browser on that machine shows are not everybody: see `browser`.

use crate::browser::Names;
use crate::config::GatewayConfig;
use crate::gateway::Gateway;
use crate::respond::ApiError;
use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts as RequestParts;
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use reel_api::Invalid;
use reel_domain::tenant::TenantNameError;
use reel_domain::{CallbackUrl, Job, Priority, TenantName};
use reel_keys::{Key, KeyError, KeyRing, RateLimiter, SharedKeyRing, UrlSigner};
use reel_pool::PoolHandle;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Where OpenAI's clients name their project.
const TENANT_HEADER: &str = "openai-project";
/// What comes before a key, in any case.
const SCHEME: &str = "Bearer";

/// What decides who may come in.
#[derive(Debug)]
pub struct Keys {
    /// The keys; an empty ring asks nobody for one.
    pub ring: Arc<SharedKeyRing>,
    /// Signs addresses that open one thing without a key.
    pub signer: UrlSigner,
}

/// Whoever sent a request.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) tenant: TenantName,
    key: Option<Arc<Key>>,
}

impl Caller {
    /// A job of this tenant exists for this caller.
    pub(crate) fn sees(&self, tenant: &TenantName) -> bool {
        self.key.is_none() || self.tenant == *tenant
    }

    /// The one tenant whose jobs are listed; `None`: all.
    pub(crate) fn only(&self) -> Option<TenantName> {
        self.key.as_ref().map(|_| self.tenant.clone())
    }

    /// Where the end of a job is told that does not say.
    pub(crate) fn callback(&self) -> Option<CallbackUrl> {
        self.key.as_ref()?.callback_url.as_ref()?.parse().ok()
    }

    /// How urgent a job is that does not say: as usual, or as urgent as the key allows.
    pub(crate) fn priority(&self) -> Priority {
        let usual = Priority::default();
        match &self.key {
            Some(key) if !key.allows(usual) => key.priority_max.unwrap_or(usual),
            _ => usual,
        }
    }

    /// Whether the key allows a job.
    pub(crate) fn check(&self, job: &Job) -> Result<(), ApiError> {
        let priority = job.sharing.priority;
        match &self.key {
            Some(key) if !key.allows(priority) => Err(ApiError::PriorityForbidden(priority)),
            _ => Ok(()),
        }
    }

    /// Whether this is (still) who it was when the request came.
    fn holds(&self, ring: &KeyRing) -> bool {
        match &self.key {
            None => ring.is_empty(),
            Some(key) => ring.get(&key.id).is_some_and(|now| {
                now.sha256 == key.sha256
                    && now.tenant == key.tenant
                    && now.refusal(now_ms()).is_none()
            }),
        }
    }

    fn is_admin(&self) -> bool {
        self.key.as_ref().is_none_or(|key| key.admin)
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut RequestParts, _: &S) -> Result<Self, ApiError> {
        let caller = parts.extensions.get::<Self>().cloned();
        caller.ok_or_else(|| ApiError::Internal("a route without a door".into()))
    }
}

/// Lets in whoever may ask at all.
pub(crate) async fn identify(
    State(gateway): State<Arc<Gateway>>,
    mut request: Request,
    next: Next,
) -> Response {
    match gateway.door.caller(request.headers()) {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(error) => error.into_response(),
    }
}

/// Lets in operators only.
pub(crate) async fn identify_admin(
    State(gateway): State<Arc<Gateway>>,
    request: Request,
    next: Next,
) -> Response {
    match gateway.door.caller(request.headers()) {
        Ok(caller) if caller.is_admin() => next.run(request).await,
        Ok(_) => ApiError::NotAnAdmin.into_response(),
        Err(error) => error.into_response(),
    }
}

/// Lets in whoever is on this machine, but for what pages of other sites make a browser send.
pub(crate) async fn identify_neighbour(
    State(gateway): State<Arc<Gateway>>,
    request: Request,
    next: Next,
) -> Response {
    match gateway.door.names.check(request.headers()) {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

/// The keys, and what is counted for each.
#[derive(Debug)]
pub(crate) struct Door {
    keys: Keys,
    names: Names,
    rates: Mutex<RateLimiter>,
    arriving: Arc<Mutex<BTreeMap<TenantName, usize>>>,
    /// Requests for videos of one tenant that are read at the same time.
    arriving_max: usize,
}

/// A request for a video that is on its way; dropped when it has become a job, or has not.
#[derive(Debug)]
pub(crate) struct Arrival {
    tenant: TenantName,
    arriving: Arc<Mutex<BTreeMap<TenantName, usize>>>,
}

impl Door {
    /// With keys, one tenant gets half of the places where requests for videos are read.
    pub(crate) fn new(keys: Keys, config: &GatewayConfig) -> Self {
        Self {
            keys,
            names: Names::new(config.public_url.as_deref(), config.cors_origins.clone()),
            rates: Mutex::default(),
            arriving: Arc::default(),
            arriving_max: config.creates_at_once_max.div_ceil(2),
        }
    }

    pub(crate) const fn signer(&self) -> &UrlSigner {
        &self.keys.signer
    }

    /// Who sent a request with these headers.
    pub(crate) fn caller(&self, headers: &HeaderMap) -> Result<Caller, ApiError> {
        let ring = self.keys.ring.ring(Instant::now());
        if ring.is_empty() {
            self.names.check(headers)?;
            return Ok(Caller {
                tenant: project(headers)?,
                key: None,
            });
        }
        let key = verify(&ring, headers)?;
        Ok(Caller {
            tenant: key.tenant.clone(),
            key: Some(Arc::new(key.clone())),
        })
    }

    /// Whether a caller may go on with what was begun: its key may have been revoked or have ended since.
    pub(crate) fn still_admits(&self, caller: &Caller) -> bool {
        caller.holds(&self.keys.ring.ring(Instant::now()))
    }

    /// Counts a request for a video against the limits of its key, unless it has become a job before (`known`) and is
    /// counted as that. For a moment a job may count twice, as arriving and as living.
    pub(crate) fn arrive(
        &self,
        caller: &Caller,
        pool: &PoolHandle,
        known: bool,
    ) -> Result<Arrival, ApiError> {
        // Held over both counts: what arrives before it is let go is living by then, and is not missed by either.
        let mut arriving = lock(&self.arriving);
        let here = arriving.get(&caller.tenant).copied().unwrap_or(0);
        if let Some(key) = caller.key.as_ref() {
            // Slow senders of one tenant do not take the places of all others.
            if here >= self.arriving_max {
                return Err(ApiError::Shed);
            }
            if !known {
                self.check_limits(key, here, pool)?;
            }
        }
        *arriving.entry(caller.tenant.clone()).or_default() += 1;
        Ok(Arrival {
            tenant: caller.tenant.clone(),
            arriving: Arc::clone(&self.arriving),
        })
    }

    /// Counts a request that has arrived as one that was known, and is not.
    pub(crate) fn check_again(&self, caller: &Caller, pool: &PoolHandle) -> Result<(), ApiError> {
        let arriving = lock(&self.arriving);
        let here = arriving.get(&caller.tenant).copied().unwrap_or(0);
        match &caller.key {
            // It is one of those itself.
            Some(key) => self.check_limits(key, here.saturating_sub(1), pool),
            None => Ok(()),
        }
    }

    fn check_limits(&self, key: &Key, here: usize, pool: &PoolHandle) -> Result<(), ApiError> {
        let unfinished = here + pool.board().living_of(&key.tenant);
        if let Some(limit) = key.unfinished_jobs_max
            && unfinished >= limit.get() as usize
        {
            return Err(ApiError::UnfinishedJobs {
                limit: limit.get(),
                retry_after: pool.estimates().turn_ms().map(Duration::from_millis),
            });
        }
        if let Some(rate) = key.rate_per_minute {
            lock(&self.rates).check(&key.id, rate, Instant::now())?;
        }
        Ok(())
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        let mut arriving = lock(&self.arriving);
        if let Some(count) = arriving.get_mut(&self.tenant) {
            *count -= 1;
            if *count == 0 {
                arriving.remove(&self.tenant);
            }
        }
    }
}

fn verify<'a>(ring: &'a KeyRing, headers: &HeaderMap) -> Result<&'a Key, ApiError> {
    let value = headers.get(header::AUTHORIZATION);
    let presented = value
        .and_then(|value| value.to_str().ok()?.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case(SCHEME));
    let (_, key) = presented.ok_or(ApiError::NoKey)?;
    Ok(ring.verify(key.trim(), now_ms())?)
}

/// The project of OpenAI's clients, as they say.
fn project(headers: &HeaderMap) -> Result<TenantName, ApiError> {
    let Some(value) = headers.get(TENANT_HEADER) else {
        return Ok(TenantName::default());
    };
    let name = value.to_str().unwrap_or_default().parse();
    name.map_err(|error: TenantNameError| Invalid::value(TENANT_HEADER, error.to_string()).into())
}

/// Milliseconds since the Unix epoch.
pub(crate) fn now_ms() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
    since_epoch.map_or(0, |elapsed| {
        u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every critical section is a map operation that leaves the map whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl From<KeyError> for ApiError {
    fn from(error: KeyError) -> Self {
        Self::Key(error)
    }
}
