"""From a module to a package: torch.export, AOTInductor, comparison with eager execution."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from reel_bake.events import BakeError

SHARED_OPTIONS = {
    # Weights stay outside, so that all shapes and all workers map the same file.
    "aot_inductor.package_constants_in_so": False,
}
OPTIONS = {
    "cpu": {
        **SHARED_OPTIONS,
        # The number of threads is the slot's share when a worker runs, not this machine's now.
        "cpp.dynamic_threads": True,
        # The kernel says what the CPU can do; trying it out costs a compilation each.
        "cpp.vec_isa_ok": True,
        # A precompiled header pays only when many files are compiled in one cache directory.
        "cpp_cache_precompile_headers": False,
        "aot_inductor.precompile_headers": False,
    },
    "cuda": SHARED_OPTIONS,
}
ERROR_MAX = {"float32": 1e-4, "bfloat16": 0.25}
"""Largest difference from eager execution; `FLOAT32_ERROR_MAX` of `reel_bundle` is the first."""


def compile_package(
    module: nn.Module, inputs: tuple[Tensor, ...], rows_max: int, device: str, path: Path
) -> None:
    """Writes the package of a module whose first dimension is free up to `rows_max` rows."""
    rows = torch.export.Dim("rows", min=1, max=rows_max) if rows_max > 1 else None
    dynamic = tuple({0: rows} for _ in inputs) if rows else None
    program = torch.export.export(module, inputs, dynamic_shapes=dynamic, strict=False)
    torch._inductor.aoti_compile_and_package(
        program, package_path=str(path), inductor_configs=OPTIONS[device]
    )


def load_package(path: Path) -> Callable[..., Tensor]:
    """Opens a package; its constants are not bound yet."""
    return torch._inductor.aoti_load_package(str(path))


def bind(package: Callable[..., Tensor], tensors: Callable[[list[str]], dict[str, Tensor]]) -> None:
    """Gives a package its constants without copying them."""
    names = package.loader.get_constant_fqns()
    package.load_constants(tensors(names), check_full_update=True, user_managed=True)


def difference(
    package: Callable[..., Tensor], module: nn.Module, batches: list[tuple[Tensor, ...]]
) -> float:
    """The largest difference from eager execution over some batches."""
    return max(_difference(package(*batch), module(*batch)) for batch in batches)


def _difference(compiled: Tensor, eager: Tensor) -> float:
    return (compiled.float() - eager.float()).abs().max().item()


def check(role: str, error: float, dtype: str) -> None:
    """Refuses a package that does not compute what the model computes."""
    if not error <= ERROR_MAX[dtype]:
        fix = "report it with the versions of torch and diffusers"
        message = f"differs from eager execution by {error:.3g}, more than {ERROR_MAX[dtype]:g}"
        raise BakeError(message, fix, role)
