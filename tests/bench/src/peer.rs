//! The Python worker beside the native one: what serving with diffusers and torch.compile costs today.

use crate::Setting;
use crate::table::Table;
use anyhow::{Context, ensure};
use serde::Deserialize;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

/// Fresh Python processes; each takes minutes.
const FRESH_PROCESSES: usize = 5;

/// What one fresh Python process reports (`tests/bench/peer.py`).
#[derive(Debug, Deserialize)]
struct Report {
    /// Process start to the model loaded and compiled lazily, in seconds.
    ready_s: f64,
    /// Wall times of ten videos, in seconds.
    videos_s: Vec<f64>,
    /// Time of a steady denoising step, in milliseconds.
    step_ms: f64,
}

/// Runs fresh processes with a warm per-shape inductor cache; the run that fills the cache is shown as `cold`.
pub(crate) fn measure(setting: &Setting, table: &mut Table) -> anyhow::Result<()> {
    let cache = tempfile::tempdir()?;
    let cold = run(setting, cache.path(), "compile")?;
    table.add(
        "torch.compile, empty cache: first video",
        "s",
        vec![cold.videos_s[0]],
        None,
    );
    let warm = repeat(setting, cache.path(), "compile", FRESH_PROCESSES)?;
    let column = |value: &dyn Fn(&Report) -> f64| warm.iter().map(value).collect::<Vec<_>>();
    table.add(
        "torch.compile, warm cache: process to READY",
        "s",
        column(&|report| report.ready_s),
        None,
    );
    table.add(
        "torch.compile, warm cache: first video",
        "s",
        column(&|report| report.videos_s[0]),
        None,
    );
    table.add(
        "torch.compile, warm cache: tenth video",
        "s",
        column(&|report| report.videos_s[9]),
        None,
    );
    let ratio = column(&|report| report.videos_s[0] / report.videos_s[9]);
    table.add(
        "torch.compile, warm cache: first / tenth video",
        "ratio",
        ratio,
        None,
    );
    table.add(
        "torch.compile: denoising step, guidance on",
        "ms",
        column(&|report| report.step_ms),
        None,
    );
    let eager = repeat(setting, cache.path(), "eager", FRESH_PROCESSES)?;
    table.add(
        "eager: denoising step, guidance on",
        "ms",
        eager.iter().map(|report| report.step_ms).collect(),
        None,
    );
    Ok(())
}

fn repeat(
    setting: &Setting,
    cache: &Path,
    mode: &str,
    times: usize,
) -> anyhow::Result<Vec<Report>> {
    (0..times).map(|_| run(setting, cache, mode)).collect()
}

fn run(setting: &Setting, cache: &Path, mode: &str) -> anyhow::Result<Report> {
    eprintln!("a fresh Python process, {mode}");
    let begun = Instant::now();
    let output = Command::new(&setting.python)
        .args(["-W", "ignore", "tests/bench/peer.py", "--mode", mode])
        .arg("--model")
        .arg(&setting.model.dir)
        .args(["--threads", &setting.threads.to_string()])
        .args(["--device", setting.device.engine_name])
        .env("CUDA_VISIBLE_DEVICES", &setting.device.visible)
        .args(["--shape", &setting.bundles[0].manifest.shape.to_string()])
        .env("TORCHINDUCTOR_CACHE_DIR", cache.join("torchinductor"))
        .env("TRITON_CACHE_DIR", cache.join("triton"))
        .env("OMP_NUM_THREADS", setting.threads.to_string())
        .output()
        .context("cannot start Python")?;
    ensure!(
        output.status.success(),
        "the Python worker failed:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let line = output
        .stdout
        .split(|&byte| byte == b'\n')
        .rfind(|line| line.starts_with(b"{"));
    let report: Report = serde_json::from_slice(line.context("the Python worker said nothing")?)?;
    eprintln!("  took {:.1} s", begun.elapsed().as_secs_f64());
    Ok(report)
}
