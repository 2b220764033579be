//! What a bundle was compiled for, and whether this machine is that.

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs;

const CPU_INFO: &str = "/proc/cpuinfo";
const DRIVER_INFO: &str = "/proc/driver/nvidia/version";

/// Everything outside the model that a package depends on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Environment {
    /// The full version of torch (`2.11.0+cu130`).
    pub torch: String,
    /// The version of triton; packages for a GPU only.
    pub triton: Option<String>,
    /// The version of CUDA; packages for a GPU only.
    pub cuda: Option<String>,
    /// The version of the GPU's driver; packages for a GPU only.
    pub driver: Option<String>,
    /// The GPU's architecture (`sm_90`); packages for a GPU only.
    pub gpu: Option<String>,
    /// The instruction set of the CPU part, which packages for a GPU have too.
    pub cpu: CpuIsa,
}

/// The instruction set that a package's CPU code was compiled for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CpuIsa {
    /// The architecture (`x86_64`, `aarch64`).
    pub arch: String,
    /// Extensions that the compiler was allowed to use, as the kernel names them, sorted.
    pub flags: Vec<String>,
}

/// What is known about the machine that would serve. What is not known is not compared.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Host {
    /// Public or full version of torch.
    pub torch: Option<String>,
    /// The version of CUDA.
    pub cuda: Option<String>,
    /// The version of the GPU's driver.
    pub driver: Option<String>,
    /// The GPU's architecture.
    pub gpu: Option<String>,
    /// All extensions of the CPU.
    pub cpu_flags: Option<BTreeSet<String>>,
}

/// A bundle is not what is needed here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} is {found}, expected {expected}")]
pub struct Mismatch {
    /// The field of the manifest.
    pub field: &'static str,
    /// What is needed here.
    pub expected: String,
    /// What the manifest says.
    pub found: String,
}

impl Mismatch {
    /// A mismatch when the two differ.
    ///
    /// # Errors
    /// The mismatch.
    pub fn unless_equal(field: &'static str, expected: &str, found: &str) -> Result<(), Self> {
        if expected == found {
            Ok(())
        } else {
            Err(Self::new(field, expected, found))
        }
    }

    pub(crate) fn new(
        field: &'static str,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Self {
        Self {
            field,
            expected: expected.into(),
            found: found.into(),
        }
    }
}

impl Host {
    /// This machine, as far as it can be known without loading libtorch or touching a GPU.
    #[must_use]
    pub fn detect() -> Self {
        Self {
            torch: Some(crate::TORCH.into()),
            driver: fs::read_to_string(DRIVER_INFO)
                .ok()
                .as_deref()
                .and_then(driver_version),
            cpu_flags: cpu_flags(),
            ..Self::default()
        }
    }
}

fn driver_version(text: &str) -> Option<String> {
    let (_, rest) = text.split_once("Kernel Module")?;
    let mut words = rest.split_whitespace();
    words
        .find(|word| word.starts_with(|first: char| first.is_ascii_digit()))
        .map(Into::into)
}

fn cpu_flags() -> Option<BTreeSet<String>> {
    let text = fs::read_to_string(CPU_INFO).ok()?;
    // `flags` on x86, `Features` on ARM.
    let line = text
        .lines()
        .find(|line| line.starts_with("flags") || line.starts_with("Features"))?;
    let (_, flags) = line.split_once(':')?;
    Some(flags.split_whitespace().map(Into::into).collect())
}

impl Environment {
    /// Compares with the machine that would serve.
    ///
    /// # Errors
    /// The first field that differs.
    pub fn check(&self, host: &Host) -> Result<(), Mismatch> {
        self.check_torch(host)?;
        Mismatch::unless_equal(
            "environment.cpu.arch",
            std::env::consts::ARCH,
            &self.cpu.arch,
        )?;
        self.check_flags(host)?;
        check_optional(
            "environment.cuda",
            host.cuda.as_deref(),
            self.cuda.as_deref(),
        )?;
        check_optional(
            "environment.driver",
            host.driver.as_deref(),
            self.driver.as_deref(),
        )?;
        check_optional("environment.gpu", host.gpu.as_deref(), self.gpu.as_deref())
    }

    fn check_torch(&self, host: &Host) -> Result<(), Mismatch> {
        let Some(expected) = host.torch.as_deref() else {
            return Ok(());
        };
        // A host that knows only the public version does not ask about the build.
        let found = match expected.contains('+') {
            true => self.torch.as_str(),
            false => self.torch.split('+').next().unwrap_or_default(),
        };
        Mismatch::unless_equal("environment.torch", expected, found)
    }

    fn check_flags(&self, host: &Host) -> Result<(), Mismatch> {
        let Some(flags) = &host.cpu_flags else {
            return Ok(());
        };
        match self.cpu.flags.iter().find(|flag| !flags.contains(*flag)) {
            Some(flag) => Err(Mismatch::new(
                "environment.cpu.flags",
                format!("a CPU without {flag}"),
                flag,
            )),
            None => Ok(()),
        }
    }
}

fn check_optional(
    field: &'static str,
    expected: Option<&str>,
    found: Option<&str>,
) -> Result<(), Mismatch> {
    match (expected, found) {
        (Some(expected), Some(found)) => Mismatch::unless_equal(field, expected, found),
        // A package for the CPU does not say, a host without a GPU does not know.
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(flags: &[&str]) -> Environment {
        Environment {
            torch: "2.11.0+cu130".into(),
            triton: None,
            cuda: None,
            driver: None,
            gpu: Some("sm_90".into()),
            cpu: CpuIsa {
                arch: std::env::consts::ARCH.into(),
                flags: flags.iter().map(ToString::to_string).collect(),
            },
        }
    }

    #[test]
    fn this_machine_is_what_it_is() {
        assert_eq!(environment(&[]).check(&Host::detect()), Ok(()));
    }

    #[test]
    fn the_first_difference_is_named() {
        let host = |torch: &str| Host {
            torch: Some(torch.into()),
            ..Host::default()
        };
        assert_eq!(environment(&[]).check(&host("2.11.0")), Ok(()));
        assert_eq!(environment(&[]).check(&host("2.11.0+cu130")), Ok(()));
        let mismatch = environment(&[]).check(&host("2.12.0")).unwrap_err();
        assert_eq!(
            mismatch.to_string(),
            "environment.torch is 2.11.0, expected 2.12.0"
        );
        let gpu = Host {
            gpu: Some("sm_100".into()),
            ..Host::default()
        };
        assert_eq!(
            environment(&[]).check(&gpu).unwrap_err().field,
            "environment.gpu"
        );
    }

    #[test]
    fn the_version_of_a_driver_is_read() {
        let open =
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build";
        let closed = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5";
        assert_eq!(driver_version(open).as_deref(), Some("580.65.06"));
        assert_eq!(driver_version(closed).as_deref(), Some("550.54.15"));
        assert_eq!(driver_version(""), None);
    }

    #[test]
    fn a_cpu_may_have_more_than_a_package_needs_but_not_less() {
        let host = Host {
            cpu_flags: Some(["avx2".into(), "fma".into()].into()),
            ..Host::default()
        };
        assert_eq!(environment(&["avx2"]).check(&host), Ok(()));
        let mismatch = environment(&["avx2", "avx512f"]).check(&host).unwrap_err();
        assert_eq!(mismatch.field, "environment.cpu.flags");
        assert_eq!(mismatch.found, "avx512f");
    }
}
