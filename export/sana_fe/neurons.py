"""A layer's neurons as SANA-FE's leaky integrate-and-fire: v[t+1] = leak_decay*v[t] + bias + u[t], u the weights' sum.

Of m = tau*m + (1 - tau)*x with x = (a << f) + b follows v = m/(1 - tau): leak_decay tau, weights w*2^f, bias b, and the
threshold divided by 1 - tau. Rounding and saturation are not there, and a drawn tau is the mean of its table.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from randhet.base.errors import RandhetError
from randhet.base.kinds import assert_never
from randhet.fixed_point.network import Constant, Drawn, Layer, Leaky, Lif, PerNeuron, ReadOut, Shape

NEVER = 1e30
"""A threshold that no read-out reaches."""
Values = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Somas:
    """Per neuron, (channel, y, x) order: threshold, bias, leak_decay. gain: 2^f of the weights; reset: its mode."""

    threshold: Values
    bias: Values
    leak: Values
    gain: int
    reset: str
    spikes: bool


def somas(layer: Layer, shape: Shape) -> Somas:
    """Describe a layer's neurons; RandhetError where SANA-FE's own model cannot represent them."""
    neuron = layer.sender
    match neuron:
        case ReadOut():
            return _readout(_each(neuron.bias, shape))
        case Lif():
            return _lif(layer.name, neuron, shape)
        case Leaky(dynamics=Lif() as dynamics):
            made = _lif(layer.name, dynamics, shape)
            return Somas(np.full(prod(shape), NEVER), made.bias, made.leak, made.gain, "none", False)
        case _:
            raise RandhetError(
                f"layer {layer.name} has neurons with a current of their own, SANA-FE's leaky_integrate_fire has none"
            )


def _readout(bias: Values) -> Somas:
    return Somas(np.full(len(bias), NEVER), bias, np.ones(len(bias)), 1, "none", False)


def _lif(name: str, lif: Lif, shape: Shape) -> Somas:
    if lif.reset_delay or lif.floored:
        what = "a reset one step late" if lif.reset_delay else "a lowest membrane potential"
        raise RandhetError(f"layer {name} has {what}, SANA-FE's leaky_integrate_fire has none")
    tau = _tau(lif, shape)
    reset = {"zero": "hard", "subtract": "soft"}[lif.reset]
    threshold = _each(lif.threshold, shape) / (1 - tau)
    return Somas(threshold, _each(lif.bias, shape), tau, 2**lif.f, reset, True)


def _tau(lif: Lif, shape: Shape) -> Values:
    decay = lif.decay
    match decay:
        case Constant():
            mantissa = np.full(shape, float(decay.mantissa))
        case PerNeuron():
            mantissa = decay.mantissa.astype(np.float64)
        case Drawn():
            mantissa = np.full(shape, float(decay.table.mean()))
        case _:
            assert_never(decay)
    return mantissa.ravel() / 2**lif.k


def _each(values: np.ndarray, shape: Shape) -> Values:
    """Repeat values per layer, channel or neuron for every neuron."""
    values = values.astype(np.float64)
    if values.ndim == 1 and len(shape) == 3:
        values = values[:, None, None]
    return np.broadcast_to(values, shape).ravel().copy()
