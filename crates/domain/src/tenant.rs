//! Who asks, and how urgently.

use crate::limits::TENANT_NAME_BYTES_MAX;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The name of a tenant: the unit of fairness and of limits. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TenantName(Arc<str>);

/// The text is not a tenant's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a tenant name: 1 to {TENANT_NAME_BYTES_MAX} letters, digits, `-`, `_` or `.`, beginning with a letter or digit"
)]
pub struct TenantNameError(String);

impl TenantName {
    /// The name, as configured.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for TenantName {
    /// Whoever does not say who they are.
    fn default() -> Self {
        Self("default".into())
    }
}

impl FromStr for TenantName {
    type Err = TenantNameError;

    fn from_str(text: &str) -> Result<Self, TenantNameError> {
        let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let begins_well = text
            .as_bytes()
            .first()
            .is_some_and(u8::is_ascii_alphanumeric);
        if begins_well && text.len() <= TENANT_NAME_BYTES_MAX && text.bytes().all(good) {
            Ok(Self(text.into()))
        } else {
            Err(TenantNameError(
                text.chars().take(TENANT_NAME_BYTES_MAX).collect(),
            ))
        }
    }
}

impl fmt::Display for TenantName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How urgent a job is. More urgent classes go first, within a stated bound of starvation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Priority {
    /// A segment of a session that somebody watches.
    Realtime,
    /// Somebody waits for it.
    #[default]
    Interactive,
    /// Nobody waits for it.
    Batch,
}

impl Priority {
    /// Every class, the most urgent first.
    pub const ALL: [Self; 3] = [Self::Realtime, Self::Interactive, Self::Batch];

    /// The name on the wire and in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Realtime => "realtime",
            Self::Interactive => "interactive",
            Self::Batch => "batch",
        }
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How a job shares the pool with others.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sharing {
    /// Whose it is.
    pub tenant: TenantName,
    /// How urgent it is.
    pub priority: Priority,
    /// It is never computed together with others.
    pub alone: bool,
    /// When it must have begun, in milliseconds since the Unix epoch; later nobody wants it.
    pub begin_by_ms: Option<u64>,
}

/// The text names no priority.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a priority: realtime, interactive or batch")]
pub struct PriorityError(String);

impl FromStr for Priority {
    type Err = PriorityError;

    fn from_str(text: &str) -> Result<Self, PriorityError> {
        Self::ALL
            .into_iter()
            .find(|priority| priority.as_str() == text)
            .ok_or_else(|| PriorityError(text.chars().take(32).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenant_names_are_short_and_plain() {
        for good in ["default", "team-a", "9", "a.b_c"] {
            assert_eq!(
                good.parse::<TenantName>().map(|name| name.to_string()),
                Ok(good.into())
            );
        }
        for bad in ["", "-a", "a b", "a/b", "ä", &"a".repeat(65)] {
            assert!(bad.parse::<TenantName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn every_priority_survives_its_name() {
        for priority in Priority::ALL {
            assert_eq!(priority.as_str().parse(), Ok(priority));
        }
        assert!("urgent".parse::<Priority>().is_err());
    }
}
