"""BrainCog 0.2: `IFNode`, `LIFNode` and `PLIFNode`, one step a call or layer by layer, and `VotingLayer`.

    m[t] = m[t-1] + dt*x[t]                           IFNode
    m[t] = m[t-1] + (x[t] - m[t-1])/tau               LIFNode, whatever dt is
    m[t] = m[t-1] + (x[t] - m[t-1])*sigmoid(w)*dt     PLIFNode
    s[t] = act_fun(m[t] - threshold);  m <- m*(1 - s)

What happens at m = threshold depends on act_fun: SigmoidGrad and ReLUGrad spike, the others do not. Source:
braincog/base/node/node.py and braincog/base/strategy/surrogate.py of version 0.2.7.19.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from randhet.export.graph import ExportError
from randhet.export.readers import plain
from randhet.train.general import GeneralLIF

STEP = ("forward", "integral", "calc_spike", "get_thres", "rearrange2node", "rearrange2op")
"""The methods that say what a neuron computes."""
NOTHING = {"NDropout"}
"""What changes nothing in evaluation mode."""


def read(module: nn.Module) -> nn.Module | None:
    """Our module of one of BrainCog's; None for a container, an encoder or a network of the library."""
    name = next((one.__name__ for one in type(module).__mro__ if one.__module__.startswith("braincog")), "")
    if name in NODES:
        _plain(module, name)
        return NODES[name](module)
    if name in NOTHING:
        return nn.Identity()
    if name == "ThresholdDependentBatchNorm2d":
        return _norm(module)
    if name == "VotingLayer":
        return _votes(module)
    if _neuron_like(module) or (not any(module.children()) and any(module.parameters())):
        raise ExportError(f", which has no counterpart: neurons that are read are {', '.join(sorted(NODES))}")
    return None


def reset(module: nn.Module) -> None:
    """Forget what a neuron remembers."""
    if _neuron_like(module):
        module.n_reset()  # type: ignore[operator]


def _neuron_like(module: nn.Module) -> bool:
    return any(kind.__name__ in ("BaseNode", "BaseMCNode") for kind in type(module).__mro__)


def _votes(module: Any) -> nn.Module:
    """The mean of groups of neurons."""
    return plain.Votes(int(module.voting.kernel_size[0]))


def _norm(module: Any) -> nn.Module:
    """Batch norm whose weights began at alpha times the threshold."""
    ours = nn.BatchNorm2d(module.num_features, module.eps, affine=True)
    ours.load_state_dict(module.state_dict())
    return plain.as_layer(ours, nn.BatchNorm2d)


def _plain(module: Any, name: str) -> None:
    """ExportError for a neuron that computes something else than its kind."""
    own = [method for method in STEP if _owner(module, method) not in (name, "BaseNode")]
    if own:
        raise ExportError(f", which has a {own[0]} of its own: use {name} itself")
    if module.groups != 1:
        raise ExportError(f", which has n_groups={module.groups}, other weights at each step: leave it at 1")
    if module.v_reset:
        raise ExportError(f", which starts at v_reset {module.v_reset:g} and is reset to 0: use v_reset=0.0")
    if not float(_threshold(module, name)) > 0:
        raise ExportError(f", whose threshold is {float(_threshold(module, name)):.3g}, it must be positive")


def _owner(module: nn.Module, method: str) -> str:
    """The class that a method comes from."""
    if method in vars(module):
        return ""
    return next(kind.__name__ for kind in type(module).__mro__ if method in vars(kind))


def _threshold(module: Any, name: str) -> float:
    """LIFNode compares with its threshold itself, the others with its sigmoid where sigmoid_thres says so."""
    if module.threshold.numel() != 1:
        raise ExportError(f", whose {module.threshold.numel()} thresholds differ: use one a layer")
    return float((module.threshold if name == "LIFNode" else module.get_thres()).detach())


def _inclusive(module: Any) -> bool:
    """Whether a potential at the threshold spikes; ExportError for what sends something else than 0 and 1."""
    probe = torch.tensor([-1.0, -1e-3, 0.0, 1e-3, 1.0, 3.0])
    with torch.no_grad():
        fired = module.act_fun(probe)
    for inclusive in (False, True):
        if torch.equal(fired, (probe >= 0 if inclusive else probe > 0).float()):
            return inclusive
    raise ExportError(", whose act_fun gives no spikes of 0 and 1: use AtanGrad or QGateGrad")


def _neuron(module: Any, name: str, leak: float, drive: float | None, learn: bool = False) -> nn.Module:
    if not 0 <= leak <= 1:
        raise ExportError(f", whose membrane potential loses {leak:.3g} of itself a step, the limits are 0 to 1")
    level, inclusive = _threshold(module, name), _inclusive(module)
    return GeneralLIF(1 - leak, level, drive=drive, reset="zero", inclusive=inclusive, learn=learn)


def _integrating(module: Any) -> nn.Module:
    return _neuron(module, "IFNode", 0.0, float(module.dt))


def _leaky(module: Any) -> nn.Module:
    return _neuron(module, "LIFNode", 1 / float(module.tau), None)


def _parametric(module: Any) -> nn.Module:
    return _neuron(module, "PLIFNode", float(module.w.detach().double().sigmoid()) * float(module.dt), None, learn=True)


NODES = {"IFNode": _integrating, "LIFNode": _leaky, "PLIFNode": _parametric}
"""The neurons that are read, by the name of their class."""
