"""Trace a torch model, built of the project's or torch's own layers, into a float graph in float64."""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection
from dataclasses import replace
from functools import singledispatch
from itertools import takewhile
from typing import Any

import numpy as np
import torch
from torch import fx, nn
from torch.nn.utils import parametrize

from randhet.export import gates, geometry, readers
from randhet.export.calls import Form, Values, meant, name_of, ran
from randhet.export.float_shape import shapes
from randhet.export.geometry import array, pair
from randhet.export.graph import (
    Affine,
    Array,
    AveragePool,
    Encoding,
    ExportError,
    FloatAdd,
    FloatDense,
    FloatFlatten,
    FloatGraph,
    FloatInput,
    FloatMaxPool,
    FloatNeuron,
    FloatNode,
    FloatOperation,
    Normalisation,
    TimeMean,
    TimeRead,
)
from randhet.export.in_time import InTime
from randhet.export.readers.read import read
from randhet.train import layers
from randhet.train.general import GeneralLIF, LastStep, LeakyReadOut, MaxOverTime
from randhet.train.layers import Encode, Flatten, Frames, GlobalAveragePool, MeanOverTime, Normalise
from randhet.train.neurons import LIF, HetLIF, RandomTauLIF

SKIPPED = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d)
"""Modules that do nothing in evaluation mode."""
OVER_TIME = (
    layers.Conv1d,
    layers.Conv2d,
    layers.ConvTranspose2d,
    layers.BatchNorm1d,
    layers.BatchNorm2d,
    layers.Linear,
    layers.AvgPool1d,
    layers.AvgPool2d,
    layers.MaxPool1d,
    layers.MaxPool2d,
)
"""This project's own subclasses of torch's layers: the same at every step."""
HARMLESS = {"__init__", "extra_repr", "__repr__"}
"""Methods that a subclass may have of its own without computing anything else than its parent."""


@singledispatch
def convert(module: nn.Module) -> FloatOperation | None:
    """The operation of a leaf module, None for a module that has no counterpart."""
    return None


def supported() -> tuple[str, ...]:
    """Names of the module types that can be exported, for messages and documentation."""
    kinds = [kind.__name__ for kind in convert.registry if kind not in (object, nn.Module)]
    return tuple(sorted({*kinds, *(kind.__name__ for kind in SKIPPED)}))


IN_PLACE = (operator.iadd, "add_")
SUMS = (operator.add, torch.add, "add", *IN_PLACE)


class _Tracer(fx.Tracer):
    """Stops at every module that `convert` knows and at every torch module; goes into containers and user classes."""

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        return convert.dispatch(type(module)) is not convert.dispatch(object) or super().is_leaf_module(module, name)


def trace(model: nn.Module, shape: tuple[int, ...]) -> FloatGraph:
    """The float graph of a model that takes images (N, *shape) in 0..1; ExportError lists all that is not supported."""
    if readers.foreign(model):
        model = read(model, shape)
    if isinstance(model, InTime):
        return in_time(_traced(model.model, shape, model.steps), model.steps)
    return _traced(model, shape)


def timed(model: nn.Module, shape: tuple[int, ...], steps: int | None = None, hint: int | None = None) -> nn.Module:
    """The model as one of images (N, *shape), of our own modules.

    Itself where it has an Encode, else wrapped with T steps, `InTime`; where modules are of other libraries, a model of
    ours that spikes as it does, `randhet.export.readers`. hint: T, where neither the model nor steps say it.
    ExportError where nobody says T, or two say different ones.
    """
    if isinstance(model, InTime):
        return model
    if readers.foreign(model):
        return _read(model, shape, steps, hint)
    try:
        encoded = [node.operation.steps for node in _traced(model, shape).nodes if isinstance(node.operation, Encoding)]
    except ExportError:
        asked = hint if steps is None else steps
        if asked is None:
            return model  # it may be run and attacked, but not exported
        _traced(model, shape, max(asked, 1))
        encoded = []
    steps = hint if steps is None and not encoded else steps
    if not encoded and steps is None:
        raise ExportError("the model does not say its number of time steps: give steps, or add Encode(steps)")
    if encoded and steps not in (None, encoded[0]):
        raise ExportError(
            f"the model runs {encoded[0]} time steps, {steps} are given: leave the number out, or change it"
        )
    return model if steps is None or encoded else InTime(model, steps)


def _read(model: nn.Module, shape: tuple[int, ...], steps: int | None, hint: int | None) -> nn.Module:
    """A model of ours for one of another library, with T as it says itself, or the hint where it does not."""
    try:
        return read(model, shape, steps)
    except ExportError:
        if hint is None or steps is not None:
            raise
        return read(model, shape, hint)


def _traced(model: nn.Module, shape: tuple[int, ...], steps: int | None = None) -> FloatGraph:
    """The graph of a model of images (N, *shape), or of (T, N, *shape) where steps says T."""
    try:
        traced = _Tracer().trace(model.eval())
    except Exception as error:  # fx raises many kinds, all mean that forward() branches on its data
        raise ExportError(f"the model's forward cannot be traced: {str(error).splitlines()[0]}") from None
    graph = _of_frames(FloatGraph(tuple(_nodes(traced, model, shape, steps))))
    shapes(graph)  # what does not fit together is said by name, before anything is folded
    return graph


def _of_frames(graph: FloatGraph) -> FloatGraph:
    """The graph with one frame as its input where the model takes recordings of T frames."""
    frames = [node for node in graph.nodes if isinstance(node.operation, Encoding) and node.operation.sequence]
    if not frames:
        return graph
    image = graph.nodes[0]
    assert isinstance(image.operation, FloatInput) and isinstance(frames[0].operation, Encoding)
    (steps, *frame), wanted = image.operation.shape, frames[0].operation.steps
    if len(frame) not in (1, 3) or steps != wanted or graph.readers(image.name) != frames:
        raise ExportError(
            f"the model takes recordings of {wanted} frames before anything else, those given are of shape "
            f"{image.operation.shape} (T, C, Y, X)"
        )
    return graph.changed(image.name, FloatInput(tuple(frame), sequence=True))


def _nodes(traced: fx.Graph, model: nn.Module, shape: tuple[int, ...], steps: int | None) -> list[FloatNode]:
    """The operations that the output depends on, in order; ExportError with all that are not supported."""
    nodes, refused, names = list[FloatNode](), list[str](), dict[fx.Node, str]()
    needed, modules = _needed(traced), dict(model.named_modules())
    values = ran(traced, model, shape, steps) if any(map(_moves, needed)) else None
    for node in needed:
        if values and not isinstance(values.results[node], torch.Tensor):
            continue  # a size
        reads = values.tensors(node) if values else node.all_input_nodes
        base = _name(node, tuple(names[read] for read in reads))
        inputs = tuple(names[read] for read in gates.reads(node) if read in reads)
        try:
            operations = _operations(node, modules, shape, values)
        except ExportError as error:  # all that is wrong is said at once
            refused.append(f"{_called(base, node, modules)}{error}")
            operations = (FloatAdd(),)
        names[node] = inputs[0] if inputs else ""
        for operation in operations:
            # a module that is called later keeps its name, by which `verify` finds what it gave
            others = modules if node.op != "call_module" else {}
            first = node.op == "call_module" and operation is not operations[-1]
            names[node] = _free(f"{base}.spread" if first else base, {*others, *(known.name for known in nodes)})
            nodes.append(FloatNode(names[node], operation, inputs))
            inputs = (names[node],)
    if refused:
        raise ExportError(f"not supported: {'; '.join(refused)}. Supported are +, *, {', '.join(supported())}")
    return nodes


def _moves(node: fx.Node) -> bool:
    """Whether a node is a call whose meaning its values tell."""
    known = node.target in SUMS or node.target in gates.PRODUCTS or gates.is_complement(node)
    return node.op in ("call_function", "call_method") and not known


def _needed(traced: fx.Graph) -> list[fx.Node]:
    """The nodes that the first output depends on, in order: what comes last is then the output."""
    output = next(node for node in traced.nodes if node.op == "output")
    needed, waiting = set[fx.Node](), list(output.all_input_nodes[:1])
    while waiting:
        node = waiting.pop()
        if node not in needed:
            needed.add(node)
            waiting += node.all_input_nodes
    inputs = [node.name for node in needed if node.op == "placeholder"]
    if len(inputs) != 1:
        raise ExportError(f"the model's output depends on {len(inputs)} inputs, it must depend on the images alone")
    return [node for node in traced.nodes if node in needed]


def in_time(graph: FloatGraph, steps: int) -> FloatGraph:
    """A graph of one step, or of sequences, with the encoding of images before it and the mean over time behind it."""
    if any(isinstance(node.operation, Encoding) for node in graph.nodes):
        raise ExportError(f"the model says its own number of time steps with Encode: leave out the {steps} steps")
    names = {node.name for node in graph.nodes}
    encode, mean = (_free(name, names) for name in ("encode", "mean"))
    image, *rest = graph.nodes
    behind = [
        replace(node, inputs=tuple(encode if read == image.name else read for read in node.inputs)) for node in rest
    ]
    nodes = [image, FloatNode(encode, Encoding(steps), (image.name,)), *behind]
    if not isinstance(nodes[-1].operation, TimeMean):
        nodes.append(FloatNode(mean, TimeMean(), (nodes[-1].name,)))
    return FloatGraph(tuple(nodes))


def _free(base: str, taken: Collection[str]) -> str:
    """A name that is not taken: base, base_2, ..."""
    name, number = base, 1
    while name in taken:
        number += 1
        name = f"{base}_{number}"
    return name


def _changed(module: nn.Module) -> str:
    """Why a module of a known kind may compute something else than its kind; "" where it does not."""
    kinds = type(module).__mro__
    known = next(kind for kind in kinds if kind in convert.registry or kind in SKIPPED or kind in OVER_TIME)
    if known in (object, nn.Module):
        return ""
    if parametrize.is_parametrized(module):
        return ", whose weights are parametrised: call torch.nn.utils.parametrize.remove_parametrizations on it"
    if module._forward_hooks or module._forward_pre_hooks:
        return ", which has forward hooks (weight norm is one): remove them"
    members = [pair for kind in kinds[: kinds.index(known)] for pair in vars(kind).items()]
    own = {name for name, value in members if callable(value)} - HARMLESS | (vars(module).keys() & {"forward"})
    return f", which has its own {', '.join(sorted(own))}: use {known.__name__} itself" if own else ""


def _not_plain(node: fx.Node) -> str:
    """Why a sum is none of two layers: a factor, a number, or one changed in place that is read later."""
    if node.kwargs or len(node.args) != 2 or len(node.all_input_nodes) != 2:
        return ", which is no plain sum of two layers"
    changed = node.args[0]
    later = set(changed.users) if isinstance(changed, fx.Node) and node.target in IN_PLACE else set()
    # torch 2.3's nodes have no order of their own
    before = set(takewhile(lambda earlier: earlier is not node, node.graph.nodes))
    return ", which changes in place what is read again later: write a + b" if later - before - {node} else ""


def _called(name: str, node: fx.Node, modules: dict[str, nn.Module]) -> str:
    """A module by name and kind; a function by its own."""
    if node.op == "call_module":
        return f"{name} ({type(modules[str(node.target)]).__name__})"
    return f"{node.name} (function {getattr(node.target, '__name__', node.target)})"


def _operations(
    node: fx.Node, modules: dict[str, nn.Module], shape: tuple[int, ...], values: Values | None
) -> tuple[FloatOperation, ...]:
    """What a node is, none where it does nothing; ExportError, behind its name, for what is not supported."""
    if values:
        values.forms[node] = _form(node, modules, values)
    if node.op == "placeholder":
        return (FloatInput(shape),)
    if node.op == "call_module":
        return _of_module(modules[str(node.target)])
    if gates.is_complement(node):
        gates.check_complement(node)
        return ()
    if node.target in gates.PRODUCTS:
        return (gates.gate(node),)
    if node.target in SUMS:
        if reason := _not_plain(node):
            raise ExportError(reason)
        return (FloatAdd(),)
    if values is None or node.op == "get_attr":
        raise ExportError(", which must be a module")
    operations, values.forms[node] = meant(node, values, convert)
    return operations


def _form(node: fx.Node, modules: dict[str, nn.Module], values: Values) -> Form:
    """The form of what a node gives, as far as its kind tells."""
    if node.op == "placeholder":
        return values.begins
    if node.op == "call_module":
        return values.form_of(node, modules[str(node.target)])
    reads = values.tensors(node)
    return values.forms[reads[0]] if reads else "image"


def _of_module(module: nn.Module) -> tuple[FloatOperation, ...]:
    if reason := _changed(module):
        raise ExportError(reason)
    if isinstance(module, SKIPPED):
        return ()
    operation = convert(module)
    if operation is None:
        raise ExportError("")
    before = geometry.spread_before(module)
    return (before, operation) if before else (operation,)


def _name(node: fx.Node, inputs: tuple[str, ...]) -> str:
    """A module's own name; a function's behind that of the module that holds the branch it takes last."""
    if node.op == "placeholder":
        return "input"
    if node.op == "call_module":
        return str(node.target)
    own = "add" if node.target in SUMS else "gate" if node.target in gates.PRODUCTS else name_of(node)
    holder = inputs[-1].rpartition(".")[0] if inputs else ""
    return f"{holder}.{own}" if holder else own


@convert.register
def _(module: nn.Linear) -> FloatOperation:
    return FloatDense(array(module.weight), array(module.bias, module.out_features))


def _affine(module: nn.BatchNorm1d | nn.BatchNorm2d) -> FloatOperation:
    if module.running_mean is None or module.running_var is None:
        raise ExportError(", which keeps no running statistics")
    gain = 1 / np.sqrt(array(module.running_var) + module.eps)
    if module.affine:
        gain = gain * array(module.weight)
    return Affine(gain, array(module.bias, module.num_features) - gain * array(module.running_mean))


convert.register(nn.BatchNorm1d, _affine)
convert.register(nn.BatchNorm2d, _affine)


@convert.register
def _(module: nn.AvgPool2d) -> FloatOperation:
    if pair(module.padding) != (0, 0) or module.ceil_mode or module.divisor_override:
        raise ExportError(", which has padding, ceil_mode or a divisor of its own")
    return AveragePool(pair(module.kernel_size), pair(module.stride))


@convert.register
def _(module: nn.AdaptiveAvgPool2d) -> FloatOperation:
    if module.output_size not in (1, (1, 1)):
        raise ExportError(f", which pools to {module.output_size}: only to 1, the mean over the whole image")
    return AveragePool()


@convert.register
def _(module: nn.MaxPool2d) -> FloatOperation:
    if pair(module.dilation) != (1, 1) or module.ceil_mode or module.return_indices:
        raise ExportError(", which has dilation, ceil_mode or return_indices")
    return FloatMaxPool(pair(module.kernel_size), pair(module.stride), pair(module.padding))


@convert.register
def _(module: nn.Flatten) -> FloatOperation:
    return FloatFlatten()


@convert.register
def _(module: Normalise) -> FloatOperation:
    return Normalisation(array(module.mean).reshape(-1), array(module.std).reshape(-1))


@convert.register
def _(module: RandomTauLIF) -> FloatOperation:
    return FloatNeuron("randhet", module.threshold, module.sampling, module.sigma, reset=module.reset)


@convert.register
def _(module: LIF) -> FloatOperation:
    return FloatNeuron("vanilla", module.threshold, decay=np.array(module.decay), reset=module.reset)


@convert.register
def _(module: HetLIF) -> FloatOperation:
    return FloatNeuron("het", module.threshold, decay=array(module.decay), reset=module.reset)


@convert.register
def _(module: GeneralLIF) -> FloatOperation:
    moving = _leaky(module, module.threshold)
    own = module.recurrent
    if own is not None:
        if reason := _changed(own):
            raise ExportError(reason)
        moving = replace(moving, recurrent=array(own.weight), recurrent_bias=array(own.bias, own.out_features))
    return replace(moving, reset=module.reset, reset_delay=module.reset_delay, inclusive=module.inclusive)


@convert.register
def _(module: LeakyReadOut) -> FloatOperation:
    return replace(_leaky(module, np.inf), read="sum")


def _leaky(module: GeneralLIF | LeakyReadOut, threshold: float) -> FloatNeuron:
    """Decays are clamped as its forward does; one that keeps everything, with a drive, integrates."""
    decay = np.clip(array(torch.as_tensor(module.decay, dtype=torch.float64)), 0, 1)
    if module.synapse:
        return _cuba(module, threshold, decay)
    kind = "integrate" if (decay == 1).all() else "het" if decay.ndim else "vanilla"
    drive = 0.0 if kind == "integrate" and module.drive is None else module.drive
    return FloatNeuron(kind, threshold, decay=decay, drive=drive)


def _cuba(module: GeneralLIF | LeakyReadOut, threshold: float, decay: Array) -> FloatNeuron:
    """A neuron with a current of its own; 1 - decay is a drive like any other there."""
    if np.ptp(decay):
        raise ExportError(", which has a synapse and decays that differ: give all of its neurons one decay")
    one = np.array(float(decay.flat[0]))
    drive = float(1 - one) if module.drive is None else module.drive
    return FloatNeuron("cuba", threshold, decay=one, synapse=module.synapse, drive=None if drive == 1 else drive)


def _encoding(module: Encode) -> FloatOperation:
    if module.steps < 1:
        raise ExportError(f", which has {module.steps} time steps, there must be at least 1")
    return Encoding(module.steps)


convert.register(nn.Conv2d, geometry.convolution)
convert.register(nn.ConvTranspose2d, geometry.transposed)
convert.register(nn.Conv1d, geometry.conv_of_a_row)
convert.register(nn.AvgPool1d, geometry.average_of_a_row)
convert.register(nn.MaxPool1d, geometry.maximum_of_a_row)


CONSTANT: dict[type[nn.Module], Callable[[Any], FloatOperation]] = {
    GlobalAveragePool: lambda module: AveragePool(),
    Flatten: lambda module: FloatFlatten(),
    Encode: lambda module: _encoding(module),
    Frames: lambda module: Encoding(module.steps, sequence=True),
    MeanOverTime: lambda module: TimeMean(),
    LastStep: lambda module: TimeRead("last"),
    MaxOverTime: lambda module: TimeRead("max"),
}
for _module_type, _converter in CONSTANT.items():
    convert.register(_module_type, _converter)
