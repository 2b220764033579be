//! `pool.slots_per_device`: K, or `auto`.

use serde::Deserialize;
use serde::de::{Deserializer, Error, Unexpected, Visitor};
use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

/// Most workers on a device where nobody says how many.
const AUTO_MAX: u32 = 16;

/// How many workers may live on a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Slots {
    /// So many, if its memory allows it.
    Fixed(NonZeroU32),
    /// One for each shape, if its memory allows it.
    Auto,
}

impl Slots {
    /// The number, for a menu of so many shapes.
    pub(crate) fn count(self, shapes: usize) -> u32 {
        match self {
            Self::Fixed(slots) => slots.get(),
            Self::Auto => u32::try_from(shapes).unwrap_or(u32::MAX).clamp(1, AUTO_MAX),
        }
    }
}

impl Default for Slots {
    fn default() -> Self {
        Self::Fixed(NonZeroU32::MIN.saturating_add(1))
    }
}

impl FromStr for Slots {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a number of slots: give 1 or more, or `auto`");
        match text {
            "auto" => Ok(Self::Auto),
            _ => text.parse().map(Self::Fixed).map_err(|_| wrong()),
        }
    }
}

impl<'de> Deserialize<'de> for Slots {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(SlotsVisitor)
    }
}

struct SlotsVisitor;

impl Visitor<'_> for SlotsVisitor {
    type Value = Slots;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number of slots, 1 or more, or \"auto\"")
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Slots, E> {
        let slots = u32::try_from(value).ok().and_then(NonZeroU32::new);
        let slots = slots.ok_or_else(|| E::invalid_value(Unexpected::Signed(value), &self));
        slots.map(Slots::Fixed)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Slots, E> {
        text.parse()
            .map_err(|_| E::invalid_value(Unexpected::Str(text), &self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_for_each_shape_unless_somebody_says_how_many() {
        assert_eq!("auto".parse::<Slots>().map(|slots| slots.count(4)), Ok(4));
        assert_eq!("3".parse::<Slots>().map(|slots| slots.count(9)), Ok(3));
        assert_eq!(Slots::Auto.count(0), 1);
        assert_eq!(Slots::Auto.count(1_000), AUTO_MAX);
        assert!("0".parse::<Slots>().is_err());
    }
}
