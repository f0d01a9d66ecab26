"""A float graph as a torch module: what any traced or imported model computes, in the layers and neurons of `train`.

Its neurons have the names of the network's layers, so that they can be recorded and given the draws of the integers;
its weights are parameters, so that it can be attacked and trained on.
"""

from __future__ import annotations

from functools import singledispatch
from typing import NamedTuple

import torch
from torch import Tensor, nn

from randhet.export.float_shape import shapes
from randhet.export.graph import (
    Affine,
    Array,
    AveragePool,
    Encoding,
    ExportError,
    FloatAdd,
    FloatAnd,
    FloatConcat,
    FloatConv,
    FloatDense,
    FloatFlatten,
    FloatGraph,
    FloatIand,
    FloatInput,
    FloatMaxPool,
    FloatNeuron,
    FloatOperation,
    FloatSpread,
    Normalisation,
    Pair,
    TimeMean,
    TimeRead,
)
from randhet.export.passes.recurrent import into_neurons
from randhet.fixed_point.network import Shape
from randhet.train.general import GeneralLIF, LastStep, LeakyReadOut, MaxOverTime
from randhet.train.layers import (
    AvgPool2d,
    Conv2d,
    Encode,
    Flatten,
    Frames,
    GlobalAveragePool,
    Linear,
    MaxPool2d,
    MeanOverTime,
    Normalise,
    spread,
)
from randhet.train.neurons import LIF, RandomTauLIF


class Step(NamedTuple):
    """One node: its module, the values it reads, and those that nobody reads after it."""

    name: str
    module: nn.Module
    inputs: tuple[str, ...]
    done: tuple[str, ...]


class FloatModel(nn.Module):
    """Images (N, *shape) in 0..1 to logits (N, classes), node by node as the graph says."""

    def __init__(self, graph: FloatGraph) -> None:
        super().__init__()
        graph = into_neurons(graph)
        known = shapes(graph)
        last = {read: node.name for node in graph.nodes for read in node.inputs}
        self.walk = list[Step]()
        for node in graph.nodes:
            module = module_of(node.operation, known[node.inputs[0]] if node.inputs else ())
            _put(self, node.name, module)
            done = tuple(dict.fromkeys(read for read in node.inputs if last[read] == node.name))
            self.walk.append(Step(node.name, module, node.inputs, done))

    def forward(self, images: Tensor) -> Tensor:
        values: dict[str, Tensor] = {}
        for step in self.walk:
            values[step.name] = step.module(*(values[name] for name in step.inputs) if step.inputs else (images,))
            for name in step.done:
                del values[name]
        return values[self.walk[-1].name]


def _put(model: nn.Module, name: str, module: nn.Module) -> None:
    """Set a module by a dotted name, with empty modules on the way; a node may have the name of a method."""
    *path, own = name.split(".")
    for part in path:
        inner = model._modules.setdefault(part, nn.Module())
        assert inner is not None
        model = inner
    for part, child in (model._modules.get(own) or nn.Module())._modules.items():
        module._modules[part] = child  # of a node whose name goes on behind a dot
    model._modules[own] = module


def _tensor(values: Array) -> Tensor:
    return torch.from_numpy(values.copy()).to(torch.get_default_dtype())


# --- operations -----------------------------------------------------------------------------------------------------


class Image(nn.Module):
    """Images as the graph takes them: in one row where its input is one."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, images: Tensor) -> Tensor:
        return images.reshape(len(images), *self.shape)


class Sum(nn.Module):
    """The sum of all that is read."""

    def forward(self, *read: Tensor) -> Tensor:
        return torch.stack(torch.broadcast_tensors(*read)).sum(0)


class Both(nn.Module):
    """Spikes of both: a * b."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return a * b


class Without(nn.Module):
    """Spikes of the second without the first: (1 - a) * b."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return (1 - a) * b


class Joined(nn.Module):
    """The channels of all that is read; axes: of one image."""

    def __init__(self, axes: int) -> None:
        super().__init__()
        self.axes = axes

    def forward(self, *read: Tensor) -> Tensor:
        return torch.cat(read, -self.axes)


class Spread(nn.Module):
    """Zeros between values."""

    def __init__(self, stride: Pair, extra: Pair) -> None:
        super().__init__()
        self.stride, self.extra = stride, extra

    def forward(self, x: Tensor) -> Tensor:
        return spread(x, self.stride, self.extra)


class Scaled(nn.Module):
    """gain * x + shift, each (C, 1, 1) or (C,)."""

    def __init__(self, gain: Tensor, shift: Tensor) -> None:
        super().__init__()
        self.gain, self.shift = nn.Parameter(gain), nn.Parameter(shift)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gain + self.shift


class Shifted(nn.Module):
    """A layer without bias, then a bias for every output."""

    def __init__(self, layer: nn.Module, bias: Tensor) -> None:
        super().__init__()
        self.layer, self.bias = layer, nn.Parameter(bias)

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.layer(x) + self.bias
        return outputs


@singledispatch
def module_of(operation: FloatOperation, shape: Shape) -> nn.Module:
    """The module of an operation that reads (..., *shape)."""
    raise ExportError(f"there is no torch module for {type(operation).__name__}")


@module_of.register
def _(operation: FloatInput, shape: Shape) -> nn.Module:
    return nn.Identity() if operation.sequence else Image(operation.shape)


@module_of.register
def _(operation: Normalisation, shape: Shape) -> nn.Module:
    if len(shape) == 1:
        return Scaled(_tensor(1 / operation.std), _tensor(-operation.mean / operation.std))
    return Normalise(operation.mean.tolist(), operation.std.tolist())


@module_of.register
def _(operation: FloatConv, shape: Shape) -> nn.Module:
    out, per_group, *kernel = operation.weight.shape
    geometry = (operation.stride, operation.padding, operation.dilation, operation.groups)
    one_each = operation.bias.ndim == 1
    layer = Conv2d(per_group * operation.groups, out, (kernel[0], kernel[1]), *geometry, bias=one_each)
    return _with(layer, operation.weight, operation.bias, one_each)


@module_of.register
def _(operation: FloatDense, shape: Shape) -> nn.Module:
    out, features = operation.weight.shape
    return _with(Linear(features, out), operation.weight, operation.bias, True)


def _with(layer: nn.Conv2d | nn.Linear, weight: Array, bias: Array, one_each: bool) -> nn.Module:
    with torch.no_grad():
        layer.weight.copy_(_tensor(weight))
        if layer.bias is not None:
            layer.bias.copy_(_tensor(bias))
    return layer if one_each else Shifted(layer, _tensor(bias))


@module_of.register
def _(operation: Affine, shape: Shape) -> nn.Module:
    axes = (-1, *[1] * (len(shape) - 1))
    return Scaled(*(_tensor(values).reshape(axes) for values in (operation.gain, operation.shift)))


@module_of.register
def _(operation: Encoding, shape: Shape) -> nn.Module:
    return Frames(operation.steps) if operation.sequence else Encode(operation.steps)


@module_of.register
def _(operation: FloatAdd, shape: Shape) -> nn.Module:
    return Sum()


@module_of.register
def _(operation: FloatAnd, shape: Shape) -> nn.Module:
    return Both()


@module_of.register
def _(operation: FloatIand, shape: Shape) -> nn.Module:
    return Without()


@module_of.register
def _(operation: FloatConcat, shape: Shape) -> nn.Module:
    return Joined(len(shape))


@module_of.register
def _(operation: AveragePool, shape: Shape) -> nn.Module:
    return GlobalAveragePool() if operation.kernel is None else AvgPool2d(operation.kernel, operation.stride)


@module_of.register
def _(operation: FloatFlatten, shape: Shape) -> nn.Module:
    return Flatten() if len(shape) == 3 else nn.Identity()


@module_of.register
def _(operation: FloatMaxPool, shape: Shape) -> nn.Module:
    return MaxPool2d(operation.kernel, operation.stride, operation.padding)


@module_of.register
def _(operation: FloatSpread, shape: Shape) -> nn.Module:
    return Spread(operation.stride, operation.extra)


@module_of.register
def _(operation: TimeMean, shape: Shape) -> nn.Module:
    return MeanOverTime()


@module_of.register
def _(operation: TimeRead, shape: Shape) -> nn.Module:
    return LastStep() if operation.read == "last" else MaxOverTime()


@module_of.register
def _(operation: FloatNeuron, shape: Shape) -> nn.Module:
    if operation.kind == "randhet":
        sampling = "step" if operation.sampling == "step" else "forward"
        return RandomTauLIF(operation.sigma, operation.threshold, sampling, reset=operation.reset)  # type: ignore[arg-type]
    if operation.kind == "vanilla" and not operation.unusual:
        return LIF(float(operation.decay), operation.threshold, reset=operation.reset)
    return _general(operation)


def _general(operation: FloatNeuron) -> nn.Module:
    """m = decay*m + g*x; integrate: m = m + g*x; cuba: m = decay*m + g*u."""
    if operation.floor is not None:
        raise ExportError("there is no torch module for neurons with a lowest membrane potential")
    whole = operation.kind == "integrate"
    decay = 1.0 if whole else float(operation.decay) if operation.decay.ndim == 0 else _tensor(operation.decay)
    drive = 1.0 if operation.kind in ("integrate", "cuba") and operation.drive is None else operation.drive
    if operation.read is not None:
        return LeakyReadOut(decay, drive=drive, synapse=operation.synapse)
    return GeneralLIF(
        decay,
        operation.threshold,
        drive=drive,
        synapse=operation.synapse,
        reset=operation.reset,
        reset_delay=operation.reset_delay,
        inclusive=operation.inclusive,
        recurrent=_recurrent(operation),
    )


def _recurrent(operation: FloatNeuron) -> nn.Linear | None:
    """What its own spikes add to its currents."""
    if operation.recurrent is None or operation.recurrent_bias is None:
        return None
    layer = _with(Linear(*operation.recurrent.shape), operation.recurrent, operation.recurrent_bias, True)
    assert isinstance(layer, nn.Linear)
    return layer
