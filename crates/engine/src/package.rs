//! AOTInductor packages: loading, binding constants, running.

use crate::error::{ComputeError, LoadError};
use crate::weights::Weights;
use reel_bundle::Role;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;
use tch::{Device, Kind, Tensor};

const MESSAGE_BYTES: usize = 1024;
const OUT_OF_MEMORY: c_int = 2;
const DEVICE: c_int = 3;

/// A package with its constants bound. Its code is compiled for one shape.
#[derive(Debug)]
pub struct Package {
    device: Device,
    // Before `weights`: the package points into their memory.
    handle: Handle,
    _weights: Rc<Weights>,
}

#[derive(Debug)]
struct Handle(*mut c_void);

#[repr(C)]
struct Message {
    text: *mut c_char,
    capacity: usize,
}

unsafe extern "C" {
    fn reel_torch_version() -> *const c_char;
    fn reel_full_precision();
    fn reel_library_load(path: *const c_char, message: *mut Message) -> c_int;
    fn reel_cuda_capability(
        device: c_int,
        major: *mut c_int,
        minor: *mut c_int,
        message: *mut Message,
    ) -> c_int;
    fn reel_package_load(
        path: *const c_char,
        device: c_int,
        package: *mut *mut c_void,
        message: *mut Message,
    ) -> c_int;
    fn reel_package_free(package: *mut c_void);
    fn reel_package_constants(
        package: *mut c_void,
        visit: extern "C" fn(*mut c_void, *const c_char, usize),
        context: *mut c_void,
        message: *mut Message,
    ) -> c_int;
    fn reel_package_bind(
        package: *mut c_void,
        names: *const *const c_char,
        tensors: *const *const c_void,
        count: usize,
        message: *mut Message,
    ) -> c_int;
    fn reel_package_run(
        package: *mut c_void,
        inputs: *const *const c_void,
        count: usize,
        output: *mut *mut c_void,
        message: *mut Message,
    ) -> c_int;
}

impl Package {
    /// Loads a package and binds the constants that it names.
    ///
    /// `device` is the index of a GPU, or -1 for the CPU.
    ///
    /// # Errors
    /// When the package cannot be loaded or a constant is missing.
    pub fn load(
        role: Role,
        path: &Path,
        device: i32,
        weights: Rc<Weights>,
    ) -> Result<Self, LoadError> {
        let failed = |source| LoadError::Compute {
            what: format!("package {}", path.display()),
            source,
        };
        let handle = Handle::load(path, device).map_err(failed)?;
        let names = handle.constants().map_err(failed)?;
        let tensors = names
            .iter()
            .map(|name| weights.tensor(name))
            .collect::<Option<Vec<_>>>();
        let Some(tensors) = tensors else {
            return Err(missing(role, &names, &weights));
        };
        handle.bind(&names, &tensors).map_err(failed)?;
        let device = match usize::try_from(device) {
            Ok(index) => Device::Cuda(index),
            Err(_) => Device::Cpu,
        };
        Ok(Self {
            device,
            handle,
            _weights: weights,
        })
    }

    /// Runs the package on inputs of the shape that it was compiled for.
    ///
    /// # Errors
    /// When an input does not fit or the device failed.
    pub fn run(&self, inputs: &[&Tensor]) -> Result<Tensor, ComputeError> {
        let pointers: Vec<_> = inputs
            .iter()
            .map(|tensor| tensor.as_ptr().cast::<c_void>())
            .collect();
        let mut output = std::ptr::null_mut();
        call(|message| {
            // SAFETY: the handle is live, every pointer is a live at::Tensor of a borrowed `Tensor`, and the
            // shim writes `output` only when it succeeds.
            unsafe {
                reel_package_run(
                    self.handle.0,
                    pointers.as_ptr(),
                    pointers.len(),
                    &raw mut output,
                    message,
                )
            }
        })
        .map_err(|error| self.blame(error))?;
        // SAFETY: on success `output` is a fresh at::Tensor that nobody else owns.
        Ok(unsafe { Tensor::from_ptr(output.cast()) })
    }
}

impl Package {
    /// What compiled code throws does not leave it: it returns a number, whatever happened. Its inputs have the shape
    /// that it was compiled for, so what failed was not the request. A device that can still compute had no memory.
    fn blame(&self, error: ComputeError) -> ComputeError {
        let ComputeError::Failed(message) = error else {
            return error;
        };
        match self.device.is_cuda() && !computes(self.device) {
            true => ComputeError::Device(message),
            false => ComputeError::OutOfMemory(message),
        }
    }
}

/// Whether a device computes and says so: an error that outlives its cause is said by whatever comes next.
fn computes(device: Device) -> bool {
    let one = Tensor::f_ones([1], (Kind::Float, device));
    let two = one.and_then(|one| one.f_add_scalar(1.0));
    let read = two.and_then(|two| two.f_to_device(Device::Cpu));
    read.is_ok_and(|read| read.double_value(&[0]) > 1.5)
}

fn missing(role: Role, names: &[String], weights: &Weights) -> LoadError {
    let name = names.iter().find(|name| weights.tensor(name).is_none());
    LoadError::Constant {
        role,
        name: name.cloned().unwrap_or_default(),
    }
}

impl Handle {
    fn load(path: &Path, device: i32) -> Result<Self, ComputeError> {
        let path = c_path(path)?;
        let mut package = std::ptr::null_mut();
        // SAFETY: `path` is a C string that lives through the call; `package` is written on success only.
        call(|message| unsafe {
            reel_package_load(path.as_ptr(), device, &raw mut package, message)
        })?;
        Ok(Self(package))
    }

    fn constants(&self) -> Result<Vec<String>, ComputeError> {
        extern "C" fn visit(context: *mut c_void, text: *const c_char, length: usize) {
            // SAFETY: `context` is the vector below, exclusively borrowed for the call; `text` has `length`
            // bytes.
            let (names, bytes) = unsafe {
                (
                    &mut *context.cast::<Vec<String>>(),
                    std::slice::from_raw_parts(text.cast::<u8>(), length),
                )
            };
            names.push(String::from_utf8_lossy(bytes).into_owned());
        }
        let mut names: Vec<String> = Vec::new();
        let context = (&raw mut names).cast();
        // SAFETY: the handle is live, and `visit` gets back the context that it expects.
        call(|message| unsafe { reel_package_constants(self.0, visit, context, message) })?;
        Ok(names)
    }

    fn bind(&self, names: &[String], tensors: &[&Tensor]) -> Result<(), ComputeError> {
        let names: Vec<_> = names
            .iter()
            .map(|name| c_string(name.as_bytes()))
            .collect::<Result<_, _>>()?;
        let texts: Vec<_> = names.iter().map(|name| name.as_ptr()).collect();
        let pointers: Vec<_> = tensors
            .iter()
            .map(|tensor| tensor.as_ptr().cast::<c_void>())
            .collect();
        call(|message| {
            // SAFETY: both arrays have `names.len()` live entries; the package's owner keeps the memory behind
            // the tensors for as long as the package lives.
            unsafe {
                reel_package_bind(
                    self.0,
                    texts.as_ptr(),
                    pointers.as_ptr(),
                    names.len(),
                    message,
                )
            }
        })
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: the handle came from `reel_package_load` and is freed once.
        unsafe { reel_package_free(self.0) }
    }
}

/// The version of the libtorch that this build was compiled against.
#[must_use]
pub fn torch_version() -> String {
    // SAFETY: the shim returns a string literal.
    unsafe { CStr::from_ptr(reel_torch_version()) }
        .to_string_lossy()
        .into_owned()
}

/// Switches off arithmetic of reduced precision.
pub fn full_precision() {
    // SAFETY: sets a flag of libtorch's global context.
    unsafe { reel_full_precision() }
}

/// Loads a shared library whose symbols everything that is loaded later may use.
///
/// # Errors
/// When the loader refuses.
pub fn load_library(path: &Path) -> Result<(), ComputeError> {
    let path = c_path(path)?;
    // SAFETY: `path` is a C string; what is loaded is libtorch's CUDA part or our own empty library.
    call(|message| unsafe { reel_library_load(path.as_ptr(), message) })
}

/// The architecture of a GPU (`sm_90`).
///
/// # Errors
/// When there is no such GPU.
pub fn cuda_architecture(device: i32) -> Result<String, ComputeError> {
    let (mut major, mut minor) = (0, 0);
    // SAFETY: both numbers are written by the shim on success.
    call(|message| unsafe {
        reel_cuda_capability(device, &raw mut major, &raw mut minor, message)
    })?;
    Ok(format!("sm_{major}{minor}"))
}

fn call(body: impl FnOnce(*mut Message) -> c_int) -> Result<(), ComputeError> {
    let mut text = [0_u8; MESSAGE_BYTES];
    let mut message = Message {
        text: text.as_mut_ptr().cast(),
        capacity: text.len(),
    };
    let status = body(&raw mut message);
    let words = || match CStr::from_bytes_until_nul(&text) {
        Ok(words) => words.to_string_lossy().into_owned(),
        Err(_) => String::from("message too long"),
    };
    match status {
        0 => Ok(()),
        OUT_OF_MEMORY => Err(ComputeError::OutOfMemory(words())),
        DEVICE => Err(ComputeError::Device(words())),
        _ => Err(ComputeError::Failed(words())),
    }
}

fn c_path(path: &Path) -> Result<CString, ComputeError> {
    c_string(path.as_os_str().as_bytes())
}

fn c_string(bytes: &[u8]) -> Result<CString, ComputeError> {
    CString::new(bytes).map_err(|error| ComputeError::Failed(error.to_string()))
}
