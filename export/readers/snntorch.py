"""snnTorch 1.0: `Leaky`, `Lapicque` and `RLeaky` as leaky neurons whose input enters whole.

    m[t] = beta*m[t-1] + x[t] - s[t-1]*theta      Leaky, "subtract", reset_delay=True, the defaults
    m[t] = beta*m[t-1]*(1 - s[t-1]) + x[t]        Leaky, "zero", delayed or not: the same as a reset at once
    m[t] = (1 - s[t-1])*(d*m[t-1] + dt/C*x[t])    Lapicque, "zero"; d = 1 - dt/(R*C)
    m[t] = beta*m[t-1] + x[t] + V s[t-1] - ...    RLeaky, reset as Lapicque
    m[t] = beta*m[t-1]*(1 - s[t-1]) + i[t]        Synaptic, "zero", reset_delay=False; i[t] = alpha*i[t-1] + x[t]

They with "subtract" and reset_delay=False counts a membrane potential that stays above its threshold as a reset that
is due, and needs twice the threshold to spike then; that is refused. Source: snntorch/_neurons of version 1.0.0.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from randhet.export.graph import ExportError
from randhet.export.readers import plain
from randhet.train import layers
from randhet.train.general import GeneralLIF, LeakyReadOut
from randhet.train.neurons import Reset

STATES = ("mem", "syn", "syn_exc", "syn_inh", "spk")


def read(module: nn.Module) -> nn.Module | None:
    """Our neuron of one of snnTorch's; None for a container."""
    kind = next((known for known in _names(module) if known in KINDS), None)
    if kind is None:
        if any(module.children()):
            return None
        raise ExportError(", which has no counterpart: supported are Lapicque, Leaky, RLeaky")
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
    reset = _subtracting(module)
    delay = int(reset == "subtract")  # to zero before the decay is to zero at once
    return _neuron(module.beta, 1.0, module, reset, delay, isinstance(module.beta, nn.Parameter))


def _subtracting(module: Any) -> str:
    """The reset; ExportError where it subtracts in a way that integers cannot."""
    reset = _reset(module)
    if reset == "subtract" and not module.reset_delay:
        raise ExportError(
            ', which has reset_mechanism="subtract" and reset_delay=False and so misses spikes while its membrane '
            'potential stays above the threshold: use reset_delay=True, or reset_mechanism="zero"'
        )
    if reset == "subtract" and bool((module.beta >= 1).all()):
        raise ExportError(
            ', which has beta=1 and reset_mechanism="subtract": without a leak there is a reset to zero only, use '
            'reset_mechanism="zero", or a beta below 1'
        )
    return reset


def _recurrent(module: Any) -> nn.Module:
    """A neuron that adds a linear layer of its spikes of the step before; resets act before it does."""
    reset = _subtracting(module)
    if reset == "none":
        raise ExportError(
            ', which has reset_mechanism="none" and sends its spikes to itself: use Leaky without a reset'
        )
    ours = _neuron(module.beta, 1.0, module, reset, int(module.reset_delay), isinstance(module.beta, nn.Parameter))
    assert isinstance(ours, GeneralLIF)
    ours.recurrent = _returning(module)
    return ours


def _returning(module: Any) -> nn.Linear:
    """The weights on its own spikes: a matrix, or one a neuron."""
    own = module.recurrent
    if type(own) is nn.Linear:
        return plain.as_layer(own, nn.Linear)  # type: ignore[return-value]
    if module.all_to_all or own.V.numel() == 1:
        raise ExportError(
            ", whose spikes return through a convolution or one number: give linear_features, or V with a value for "
            "each neuron"
        )
    diagonal = layers.Linear(own.V.numel(), own.V.numel(), bias=False)
    with torch.no_grad():
        diagonal.weight.copy_(torch.diag(own.V.detach().flatten()))
    return diagonal


def _lapicque(module: Any) -> nn.Module:
    if max(module.R.numel(), module.C.numel()) > 1:
        raise ExportError(", whose R and C differ between neurons: use one a layer")
    step = float(module.time_step) / float(module.C)
    decay = 1 - step / float(module.R)
    if not 0 <= decay < 1:
        raise ExportError(f", whose membrane potential keeps {decay:.3g} of itself, the limits are 0 to 1")
    return _neuron(torch.tensor(decay, dtype=torch.float64), step, module, _reset(module), 1, False)


def _synaptic(module: Any) -> nn.Module:
    """A neuron with a current of its own, of which integers have the one that is reset to zero at once."""
    reset = _reset(module)
    if reset != "zero" or module.reset_delay:
        late = ", one step late" if reset != "none" and module.reset_delay else ""
        raise ExportError(
            f', which has a current of its own and reset_mechanism="{reset}"{late}: integer neurons with a current are '
            'reset to zero at once only, use Leaky, or reset_mechanism="zero" and reset_delay=False'
        )
    if max(module.alpha.numel(), module.beta.numel()) > 1:
        raise ExportError(", whose alpha or beta differ between neurons: use one a layer")
    current, decay = (float(value.detach().clamp(0, 1)) for value in (module.alpha, module.beta))
    return GeneralLIF(decay, _threshold(module), drive=1.0, synapse=current, reset="zero")


KINDS = {"Leaky": _leaky, "Lapicque": _lapicque, "RLeaky": _recurrent, "Synaptic": _synaptic}
"""The neurons that are read, by the name of their class."""
