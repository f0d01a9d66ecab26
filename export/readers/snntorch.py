"""snnTorch 1.0: `Leaky` and `Lapicque` as leaky neurons whose input enters whole.

    m[t] = beta*m[t-1] + x[t] - s[t-1]*theta      Leaky, "subtract", reset_delay=True, the defaults
    m[t] = beta*m[t-1]*(1 - s[t-1]) + x[t]        Leaky, "zero", delayed or not: the same as a reset at once
    m[t] = (1 - s[t-1])*(d*m[t-1] + dt/C*x[t])    Lapicque, "zero"; d = 1 - dt/(R*C)

Leaky with "subtract" and reset_delay=False counts a membrane potential that stays above its threshold as a reset that
is due, and needs twice the threshold to spike then; that is refused. Source: snntorch/_neurons of version 1.0.0.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from randhet.export.graph import ExportError
from randhet.train.general import GeneralLIF, LeakyReadOut
from randhet.train.neurons import Reset

STATES = ("mem", "syn", "syn_exc", "syn_inh", "spk")


def read(module: nn.Module) -> nn.Module | None:
    """Our neuron of one of snnTorch's; None for a container."""
    kind = next((known for known in _names(module) if known in KINDS), None)
    if kind is None:
        if any(module.children()):
            return None
        raise ExportError(f", which has no counterpart: supported are {', '.join(sorted(KINDS))}")
    if type(module).forward is not _kind(module, kind).forward:
        raise ExportError(f", which has a forward of its own: use {kind} itself")
    _plain(module)
    ours: nn.Module = KINDS[kind](module)
    return ours


def reset(module: nn.Module) -> None:
    """Forget the states that a neuron keeps."""
    for name in STATES:
        state = getattr(module, name, None)
        if isinstance(state, Tensor) and hasattr(module, "spike_grad"):
            setattr(module, name, torch.zeros(0, dtype=state.dtype))


def _names(module: nn.Module) -> list[str]:
    return [kind.__name__ for kind in type(module).__mro__ if kind.__module__.startswith("snntorch")]


def _kind(module: nn.Module, name: str) -> Any:
    return next(kind for kind in type(module).__mro__ if kind.__name__ == name)


def _plain(module: Any) -> None:
    """ExportError for options that change what a neuron computes."""
    for name, neutral in (("state_quant", False), ("inhibition", False)):
        if getattr(module, name):
            raise ExportError(f", which has {name}: leave it at {neutral}")
    if (factor := module.graded_spikes_factor).numel() != 1 or float(factor) != 1:
        raise ExportError(", whose graded_spikes_factor is not 1: put the factor into the weights behind it")
    probe = torch.tensor([-1.0, -1e-3, 0.0, 1e-3, 1.0])
    with torch.no_grad():
        fired = torch.stack([module.spike_grad(probe) for _ in range(8)])  # some draw random numbers
    if (fired != (probe > 0)).any():
        raise ExportError(", whose spike_grad does not spike above its threshold alone: use fast_sigmoid or atan")


def _threshold(module: Any) -> float:
    if module.threshold.numel() != 1:
        raise ExportError(f", whose {module.threshold.numel()} thresholds differ: use one a layer")
    if not (level := float(module.threshold.detach())) > 0:
        raise ExportError(f", whose threshold is {level:.3g}, it must be positive")
    return level


def _reset(module: Any) -> str:
    """The reset that is computed, not the name that may have been set later."""
    return ("subtract", "zero", "none")[int(module.reset_mechanism_val)]


def _number(value: Tensor) -> float | Tensor:
    return float(value.detach()) if value.numel() == 1 else value.detach()


def _neuron(decay: Tensor, drive: float, module: Any, reset: str, delay: int, learn: bool) -> nn.Module:
    if reset == "none":
        return LeakyReadOut(_number(decay), drive=drive, learn=learn)
    kind: Reset = "zero" if reset == "zero" else "subtract"
    return GeneralLIF(
        _number(decay), _threshold(module), drive=drive, reset=kind, reset_delay=delay, learn=learn
    )  # fmt: skip


def _leaky(module: Any) -> nn.Module:
    reset = _reset(module)
    if reset == "subtract" and not module.reset_delay:
        raise ExportError(
            ', which has reset_mechanism="subtract" and reset_delay=False and so misses spikes while its membrane '
            'potential stays above the threshold: use reset_delay=True, or reset_mechanism="zero"'
        )
    delay = int(reset == "subtract")  # to zero before the decay is to zero at once
    return _neuron(module.beta, 1.0, module, reset, delay, isinstance(module.beta, nn.Parameter))


def _lapicque(module: Any) -> nn.Module:
    if max(module.R.numel(), module.C.numel()) > 1:
        raise ExportError(", whose R and C differ between neurons: use one a layer")
    step = float(module.time_step) / float(module.C)
    decay = 1 - step / float(module.R)
    if not 0 <= decay < 1:
        raise ExportError(f", whose membrane potential keeps {decay:.3g} of itself, the limits are 0 to 1")
    return _neuron(torch.tensor(decay, dtype=torch.float64), step, module, _reset(module), 1, False)


KINDS = {"Leaky": _leaky, "Lapicque": _lapicque}
"""The neurons that are read, by the name of their class."""
