//! Which devices there are. The supervisor itself never opens one: NVML needs no CUDA context.

use nvml_wrapper::Nvml;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::sync::Arc;

/// A device that workers can be pinned to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// What an operator calls it: `cpu:0`, or a GPU's UUID.
    pub name: Arc<str>,
    /// What `CUDA_VISIBLE_DEVICES` must be for its workers.
    pub visible: OsString,
    /// The device as the engine names it: `cpu` or `cuda:0` (the only one that a worker can see).
    pub engine_name: &'static str,
    /// Memory that its workers may use, in bytes; 0: nobody knows, and nothing is limited.
    pub memory_bytes: u64,
}

impl Device {
    /// A share of the processors, with so many bytes of memory.
    #[must_use]
    pub fn cpu(index: u32, memory_bytes: u64) -> Self {
        Self {
            name: format!("cpu:{index}").into(),
            visible: OsString::new(),
            engine_name: "cpu",
            memory_bytes,
        }
    }

    fn gpu(uuid: String, memory_bytes: u64) -> Self {
        Self {
            visible: uuid.clone().into(),
            name: uuid.into(),
            engine_name: "cuda:0",
            memory_bytes,
        }
    }

    /// The device has no GPU in it.
    #[must_use]
    pub fn is_cpu(&self) -> bool {
        self.engine_name == "cpu"
    }
}

/// Every GPU that this process may use, by UUID; empty where there is no driver.
///
/// An operator's own `CUDA_VISIBLE_DEVICES` (UUIDs or indices) is respected, never widened.
#[must_use]
pub fn gpus(visible: Option<&str>) -> Vec<Device> {
    match enumerate() {
        Ok(found) => {
            let uuids = found.iter().map(|(uuid, _)| uuid.clone()).collect();
            let memory: BTreeMap<_, _> = found.into_iter().collect();
            let visible = mask(uuids, visible).into_iter();
            let gpu = |uuid: String| {
                let bytes = memory.get(&uuid).copied().unwrap_or(0);
                Device::gpu(uuid, bytes)
            };
            visible.map(gpu).collect()
        }
        Err(error) => {
            tracing::debug!(%error, "no GPU: NVML cannot be used");
            Vec::new()
        }
    }
}

/// Each GPU's UUID and memory in bytes, in the driver's order.
fn enumerate() -> Result<Vec<(String, u64)>, nvml_wrapper::error::NvmlError> {
    let nvml = Nvml::init()?;
    let describe = |index| {
        let device = nvml.device_by_index(index)?;
        Ok((device.uuid()?, device.memory_info()?.total))
    };
    (0..nvml.device_count()?).map(describe).collect()
}

/// Keeps what the mask names. As in CUDA, the first unknown entry ends the list.
fn mask(uuids: Vec<String>, visible: Option<&str>) -> Vec<String> {
    let Some(visible) = visible else { return uuids };
    visible
        .split(',')
        .map(str::trim)
        .map_while(|entry| match entry.parse::<usize>() {
            Ok(index) => uuids.get(index).cloned(),
            Err(_) if entry.is_empty() => None,
            Err(_) => uuids.iter().find(|uuid| uuid.starts_with(entry)).cloned(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operators_mask_is_respected() {
        let uuids = || {
            vec![
                "GPU-aa".to_owned(),
                "GPU-bb".to_owned(),
                "GPU-cc".to_owned(),
            ]
        };
        assert_eq!(mask(uuids(), None), uuids());
        assert_eq!(mask(uuids(), Some("2,0")), ["GPU-cc", "GPU-aa"]);
        assert_eq!(mask(uuids(), Some("GPU-b")), ["GPU-bb"]);
        assert_eq!(mask(uuids(), Some("1,7,0")), ["GPU-bb"]);
        assert!(mask(uuids(), Some("")).is_empty());
    }
}
