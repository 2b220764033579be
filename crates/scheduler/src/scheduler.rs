//! The machine itself: inputs in, commands out.

use crate::bundle::{BundleIx, Menu};
use crate::caps::{BatchCap, cap};
use crate::carried::Stage;
use crate::command::{Command, JobChange, WorkerId};
use crate::config::Config;
use crate::counters::Counters;
use crate::device::{Device, DeviceSpec, EvictionBudget, Trust};
use crate::dispatch::RETRY_UNPROFITABLE;
use crate::faults::Faults;
use crate::input::{BundleStanding, Input};
use crate::line::{Line, Waiting};
use crate::places::{self, Places, Standing};
use crate::sessions::Homes;
use crate::slot::{Ready, Slot};
use crate::timer::{Timer, Timers};
use crate::work::{Entry, Place, Work};
use reel_domain::{
    AttemptId, BundleKey, DeviceId, Failure, FailureCode, FaultClass, JobId, JobStatus, Outcome,
    Rejection, SlotId, TenantName,
};
use rustc_hash::FxHashMap;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

/// The pool's mind. See the crate's documentation for how to drive it.
#[derive(Debug)]
pub struct Scheduler {
    pub(crate) config: Config,
    pub(crate) devices: Vec<Device>,
    /// The device with the most memory; `None`: some device has no limit.
    pub(crate) largest_device: Option<DeviceSpec>,
    pub(crate) slots: Vec<Slot>,
    pub(crate) menu: Menu,
    /// What the rules say about batches, by device and bundle; empty without rules.
    caps: Vec<Vec<BatchCap>>,
    pub(crate) places: Places,
    /// They have changed since they were checked.
    refiled: bool,
    /// Living jobs. Only looked up, never walked: its order is not defined.
    pub(crate) jobs: FxHashMap<JobId, Entry>,
    /// Living jobs of each tenant that has any.
    pub(crate) tenants: BTreeMap<TenantName, usize>,
    /// Living jobs that are held or being encoded; a drain waits for them.
    pub(crate) unsettled: usize,
    pub(crate) line: Line,
    /// Jobs of bundles that are not baked yet, by ticket: they are in nobody's way.
    pub(crate) parked: BTreeMap<(BundleIx, u64), JobId>,
    pub(crate) timers: Timers,
    pub(crate) commands: VecDeque<Command>,
    pub(crate) faults: Faults,
    pub(crate) homes: Homes,
    pub(crate) counters: Counters,
    pub(crate) draining: bool,
    pub(crate) workers: BTreeMap<WorkerId, usize>,
    pub(crate) next_worker: u64,
    next_ticket: u64,
    /// Bundles for which there may be a job and a worker that fit.
    pub(crate) touched: BTreeSet<BundleIx>,
    /// Refusals of joins that do not pay after which one is tried again.
    pub(crate) next_trial: u64,
    /// A place for a worker may be free.
    pub(crate) claims_due: bool,
    /// Bundles that may need a worker.
    pub(crate) claimants: BTreeSet<BundleIx>,
    /// Slots that became idle; whoever still is when jobs were given out may make room.
    pub(crate) idled: Vec<usize>,
    /// Of those, one has waited long enough to get a busy worker's place.
    pub(crate) overtaken_too_often: bool,
    /// An empty slot may be filled.
    pub(crate) fill_due: bool,
    /// A spawn that waited may be possible.
    pub(crate) reserved_due: bool,
    /// Workers whose batches are being formed, and were looked at for more.
    pub(crate) forming: BTreeSet<usize>,
}

impl Scheduler {
    /// A machine with empty slots, and a menu of which nothing can be served yet.
    #[must_use]
    pub fn new(config: Config, specs: &[DeviceSpec], menu: Vec<BundleKey>) -> Self {
        let (devices, slots) = lay_out(specs, usize::from(config.standby));
        let menu = Menu::new(menu, &config.pinned);
        let caps = caps(&config, specs, &menu);
        let mut scheduler = Self {
            places: Places::new(menu.len()),
            refiled: false,
            line: Line::new(menu.len(), config.look_past_max, config.class_overtakes_max),
            config,
            largest_device: largest(specs),
            devices,
            slots,
            menu,
            caps,
            jobs: FxHashMap::default(),
            tenants: BTreeMap::new(),
            unsettled: 0,
            parked: BTreeMap::new(),
            timers: Timers::default(),
            commands: VecDeque::new(),
            faults: Faults::default(),
            homes: Homes::default(),
            counters: Counters::default(),
            draining: false,
            workers: BTreeMap::new(),
            next_ticket: 0,
            next_worker: 0,
            touched: BTreeSet::new(),
            next_trial: RETRY_UNPROFITABLE,
            claims_due: false,
            claimants: BTreeSet::new(),
            idled: Vec::new(),
            overtaken_too_often: false,
            fill_due: true,
            reserved_due: false,
            forming: BTreeSet::new(),
        };
        scheduler.places = scheduler.places_anew();
        scheduler
    }

    /// Takes in one thing that happened, and decides. What follows is in [`poll_command`](Self::poll_command).
    pub fn handle(&mut self, input: Input, now: Instant) {
        match input {
            Input::Submit(work) => self.submit(work, now),
            Input::Stored { id, durable } => self.stored(id, durable),
            Input::Restore { work, attempts } => self.restore(work, attempts, now),
            Input::Cancel { id } => self.cancel(id, now),
            Input::Bundle { key, standing } => self.bundle_stands(&key, standing),
            Input::Worker { worker, event } => self.worker_says(worker, event, now),
            Input::Encoded { attempt, result } => self.encoded(attempt, result),
            Input::Timeout => self.timeout(now),
            Input::Order(order) => self.obey(order, now),
        }
        self.settle(now);
        debug_assert!(
            !std::mem::take(&mut self.refiled) || self.places == self.places_anew(),
            "slots are filed as they are"
        );
    }

    /// The next effect to carry out.
    pub fn poll_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// When to hand in [`Input::Timeout`] next; `None` when nothing is pending.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    // --- jobs ---

    /// Accepts a job, or refuses it. It waits, held, until the journal has it.
    fn submit(&mut self, work: Work, now: Instant) {
        match self.admit(&work, now) {
            Ok(bundle) => {
                self.commands.push_back(Command::Store { id: work.id });
                self.accept(work, bundle, 0, now);
                self.unsettled += 1;
            }
            Err(rejection) => self.commands.push_back(Command::Refuse {
                id: work.id,
                rejection,
            }),
        }
    }

    fn admit(&self, work: &Work, now: Instant) -> Result<BundleIx, Rejection> {
        let key = &work.bundle;
        if self.draining {
            return Err(Rejection::Draining);
        }
        let Some(place) = self.menu.find(key) else {
            return Err(Rejection::BundleUnknown(key.clone()));
        };
        let bundle = &self.menu[place];
        if bundle.failed {
            return Err(Rejection::BundleFailed(key.clone()));
        }
        let Some(offer) = &bundle.offer else {
            return Err(Rejection::BundleNotReady(key.clone()));
        };
        if !offer.modes.contains(&work.mode) {
            return Err(Rejection::ModeUnsupported {
                bundle: key.clone(),
                mode: work.mode,
            });
        }
        if self.faults.is_quarantined(work.digest, &self.config) {
            return Err(Rejection::Quarantined {
                case: work.digest.to_string(),
            });
        }
        self.fits_somewhere(place)?;
        if self.rests_everywhere(place, now) {
            return Err(Rejection::BundleResting(key.clone()));
        }
        if self.jobs.len() >= self.config.queue_jobs_max {
            return Err(Rejection::QueueFull {
                limit: self.config.queue_jobs_max,
                retry_after_s: self.expected_wait_s(place),
            });
        }
        let of_tenant = self.tenants.get(&work.tenant).copied().unwrap_or(0);
        if of_tenant >= self.config.tenant_jobs_max {
            return Err(Rejection::TenantQueueFull {
                limit: self.config.tenant_jobs_max,
                retry_after_s: self.expected_wait_s(place),
            });
        }
        Ok(place)
    }

    fn accept(&mut self, work: Work, bundle: BundleIx, attempts: u32, now: Instant) {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        *self.tenants.entry(work.tenant.clone()).or_default() += 1;
        self.count_visit(bundle);
        let begin_by = work.begin_within.map(|time| now + time);
        if let Some(begin_by) = begin_by {
            self.timers.set(Timer::Begin(work.id), begin_by);
        }
        self.jobs.insert(
            work.id,
            Entry {
                work,
                bundle,
                ticket,
                attempts,
                // The budget counts workers that died; that the supervisor ended is not the job's fault.
                losses: 0,
                place: Place::Held,
                cancelled: false,
                cancel_due: None,
                alone: false,
                begin_by,
                overdue: false,
            },
        );
    }

    fn stored(&mut self, id: JobId, durable: bool) {
        let Some(entry) = self.jobs.get(&id) else {
            return;
        };
        if entry.place != Place::Held {
            return;
        }
        let overdue = entry.overdue;
        match (durable, entry.cancelled) {
            (false, _) => {
                self.forget(id);
            }
            (true, true) => self.end(id, Outcome::Cancelled),
            (true, false) if overdue => self.miss_deadline(id),
            (true, false) => {
                self.unsettled -= 1;
                self.enqueue(id);
            }
        }
    }

    fn restore(&mut self, work: Work, attempts: u32, now: Instant) {
        let (id, key) = (work.id, work.bundle.clone());
        match self.menu.find(&key) {
            Some(bundle) => {
                self.accept(work, bundle, attempts, now);
                self.enqueue(id);
            }
            None => self.commands.push_back(Command::End {
                id,
                attempt: attempts,
                outcome: Outcome::Failed(Failure {
                    code: FailureCode::ShapeUnavailable,
                    message: format!("{key} is not on the menu any more"),
                }),
            }),
        }
    }

    /// Cancels a job: at once where it waits, at the next step boundary where it runs.
    fn cancel(&mut self, id: JobId, now: Instant) {
        let Some(entry) = self.jobs.get_mut(&id) else {
            return;
        };
        let first = !std::mem::replace(&mut entry.cancelled, true);
        let attempt = entry.attempt();
        match entry.place {
            // It ends when the journal has answered: a row that may exist must not be forgotten.
            Place::Held => {}
            Place::Parked | Place::Queued(_) => self.end(id, Outcome::Cancelled),
            Place::Placed { slot, worker, .. } if first => {
                self.cancel_placed(self.index(slot), worker, attempt, now);
            }
            Place::Placed { .. } => {}
            Place::Encoding => {
                self.end(id, Outcome::Cancelled);
                self.commands.push_back(Command::Discard { attempt });
            }
        }
    }

    /// Asks a worker to let an attempt go; one that it has not heard of yet is just taken back.
    fn cancel_placed(&mut self, index: usize, worker: WorkerId, attempt: AttemptId, now: Instant) {
        let mut carried = self.slots[index].carried().iter();
        let held = carried.find(|carried| carried.attempt == attempt);
        if held.is_some_and(|carried| carried.stage == Stage::Forming) {
            self.release(index, attempt, now);
            return self.end(attempt.job, Outcome::Cancelled);
        }
        self.commands.push_back(Command::Cancel { worker, attempt });
        let due = now + self.config.cancel_deadline;
        if let Some(entry) = self.jobs.get_mut(&attempt.job) {
            entry.cancel_due = Some(due);
        }
        // An earlier one stays: it looks who is due when it expires.
        self.timers.start(Timer::Cancel(self.slots[index].id), due);
    }

    /// Nobody wants a job any more that has not begun by now. One that is not durable yet ends when it is.
    fn begin_is_due(&mut self, id: JobId) {
        let Some(entry) = self.jobs.get_mut(&id) else {
            return;
        };
        match entry.place {
            Place::Held => entry.overdue = true,
            Place::Parked | Place::Queued(_) => self.miss_deadline(id),
            Place::Placed { .. } | Place::Encoding => {}
        }
    }

    /// A job that waits again without ever having begun has no more time than before.
    pub(crate) fn must_begin(&mut self, id: JobId) {
        if let Some(begin_by) = self.jobs.get(&id).and_then(|entry| entry.begin_by) {
            self.timers.set(Timer::Begin(id), begin_by);
        }
    }

    fn miss_deadline(&mut self, id: JobId) {
        self.counters.deadlines_missed += 1;
        let failure = Failure {
            code: FailureCode::DeadlineExceeded,
            message: "it had not begun within the time that the request allowed".to_owned(),
        };
        self.end(id, Outcome::Failed(failure));
    }

    fn encoded(&mut self, attempt: AttemptId, result: Result<(), Failure>) {
        match self.jobs.get(&attempt.job) {
            Some(entry) if entry.attempt() == attempt && entry.place == Place::Encoding => {
                let outcome = result.map_or_else(Outcome::Failed, |()| Outcome::Completed);
                self.end(attempt.job, outcome);
            }
            _ => {
                self.counters.stale_events += 1;
                self.commands.push_back(Command::Discard { attempt });
            }
        }
    }

    /// Puts a job into the line, or beside it while its bundle is baked; one that nobody can ever serve ends.
    pub(crate) fn enqueue(&mut self, id: JobId) {
        let Some(bundle) = self.jobs.get(&id).map(|entry| entry.bundle) else {
            return;
        };
        let reason = self.cannot_serve(bundle);
        let is_baked = self.menu[bundle].offer.is_some();
        let continuous = self.menu[bundle].continuous;
        let Some(entry) = self.jobs.get_mut(&id) else {
            return;
        };
        // Nowhere, until it is in the line.
        entry.place = Place::Parked;
        if let Some(message) = reason {
            let failure = Failure {
                code: FailureCode::ShapeUnavailable,
                message,
            };
            return self.end(id, Outcome::Failed(failure));
        }
        if !is_baked {
            self.parked.insert((bundle, entry.ticket), id);
            return;
        }
        entry.place = Place::Queued(entry.lane(continuous));
        if let Some(waiting) = waiting(entry) {
            self.line.insert(&waiting);
        }
        self.touched.insert(bundle);
        self.claimants.insert(bundle);
    }

    /// Why no worker of a bundle will ever be ready.
    fn cannot_serve(&self, bundle: BundleIx) -> Option<String> {
        if self.menu[bundle].failed {
            let key = &self.menu[bundle].key;
            let reason = format!("{key} cannot be served: its bundle could not be baked");
            return Some(reason);
        }
        let rejection = self.fits_somewhere(bundle).err();
        rejection.map(|rejection| rejection.to_string())
    }

    /// The one end of a job.
    pub(crate) fn end(&mut self, id: JobId, outcome: Outcome) {
        if let Some(entry) = self.forget(id) {
            self.commands.push_back(Command::End {
                id,
                attempt: entry.attempts,
                outcome,
            });
        }
    }

    fn forget(&mut self, id: JobId) -> Option<Entry> {
        let entry = self.jobs.remove(&id)?;
        if entry.begin_by.is_some() {
            self.timers.stop(Timer::Begin(id));
        }
        if let Some(waiting) = waiting(&entry) {
            self.line.remove(&waiting);
            self.one_waits_less();
        }
        match entry.place {
            Place::Held | Place::Encoding => self.unsettled -= 1,
            Place::Parked => {
                self.parked.remove(&(entry.bundle, entry.ticket));
            }
            Place::Queued(_) | Place::Placed { .. } => {}
        }
        if let Some(count) = self.tenants.get_mut(&entry.work.tenant) {
            *count -= 1;
            if *count == 0 {
                self.tenants.remove(&entry.work.tenant);
            }
        }
        Some(entry)
    }

    /// Nobody may need a place any more that was promised, or that waits to be spawned in.
    pub(crate) fn one_waits_less(&mut self) {
        self.claims_due |= !self.places.promised.is_empty() || !self.places.resting.is_empty();
    }

    pub(crate) fn update(&mut self, id: JobId, status: JobStatus, slot: Option<SlotId>) {
        if let Some(entry) = self.jobs.get(&id) {
            let change = JobChange {
                id,
                attempt: entry.attempts,
                status,
                slot,
            };
            self.commands.push_back(Command::Update { change });
        }
    }

    /// Jobs that wait for a bundle which cannot be served fail, rather than wait for ever.
    pub(crate) fn fail_waiting(&mut self, bundle: BundleIx, reason: &str) {
        let parked: Vec<_> = self.parked_of(bundle).collect();
        for id in parked.into_iter().chain(self.line.of_bundle(bundle)) {
            let failure = Failure {
                code: FailureCode::ShapeUnavailable,
                message: reason.to_owned(),
            };
            self.end(id, Outcome::Failed(failure));
        }
    }

    fn parked_of(&self, bundle: BundleIx) -> impl Iterator<Item = JobId> {
        self.parked
            .range((bundle, 0)..=(bundle, u64::MAX))
            .map(|(_, id)| *id)
    }

    // --- bundles ---

    fn bundle_stands(&mut self, key: &BundleKey, standing: BundleStanding) {
        let Some(place) = self.menu.find(key) else {
            return;
        };
        self.forgive_boots(place);
        let bundle = &mut self.menu[place];
        bundle.failed = standing == BundleStanding::Failed;
        bundle.offer = match standing {
            BundleStanding::Offered(offer) => {
                bundle.know(offer.profile);
                Some(offer)
            }
            BundleStanding::Unbaked => None,
            BundleStanding::Failed => {
                let reason = format!("{key} cannot be served: its bundle could not be baked");
                self.menu[place].offer = None;
                return self.fail_waiting(place, &reason);
            }
        };
        let parked: Vec<_> = self.parked_of(place).collect();
        self.parked.retain(|(bundle, _), _| *bundle != place);
        parked.into_iter().for_each(|id| self.enqueue(id));
        (self.claims_due, self.fill_due) = (true, true);
    }

    // --- time ---

    fn timeout(&mut self, now: Instant) {
        while let Some(timer) = self.timers.expired(now) {
            match timer {
                Timer::Boot(slot) | Timer::Stop(slot) => {
                    self.kill(self.index(slot), FaultClass::Hang, now);
                }
                Timer::Cancel(slot) => self.cancel_is_due(self.index(slot), now),
                Timer::Progress(slot) => self.progress_is_due(self.index(slot), now),
                Timer::Form(slot) => self.begin_batch(self.index(slot), now),
                Timer::Preempt(slot) => self.look_again(self.index(slot)),
                Timer::Begin(job) => self.begin_is_due(job),
                Timer::Backoff(slot) => self.backoff_over(self.index(slot), now),
                Timer::Rest(device, bundle) => self.rest_over(device, bundle),
                Timer::Evict(_) => self.claims_due = true,
                Timer::Probation(device) => self.set_trust(device, Trust::Probation, now),
            }
        }
    }

    // --- slots ---

    /// The place of a slot among all slots.
    pub(crate) fn index(&self, id: SlotId) -> usize {
        self.devices[id.device.0 as usize].first + id.index as usize
    }

    /// Changes a slot and keeps [`Places`] true. Every change of a slot's state goes through here.
    pub(crate) fn alter<R>(&mut self, index: usize, change: impl FnOnce(&mut Slot) -> R) -> R {
        let before = self.standing(index);
        let was_vacant = self.slots[index].is_vacant();
        let result = change(&mut self.slots[index]);
        match (was_vacant, self.slots[index].is_vacant()) {
            (true, false) => self.occupy(index, |occupied| *occupied += 1),
            (false, true) => self.occupy(index, |occupied| *occupied -= 1),
            _ => {}
        }
        self.file(index, before);
        result
    }

    /// A slot was taken or became vacant: whether its device has room for one more is true of its neighbours too.
    fn occupy(&mut self, index: usize, count: impl FnOnce(&mut usize)) {
        let device = self.slots[index].id.device.0 as usize;
        let neighbours: Vec<_> = self.devices[device]
            .slots()
            .filter(|&other| other != index && self.slots[other].is_vacant())
            .map(|other| (other, self.standing(other)))
            .collect();
        count(&mut self.devices[device].occupied);
        for (other, before) in neighbours {
            self.file(other, before);
        }
    }

    /// Changes a worker that can compute; a slot in any other state stays as it is.
    pub(crate) fn alter_ready(&mut self, index: usize, change: impl FnOnce(&mut Ready)) {
        self.alter(index, |slot| {
            if let Some(ready) = slot.ready_mut() {
                change(ready);
            }
        });
    }

    pub(crate) fn standing(&self, index: usize) -> Standing {
        let slot = &self.slots[index];
        let has_room = self.devices[slot.id.device.0 as usize].has_room();
        places::standing(slot, has_room, self.batch_max(index))
    }

    /// The largest batch that a worker may carry.
    pub(crate) fn batch_max(&self, index: usize) -> u32 {
        let Some(ready) = self.slots[index].ready() else {
            return 1;
        };
        let allowed = self.cap(index, ready.bundle).batch_max;
        let limits = [ready.engine.batch_max, self.config.batch_max, allowed];
        limits.into_iter().min().unwrap_or(1)
    }

    pub(crate) fn cap(&self, index: usize, bundle: BundleIx) -> BatchCap {
        let device = self.slots[index].id.device.0 as usize;
        let cap = self.caps.get(device).map(|caps| caps[bundle.0]);
        cap.unwrap_or(BatchCap::NONE)
    }

    /// What [`Places`] must be; the slots know.
    fn places_anew(&self) -> Places {
        let mut places = Places::new(self.menu.len());
        for index in 0..self.slots.len() {
            places.add(index, self.standing(index));
        }
        places
    }

    /// Files a slot under what it is good for now.
    pub(crate) fn file(&mut self, index: usize, before: Standing) {
        let after = self.standing(index);
        if before == after {
            return;
        }
        self.refiled = true;
        self.places.remove(index, before);
        self.places.add(index, after);
        match after {
            Standing::Vacant => (self.claims_due, self.fill_due) = (true, true),
            Standing::Idle { bundle, .. } => {
                self.touched.insert(bundle);
                self.idled.push(index);
            }
            // There may be room in its batch, or batch work to pause.
            Standing::Joinable { bundle, .. } | Standing::Full { bundle } => {
                self.touched.insert(bundle);
            }
            _ => {}
        }
        if matches!(before, Standing::Starting { .. }) {
            (self.claims_due, self.fill_due, self.reserved_due) = (true, true, true);
        }
    }
}

/// A waiting job as the line knows it; `None` for one that does not wait.
pub(crate) fn waiting(entry: &Entry) -> Option<Waiting> {
    let Place::Queued(lane) = entry.place else {
        return None;
    };
    Some(Waiting {
        id: entry.work.id,
        ticket: entry.ticket,
        priority: entry.work.priority,
        tenant: entry.work.tenant.clone(),
        bundle: entry.bundle,
        lane,
    })
}

fn largest(specs: &[DeviceSpec]) -> Option<DeviceSpec> {
    let limited = specs.iter().all(|spec| spec.memory_bytes > 0);
    let largest = specs.iter().max_by_key(|spec| spec.memory_bytes);
    largest.copied().filter(|_| limited)
}

fn caps(config: &Config, specs: &[DeviceSpec], menu: &Menu) -> Vec<Vec<BatchCap>> {
    let rules = &config.batch_rules;
    if rules.is_empty() {
        return Vec::new();
    }
    let on = |&device: &DeviceSpec| {
        let caps = menu
            .indices()
            .map(|bundle| cap(rules, &menu[bundle].key, device));
        caps.collect()
    };
    specs.iter().map(on).collect()
}

/// Slots of all devices, each with `spare` ones beside its K.
fn lay_out(specs: &[DeviceSpec], spare: usize) -> (Vec<Device>, Vec<Slot>) {
    let (mut devices, mut slots) = (Vec::new(), Vec::new());
    for (number, &spec) in specs.iter().enumerate() {
        let id = DeviceId(u32::try_from(number).unwrap_or(u32::MAX));
        let places = spec.slots as usize + spare;
        devices.push(Device {
            id,
            first: slots.len(),
            places,
            occupied: 0,
            spec,
            trust: Trust::Good,
            deaths: Vec::new(),
            evictions: EvictionBudget::new(),
        });
        let places = u32::try_from(places).unwrap_or(u32::MAX);
        slots.extend((0..places).map(|index| Slot::new(SlotId { device: id, index })));
    }
    (devices, slots)
}
