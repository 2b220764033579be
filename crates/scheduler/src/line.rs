//! Jobs that wait: three classes, fair between tenants, first come first served within one.
//!
//! Order of two waiting jobs, the first difference decides:
//!
//! 1. the class: realtime, interactive, batch
//! 2. the tenant's virtual time: start-time fair queueing (Goyal, Vin, Cheng 1996). Whoever was served least,
//!    by cost over weight, goes first; a tenant that was away does not come back with credit
//! 3. the ticket: the order of acceptance
//!
//! A worker serves one bundle, so the question is always "the first waiting job of this bundle" (or of one
//! lane of it, for a batch). So a tenant's younger jobs may be served before its oldest one, whose bundle is
//! not hot: `look_past_max` times. Then nothing of that tenant goes but its oldest job.
//!
//! Every operation is logarithmic in the number of waiting jobs.

use crate::bundle::BundleIx;
use crate::work::Lane;
use reel_domain::{JobId, Priority, TenantName};
use std::collections::{BTreeMap, BTreeSet};

/// Virtual time per unit of cost at weight 1.
const SCALE: u64 = 1 << 10;

/// Tenants without a waiting job whose debt is remembered.
const AWAY_TENANTS_MAX: usize = 1_024;

/// A job as the line knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub(crate) id: JobId,
    pub(crate) ticket: u64,
    pub(crate) priority: Priority,
    pub(crate) tenant: TenantName,
    pub(crate) bundle: BundleIx,
    pub(crate) lane: Lane,
}

/// Where a job stands in the order of all that wait; smaller goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    pub(crate) priority: Priority,
    virtual_time: u64,
    pub(crate) ticket: u64,
}

/// What a worker may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Wanted {
    /// Anything of a bundle.
    Any(BundleIx),
    /// What can join a batch.
    Lane(BundleIx, Lane),
}

/// The waiting line.
#[derive(Debug)]
pub(crate) struct Line {
    classes: [Class; 3],
    /// For people: by class and ticket.
    order: BTreeMap<(Priority, u64), JobId>,
    /// Waiting jobs of each bundle.
    counts: Vec<usize>,
    look_past_max: u32,
    class_overtakes_max: u32,
}

#[derive(Debug, Default)]
struct Class {
    tenants: BTreeMap<TenantName, Tenant>,
    /// The tenants that have something, by what they have; the virtual times may be old (too small).
    holders: Holders,
    /// Tenants without a waiting job whose virtual time is still ahead of the class.
    away: BTreeSet<(u64, TenantName)>,
    /// The virtual time of what was served last.
    virtual_time: u64,
    /// Bundles of which something may be served that could not be before.
    shown: Vec<BundleIx>,
    /// Jobs of more urgent classes that were served while this class had one of the same bundle.
    overtaken: BTreeMap<BundleIx, u32>,
}

#[derive(Debug, Default)]
struct Tenant {
    virtual_time: u64,
    line: BTreeMap<u64, JobId>,
    holds: BTreeMap<Wanted, Hold>,
    /// Younger jobs that were served while the oldest one was the oldest.
    overtaken: u32,
    /// The youngest ticket for which that was counted: who comes back and is older does not wipe the count.
    counted: u64,
}

/// A tenant's jobs of one kind.
#[derive(Debug, Default)]
struct Hold {
    tickets: BTreeSet<u64>,
    /// The virtual time under which [`Class::holders`] has this tenant; `None`: it is not shown there.
    shown: Option<u64>,
}

impl Waiting {
    const fn wanted(&self) -> [Wanted; 2] {
        [
            Wanted::Any(self.bundle),
            Wanted::Lane(self.bundle, self.lane),
        ]
    }
}

impl Wanted {
    const fn bundle(self) -> BundleIx {
        match self {
            Self::Any(bundle) | Self::Lane(bundle, _) => bundle,
        }
    }
}

impl Line {
    pub(crate) fn new(bundles: usize, look_past_max: u32, class_overtakes_max: u32) -> Self {
        Self {
            classes: Default::default(),
            order: BTreeMap::new(),
            counts: vec![0; bundles],
            look_past_max,
            class_overtakes_max,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.order.len()
    }

    /// By class and acceptance.
    pub(crate) fn iter(&self) -> impl Iterator<Item = JobId> {
        self.order.values().copied()
    }

    pub(crate) fn insert(&mut self, job: &Waiting) {
        self.order.insert((job.priority, job.ticket), job.id);
        self.counts[job.bundle.0] += 1;
        self.classes[job.priority as usize].insert(job, self.look_past_max);
    }

    pub(crate) fn remove(&mut self, job: &Waiting) {
        self.order.remove(&(job.priority, job.ticket));
        self.counts[job.bundle.0] -= 1;
        self.classes[job.priority as usize].remove(job, self.look_past_max);
    }

    /// A waiting job shares with others than was thought. Nobody's place changes by that.
    pub(crate) fn change_lane(&mut self, job: &Waiting, lane: Lane) {
        self.classes[job.priority as usize].change_lane(job, lane, self.look_past_max);
    }

    /// Takes out a job that a worker begins, and charges its tenant.
    pub(crate) fn serve(&mut self, job: &Waiting, cost: u64, weight: u32) {
        let own = job.priority as usize;
        self.classes[own].is_served(job);
        self.classes[own].charge(job, cost, weight, self.look_past_max);
        self.remove(job);
        for class in &mut self.classes[own + 1..] {
            // What is not shown would not have gone first anyway.
            if class.holders.contains_key(&Wanted::Any(job.bundle)) {
                *class.overtaken.entry(job.bundle).or_default() += 1;
            }
        }
    }

    /// The job that goes first among those wanted. A class that was overtaken too often goes before all; of several,
    /// the one that was overtaken most.
    pub(crate) fn first(&mut self, wanted: Wanted) -> Option<(Rank, JobId)> {
        let overtakes_max = self.class_overtakes_max;
        let (mut chosen, mut most) = (None, 0);
        for priority in Priority::ALL {
            let class = &mut self.classes[priority as usize];
            let Some((virtual_time, ticket, id)) = class.first(wanted) else {
                continue;
            };
            let overtaken = class.overtaken.get(&wanted.bundle()).copied().unwrap_or(0);
            let is_due = overtaken > 0 && overtaken >= overtakes_max;
            if chosen.is_none() || (is_due && overtaken >= most) {
                most = if is_due { overtaken } else { 0 };
                let rank = Rank {
                    priority,
                    virtual_time,
                    ticket,
                };
                chosen = Some((rank, id));
            }
        }
        chosen
    }

    /// Bundles of which something may be served that could not be before: somebody has to look.
    pub(crate) fn take_shown(&mut self) -> impl Iterator<Item = BundleIx> {
        self.classes
            .iter_mut()
            .flat_map(|class| class.shown.drain(..))
    }

    /// Every waiting job of a bundle. Walks all tenants: for when the bundle is given up.
    pub(crate) fn of_bundle(&self, bundle: BundleIx) -> Vec<JobId> {
        let tenants = self.classes.iter().flat_map(|class| class.tenants.values());
        tenants
            .flat_map(|tenant| tenant.of_bundle(bundle))
            .collect()
    }

    /// Some job of a class waits.
    pub(crate) fn has_class(&self, priority: Priority) -> bool {
        let of_class = (priority, 0)..=(priority, u64::MAX);
        self.order.range(of_class).next().is_some()
    }

    /// How many jobs of a bundle wait.
    pub(crate) fn count(&self, bundle: BundleIx) -> usize {
        self.counts[bundle.0]
    }

    pub(crate) fn has(&self, bundle: BundleIx) -> bool {
        self.count(bundle) > 0
    }
}

impl Class {
    fn insert(&mut self, job: &Waiting, look_past: u32) {
        let tenant = self.tenants.entry(job.tenant.clone()).or_default();
        if tenant.line.is_empty() {
            self.away.remove(&(tenant.virtual_time, job.tenant.clone()));
            tenant.virtual_time = tenant.virtual_time.max(self.virtual_time);
        }
        tenant.line.insert(job.ticket, job.id);
        for wanted in job.wanted() {
            tenant
                .holds
                .entry(wanted)
                .or_default()
                .tickets
                .insert(job.ticket);
        }
        if tenant.is_oldest(job.ticket) {
            self.show_all(&job.tenant, look_past);
        } else if tenant.overtaken < look_past {
            job.wanted()
                .into_iter()
                .for_each(|wanted| self.show(&job.tenant, wanted));
        }
    }

    fn remove(&mut self, job: &Waiting, look_past: u32) {
        let Some(tenant) = self.tenants.get_mut(&job.tenant) else {
            return;
        };
        let was_oldest = tenant.is_oldest(job.ticket);
        let was_strict = tenant.overtaken >= look_past;
        tenant.line.remove(&job.ticket);
        for wanted in job.wanted() {
            tenant.unhold(&mut self.holders, job, wanted);
        }
        if tenant.line.is_empty() {
            tenant.overtaken = 0;
            self.away.insert((tenant.virtual_time, job.tenant.clone()));
            self.forget_the_long_gone();
        } else if was_oldest {
            tenant.forget_overtaking();
            if was_strict {
                self.show_all(&job.tenant, look_past);
            }
        }
    }

    fn change_lane(&mut self, job: &Waiting, lane: Lane, look_past: u32) {
        let Some(tenant) = self.tenants.get_mut(&job.tenant) else {
            return;
        };
        let (old, new) = (
            Wanted::Lane(job.bundle, job.lane),
            Wanted::Lane(job.bundle, lane),
        );
        tenant.unhold(&mut self.holders, job, old);
        let hold = tenant.holds.entry(new).or_default();
        hold.tickets.insert(job.ticket);
        if tenant.is_oldest(job.ticket) || tenant.overtaken < look_past {
            self.show(&job.tenant, new);
        }
    }

    /// The job that more urgent ones overtook begins: for its bundle they count from nothing again.
    fn is_served(&mut self, job: &Waiting) {
        if self.overtaken.contains_key(&job.bundle) {
            let first = self.first(Wanted::Any(job.bundle));
            if first.is_some_and(|(.., id)| id == job.id) {
                self.overtaken.remove(&job.bundle);
            }
        }
    }

    /// Shows what of a tenant may be served now: everything, or its oldest job alone.
    fn show_all(&mut self, name: &TenantName, look_past: u32) {
        let Some(tenant) = self.tenants.get_mut(name) else {
            return;
        };
        let oldest = tenant.line.keys().next().copied();
        let strict = tenant.overtaken >= look_past;
        for (&wanted, hold) in &mut tenant.holds {
            if !strict || hold.tickets.first().copied() == oldest {
                if hold.show(&mut self.holders, wanted, name, tenant.virtual_time) {
                    self.shown.push(wanted.bundle());
                }
            } else {
                hide(&mut self.holders, wanted, name, hold.shown.take());
            }
        }
    }

    fn show(&mut self, name: &TenantName, wanted: Wanted) {
        if let Some(tenant) = self.tenants.get_mut(name)
            && let Some(hold) = tenant.holds.get_mut(&wanted)
        {
            hold.show(&mut self.holders, wanted, name, tenant.virtual_time);
        }
    }

    /// Who is away and not ahead of the class would come back as if it were new. Of the others only so many are
    /// remembered: names are the clients' to invent.
    fn forget_the_long_gone(&mut self) {
        while let Some((virtual_time, name)) = self.away.first() {
            if *virtual_time > self.virtual_time && self.away.len() <= AWAY_TENANTS_MAX {
                return;
            }
            self.tenants.remove(name);
            self.away.pop_first();
        }
    }

    /// A job is about to be served: its tenant pays, and its oldest job is overtaken if it is another one.
    fn charge(&mut self, job: &Waiting, cost: u64, weight: u32, look_past: u32) {
        let Some(tenant) = self.tenants.get_mut(&job.tenant) else {
            return;
        };
        self.virtual_time = self.virtual_time.max(tenant.virtual_time);
        tenant.virtual_time += (cost.max(1) * SCALE / u64::from(weight.max(1))).max(1);
        if !tenant.is_oldest(job.ticket) {
            tenant.overtaken += 1;
            tenant.counted = tenant.counted.max(tenant.oldest().unwrap_or(0));
            if tenant.overtaken == look_past {
                self.show_all(&job.tenant, look_past);
            }
        }
    }

    /// Virtual time, ticket and job of the first of what is wanted.
    fn first(&mut self, wanted: Wanted) -> Option<(u64, u64, JobId)> {
        loop {
            let holders = self.holders.get_mut(&wanted)?;
            let (_, name) = holders.first()?;
            let tenant = self.tenants.get_mut(name)?;
            let hold = tenant.holds.get_mut(&wanted)?;
            if hold.shown == Some(tenant.virtual_time) {
                let ticket = *hold.tickets.first()?;
                return Some((tenant.virtual_time, ticket, *tenant.line.get(&ticket)?));
            }
            // It was served since it was put here: to its new place, and look again.
            let (_, name) = holders.pop_first()?;
            hold.shown = Some(tenant.virtual_time);
            holders.insert((tenant.virtual_time, name));
        }
    }
}

impl Tenant {
    fn oldest(&self) -> Option<u64> {
        self.line.keys().next().copied()
    }

    fn is_oldest(&self, ticket: u64) -> bool {
        self.oldest() == Some(ticket)
    }

    /// The oldest job is gone. Of the next one nothing was counted, unless it was the oldest before.
    fn forget_overtaking(&mut self) {
        if self.oldest().is_some_and(|oldest| oldest > self.counted) {
            self.overtaken = 0;
        }
    }

    /// A job is not of this kind any more.
    fn unhold(&mut self, holders: &mut Holders, job: &Waiting, wanted: Wanted) {
        let Some(hold) = self.holds.get_mut(&wanted) else {
            return;
        };
        hold.tickets.remove(&job.ticket);
        if hold.tickets.is_empty() {
            let shown = hold.shown;
            self.holds.remove(&wanted);
            hide(holders, wanted, &job.tenant, shown);
        }
    }

    fn of_bundle(&self, bundle: BundleIx) -> impl Iterator<Item = JobId> {
        let hold = self.holds.get(&Wanted::Any(bundle));
        let tickets = hold.into_iter().flat_map(|hold| &hold.tickets);
        tickets.filter_map(|ticket| self.line.get(ticket).copied())
    }
}

type Holders = BTreeMap<Wanted, BTreeSet<(u64, TenantName)>>;

impl Hold {
    /// Whether it was not shown before.
    fn show(
        &mut self,
        holders: &mut Holders,
        wanted: Wanted,
        name: &TenantName,
        virtual_time: u64,
    ) -> bool {
        if self.shown.is_some() {
            return false;
        }
        self.shown = Some(virtual_time);
        let of = holders.entry(wanted).or_default();
        of.insert((virtual_time, name.clone()))
    }
}

fn hide(holders: &mut Holders, wanted: Wanted, name: &TenantName, shown: Option<u64>) {
    if let Some(virtual_time) = shown
        && let Some(of) = holders.get_mut(&wanted)
    {
        of.remove(&(virtual_time, name.clone()));
        if of.is_empty() {
            holders.remove(&wanted);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: BundleIx = BundleIx(0);
    const OTHER: BundleIx = BundleIx(1);

    fn job(ticket: u64, tenant: &str, bundle: BundleIx) -> Waiting {
        Waiting {
            id: JobId::from_bytes([u8::try_from(ticket).expect("a small number"); 16]),
            ticket,
            priority: Priority::Interactive,
            tenant: tenant.parse().expect("a name"),
            bundle,
            lane: None,
        }
    }

    /// The tickets in the order in which a worker of `bundle` would serve them.
    fn serve_all(line: &mut Line, jobs: &[Waiting], bundle: BundleIx) -> Vec<u64> {
        let mut served = Vec::new();
        while let Some((_, id)) = line.first(Wanted::Any(bundle)) {
            let job = jobs.iter().find(|job| job.id == id).expect("a known job");
            line.serve(job, 1, if job.tenant.as_str() == "heavy" { 2 } else { 1 });
            served.push(job.ticket);
        }
        served
    }

    fn line_of(jobs: &[Waiting]) -> Line {
        let mut line = Line::new(2, 2, 3);
        jobs.iter().for_each(|job| line.insert(job));
        line
    }

    #[test]
    fn tenants_take_turns_and_each_is_served_in_order() {
        let jobs: Vec<_> = (0..6)
            .map(|ticket| job(ticket, if ticket < 4 { "a" } else { "b" }, ONE))
            .collect();
        assert_eq!(
            serve_all(&mut line_of(&jobs), &jobs, ONE),
            [0, 4, 1, 5, 2, 3]
        );
    }

    #[test]
    fn a_tenant_of_twice_the_weight_is_served_twice_as_often() {
        let jobs: Vec<_> = (0..9)
            .map(|ticket| job(ticket, if ticket < 6 { "heavy" } else { "light" }, ONE))
            .collect();
        let served = serve_all(&mut line_of(&jobs), &jobs, ONE);
        let light_among_the_first_six = served[..6].iter().filter(|&&ticket| ticket >= 6).count();
        assert_eq!(light_among_the_first_six, 2);
    }

    #[test]
    fn who_comes_back_has_no_credit_and_who_leaves_keeps_its_debt() {
        let first: Vec<_> = (0..3).map(|ticket| job(ticket, "a", ONE)).collect();
        let mut line = line_of(&first);
        serve_all(&mut line, &first, ONE);
        let later = [job(3, "a", ONE), job(4, "b", ONE), job(5, "b", ONE)];
        later.iter().for_each(|job| line.insert(job));
        assert_eq!(serve_all(&mut line, &later, ONE), [4, 3, 5]);
    }

    #[test]
    fn the_oldest_job_of_a_tenant_is_overtaken_only_so_often() {
        let jobs: Vec<_> = (0..5)
            .map(|ticket| job(ticket, "a", if ticket == 0 { OTHER } else { ONE }))
            .collect();
        let mut line = line_of(&jobs);
        assert_eq!(serve_all(&mut line, &jobs, ONE), [1, 2], "and no more");
        assert_eq!(serve_all(&mut line, &jobs, OTHER), [0]);
        assert_eq!(serve_all(&mut line, &jobs, ONE), [3, 4]);
    }

    #[test]
    fn one_tenants_overtaken_job_holds_up_nobody_else() {
        let mut jobs: Vec<_> = (0..4)
            .map(|ticket| job(ticket, "a", if ticket == 0 { OTHER } else { ONE }))
            .collect();
        jobs.extend((4..8).map(|ticket| job(ticket, "b", ONE)));
        let served = serve_all(&mut line_of(&jobs), &jobs, ONE);
        assert_eq!(served, [1, 4, 2, 5, 6, 7]);
    }

    #[test]
    fn urgent_classes_go_first_but_not_for_ever() {
        let mut jobs: Vec<_> = (0..6).map(|ticket| job(ticket, "a", ONE)).collect();
        jobs[0].priority = Priority::Batch;
        let served = serve_all(&mut line_of(&jobs), &jobs, ONE);
        assert_eq!(
            served,
            [1, 2, 3, 0, 4, 5],
            "after three the batch job is due"
        );
    }

    #[test]
    fn names_that_come_once_are_not_remembered_for_ever() {
        let mut line = line_of(&[]);
        for ticket in 0..3 * AWAY_TENANTS_MAX as u64 {
            let job = Waiting {
                ticket,
                ..job(0, &format!("t{ticket}"), ONE)
            };
            line.insert(&job);
            line.serve(&job, 1, 1);
        }
        let class = &line.classes[Priority::Interactive as usize];
        assert_eq!(
            (class.tenants.len(), class.away.len()),
            (AWAY_TENANTS_MAX, AWAY_TENANTS_MAX)
        );
    }

    #[test]
    fn an_empty_line_holds_nothing() {
        let jobs: Vec<_> = (0..4).map(|ticket| job(ticket, "a", ONE)).collect();
        let mut line = line_of(&jobs);
        serve_all(&mut line, &jobs, ONE);
        let class = &line.classes[Priority::Interactive as usize];
        assert!(class.holders.is_empty() && !line.has(ONE) && line.len() == 0);
        assert!(class.tenants.values().all(|tenant| tenant.holds.is_empty()));
    }
}
