//! The pool, as operators see and steer it.

use crate::fields::Fields;
use crate::health::ShapeReadiness;
use crate::invalid::Invalid;
use crate::openapi::names::{DeviceTrust, SlotState};
use serde::Serialize;
use utoipa::ToSchema;

/// The pool at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct PoolObject {
    /// Takes no new work; the process will end.
    pub draining: bool,
    /// Jobs that wait.
    pub queued: usize,
    /// Jobs that a worker has.
    pub running: usize,
    /// Every device.
    pub devices: Vec<DeviceObject>,
    /// Every line of every menu.
    pub shapes: Vec<ShapeReadiness>,
}

/// One device.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct DeviceObject {
    /// `cpu:0`, or a GPU's UUID.
    pub name: String,
    /// `good`, `cordoned` (by an operator), `suspect` (two different requests died on it), `probation` (one worker
    /// tries it again) or `stuck` (it keeps a dead worker's memory).
    #[schema(value_type = DeviceTrust)]
    pub state: &'static str,
    /// Its slots.
    pub slots: Vec<SlotObject>,
}

/// One slot.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct SlotObject {
    /// Which one, `<device>.<place>`.
    pub name: String,
    /// `vacant`, `starting`, `idle`, `busy`, `draining`, `stopping`, `killing`, `reserved` or `backoff`.
    #[schema(value_type = SlotState)]
    pub state: &'static str,
    /// The model and shape of the worker in it.
    pub bundle: Option<String>,
    /// The worker's process.
    pub pid: Option<u32>,
    /// What the worker is doing.
    pub videos: Vec<String>,
}

/// What an operator may order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PoolCommand {
    /// Take no new work, finish what runs, end.
    Drain,
    /// Give a device no more work.
    Cordon {
        /// Its name.
        device: String,
    },
    /// Use a device again.
    Uncordon {
        /// Its name.
        device: String,
    },
    /// Replace the worker of a slot after what it has.
    Replace {
        /// Its name.
        slot: String,
    },
    /// Replace every worker of a device, or of all, one after the other.
    Roll {
        /// Its name.
        device: Option<String>,
    },
    /// Accept a quarantined request again.
    Release {
        /// The number of its case.
        case: u64,
    },
}

impl PoolCommand {
    /// Reads a command strictly; `None`: there is none of that name.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn from_fields(name: &str, mut fields: Fields) -> Result<Option<Self>, Invalid> {
        let known: &[&str] = match name {
            "drain" => &[],
            "cordon" | "uncordon" | "roll" => &["device"],
            "replace" => &["slot"],
            "release" => &["case"],
            _ => return Ok(None),
        };
        fields.refuse_unknown(known)?;
        let command = match name {
            "cordon" => Self::Cordon {
                device: required(&mut fields, "device")?,
            },
            "uncordon" => Self::Uncordon {
                device: required(&mut fields, "device")?,
            },
            "roll" => Self::Roll {
                device: fields.text("device")?,
            },
            "replace" => Self::Replace {
                slot: required(&mut fields, "slot")?,
            },
            "release" => Self::Release {
                case: case(&required(&mut fields, "case")?)?,
            },
            _ => Self::Drain,
        };
        fields.refuse_rest(known)?;
        Ok(Some(command))
    }
}

fn required(fields: &mut Fields, name: &str) -> Result<String, Invalid> {
    fields.text(name)?.ok_or_else(|| Invalid::missing(name))
}

/// A case as the rejected request was told it.
fn case(text: &str) -> Result<u64, Invalid> {
    let digits = text.strip_prefix("case-").unwrap_or_default();
    u64::from_str_radix(digits, 16).map_err(|_| {
        let message = "`case` must be the name that the rejected request was told, like case-0123456789abcdef";
        Invalid::value("case", message.into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(name: &str, body: &str) -> Result<Option<PoolCommand>, Invalid> {
        PoolCommand::from_fields(name, Fields::from_json(body.as_bytes()).unwrap())
    }

    #[test]
    fn commands_have_their_fields_and_no_others() {
        let device = || "cpu:0".to_owned();
        let cordon = PoolCommand::Cordon { device: device() };
        assert_eq!(
            command("cordon", r#"{"device": "cpu:0"}"#),
            Ok(Some(cordon))
        );
        let roll = PoolCommand::Roll { device: None };
        assert_eq!(command("roll", "{}"), Ok(Some(roll)));
        let release = PoolCommand::Release { case: 0xab };
        assert_eq!(
            command("release", r#"{"case": "case-00000000000000ab"}"#),
            Ok(Some(release))
        );
        assert_eq!(command("explode", "{}"), Ok(None));
        assert!(command("cordon", "{}").is_err());
        assert!(command("drain", r#"{"device": "cpu:0"}"#).is_err());
        assert!(command("release", r#"{"case": "x"}"#).is_err());
    }
}
