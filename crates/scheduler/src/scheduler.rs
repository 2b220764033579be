//! The machine itself: inputs in, commands out.

use crate::bundle::{BundleIx, Menu};
use crate::caps::{BatchCap, cap};
use crate::command::{Command, WorkerId};
use crate::config::Config;
use crate::counters::Counters;
use crate::device::{Device, DeviceSpec, EvictionBudget, Trust};
use crate::dispatch::RETRY_UNPROFITABLE;
use crate::faults::Faults;
use crate::input::{BundleStanding, Input};
use crate::line::Line;
use crate::orders::Roll;
use crate::places::{self, Places, Standing};
use crate::sessions::Homes;
use crate::slot::{Ready, Slot};
use crate::timer::{Timer, Timers};
use crate::work::Entry;
use reel_domain::{BundleKey, DeviceId, Fault, JobId, Silence, SlotId, TenantName};
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
    pub(crate) roll: Roll,
    pub(crate) workers: BTreeMap<WorkerId, usize>,
    pub(crate) next_worker: u64,
    pub(crate) next_ticket: u64,
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
            roll: Roll::default(),
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
            Input::Freed { worker, device } => self.freed(worker, device, now),
            Input::Order(order) => self.obey(order, now),
            Input::Configure(config) => self.configure(*config),
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

    /// New bounds hold from now on; timers that are armed already go off as they were set.
    fn configure(&mut self, config: Config) {
        self.config = config.keeping_the_frame_of(&self.config);
        let specs: Vec<_> = self.devices.iter().map(|device| device.spec).collect();
        self.caps = caps(&self.config, &specs, &self.menu);
        for place in self.menu.indices() {
            let bundle = &mut self.menu[place];
            bundle.pinned = self.config.pinned.contains(&bundle.key);
            self.touched.insert(place);
        }
        // A worker that could carry more, or less, is good for something else.
        self.places = self.places_anew();
        self.price_again();
        (self.claims_due, self.fill_due, self.reserved_due) = (true, true, true);
    }

    // --- time ---

    fn timeout(&mut self, now: Instant) {
        while let Some(timer) = self.timers.expired(now) {
            match timer {
                Timer::Boot(slot) => self.boot_is_due(self.index(slot), now),
                Timer::Stop(slot) => {
                    self.kill(self.index(slot), Fault::Hang(Silence::Stop), now);
                }
                Timer::Kill(slot) => self.kill_is_due(self.index(slot), now),
                Timer::Heartbeat(slot) => self.heartbeat_is_due(self.index(slot), now),
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
            holders: BTreeSet::new(),
            deaths: Vec::new(),
            evictions: EvictionBudget::new(),
        });
        let places = u32::try_from(places).unwrap_or(u32::MAX);
        slots.extend((0..places).map(|index| Slot::new(SlotId { device: id, index })));
    }
    (devices, slots)
}
