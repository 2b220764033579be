//! The traces that are shipped run to their end in the built program.
#![allow(clippy::unwrap_used, reason = "the helpers of tests are tests")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const COLUMNS: [&str; 16] = [
    "",
    "jobs",
    "refused",
    "hot",
    "at once",
    "wait p50",
    "p95",
    "p99",
    "longest",
    "spawns",
    "spawning",
    "2nd workers",
    "x optimum",
    "evicted",
    "joined",
    "busy",
];

fn traces() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/traces");
    let files = std::fs::read_dir(folder).unwrap();
    let files = files.map(|file| file.unwrap().path());
    files
        .filter(|path| path.extension().is_some_and(|end| end == "csv"))
        .collect()
}

fn simulate(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_reel"))
        .arg("simulate")
        .args(args)
        .output()
        .unwrap()
}

/// The lines of the table below its heading, by columns. Two spaces part them; one is within a cell.
fn rows(output: &Output) -> Vec<Vec<String>> {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let table = String::from_utf8(output.stdout.clone()).unwrap();
    let lines = table.lines().filter_map(|line| line.strip_prefix('│'));
    let cells = lines.map(|line| {
        let line = line.trim_end_matches('│');
        let parts = line.split("  ").map(str::trim);
        parts
            .filter(|part| !part.is_empty())
            .map(str::to_owned)
            .collect()
    });
    cells.collect()
}

fn column<'a>(row: &'a [String], name: &str) -> &'a str {
    let place = COLUMNS.iter().position(|column| *column == name).unwrap();
    &row[place]
}

#[test]
fn every_job_of_every_shipped_trace_ends_and_no_trace_is_left_without_its_optimum() {
    let traces = traces();
    assert!(traces.len() >= 3);
    for path in traces {
        let jobs = std::fs::read_to_string(&path).unwrap().lines().count() - 1;
        let path = path.to_str().unwrap();
        let output = simulate(&["--trace", path, "--k", "1,3", "--spawn", "4,24,60"]);
        let rows = rows(&output);
        assert_eq!(rows[0], COLUMNS[1..], "{path}");
        assert_eq!(rows.len(), 1 + 4, "{path}: two policies, two K");
        for row in &rows[1..] {
            assert_eq!(column(row, "jobs"), jobs.to_string(), "{path}");
            assert_eq!(column(row, "refused"), "0", "{path}");
            let over: f64 = column(row, "x optimum").parse().unwrap();
            assert!(over > 0.0, "{path}: {over}");
        }
    }
}

fn reel(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_reel"))
        .args(args)
        .output()
        .unwrap()
}

/// A change of the scheduler that decides otherwise shows here: `docs/traces/README.md` says how to record anew.
#[test]
fn the_shipped_recording_is_decided_as_it_was() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../docs/traces/evening.reelrec"
    );
    let same = reel(&["replay", path]);
    let said = String::from_utf8_lossy(&same.stdout);
    assert!(said.contains("the same as recorded"), "{said}{same:?}");
    let otherwise = rows(&reel(&["replay", path, "--policy", "lru", "--k", "3"]));
    let names: Vec<_> = otherwise[1..].iter().map(|row| row[0].as_str()).collect();
    assert_eq!(
        names,
        ["what happened", "simulated alike", "simulated otherwise"]
    );
    assert!(
        otherwise[1..]
            .iter()
            .all(|row| column(row, "jobs") == "400")
    );
}

#[test]
fn a_plan_for_a_recording_says_what_to_write_into_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let nowhere = folder.path().to_str().unwrap();
    let plan = reel(&[
        "plan",
        "--devices",
        "cpu",
        "--data-dir",
        nowhere,
        "--cache-dir",
        nowhere,
    ]);
    let said = String::from_utf8_lossy(&plan.stdout);
    for part in ["not baked", "assumed", "enough", "slots_per_device = "] {
        assert!(said.contains(part), "{part}: {said}{plan:?}");
    }
    let trace = traces().remove(0);
    let other = reel(&["plan", "--trace", trace.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&other.stderr);
    assert!(said.contains("is not on the menu"), "{said}");
}

#[test]
fn a_pattern_and_the_trace_that_it_wrote_give_the_same_run() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sessions.csv");
    let path = path.to_str().unwrap();
    let pattern = ["--pattern", "sessions", "--jobs", "500", "--shapes", "4"];
    let written = simulate(&[&pattern[..], &["--write-trace", path]].concat());
    assert_eq!(String::from_utf8_lossy(&written.stdout).trim(), path);
    let drawn = rows(&simulate(&pattern));
    let read = rows(&simulate(&["--trace", path]));
    // A trace is written to the millisecond: waits differ by that.
    for (one, other) in drawn.iter().zip(&read).skip(1) {
        for name in ["jobs", "spawns", "x optimum", "evicted"] {
            assert_eq!(column(one, name), column(other, name), "{name}");
        }
    }
}

#[test]
fn a_trace_that_is_wrong_is_refused_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wrong.csv");
    std::fs::write(&path, "at_s,shape,tenant,priority\n0,64x64@9f,,urgent\n").unwrap();
    let output = simulate(&["--trace", path.to_str().unwrap()]);
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("wrong.csv") && said.contains("line 2: priority `urgent`"),
        "{said}"
    );
}

#[test]
fn pictures_are_written_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let output = simulate(&["--jobs", "200", "--plot", folder.path().to_str().unwrap()]);
    let said = String::from_utf8_lossy(&output.stdout);
    for name in ["hit-rate.svg", "waits.svg", "timeline.svg"] {
        let path = folder.path().join(name);
        assert!(said.contains(path.to_str().unwrap()), "{said}");
        let picture = std::fs::read_to_string(path).unwrap();
        assert!(picture.starts_with("<svg") && picture.trim_end().ends_with("</svg>"));
    }
}
