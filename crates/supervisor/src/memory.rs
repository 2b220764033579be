//! How much memory devices have, and how much of it workers hold.
//!
//! Workers on the CPU map their weights: the pages are shared, and count once. Workers on a GPU hold a copy each.

use crate::devices::Device;
use nvml_wrapper::Nvml;
use nvml_wrapper::enums::device::UsedGpuMemory;
use reel_protocol::MemoryUse;
use std::fmt;
use std::fs;
use std::path::Path;
use std::pin::Pin;

/// Where a process finds the limit of its control group (cgroup v2, v1).
const LIMITS: [&str; 2] = [
    "/sys/fs/cgroup/memory.max",
    "/sys/fs/cgroup/memory/memory.limit_in_bytes",
];

/// Memory that processes of this machine may use: what it has, or what its control group is allowed, in bytes;
/// 0 where neither is known.
#[must_use]
pub fn of_this_machine() -> u64 {
    let total = fs::read_to_string("/proc/meminfo").ok();
    let total = total.as_deref().and_then(meminfo_total);
    let limits = LIMITS.iter().filter_map(|path| limit(Path::new(path)));
    limits.chain(total).min().unwrap_or(0)
}

/// `MemTotal` of proc_meminfo(5).
fn meminfo_total(text: &str) -> Option<u64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse().ok()?;
    Some(kibibytes * 1_024)
}

/// `max` stands for no limit.
fn limit(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// What a worker on the CPU holds beside the weights that all workers of its model share. Its libraries are
/// counted too, though they are shared as well: rather too much than too little.
pub(crate) fn beside_weights(memory: MemoryUse, weights_bytes: u64) -> u64 {
    memory.peak_bytes.saturating_sub(weights_bytes)
}

/// Says whether a process that is gone still holds memory of its device.
pub trait DeviceMemory: fmt::Debug + Send + Sync {
    /// Whether it does, as far as anybody knows.
    fn held(&self, device: &Device, pid: u32) -> Pin<Box<dyn Future<Output = bool> + Send + '_>>;
}

/// What the driver of the GPUs says. Memory of the machine itself is free with the process.
#[derive(Debug, Clone, Copy, Default)]
pub struct DriverMemory;

impl DeviceMemory for DriverMemory {
    fn held(&self, device: &Device, pid: u32) -> Pin<Box<dyn Future<Output = bool> + Send + '_>> {
        if device.is_cpu() {
            return Box::pin(std::future::ready(false));
        }
        let uuid = device.name.to_string();
        Box::pin(async move {
            let looking = tokio::task::spawn_blocking(move || is_on_gpu(&uuid, pid));
            looking.await.unwrap_or(false)
        })
    }
}

/// Whether the driver lists a process on a GPU, however much it says that it holds. In a container that has process
/// numbers of its own the driver's are others: there nothing can be told.
fn is_on_gpu(uuid: &str, pid: u32) -> bool {
    let listed = || {
        let nvml = Nvml::init().ok()?;
        let device = nvml.device_by_uuid(uuid).ok()?;
        let processes = device.running_compute_processes().ok()?;
        Some(processes.iter().any(|process| process.pid == pid))
    };
    listed().unwrap_or(false)
}

/// Memory of a GPU that a process holds, in bytes; `None` where the driver does not say. Takes milliseconds.
pub(crate) fn on_gpu(uuid: &str, pid: u32) -> Option<u64> {
    let nvml = Nvml::init().ok()?;
    let processes = nvml
        .device_by_uuid(uuid)
        .ok()?
        .running_compute_processes()
        .ok()?;
    let process = processes.iter().find(|process| process.pid == pid)?;
    match process.used_gpu_memory {
        UsedGpuMemory::Used(bytes) => Some(bytes),
        UsedGpuMemory::Unavailable => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_memory() {
        assert!(of_this_machine() > 1 << 20);
    }

    #[test]
    fn the_kernels_words_are_understood() {
        assert_eq!(
            meminfo_total("MemTotal:  2 kB\nMemFree: 1 kB\n"),
            Some(2_048)
        );
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("memory.max");
        fs::write(&path, "max\n").expect("written");
        assert_eq!(limit(&path), None);
        fs::write(&path, "1048576\n").expect("written");
        assert_eq!(limit(&path), Some(1_048_576));
    }

    #[test]
    fn shared_weights_are_not_a_workers_own() {
        let memory = MemoryUse {
            resident_bytes: 50,
            peak_bytes: 80,
        };
        assert_eq!(beside_weights(memory, 30), 50);
        assert_eq!(beside_weights(memory, 90), 0);
    }
}
