//! `scheduler.batch_rules`: how large batches may be, by model, shape and device memory.
//!
//! A JSON file, in the form that FastVideo's dynamic batching reads: a list of rules, or an object whose keys are
//! `MODEL|RESOLUTION`. A resolution is `HEIGHTxWIDTHxFRAMES` there; ours, `WIDTHxHEIGHT@FRAMESf`, is read too.

use crate::config::suggestion;
use reel_domain::{ModelName, Shape};
use reel_scheduler::{BatchRule, ModelMatch};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The version of the form.
const SCHEMA_VERSION: u32 = 1;
/// Bytes in what the file calls GB.
const GB: f64 = 1024.0 * 1024.0 * 1024.0;
/// What a resolution is called that is any.
const ANY: &str = "*";

/// A file of rules that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RulesError {
    /// It cannot be read.
    #[error("cannot read the batch rules {}: {source}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is not what is expected.
    #[error("the batch rules {} cannot be used: {reason}", path.display())]
    Wrong {
        /// Which file.
        path: PathBuf,
        /// What is wrong, and perhaps what was meant.
        reason: String,
    },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    schema_version: u32,
    rules: serde_json::Value,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    model: Option<String>,
    model_contains: Option<String>,
    resolution: Option<String>,
    device_memory_gb_min: Option<f64>,
    device_memory_gb_max: Option<f64>,
    max_batch_size: u32,
    max_cost: Option<u64>,
}

/// Reads a file of rules.
pub(crate) fn load(path: &Path) -> Result<Vec<BatchRule>, RulesError> {
    let text = fs::read_to_string(path).map_err(|source| RulesError::Read {
        path: path.into(),
        source,
    })?;
    parse(&text).map_err(|reason| RulesError::Wrong {
        path: path.into(),
        reason,
    })
}

fn parse(text: &str) -> Result<Vec<BatchRule>, String> {
    let value: serde_json::Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let rules = match &value {
        serde_json::Value::Object(members) if members.contains_key("schema_version") => {
            let file: File = read(value)?;
            if file.schema_version != SCHEMA_VERSION {
                let version = file.schema_version;
                return Err(format!(
                    "schema_version is {version}, expected {SCHEMA_VERSION}"
                ));
            }
            file.rules
        }
        _ => value,
    };
    let rules = match rules {
        serde_json::Value::Object(_) => keyed(rules)?,
        _ => listed(rules)?,
    };
    let numbered = rules.into_iter().zip(1..);
    numbered
        .map(|(rule, number)| {
            rule.check()
                .map_err(|error| format!("rule {number}: {error}"))
        })
        .collect()
}

fn listed(rules: serde_json::Value) -> Result<Vec<Rule>, String> {
    let rules: Vec<serde_json::Value> = read(rules)?;
    let numbered = rules.into_iter().zip(1..);
    numbered
        .map(|(rule, number)| read(rule).map_err(|error| format!("rule {number}: {error}")))
        .collect()
}

/// Rules by `MODEL|RESOLUTION`.
fn keyed(rules: serde_json::Value) -> Result<Vec<Rule>, String> {
    let rules: BTreeMap<String, serde_json::Value> = read(rules)?;
    let named = rules.into_iter().map(|(key, value)| {
        let (model, resolution) = key
            .split_once('|')
            .ok_or_else(|| format!("`{key}` is not MODEL|RESOLUTION"))?;
        let rule: Rule = read(value).map_err(|error| format!("rule `{key}`: {error}"))?;
        Ok(Rule {
            model: (model != ANY).then(|| model.to_owned()),
            resolution: Some(resolution.to_owned()),
            ..rule
        })
    });
    named.collect()
}

fn read<T: serde::de::DeserializeOwned>(value: serde_json::Value) -> Result<T, String> {
    serde_json::from_value(value).map_err(|error| {
        let message = error.to_string();
        match suggestion(&message) {
            Some(meant) => format!("{message}; did you mean `{meant}`?"),
            None => message,
        }
    })
}

impl Rule {
    fn check(self) -> Result<BatchRule, String> {
        if self.max_batch_size == 0 {
            return Err("max_batch_size must be at least 1".into());
        }
        let model = match (self.model, self.model_contains) {
            (Some(_), Some(_)) => return Err("model and model_contains exclude each other".into()),
            (Some(name), None) => ModelMatch::Is(
                name.parse::<ModelName>()
                    .map_err(|error| format!("model: {error}"))?,
            ),
            (None, Some(part)) => ModelMatch::Contains(part),
            (None, None) => ModelMatch::Any,
        };
        let bytes = |key: &str, gb: Option<f64>| match gb {
            Some(gb) if !(0.0..1e9).contains(&gb) => Err(format!("{key} is {gb}")),
            gb => Ok(gb.map(|gb| (gb * GB) as u64)),
        };
        Ok(BatchRule {
            model,
            shape: self.resolution.as_deref().map_or(Ok(None), resolution)?,
            memory_min_bytes: bytes("device_memory_gb_min", self.device_memory_gb_min)?,
            memory_max_bytes: bytes("device_memory_gb_max", self.device_memory_gb_max)?,
            batch_max: self.max_batch_size,
            cost_max: self.max_cost,
        })
    }
}

fn resolution(text: &str) -> Result<Option<Shape>, String> {
    if text == ANY {
        return Ok(None);
    }
    let numbers: Result<Vec<u32>, _> = text.split('x').map(str::parse).collect();
    let shape = match numbers.as_deref() {
        Ok(&[height, width, frames]) => Shape::new(width, height, frames),
        _ => text.parse(),
    };
    let wrong =
        |error| format!("resolution `{text}` is neither HEIGHTxWIDTHxFRAMES nor `*`: {error}");
    shape.map(Some).map_err(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_mean_the_same() {
        let list = r#"[{"model": "wan", "resolution": "480x832x81", "max_batch_size": 4, "max_cost": 80}]"#;
        let keyed = r#"{"wan|480x832x81": {"max_batch_size": 4, "max_cost": 80}}"#;
        let versioned = format!(r#"{{"schema_version": 1, "rules": {list}}}"#);
        let rules = parse(list).unwrap();
        assert_eq!(
            rules[0].shape,
            Some("832x480@81f".parse().unwrap()),
            "height comes first"
        );
        assert_eq!((rules[0].batch_max, rules[0].cost_max), (4, Some(80)));
        assert_eq!(parse(keyed).unwrap(), rules);
        assert_eq!(parse(&versioned).unwrap(), rules);
    }

    #[test]
    fn what_is_not_given_matches_everything() {
        let rules =
            parse(r#"[{"max_batch_size": 2, "resolution": "*", "device_memory_gb_max": 24}]"#);
        let rule = &rules.unwrap()[0];
        assert_eq!((&rule.model, rule.shape), (&ModelMatch::Any, None));
        assert_eq!(rule.memory_max_bytes, Some(24 << 30));
    }

    #[test]
    fn mistakes_are_named() {
        for (text, part) in [
            (
                r#"[{"max_batch_sise": 2}]"#,
                "did you mean `max_batch_size`?",
            ),
            (
                r#"[{"model": "wan"}]"#,
                "rule 1: missing field `max_batch_size`",
            ),
            (
                r#"[{"max_batch_size": 0}]"#,
                "rule 1: max_batch_size must be",
            ),
            (r#"[{"max_batch_size": 1, "resolution": "480p"}]"#, "`480p`"),
            (
                r#"{"wan": {"max_batch_size": 1}}"#,
                "`wan` is not MODEL|RESOLUTION",
            ),
            (
                r#"{"schema_version": 2, "rules": []}"#,
                "schema_version is 2",
            ),
            (
                r#"[{"max_batch_size": 1, "model": "a", "model_contains": "b"}]"#,
                "exclude",
            ),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
