//! What a bake reports: one JSON object a line (`python/reel_bake/events.py`).

use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// One line of a bake's standard output.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(super) enum Event {
    /// These components will be worked on.
    Start { components: Vec<String> },
    /// One of them got further.
    Component {
        component: String,
        stage: String,
        fraction: f64,
    },
    /// The bundle is published.
    Done { path: PathBuf },
    /// It cannot be baked.
    Error {
        component: Option<String>,
        message: String,
        fix: String,
    },
}

/// How far a bake is.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Progress {
    /// Each component's stage, and the share of it that is done.
    pub(crate) components: BTreeMap<String, (String, f64)>,
}

impl Progress {
    /// Takes note of an event.
    pub(super) fn note(&mut self, event: &Event) {
        match event {
            Event::Start { components } => {
                let waiting = |name: &String| (name.clone(), (String::from("waiting"), 0.0));
                self.components = components.iter().map(waiting).collect();
            }
            Event::Component {
                component,
                stage,
                fraction,
            } => {
                self.components
                    .insert(component.clone(), (stage.clone(), *fraction));
            }
            Event::Done { .. } | Event::Error { .. } => (),
        }
    }

    /// The share of the whole bake that is done, 0 to 1.
    pub(crate) fn fraction(&self) -> f64 {
        let sum: f64 = self.components.values().map(|(_, fraction)| fraction).sum();
        sum / self.components.len().max(1) as f64
    }

    /// What is being worked on, for a person.
    pub(crate) fn now(&self) -> String {
        let busy = self
            .components
            .iter()
            .filter(|(_, (stage, fraction))| *fraction < 1.0 && stage != "waiting");
        busy.map(|(name, (stage, _))| format!("{stage} {name}"))
            .collect::<Vec<_>>()
            .join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(line: &str) -> Event {
        serde_json::from_str(line).unwrap()
    }

    #[test]
    fn progress_follows_the_events() {
        let mut progress = Progress::default();
        progress.note(&event(
            r#"{"event": "start", "components": ["transformer", "vae_decoder"]}"#,
        ));
        assert_eq!((progress.fraction(), progress.now()), (0.0, String::new()));
        progress.note(&event(
            r#"{"event": "component", "component": "transformer", "stage": "compiling", "fraction": 0.5}"#,
        ));
        assert_eq!(
            (progress.fraction(), progress.now().as_str()),
            (0.25, "compiling transformer")
        );
    }

    #[test]
    fn an_error_names_its_component_if_it_has_one() {
        let error = event(r#"{"event": "error", "component": null, "message": "m", "fix": "f"}"#);
        assert_eq!(
            error,
            Event::Error {
                component: None,
                message: "m".into(),
                fix: "f".into()
            }
        );
    }
}
