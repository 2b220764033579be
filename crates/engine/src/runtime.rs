//! libtorch in this process: which parts of it are loaded, and how many threads it may use.

use crate::error::ComputeError;
use crate::load::DeviceChoice;
use crate::package;
use rustix::fs::{MemfdFlags, memfd_create};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::IntoRawFd;
use std::path::{Path, PathBuf};
use tch::Device;

/// An empty library that is called `libtorch.so`.
const STUB: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/libtorch.so"));
const CUDA_LIBRARY: &str = "libtorch_cuda.so";

/// The device and the threads of an engine.
#[derive(Debug, Clone, Copy)]
pub struct Runtime {
    /// Where tensors live.
    pub device: Device,
    threads: i32,
}

impl Runtime {
    /// Loads what the device needs.
    ///
    /// # Errors
    /// When the CUDA libraries are asked for and cannot be loaded.
    pub fn start(choice: DeviceChoice, threads: usize) -> Result<Self, ComputeError> {
        answer_for_libtorch();
        let device = match choice {
            DeviceChoice::Cpu => Device::Cpu,
            DeviceChoice::Cuda(index) => {
                package::load_library(Path::new(CUDA_LIBRARY))?;
                Device::Cuda(index)
            }
        };
        package::full_precision();
        let threads = i32::try_from(threads.max(1)).unwrap_or(i32::MAX);
        tch::set_num_interop_threads(1);
        let runtime = Self { device, threads };
        runtime.enter();
        Ok(runtime)
    }

    /// Applies the limit of threads to the calling thread; OpenMP keeps it per thread.
    pub fn enter(self) {
        tch::set_num_threads(self.threads);
    }

    /// Hands memory of computations that are over back to the system: glibc keeps what an autoencoder freed,
    /// and an idle worker has no use for it.
    pub fn trim(self) {
        #[cfg(target_env = "gnu")]
        // SAFETY: malloc_trim(3) only returns free pages and takes malloc's own locks.
        unsafe {
            libc::malloc_trim(0);
        }
    }

    /// The index of the GPU, or -1 for the CPU.
    #[must_use]
    pub const fn device_index(self) -> i32 {
        match self.device {
            Device::Cuda(index) => index as i32,
            _ => -1,
        }
    }
}

/// Packages name `libtorch.so` as a dependency. The real one has no code of its own but pulls in the CUDA
/// libraries, which a CPU worker neither needs nor may have; the loader is content with any library of that
/// name. Where the stub cannot be loaded, the real one is found through the run path.
fn answer_for_libtorch() {
    if let Err(error) = load_stub() {
        tracing::warn!(%error, "no stub of libtorch.so: loading the real one");
    }
}

fn load_stub() -> io::Result<()> {
    let mut file = File::from(memfd_create("libtorch.so", MemfdFlags::CLOEXEC)?);
    file.write_all(STUB)?;
    // Never closed: the loader knows the library by this path, and the number would be given out again.
    let path = PathBuf::from(format!("/proc/self/fd/{}", file.into_raw_fd()));
    package::load_library(&path).map_err(io::Error::other)
}
