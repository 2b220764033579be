//! Where the workers compute, and what a GPU says of their memory.

use anyhow::Context;
use nvml_wrapper::Nvml;
use nvml_wrapper::enums::device::UsedGpuMemory;
use reel_supervisor::{Device, devices};

/// `--device`
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Choice {
    /// The first GPU, or the CPU where there is none.
    Auto,
    /// The CPU.
    Cpu,
    /// The first GPU.
    Gpu,
}

/// The device that is asked for.
pub(crate) fn choose(choice: Choice) -> anyhow::Result<Device> {
    let gpu = || {
        devices::gpus(std::env::var("CUDA_VISIBLE_DEVICES").ok().as_deref())
            .into_iter()
            .next()
    };
    match choice {
        Choice::Cpu => Ok(Device::cpu(0, 0)),
        Choice::Gpu => gpu().context("no GPU was found"),
        Choice::Auto => Ok(gpu().unwrap_or_else(|| Device::cpu(0, 0))),
    }
}

/// Device memory of one process, in bytes; `None` on the CPU, or where the driver does not tell.
pub(crate) fn memory_bytes(device: &Device, pid: u32) -> anyhow::Result<Option<f64>> {
    if device.is_cpu() {
        return Ok(None);
    }
    let nvml = Nvml::init()?;
    let processes = nvml
        .device_by_uuid(&*device.name)?
        .running_compute_processes()?;
    let used = processes
        .into_iter()
        .find(|process| process.pid == pid)
        .map(|process| process.used_gpu_memory);
    Ok(match used {
        Some(UsedGpuMemory::Used(bytes)) => Some(bytes as f64),
        Some(UsedGpuMemory::Unavailable) | None => None,
    })
}
