"""Compile the kernels of a few networks for a GPU that is not there, and print what their machine code holds, as JSON.

python compiled.py CAPABILITY: a driver that only names the target stands in for the real one, and kernels are compiled
to the end instead of being launched.
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from typing import Any

import torch
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

CAPABILITY = int(sys.argv[1])


class Named:
    """A driver without a device."""

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", CAPABILITY, 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int = 0) -> int:
        return 0

    def get_active_torch_device(self) -> torch.device:
        return torch.device("cpu")


driver.set_active(Named())
COMPILED: dict[str, list[Any]] = {}


def compiling(kernel: JITFunction, grid: Any) -> Any:
    """What stands in for a launch."""
    return lambda *args, **options: COMPILED.setdefault(kernel.__name__, []).append(
        kernel.warmup(*args, grid=grid, **options)
    )


JITFunction.__getitem__ = compiling  # type: ignore[method-assign]

from randhet.export.gpu import launch  # noqa: E402

launch.DEVICE = "cpu"

from hardware_tests.random_networks import numbered  # noqa: E402
from randhet.export.gpu import run  # noqa: E402
from randhet.train import gpu  # noqa: E402

run.missing = lambda: None
for number in map(int, sys.argv[2:]):
    sample = numbered(number)
    for generator in ("register", "chacha"):
        run.run(replace(sample.network, generator=generator), sample.images, seed=1, probes=sample.names)  # type: ignore[arg-type]
decays = gpu.random_decays(1, 3, 1.0, "step", torch.device("cpu"))
for learned, taus in ((None, decays), (torch.rand(5, requires_grad=True), gpu.constant_decays(torch.rand(5)))):
    gpu.GpuLif.apply(torch.rand(3, 2, 5, requires_grad=True), learned, taus, gpu.Cell(0.5, 2.0, False)).sum().backward()
print(
    json.dumps(
        {
            name: {
                "variants": len({id(kernel) for kernel in kernels}),
                "bytes": min(len(kernel.asm["cubin"]) for kernel in kernels),
                "floats": sorted({word for kernel in kernels for word in re.findall(r"\.f\d+", kernel.asm["ptx"])}),
                "fused": sum(len(re.findall(r"\bfma\.", kernel.asm["ptx"])) for kernel in kernels),
                "products": sorted({w for k in kernels for w in re.findall(r"mma[\w.:]*s8\.s8[\w.]*", k.asm["ptx"])}),
            }
            for name, kernels in COMPILED.items()
        }
    )
)
