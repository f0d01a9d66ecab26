"""Is the traced graph the model? Each node is computed from what the model's own layers gave, and held against it.

In float64, on a few images and with the same decay draws: a difference is a layer that computes something else than
what would be exported, never rounding.
"""

from __future__ import annotations

import copy
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from randhet.base.kinds import assert_never
from randhet.export.graph import (
    Affine,
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
    FloatNode,
    FloatSpread,
    Normalisation,
    TimeMean,
    TimeRead,
)
from randhet.export.in_time import InTime, first
from randhet.train.layers import spread
from randhet.train.neurons import RandomTauLIF, neurons, replaying

IMAGES = 2
"""As many are enough: a difference is in the formula, not in the data."""
TOLERANCE = 1e-8
"""Of values of order one in float64; a threshold this close may be passed in one sum and not in the other."""


def verify(model: nn.Module, graph: FloatGraph, images: np.ndarray) -> None:
    """Raise ExportError that names the first layer whose output the graph does not give. images (N, C, Y, X) uint8."""
    twin = copy.deepcopy(model).cpu().double().eval()
    pixels = torch.from_numpy(np.ascontiguousarray(images[:IMAGES])).double() / 255
    with torch.no_grad(), listening(twin.model if isinstance(twin, InTime) else twin) as heard:
        output = _ran(twin, pixels)
    heard.gather(graph)
    values: dict[str, Tensor] = {}
    for node in graph.nodes:
        given, certain = _value(node, [values[name] for name in node.inputs], pixels, heard)
        own = heard.next_output(node.name)
        if own is None and node is graph.nodes[-1]:
            own = output
        if own is not None:
            own = _apart(own, given)
            _compare(node, given, own, certain)
        values[node.name] = given if own is None else own
    _compare(graph.nodes[-1], values[graph.nodes[-1].name], output, None)


def _ran(model: nn.Module, pixels: Tensor) -> Tensor:
    """The output; ExportError where the user's forward fails on what its graph allows."""
    try:
        output: Tensor = model(pixels)
    except Exception as error:  # of the user's own, of any kind
        shown = "recordings (T, N, C, Y, X) of images" if isinstance(model, InTime) else "images"
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ExportError(f"the model cannot be run on {shown} of shape {tuple(pixels.shape[1:])}: {reason}") from None
    return output


@dataclass(eq=False)
class Heard:
    """What the model's modules gave, and what its random neurons drew, by name in the order of the calls."""

    modules: Mapping[str, nn.Module]
    outputs: dict[str, list[Tensor]] = field(default_factory=dict)
    draws: dict[str, list[Tensor]] = field(default_factory=dict)

    def target(self, name: str) -> str:
        """The module of a node, which has a number behind its name where the module is called again."""
        return name if name in self.modules else re.sub(r"_\d+$", "", name)

    def gather(self, graph: FloatGraph) -> None:
        """Stack what a module gave step by step, called T times as often as the graph has it, as (T, N, ...)."""
        (steps,) = {node.operation.steps for node in graph.nodes if isinstance(node.operation, Encoding)}
        uses = Counter(self.target(node.name) for node in graph.nodes)
        for name, count in uses.items():
            calls = self.outputs.get(name, [])
            if len(calls) == steps * count and steps > 1:
                self.outputs[name] = [torch.stack(calls[use::count]) for use in range(count)]

    def next_output(self, name: str) -> Tensor | None:
        """What the module of a node gave at its next call; None for what is no module."""
        waiting = self.outputs.get(self.target(name))
        return waiting.pop(0) if waiting else None


@contextmanager
def listening(model: nn.Module) -> Iterator[Heard]:
    """Within the block, every module's outputs are kept, and random neurons take uniform decays, which are kept too."""
    heard = Heard(dict(model.named_modules()))
    generator = torch.Generator().manual_seed(0)

    def sampler(name: str) -> Any:
        def draw(shape: tuple[int, ...]) -> Tensor:
            drawn = torch.rand(shape, generator=generator, dtype=torch.float64)
            heard.draws.setdefault(name, []).append(drawn)
            return drawn

        return draw

    def keep(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            value = first(output) if isinstance(output, (Tensor, tuple)) else None
            if isinstance(value, Tensor):
                heard.outputs.setdefault(name, []).append(value.clone())  # what follows may change it in place

        return hook

    random = {name: sampler(name) for name, module in neurons(model).items() if isinstance(module, RandomTauLIF)}
    with ExitStack() as stack:
        for name, module in heard.modules.items():
            if name:
                stack.callback(module.register_forward_hook(keep(name)).remove)
        stack.enter_context(replaying(model, random))
        yield heard


def _apart(own: Tensor, given: Tensor) -> Tensor:
    """What a module gave of steps and images as one axis, with both; a row as an image of one row."""
    if own.dim() + 1 == given.dim() and given.shape[-2] == 1 and own.shape == given.squeeze(-2).shape:
        return own.unsqueeze(-2)
    merged = own.dim() + 1 == given.dim() and own.shape == given.flatten(0, 1).shape
    return own.reshape(given.shape) if merged else own


def _compare(node: FloatNode, given: Tensor, own: Tensor, certain: Tensor | None) -> None:
    if given.shape != own.shape:
        raise ExportError(
            f"layer {node.name} gives {tuple(own.shape)}, what would be exported {tuple(given.shape)}: it computes "
            "something else than its kind"
        )
    gap = (given - own).abs()
    gap = gap if certain is None else gap[certain]
    largest = float(gap.max()) if gap.numel() else 0.0
    if not largest <= TOLERANCE * (1 + float(own.abs().max())):
        raise ExportError(
            f"layer {node.name} computes something else than what would be exported (differences up to {largest:.3g}): "
            "use layers of a supported kind unchanged"
        )


Value = tuple[Tensor, Tensor | None]
"""A node's output, and for neurons where it is certain."""


def _value(node: FloatNode, read: list[Tensor], pixels: Tensor, heard: Heard) -> Value:  # noqa: C901 (a case a kind)
    """A node from what it reads: (N, ...), behind an encoding (T, N, ...)."""
    operation = node.operation
    match operation:
        case FloatInput():
            return pixels, None
        case Normalisation():
            mean, std = (torch.from_numpy(values).view(-1, 1, 1) for values in (operation.mean, operation.std))
            return (read[0] - mean) / std, None
        case FloatConv():
            return _conv(operation, read[0]), None
        case FloatDense():
            return F.linear(read[0], torch.from_numpy(operation.weight), torch.from_numpy(operation.bias)), None
        case Affine():
            return _affine(operation, read[0]), None
        case Encoding(sequence=True):
            return read[0].transpose(0, 1), None
        case Encoding():
            return read[0].unsqueeze(0).expand(operation.steps, *read[0].shape), None
        case FloatNeuron():
            return _neuron(operation, read[0], heard.draws.get(heard.target(node.name), []))
        case FloatAdd():
            return torch.stack(torch.broadcast_tensors(*read)).sum(0), None
        case FloatAnd():
            return read[0] * read[1], None
        case FloatIand():
            return (1 - read[0]) * read[1], None
        case FloatConcat():
            return torch.cat(read, -3 if read[0].dim() > 3 else -1), None
        case AveragePool():
            return _pool(operation, read[0]), None
        case FloatMaxPool():
            return _max_pool(operation, read[0]), None
        case FloatSpread():
            return spread(read[0], operation.stride, operation.extra), None
        case FloatFlatten():
            return read[0].flatten(-3), None
        case TimeMean():
            return read[0].mean(0), None
        case TimeRead():
            return read[0][-1] if operation.read == "last" else read[0].amax(0), None
        case _:
            assert_never(operation)


def _images(x: Tensor) -> Tensor:
    """Steps and images as one axis."""
    return x.reshape(-1, *x.shape[-3:])


def _conv(operation: FloatConv, x: Tensor) -> Tensor:
    weight, bias = torch.from_numpy(operation.weight), torch.from_numpy(operation.bias)
    shared = bias if bias.dim() == 1 else None
    sums = F.conv2d(
        _images(x), weight, shared, operation.stride, operation.padding, operation.dilation, operation.groups
    )
    sums = sums if shared is not None else sums + bias
    return sums.reshape(*x.shape[:-3], *sums.shape[1:])


def _affine(operation: Affine, x: Tensor) -> Tensor:
    axes = [-1, 1, 1] if x.dim() >= 4 else [-1]
    gain, shift = (torch.from_numpy(values).view(axes) for values in (operation.gain, operation.shift))
    return x * gain + shift


def _pool(operation: AveragePool, x: Tensor) -> Tensor:
    if operation.kernel is None:
        return x.mean((-2, -1), keepdim=True)
    means = F.avg_pool2d(_images(x), operation.kernel, operation.stride)
    return means.reshape(*x.shape[:-3], *means.shape[1:])


def _max_pool(operation: FloatMaxPool, x: Tensor) -> Tensor:
    largest = F.max_pool2d(_images(x), operation.kernel, operation.stride, operation.padding)
    return largest.reshape(*x.shape[:-3], *largest.shape[1:])


def _neuron(operation: FloatNeuron, x: Tensor, drawn: list[Tensor]) -> Value:
    """m = tau*m + g*x, u of cuba, spike where m > threshold, reset; certain: no step came close to the threshold."""
    taus = drawn.pop(0) if operation.kind == "randhet" else torch.from_numpy(np.asarray(operation.decay, np.float64))
    each = operation.kind == "randhet" and operation.sampling == "step"
    m, fired, sent = torch.zeros_like(x[0]), torch.zeros_like(x[0], dtype=torch.bool), torch.empty_like(x)
    certain, u = torch.ones_like(x, dtype=torch.bool), torch.zeros_like(x[0])
    drive = 1.0 if operation.kind == "cuba" and operation.drive is None else operation.drive
    for t in range(len(x)):
        tau = taus[t] if each else taus
        given = x[t] if operation.recurrent is None else x[t] + _returned(operation, sent[t - 1] if t else None)
        u = operation.synapse * u + given
        m = tau * m + (1 - tau if drive is None else drive) * u
        m = _after(operation, m, fired) if operation.reset_delay else m
        if operation.read:
            sent[t] = m
            continue
        fired = m >= operation.threshold if operation.inclusive else m > operation.threshold
        certain[t:] &= (m - operation.threshold).abs() > TOLERANCE
        sent[t] = fired.to(x.dtype)
        m = m if operation.reset_delay else _after(operation, m, fired)
    return sent, None if operation.read else certain


def _returned(operation: FloatNeuron, before: Tensor | None) -> Tensor:
    """What the spikes of the step before add to the currents."""
    assert operation.recurrent is not None and operation.recurrent_bias is not None
    bias = torch.from_numpy(operation.recurrent_bias)
    return bias if before is None else before @ torch.from_numpy(operation.recurrent).T + bias


def _after(operation: FloatNeuron, m: Tensor, fired: Tensor) -> Tensor:
    """What spikes leave of a membrane potential."""
    return torch.where(fired, m - operation.threshold if operation.reset == "subtract" else torch.zeros_like(m), m)
