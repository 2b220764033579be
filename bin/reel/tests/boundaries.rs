//! Who may import whom: the "never imports" column of ARCHITECTURE.md, checked against cargo's own graph.
#![allow(clippy::unwrap_used, reason = "the helpers of tests are tests")]

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// Crate, and what it must not reach through ordinary dependencies, directly or not.
const NEVER_REACHES: [(&str, &[&str]); 16] = [
    ("reel-domain", &["serde", "tokio", "reel-*"]),
    (
        "reel-scheduler",
        &["serde", "tokio", "rand", "nix", "rustix", "libc"],
    ),
    ("reel-protocol", &["tokio", "axum", "tch"]),
    ("reel-process", &["reel-scheduler", "axum", "tch"]),
    ("reel-journal", &["axum", "reel-scheduler", "reel-process"]),
    ("reel-keys", &["tokio", "axum", "reel-scheduler"]),
    ("reel-artifacts", &["axum", "reel-scheduler"]),
    ("reel-media", &["axum", "reel-scheduler"]),
    ("reel-outbound", &["reel-*", "tokio", "axum", "openssl-sys"]),
    ("reel-bundle", &["tokio", "axum", "tch"]),
    ("reel-api", &["tokio", "reel-scheduler", "axum"]),
    (
        "reel-gateway",
        &["reel-process", "reel-protocol", "reel-scheduler", "tch"],
    ),
    (
        "reel-webhooks",
        &["axum", "reel-scheduler", "reel-process", "reel-gateway"],
    ),
    ("reel-worker", &["tokio", "tch", "axum"]),
    ("reel-recording", &["tokio", "reel-process", "axum", "tch"]),
    ("reel-simulator", &["tokio", "reel-process", "axum", "tch"]),
];

/// The supervisor's program never loads libtorch.
const DAEMON: (&str, &[&str]) = ("reel-bin", &["tch", "torch-sys", "reel-engine"]);

type Graph = BTreeMap<String, BTreeSet<String>>;

/// Ordinary dependencies by package name. Two versions of one package count as one.
fn graph() -> Graph {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version=1",
            "--locked",
            "--offline",
            "--filter-platform",
        ])
        // Only what this platform links has been downloaded.
        .arg(format!("{}-unknown-linux-gnu", std::env::consts::ARCH))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let names: BTreeMap<&str, &str> = metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|package| {
            (
                package["id"].as_str().unwrap(),
                package["name"].as_str().unwrap(),
            )
        })
        .collect();
    let mut graph = Graph::new();
    for node in metadata["resolve"]["nodes"].as_array().unwrap() {
        let name = names[node["id"].as_str().unwrap()].to_owned();
        let ordinary = node["deps"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|dependency| is_ordinary(dependency));
        let targets =
            ordinary.map(|dependency| names[dependency["pkg"].as_str().unwrap()].to_owned());
        graph.entry(name).or_default().extend(targets);
    }
    graph
}

/// Linked into the crate itself: not for its tests, not for its build script.
fn is_ordinary(dependency: &Value) -> bool {
    dependency["dep_kinds"]
        .as_array()
        .unwrap()
        .iter()
        .any(|kind| kind["kind"].is_null())
}

fn reached(graph: &Graph, from: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open = vec![from.to_owned()];
    while let Some(next) = open.pop() {
        for target in graph.get(&next).into_iter().flatten() {
            if found.insert(target.clone()) {
                open.push(target.clone());
            }
        }
    }
    found
}

fn violations(graph: &Graph, name: &str, forbidden: &[&str]) -> Vec<String> {
    assert!(graph.contains_key(name), "{name} is not in the workspace");
    let matches = |target: &String| {
        forbidden
            .iter()
            .any(|pattern| match pattern.strip_suffix('*') {
                Some(prefix) => target.starts_with(prefix),
                None => target == pattern,
            })
    };
    reached(graph, name)
        .into_iter()
        .filter(matches)
        .map(|target| format!("{name} reaches {target}"))
        .collect()
}

#[test]
fn no_crate_reaches_what_it_must_not() {
    let graph = graph();
    let found: Vec<_> = NEVER_REACHES
        .iter()
        .chain([&DAEMON])
        .flat_map(|(name, forbidden)| violations(&graph, name, forbidden))
        .collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn every_requirement_outside_the_workspace_is_exact() {
    let manifest =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.toml")).unwrap();
    let manifest: toml::Table = manifest.parse().unwrap();
    let dependencies = manifest["workspace"]["dependencies"].as_table().unwrap();
    for (name, requirement) in dependencies {
        let version = requirement
            .as_str()
            .or_else(|| requirement.get("version")?.as_str());
        let exact = version.map_or(requirement.get("path").is_some(), |version| {
            version.starts_with('=')
        });
        assert!(exact, "{name} = {requirement} is not pinned");
    }
}

#[test]
fn unsafe_code_is_forbidden_outside_process_and_engine() {
    let root = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    let mut roots = vec![
        root.join("bin/reel/src/main.rs"),
        root.join("bin/reel-worker/src/main.rs"),
    ];
    for entry in std::fs::read_dir(root.join("crates")).unwrap() {
        roots.push(entry.unwrap().path().join("src/lib.rs"));
    }
    for path in roots {
        let allowed = ["crates/process/", "crates/engine/"]
            .iter()
            .any(|part| path.to_string_lossy().contains(part));
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(
            allowed || text.contains("#![forbid(unsafe_code)]"),
            "{}",
            path.display()
        );
    }
}
