"""What a package depends on besides the model: versions, and the instruction set of CPU and GPU."""

from __future__ import annotations

import platform
import re
from pathlib import Path

import torch

CPU_INFO = Path("/proc/cpuinfo")
USED_BY_COMPILERS = re.compile(
    r"avx|sse|ssse|fma|bmi|f16c|popcnt|abm|movbe|amx|asimd|sve|bf16|i8mm|fphp"
)
"""Extensions that a C++ compiler uses of its own accord under -march=native."""


def describe(device: str) -> dict:
    """The environment as a manifest names it."""
    return {"torch": str(torch.__version__), **_gpu(device), "cpu": _cpu()}


def _cpu() -> dict:
    lines = CPU_INFO.read_text().splitlines()
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), ":")
    names = flags.split(":", 1)[1].split()
    used = sorted(name for name in names if USED_BY_COMPILERS.match(name))
    return {"arch": platform.machine(), "flags": used}


def _gpu(device: str) -> dict:
    if device == "cpu":
        return {"triton": None, "cuda": None, "driver": None, "gpu": None}
    import triton

    major, minor = torch.cuda.get_device_capability()
    return {
        "triton": triton.__version__,
        "cuda": torch.version.cuda,
        "driver": _driver(),
        "gpu": f"sm_{major}{minor}",
    }


def _driver() -> str | None:
    version = Path("/proc/driver/nvidia/version")
    found = (
        re.search(r"Kernel Module(?: for \S+)?\s+(\S+)", version.read_text())
        if version.exists()
        else None
    )
    return found.group(1) if found else None
