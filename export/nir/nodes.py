"""Each NIR node in the words of the float graph: operations, and neurons in steps. Two registries say what is read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import singledispatch
from typing import Any

import nir
import numpy as np

from randhet.export.graph import (
    Array,
    AveragePool,
    ExportError,
    FloatConv,
    FloatDense,
    FloatFlatten,
    FloatOperation,
    Pair,
)
from randhet.export.nir.steps import Discretisation
from randhet.fixed_point.network import Shape


def supported() -> tuple[str, ...]:
    """Names of the NIR nodes that can be read, for messages and documentation."""
    kinds = [kind for registry in (convert.registry, dynamics.registry) for kind in registry if kind is not object]
    return tuple(sorted(kind.__name__ for kind in (*kinds, nir.Scale, nir.NIRGraph, nir.Input, nir.Output)))


@dataclass(frozen=True, eq=False)
class Dynamics:
    """A neuron in steps: what it is (float graph's kind), its decays, and what its current must be multiplied by.

    reads: it never spikes and sends its membrane potential. stateless: nothing of a step is left at the next.
    """

    kind: str
    drive: Array
    threshold: Array
    leak: Array
    decay: Array
    synapse: float = 0.0
    reads: bool = False
    stateless: bool = False


def is_neuron(node: nir.NIRNode) -> bool:
    """Whether a node is a neuron that can be read."""
    return dynamics.dispatch(type(node)) is not dynamics.dispatch(object)


@singledispatch
def dynamics(node: nir.NIRNode, time: Discretisation) -> Dynamics:
    """A NIR neuron in steps."""
    raise ExportError("this node has no counterpart in the integer network")


def _spike(node: nir.LIF | nir.IF | nir.CubaLIF) -> None:
    if np.any(node.v_reset != 0):
        raise ExportError(f"resets to {np.ravel(node.v_reset)[0]:.3g}, only a reset to 0 is supported")
    if not np.all(node.v_threshold > 0):
        raise ExportError(f"threshold is {np.min(node.v_threshold):.3g}, it must be positive")


def _to_zero(time: Discretisation) -> None:
    if time.reset != "zero" or time.reset_delay:
        late = " one step late" * time.reset_delay
        raise ExportError(f"resets by {time.reset!r}{late}, its integer neuron, Cuba, only to zero at once")
    if time.floor is not None:
        raise ExportError(f"is not allowed below {time.floor:g}, its integer neuron, Cuba, has no lowest value")


@dynamics.register
def _(node: nir.LIF, time: Discretisation) -> Dynamics:
    _spike(node)
    time.start(node.v_leak)
    decay = time.decay(node.tau)
    return Dynamics("vanilla", time.drive(node.r, decay), node.v_threshold, node.v_leak, decay)


@dynamics.register
def _(node: nir.IF, time: Discretisation) -> Dynamics:
    _spike(node)
    _to_zero(time)
    return Dynamics("integrate", time.integrator(node.r), node.v_threshold, np.zeros(1), np.ones(1))


@dynamics.register
def _(node: nir.CubaLIF, time: Discretisation) -> Dynamics:
    _spike(node)
    _to_zero(time)
    return replace(_cuba(node, time), threshold=node.v_threshold)


@dynamics.register
def _(node: nir.CubaLI, time: Discretisation) -> Dynamics:
    return replace(_cuba(node, time), reads=True)


def _cuba(node: nir.CubaLIF | nir.CubaLI, time: Discretisation) -> Dynamics:
    """i <- a*i + (1 - a)*w_in*I or a*i + I, v <- b*v + (1 - b)*R*i: with u = (1 - b)*R*i one drive on I."""
    if np.any(node.v_leak != 0):
        raise ExportError(f"v_leak is {np.ravel(node.v_leak)[0]:.3g}, integer CUBA neurons need 0")
    synapse, decay = time.decay(node.tau_syn), time.decay(node.tau_mem)
    if np.ptp(synapse):
        raise ExportError("tau_syn differs from neuron to neuron")
    drive = time.synapse(node.w_in, synapse) * (1 - decay) * node.r
    return Dynamics("cuba", drive, np.ones(1), np.zeros(1), decay, float(np.ravel(synapse)[0]))


@dynamics.register
def _(node: nir.LI, time: Discretisation) -> Dynamics:
    time.start(node.v_leak)
    decay = time.decay(node.tau)
    return Dynamics("vanilla", time.drive(node.r, decay), np.ones(1), node.v_leak, decay, reads=True)


@dynamics.register
def _(node: nir.I, time: Discretisation) -> Dynamics:
    return Dynamics("integrate", time.integrator(node.r), np.ones(1), np.zeros(1), np.ones(1), reads=True)


@dynamics.register
def _(node: nir.Threshold, time: Discretisation) -> Dynamics:
    """A neuron that forgets everything at once: m = I, spike where it is above, as NIR defines the node."""
    if not np.all(node.threshold > 0):
        raise ExportError(f"threshold is {np.min(node.threshold):.3g}, it must be positive")
    return Dynamics("vanilla", np.ones(1), node.threshold, np.zeros(1), np.zeros(1), stateless=True)


@singledispatch
def convert(node: nir.NIRNode, shape: Shape) -> FloatOperation:
    """The float operation of a NIR node without a state that reads `shape`."""
    raise ExportError("this node has no counterpart in the integer network")


@convert.register
def _(node: nir.Affine, shape: Shape) -> FloatOperation:
    return FloatDense(_matrix(node.weight), _real(node.bias))


@convert.register
def _(node: nir.Linear, shape: Shape) -> FloatOperation:
    return FloatDense(_matrix(node.weight), np.zeros(node.weight.shape[0]))


def _real(value: Any) -> Array:
    array = np.asarray(value, np.float64)
    if not np.isfinite(array).all():
        raise ExportError("its weights or biases are not finite")
    return array


def _matrix(value: Any) -> Array:
    array = _real(value)
    if array.ndim != 2:
        raise ExportError(f"its weights have {array.ndim} axes, 2 are supported")
    return array


@convert.register
def _(node: nir.Conv2d, shape: Shape) -> FloatOperation:
    weight, stride, dilation = _real(node.weight), pair(node.stride), pair(node.dilation)
    if weight.ndim != 4:
        raise ExportError(f"its weights have {weight.ndim} axes, a two-dimensional convolution has 4")
    bias = np.zeros(len(weight)) if node.bias is None else _real(node.bias)
    padding = _padding(node.padding, weight.shape[2:], stride, dilation)
    return FloatConv(weight, bias, stride, padding, dilation, int(node.groups))


@convert.register
def _(node: nir.Conv1d, shape: Shape) -> FloatOperation:
    """A convolution of one row."""
    weight, stride, dilation = _real(node.weight), (1, int(node.stride)), (1, int(node.dilation))
    if weight.ndim != 3:
        raise ExportError(f"its weights have {weight.ndim} axes, a one-dimensional convolution has 3")
    weight = weight[:, :, None, :]
    bias = np.zeros(len(weight)) if node.bias is None else _real(node.bias)
    across = node.padding.decode() if isinstance(node.padding, bytes) else node.padding
    padding = _padding(across if isinstance(across, str) else (0, int(across)), weight.shape[2:], stride, dilation)
    return FloatConv(weight, bias, stride, padding, dilation, int(node.groups))


def _padding(value: Any, kernel: tuple[int, ...], stride: Pair, dilation: Pair) -> Pair:
    if isinstance(value, bytes):
        value = value.decode()
    if not isinstance(value, str):
        return pair(value)
    spans = [step * (size - 1) for step, size in zip(dilation, kernel)]
    if value == "same" and (stride != (1, 1) or any(span % 2 for span in spans)):
        raise ExportError(f"padding 'same' with stride {stride} and kernel {kernel} is not symmetric")
    return (spans[0] // 2, spans[1] // 2) if value == "same" else (0, 0)


def pair(value: Any) -> Pair:
    """One number for both axes, or two, as (y, x)."""
    numbers = np.ravel(value).astype(int)
    return int(numbers[0]), int(numbers[-1])


@convert.register(nir.SumPool2d)
@convert.register(nir.AvgPool2d)
def _(node: nir.SumPool2d | nir.AvgPool2d, shape: Shape) -> FloatOperation:
    """A sum is an average whose window size goes into the weights that read it (`nir_read`)."""
    if pair(node.padding) != (0, 0):
        raise ExportError(f"pads by {pair(node.padding)}, only pools without padding are supported")
    return AveragePool(pair(node.kernel_size), pair(node.stride))


@convert.register
def _(node: nir.Flatten, shape: Shape) -> FloatOperation:
    """Only what leaves one axis is used by the layers there are; what does not fit fails at the next layer."""
    return FloatFlatten()
