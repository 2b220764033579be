//! What the kernel says of this process's memory (proc_pid_status(5)).

use reel_protocol::MemoryUse;

/// The memory of this process; zeros where `/proc` is not to be read.
#[must_use]
pub fn of_this_process() -> MemoryUse {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    MemoryUse {
        resident_bytes: field(&status, "VmRSS:"),
        peak_bytes: field(&status, "VmHWM:"),
    }
}

fn field(status: &str, name: &str) -> u64 {
    let value = status.lines().find_map(|line| line.strip_prefix(name));
    let kibibytes =
        value.and_then(|value| value.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kibibytes.unwrap_or(0) * 1_024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_living_process_has_memory() {
        let memory = of_this_process();
        assert!(memory.resident_bytes > 0 && memory.peak_bytes >= memory.resident_bytes);
    }
}
