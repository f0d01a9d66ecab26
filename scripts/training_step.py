"""A training step with the fused neuron beside the same network with the neuron as a plain PyTorch loop.

python -m scripts.training_step [--repeats N] [--batch N] [--out FILE]    time and memory, one table, JSON with --out
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from math import pi
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from randhet.base.files import replacing
from randhet.train.configuration import named
from randhet.train.models import SEWResNet
from randhet.train.neurons import LIF, Neuron, RandomTauLIF


class Arctan(torch.autograd.Function):
    """Strict step forward, alpha/2 / (1 + (pi/2 alpha v)^2) backward, alpha = 2."""

    @staticmethod
    def forward(ctx: Any, v: Tensor) -> Tensor:
        ctx.save_for_backward(v)
        return (v > 0).to(v.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (v,) = ctx.saved_tensors
        return grads[0] / (1 + (pi * v) ** 2)


class PlainLoop(nn.Module):
    """The neuron as one would write it: a loop over T, autograd keeps what it needs."""

    def __init__(self, neuron: Neuron) -> None:
        super().__init__()
        self.threshold = neuron.threshold
        self.sigma = neuron.sigma if isinstance(neuron, RandomTauLIF) else None

    def forward(self, x: Tensor) -> Tensor:
        m, spikes = torch.zeros_like(x[0]), []
        for current in x:
            tau = 0.5 if self.sigma is None else torch.sigmoid(self.sigma * torch.randn_like(current))
            m = tau * m + (1 - tau) * current
            spikes.append(Arctan.apply(m - self.threshold))
            m = m * (1 - spikes[-1].detach())
        return torch.stack(spikes)


def network(kind: str, plain: bool, name: str = "sew-small") -> SEWResNet:
    """A named network, channels last, in training mode; sew-small is the small one for CIFAR-10."""
    settings = replace(named(name), neuron=kind)  # type: ignore[arg-type]
    channels = settings.in_channels
    model = SEWResNet(settings, (0.5,) * channels, (0.25,) * channels).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if plain:
        for layer, module in list(model.named_modules()):
            if isinstance(module, (RandomTauLIF, LIF)):
                parent, _, last = layer.rpartition(".")
                setattr(model.get_submodule(parent), last, PlainLoop(module))
    return model.train()


CONTENDERS: dict[str, tuple[str, bool]] = {
    "fused, random": ("randhet", False),
    "fused, constant": ("vanilla", False),
    "plain loop, random": ("randhet", True),
    "plain loop, constant": ("vanilla", True),
}


def stepper(name: str, batch: int) -> Callable[[], float]:
    """A function that does one step of SGD and returns its seconds."""
    torch.manual_seed(0)
    model = network(*CONTENDERS[name])
    optimiser = torch.optim.SGD(model.parameters(), 0.1, 0.9)
    images = torch.rand(batch, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(10, (batch,))

    def step() -> float:
        start = time.perf_counter()
        optimiser.zero_grad(set_to_none=True)
        F.cross_entropy(model(images), labels).backward()
        optimiser.step()
        return time.perf_counter() - start

    return step


def kept(name: str, batch: int) -> int:
    """Bytes that autograd keeps between the forward and the backward pass, each storage once."""
    torch.manual_seed(0)
    model, storages = network(*CONTENDERS[name]), dict[int, int]()

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss = F.cross_entropy(model(torch.rand(batch, 3, 32, 32)), torch.randint(10, (batch,)))
    loss.detach()
    return sum(storages.values())


def peak(name: str, batch: int) -> int:
    """Peak memory in MB of a process of its own that trains for three steps, above the one it had when loaded."""
    code = f"from scripts.training_step import own_peak; print(own_peak({name!r}, {batch}))"
    return int(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)


def own_peak(name: str, batch: int) -> int:
    """What `peak` asks its process for."""
    stepper(name, 1)()
    before, step = high_water(), stepper(name, batch)
    for _ in range(3):
        step()
    return (high_water() - before) // 1024


def high_water() -> int:
    """Largest resident memory of this program so far, in kB (Linux); rusage would count its parent's as well."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def measure(repeats: int, batch: int) -> list[dict[str, Any]]:
    """Contenders take turns, so that a machine whose speed drifts is the same for all."""
    steps = {name: stepper(name, batch) for name in CONTENDERS}
    seconds: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    for repeat in range(repeats + 1):
        for name, step in steps.items():
            elapsed = step()
            if repeat:
                seconds[name].append(elapsed)
    base = seconds["fused, random"]
    return [
        {
            "name": name,
            "ms_per_step": 1000 * statistics.median(taken),
            "ms_min": 1000 * min(taken),
            "ms_max": 1000 * max(taken),
            "ratio_to_fused_random": statistics.median(
                own_seconds / base_seconds for own_seconds, base_seconds in zip(taken, base)
            ),
            "kept_mb": kept(name, batch) / 2**20,
            "peak_mb": peak(name, batch),
        }
        for name, taken in seconds.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    rows = measure(given.repeats, given.batch)
    for row in rows:
        print("  ".join(f"{value:10.2f}" if isinstance(value, float) else f"{value!s:>22}" for value in row.values()))
    if given.out:
        record = {"rows": rows, "batch": given.batch, "repeats": given.repeats, "torch": torch.__version__}
        with replacing(given.out) as temporary:
            temporary.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
