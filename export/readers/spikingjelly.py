"""SpikingJelly 2.0: its layers, containers and the neurons `IFNode`, `LIFNode` and `ParametricLIFNode`, in both modes.

    h[t] = v + (x - (v - v_reset))/tau         decay_input, the default; tau 1/sigmoid(w) where it is learned
    h[t] = v - (v - v_reset)/tau + x           decay_input=False
    h[t] = v + x                               IFNode
    s[t] = 1 if h[t] >= v_threshold;  v = v_reset where s, or h - v_threshold where v_reset is None

With m = v - v_reset the reset is to 0 and the threshold v_threshold - v_reset. Source: spikingjelly/activation_based,
`functional/neuron.py` and `neuron/`, of version 2.0.0.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from randhet.export.graph import ExportError
from randhet.export.readers import plain
from randhet.train.general import GeneralLIF

LAYERS = ("stateless_wrapper", "bn")
"""Modules of the library whose layers are torch's, over time where step_mode is "m"."""
NOTHING = {"Dropout", "Dropout2d"}
"""What changes nothing in evaluation mode."""
CONTAINERS = {"SeqToANNContainer", "MultiStepContainer", "StepModeContainer"}


def read(module: nn.Module) -> nn.Module | None:
    """Our module of one of SpikingJelly's; None for a container, or a network of the library."""
    kind = type(module)
    name = next((one.__name__ for one in kind.__mro__ if one.__module__.startswith("spikingjelly")), "")
    if name in NEURONS:
        _plain(module, name)
        return NEURONS[name](module)
    if name in NOTHING:
        return nn.Identity()
    for torchs in kind.__mro__:
        if torchs in plain.LAYERS and kind.__module__.endswith(LAYERS):
            return plain.as_layer(module, torchs, (kind,))
    if isinstance(module, nn.Flatten):
        return plain.flat(module)
    if isinstance(module, nn.AdaptiveAvgPool2d):
        return plain.mean(module)
    if name in CONTAINERS or not _stateful(module):
        return None
    raise ExportError(f", which has no counterpart: neurons that are read are {', '.join(sorted(NEURONS))}")


def reset(module: nn.Module) -> None:
    """Forget what a module remembers."""
    if _stateful(module):
        module.reset()  # type: ignore[operator]


def _stateful(module: nn.Module) -> bool:
    return any(kind.__name__ == "MemoryModule" for kind in type(module).__mro__)


def _plain(module: Any, name: str) -> None:
    """ExportError for a neuron that computes something else than its kind."""
    own = [method for method in ("forward", "single_step_forward", "neuronal_charge", "single_step_functional_forward")
           if _owner(module, method) not in (name, *LIBRARY)]  # fmt: skip
    if own:
        raise ExportError(f", which has a {own[0]} of its own: use {name} itself")
    probe = torch.tensor([-1.0, -1e-3, 0.0, 1e-3, 1.0])
    with torch.no_grad():
        if (module.surrogate_function(probe) != (probe >= 0)).any():
            raise ExportError(", whose surrogate_function gives no spikes of 0 and 1: leave spiking=True")


LIBRARY = ("BaseNode", "SimpleBaseNode", "MemoryModule")


def _owner(module: nn.Module, method: str) -> str:
    """The class that a method comes from."""
    return next((kind.__name__ for kind in type(module).__mro__ if method in vars(kind)), "BaseNode")


def _neuron(module: Any, decay: float | torch.Tensor, drive: float | None, learn: bool = False) -> nn.Module:
    start = module.v_reset or 0.0
    if not (level := module.v_threshold - start) > 0:
        raise ExportError(f", whose v_threshold {module.v_threshold:g} is not above v_reset {start:g}")
    if module.v_reset is None:
        return GeneralLIF(decay, level, drive=drive, reset="subtract", inclusive=True, learn=learn)
    return GeneralLIF(decay, level, drive=drive, reset="zero", inclusive=True, learn=learn)


def _integrating(module: Any) -> nn.Module:
    if module.v_reset is None:
        raise ExportError(
            ", which has v_reset=None: without a leak there is a reset to a number only, use v_reset=0.0 or LIFNode"
        )
    return _neuron(module, 1.0, 1.0)


def _leaky(module: Any) -> nn.Module:
    return _neuron(module, 1 - 1 / float(module.tau), None if module.decay_input else 1.0)


def _parametric(module: Any) -> nn.Module:
    decay = 1 - module.w.detach().sigmoid()
    return _neuron(module, decay, None if module.decay_input else 1.0, learn=True)


NEURONS = {"IFNode": _integrating, "LIFNode": _leaky, "ParametricLIFNode": _parametric,
           "SimpleIFNode": _integrating, "SimpleLIFNode": _leaky}  # fmt: skip
"""The neurons that are read, by the name of their class."""
