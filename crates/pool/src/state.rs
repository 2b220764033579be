//! The pool as the outside sees it: computed from the state that the scheduler itself uses.

use reel_domain::{BundleKey, JobId, SlotId};

/// A picture of the pool at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PoolState {
    /// Takes no new work; the process will end.
    pub draining: bool,
    /// Jobs that wait.
    pub queued: usize,
    /// Jobs that a worker has.
    pub running: usize,
    /// Every bundle of every model's menu, in the menu's order.
    pub bundles: Vec<ModelState>,
    /// Every device.
    pub devices: Vec<DeviceState>,
}

/// One line of a menu, and how it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelState {
    /// Model and shape.
    pub key: BundleKey,
    /// How it stands.
    pub state: BundleState,
    /// Frames that its mode `extend` goes on from, once it is baked and if it has that mode.
    pub extend_frames: Option<u32>,
}

/// Whether a bundle can serve.
#[derive(Debug, Clone, PartialEq)]
pub enum BundleState {
    /// Waits for its turn to be baked.
    Unbaked,
    /// Being baked; the share that is done, 0 to 100.
    Baking {
        /// Per cent.
        percent: u8,
    },
    /// Baking or every spawn failed; the reason, for a person.
    Failed {
        /// One line.
        reason: String,
    },
    /// Baked; no worker holds it.
    Cold,
    /// A worker is READY with it.
    Hot,
}

impl BundleState {
    /// The name in the API.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Unbaked => "unbaked",
            Self::Baking { .. } => "baking",
            Self::Failed { .. } => "failed",
            Self::Cold => "cold",
            Self::Hot => "hot",
        }
    }

    /// A job for it would run now or after a spawn.
    #[must_use]
    pub const fn is_servable(&self) -> bool {
        matches!(self, Self::Cold | Self::Hot)
    }
}

/// One device.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceState {
    /// What an operator calls it: `cpu:0`, or a GPU's UUID.
    pub name: String,
    /// Whether it gets work.
    pub trust: &'static str,
    /// Its slots.
    pub slots: Vec<SlotState>,
}

/// One slot.
#[derive(Debug, Clone, PartialEq)]
pub struct SlotState {
    /// Which one.
    pub id: SlotId,
    /// The name of its state in the slot machine.
    pub state: &'static str,
    /// The bundle of the worker in it.
    pub bundle: Option<BundleKey>,
    /// The worker's process id.
    pub pid: Option<u32>,
    /// What the worker is doing.
    pub jobs: Vec<JobId>,
}

impl PoolState {
    /// A worker is READY with a bundle.
    #[must_use]
    pub fn is_hot(&self, key: &BundleKey) -> bool {
        let mut bundles = self.bundles.iter();
        bundles.any(|bundle| bundle.key == *key && bundle.state == BundleState::Hot)
    }

    /// At least one shape can be served, and new work is taken.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        !self.draining && self.bundles.iter().any(|bundle| bundle.state.is_servable())
    }
}
