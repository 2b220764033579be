//! How large a batch may be: rules of the operator, by model, shape and device memory.
//!
//! Of all rules that match the smallest limit holds.

use crate::device::DeviceSpec;
use reel_domain::{BundleKey, ModelName, Shape};

/// A limit on batches. What is `None` matches everything, or limits nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchRule {
    /// For which models.
    pub model: ModelMatch,
    /// For which shape.
    pub shape: Option<Shape>,
    /// For devices with at least so much memory, in bytes.
    pub memory_min_bytes: Option<u64>,
    /// For devices with at most so much memory, in bytes.
    pub memory_max_bytes: Option<u64>,
    /// Attempts in one batch.
    pub batch_max: u32,
    /// Sum of the costs of the attempts in one batch, in [rows](crate::Work::cost).
    pub cost_max: Option<u64>,
}

/// Which models a rule is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelMatch {
    /// Every one.
    Any,
    /// The one of this name.
    Is(ModelName),
    /// Those whose names contain this.
    Contains(String),
}

/// What the rules say about one bundle on one device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BatchCap {
    pub(crate) batch_max: u32,
    pub(crate) cost_max: u64,
}

impl BatchCap {
    pub(crate) const NONE: Self = Self {
        batch_max: u32::MAX,
        cost_max: u64::MAX,
    };
}

impl BatchRule {
    /// A device whose memory is not known is matched by no rule about memory.
    fn matches(&self, key: &BundleKey, device: DeviceSpec) -> bool {
        let model = match &self.model {
            ModelMatch::Any => true,
            ModelMatch::Is(name) => *name == key.model,
            ModelMatch::Contains(part) => key.model.as_str().contains(part.as_str()),
        };
        let about_memory = self.memory_min_bytes.is_some() || self.memory_max_bytes.is_some();
        model
            && self.shape.is_none_or(|shape| shape == key.shape)
            && !(about_memory && device.memory_bytes == 0)
            && self
                .memory_min_bytes
                .is_none_or(|min| device.memory_bytes >= min)
            && self
                .memory_max_bytes
                .is_none_or(|max| device.memory_bytes <= max)
    }
}

/// The smallest limits of all rules that match.
pub(crate) fn cap(rules: &[BatchRule], key: &BundleKey, device: DeviceSpec) -> BatchCap {
    let matching = rules.iter().filter(|rule| rule.matches(key, device));
    matching.fold(BatchCap::NONE, |cap, rule| BatchCap {
        batch_max: cap.batch_max.min(rule.batch_max.max(1)),
        cost_max: cap.cost_max.min(rule.cost_max.unwrap_or(u64::MAX)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(model: ModelMatch, batch_max: u32) -> BatchRule {
        BatchRule {
            model,
            shape: None,
            memory_min_bytes: None,
            memory_max_bytes: None,
            batch_max,
            cost_max: None,
        }
    }

    #[test]
    fn the_smallest_limit_of_all_rules_that_match_holds() {
        let key = BundleKey {
            model: "wan-2.1-1.3b".parse().expect("a name"),
            shape: "64x64@17f".parse().expect("a shape"),
        };
        let device = |memory_bytes| DeviceSpec {
            slots: 1,
            memory_bytes,
            shares_weights: true,
        };
        let rules = [
            rule(ModelMatch::Any, 8),
            rule(ModelMatch::Contains("wan".into()), 4),
            rule(ModelMatch::Is("ltx".parse().expect("a name")), 1),
            BatchRule {
                memory_max_bytes: Some(24),
                cost_max: Some(80),
                ..rule(ModelMatch::Any, 2)
            },
            BatchRule {
                shape: Some("96x64@17f".parse().expect("a shape")),
                ..rule(ModelMatch::Any, 1)
            },
        ];
        let cap_on = |memory_bytes| cap(&rules, &key, device(memory_bytes));
        assert_eq!((cap_on(80).batch_max, cap_on(80).cost_max), (4, u64::MAX));
        assert_eq!((cap_on(24).batch_max, cap_on(24).cost_max), (2, 80));
        assert_eq!(cap_on(0).batch_max, 4, "nobody knows its memory");
    }
}
