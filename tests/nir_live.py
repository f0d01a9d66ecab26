"""Layers whose weights survive quantisation, and what modules of other libraries give at every step."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402


def on_grid(layer: nn.Module, unit: float = 2.0**-7) -> nn.Module:
    """Weights -127..127 and biases -99..99 times a unit; every output reaches 127, so that its scale is the unit."""
    with torch.no_grad():
        layer.weight.copy_(torch.randint(-127, 128, layer.weight.shape) * unit)
        layer.weight.view(len(layer.weight), -1)[:, 0] = 127 * unit
        if layer.bias is not None:
            layer.bias.copy_(torch.randint(-99, 100, layer.bias.shape) * unit)
    return layer


def watched(modules: Sequence[nn.Module], run: Callable[[], None]) -> list[np.ndarray]:
    """Outputs of modules at every step of a run, (T, N, ...) each."""
    seen: list[list[np.ndarray]] = [[] for _ in modules]

    def keep(log: list[np.ndarray], module: nn.Module, given: object, out: torch.Tensor | tuple) -> None:
        log.append((out[0] if isinstance(out, tuple) else out).detach().numpy())

    hooks = [module.register_forward_hook(functools.partial(keep, log)) for module, log in zip(modules, seen)]
    with torch.no_grad():
        run()
    for hook in hooks:
        hook.remove()
    return [np.stack(log) for log in seen]
