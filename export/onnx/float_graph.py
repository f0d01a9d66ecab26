"""The float model in ONNX: the whole inference over T steps as one graph, and one step with explicit states.

Taus are inputs (replay) or drawn inside the graph. Nodes before the encoding are computed once, outside the Scan over
T. The neuron is x + tau*(m - x), as in training; weights stay as they are, runtimes fuse batch norm themselves.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import singledispatch
from math import prod
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import numpy as np
import onnx

from randhet.base.kinds import assert_never
from randhet.export.float_shape import shapes
from randhet.export.graph import (
    Affine,
    AveragePool,
    Encoding,
    ExportError,
    FloatAdd,
    FloatAnd,
    FloatConv,
    FloatDense,
    FloatFlatten,
    FloatGraph,
    FloatIand,
    FloatInput,
    FloatNeuron,
    FloatNode,
    FloatOperation,
    Normalisation,
    TimeMean,
)
from randhet.export.onnx.graph import Scope, element
from randhet.export.onnx.meta import float_metadata, save
from randhet.fixed_point.network import Shape

Taus = Literal["input", "drawn"]
NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class Wire:
    """A float32 value: its name, the shape of one image, and whether it changes with the step."""

    name: str
    shape: Shape
    varies: bool = False


def write_inference(path: str | Path, graph: FloatGraph, *, taus: Taus = "drawn", probes: Collection[str] = ()) -> None:
    """Write the whole inference of a traced float model as an ONNX file."""
    save(path, inference(graph, taus=taus, probes=probes))


def write_step(path: str | Path, graph: FloatGraph, *, taus: Taus = "drawn") -> None:
    """Write one step of a traced float model as an ONNX file, for streaming."""
    save(path, step(graph, taus=taus))


def inference(
    graph: FloatGraph, *, taus: Taus = "drawn", probes: Collection[str] = (), source: Mapping[str, str] = NOTHING
) -> onnx.ModelProto:
    """All T steps: images (N, C, Y, X) in 0..1 to logits (N, classes) and prediction (N,).

    taus "input": NAME/tau (T, N, *shape) for each neuron that draws at every step, (N, *shape) for one that draws per
    forward pass. probes: neurons whose NAME/output and NAME/membrane (before the reset), (T, N, *shape), are outputs.
    source: what the file is to say about where the model comes from.
    """
    unknown = set(probes) - {node.name for node in graph.nodes if isinstance(node.operation, FloatNeuron)}
    if unknown:
        raise ExportError(f"no neuron is named {', '.join(sorted(unknown))}")
    return _Inference(graph, taus, set(probes)).model(source)


def step(graph: FloatGraph, *, taus: Taus = "drawn", source: Mapping[str, str] = NOTHING) -> onnx.ModelProto:
    """One step: images and NAME/state (N, *shape) of each neuron, zeros at first, to output and each NAME/next.

    A CUBA neuron has a NAME/current and a NAME/next_current as well.
    NAME/tau (N, *shape) is an input with taus "input", and in any case where a tau is held for a forward pass, because
    only the caller knows how long one lasts. The mean of the outputs over T is the caller's too.
    """
    return _Step(graph, taus, set()).model(source)


def steps_of(graph: FloatGraph) -> int:
    """T, from the encoding."""
    for node in graph.nodes:
        if isinstance(node.operation, Encoding):
            return node.operation.steps
    raise ExportError("the model encodes no image over time: it has no number of steps")


# --- operations -------------------------------------------------------------------------------------------------------


@singledispatch
def operate(operation: FloatOperation, scope: Scope, read: list[Wire]) -> Wire:
    """Add an operation without a state to the graph."""
    raise ExportError(f"float ONNX cannot represent {type(operation).__name__}")


def _channels(value: np.ndarray, wire: Wire) -> np.ndarray:
    """A value per channel, to be broadcast over (N, *shape)."""
    return value.astype(np.float32).reshape(-1, *[1] * (len(wire.shape) - 1))


@operate.register
def _(operation: Normalisation, scope: Scope, read: list[Wire]) -> Wire:
    centred = scope.op("Sub", read[0].name, _channels(operation.mean, read[0]))
    return replace(read[0], name=scope.op("Div", centred, _channels(operation.std, read[0])))


@operate.register
def _(operation: Affine, scope: Scope, read: list[Wire]) -> Wire:
    scaled = scope.op("Mul", read[0].name, _channels(operation.gain, read[0]))
    return replace(read[0], name=scope.op("Add", scaled, _channels(operation.shift, read[0])))


@operate.register
def _(operation: FloatConv, scope: Scope, read: list[Wire]) -> Wire:
    """A bias map, (out, y, x), is added after the convolution."""
    flat = operation.bias.ndim == 1
    name = scope.op(
        "Conv",
        read[0].name,
        operation.weight.astype(np.float32),
        *([operation.bias.astype(np.float32)] if flat else []),
        strides=operation.stride,
        pads=operation.padding * 2,
        dilations=operation.dilation,
        group=operation.groups,
    )
    name = name if flat else scope.op("Add", name, operation.bias.astype(np.float32))
    return replace(read[0], name=name)


@operate.register
def _(operation: FloatDense, scope: Scope, read: list[Wire]) -> Wire:
    weight, bias = operation.weight.astype(np.float32), operation.bias.astype(np.float32)
    return replace(read[0], name=scope.op("Gemm", read[0].name, weight, bias, transB=1))


@operate.register
def _(operation: FloatAdd, scope: Scope, read: list[Wire]) -> Wire:
    total = read[0].name
    for wire in read[1:]:
        total = scope.op("Add", total, wire.name)
    return replace(read[0], name=total)


@operate.register
def _(operation: FloatAnd, scope: Scope, read: list[Wire]) -> Wire:
    return replace(read[0], name=scope.op("Mul", read[0].name, read[1].name))


@operate.register
def _(operation: FloatIand, scope: Scope, read: list[Wire]) -> Wire:
    silent = scope.op("Sub", np.float32(1), read[0].name)
    return replace(read[0], name=scope.op("Mul", silent, read[1].name))


@operate.register
def _(operation: AveragePool, scope: Scope, read: list[Wire]) -> Wire:
    kernel = operation.kernel or (read[0].shape[1], read[0].shape[2])
    pooled = scope.op("AveragePool", read[0].name, kernel_shape=kernel, strides=operation.stride or kernel)
    return replace(read[0], name=pooled)


@operate.register
def _(operation: FloatFlatten, scope: Scope, read: list[Wire]) -> Wire:
    return replace(read[0], name=scope.reshape(read[0].name, -1, prod(read[0].shape)))


@operate.register(Encoding)
@operate.register(TimeMean)
def _(operation: Encoding | TimeMean, scope: Scope, read: list[Wire]) -> Wire:
    """The Scan is what these mean."""
    return read[0]


# --- the two graphs ---------------------------------------------------------------------------------------------------


class _Graph(ABC):
    """What both graphs share: walk the nodes; `body` is where a step happens, `outer` where the image comes in."""

    kind = ""

    def __init__(self, graph: FloatGraph, taus: Taus, probes: set[str]) -> None:
        if not isinstance(graph.nodes[-1].operation, TimeMean):
            raise ExportError(f"the last layer {graph.nodes[-1].name} is not the mean over time that ends a model")
        self.graph, self.taus, self.probes, self.steps = graph, taus, probes, steps_of(graph)
        self.shapes = shapes(graph)
        self.outer = Scope()
        self.body = self.outer
        self.wires: dict[str, Wire] = {}
        self.traces: dict[str, tuple[str, Shape]] = {}

    def model(self, source: Mapping[str, str]) -> onnx.ModelProto:
        for node in self.graph.nodes:
            self.wires[node.name] = self._node(node)
        self.finish(self.wires[self.graph.nodes[-1].name])
        entries = float_metadata(self.graph, self.kind, self.steps, self.taus, source)
        return self.outer.model(self.kind.replace(" ", "_"), entries, __doc__ or "")

    def _node(self, node: FloatNode) -> Wire:
        operation, read = node.operation, [self.wires[name] for name in node.inputs]
        if isinstance(operation, FloatInput):
            self.outer.input("images", np.float32, ["images", *operation.shape])
            self.batch = self.outer.slice(self.outer.op("Shape", "images"), 0, 1, 0)
            return Wire("images", operation.shape)
        if isinstance(operation, FloatNeuron):
            return self._neuron(node.name, operation, read[0])
        varies = any(wire.varies for wire in read)
        output = operate(operation, self.body if varies else self.outer, read)
        return replace(output, varies=varies, shape=self.shapes[node.name])

    def _neuron(self, name: str, neuron: FloatNeuron, x: Wire) -> Wire:
        """The membrane of its kind; spike where m > theta; there m = 0, or m - theta."""
        if neuron.unusual:
            raise ExportError(f"neuron {name} has {neuron.unusual}, which float ONNX is not written for")
        body, membrane = self.body, MEMBRANES[neuron.kind](self, name, neuron, x)
        fired = body.op("Greater", membrane, np.float32(neuron.threshold))
        self.next(f"{name}/next", body.op("Where", fired, self._after(neuron, membrane), membrane), x.shape)
        spike = body.cast(fired, np.float32)
        if name in self.probes:
            self.traces[f"{name}/output"] = (body.op("Identity", spike), x.shape)
            self.traces[f"{name}/membrane"] = (body.op("Identity", membrane), x.shape)
        return Wire(spike, x.shape, True)

    def _after(self, neuron: FloatNeuron, membrane: str) -> str | np.float32:
        """What a spike leaves of the membrane."""
        match neuron.reset:
            case "zero":
                return np.float32(0)
            case "subtract":
                return self.body.op("Sub", membrane, np.float32(neuron.threshold))
            case _:
                assert_never(neuron.reset)

    def leaky(self, name: str, neuron: FloatNeuron, x: Wire) -> str:
        """m = x + tau*(m - x)."""
        state = self.state(f"{name}/state", x.shape)
        leaked = self.body.op("Mul", self._tau(name, neuron, x), self.body.op("Sub", state, x.name))
        return self.body.op("Add", x.name, leaked)

    def integrator(self, name: str, neuron: FloatNeuron, x: Wire) -> str:
        """m = m + x."""
        return self.body.op("Add", self.state(f"{name}/state", x.shape), x.name)

    def cuba(self, name: str, neuron: FloatNeuron, x: Wire) -> str:
        """u = synapse*u + x, m = tau*m + u."""
        kept = self.body.op("Mul", self.state(f"{name}/current", x.shape), np.float32(neuron.synapse))
        current = self.body.op("Add", kept, x.name)
        self.next(f"{name}/next_current", current, x.shape)
        leaked = self.body.op("Mul", self.state(f"{name}/state", x.shape), np.float32(neuron.decay))
        return self.body.op("Add", leaked, current)

    def _tau(self, name: str, neuron: FloatNeuron, x: Wire) -> str:
        if neuron.kind != "randhet":
            return self.body.constant(neuron.decay.astype(np.float32))
        if neuron.sampling == "forward":
            return self.held(name, neuron.sigma, x.shape)
        if self.taus == "input":
            return self.given(name, x.shape)
        return self.drawn(self.body, neuron.sigma, x.shape)

    def zeros(self, shape: Shape) -> str:
        """(images, *shape) of 0.0."""
        return self.outer.op("ConstantOfShape", self.outer.op("Concat", self.batch, np.array(shape, np.int64), axis=0))

    def drawn(self, scope: Scope, sigma: float, shape: Shape) -> str:
        """sigmoid(sigma * n), n ~ N(0, 1), anew whenever the scope runs."""
        noise = scope.op("RandomNormalLike", self.zeros(shape), dtype=element(np.float32))
        return scope.op("Sigmoid", scope.op("Mul", noise, np.float32(sigma)))

    @abstractmethod
    def given(self, name: str, shape: Shape) -> str:
        """The taus of this step, from the caller."""

    @abstractmethod
    def held(self, name: str, sigma: float, shape: Shape) -> str:
        """The taus of this forward pass."""

    @abstractmethod
    def state(self, name: str, shape: Shape) -> str:
        """A state before this step, by the name of its input."""

    @abstractmethod
    def next(self, name: str, value: str, shape: Shape) -> None:
        """The same state after this step, by the name of its output; called once after each `state`, in order."""

    @abstractmethod
    def finish(self, out: Wire) -> None:
        """Declare the outputs."""


MEMBRANES = {
    "randhet": _Graph.leaky,
    "vanilla": _Graph.leaky,
    "het": _Graph.leaky,
    "integrate": _Graph.integrator,
    "cuba": _Graph.cuba,
}
"""What a membrane does before the threshold, by the neuron's kind."""


class _Step(_Graph):
    """States are inputs and outputs."""

    kind = "float step"

    def given(self, name: str, shape: Shape) -> str:
        return self.outer.input(f"{name}/tau", np.float32, ["images", *shape])

    def held(self, name: str, sigma: float, shape: Shape) -> str:
        return self.given(name, shape)

    def state(self, name: str, shape: Shape) -> str:
        return self.outer.input(name, np.float32, ["images", *shape])

    def next(self, name: str, value: str, shape: Shape) -> None:
        named = self.outer.op("Identity", value, name=name)
        self.outer.output(named, np.float32, ["images", *shape])

    def finish(self, out: Wire) -> None:
        named = self.outer.op("Identity", out.name, name="output")
        self.outer.output(named, np.float32, ["images", *out.shape])


class _Inference(_Graph):
    """A Scan over the steps; membranes and the sum of the outputs are its states."""

    kind = "float inference"

    def __init__(self, graph: FloatGraph, taus: Taus, probes: set[str]) -> None:
        super().__init__(graph, taus, probes)
        self.body = Scope(self.outer)
        self.starts: list[str] = []
        self.following: list[tuple[str, Shape]] = []
        self.sequences: dict[str, tuple[str, Shape]] = {}
        """Inputs of the model that a step sees one slice of: their name in the body, and their shape there."""

    def given(self, name: str, shape: Shape) -> str:
        outside = self.outer.input(f"{name}/tau", np.float32, [self.steps, "images", *shape])
        self.sequences[outside] = (self.body.fresh("tau"), shape)
        return self.sequences[outside][0]

    def held(self, name: str, sigma: float, shape: Shape) -> str:
        if self.taus == "drawn":
            return self.drawn(self.outer, sigma, shape)
        return self.outer.input(f"{name}/tau", np.float32, ["images", *shape])

    def state(self, name: str, shape: Shape) -> str:
        self.starts.append(self.zeros(shape))
        return self.body.input(self.body.fresh("state"), np.float32, ["images", *shape])

    def next(self, name: str, value: str, shape: Shape) -> None:
        self.following.append((value, shape))

    def finish(self, out: Wire) -> None:
        self.next("sum", self.body.op("Add", self.state("sum", out.shape), out.name), out.shape)
        results = self._scan()
        self.outer.op("Div", results[len(self.starts) - 1], np.float32(self.steps), name="logits")
        self.outer.op("ArgMax", "logits", axis=1, keepdims=0, name="prediction")
        self.outer.output("logits", np.float32, ["images", *out.shape])
        self.outer.output("prediction", np.int64, ["images"])
        for (name, (_, shape)), result in zip(self.traces.items(), results[len(self.starts) :]):
            self.outer.output(self.outer.op("Identity", result, name=name), np.float32, [self.steps, "images", *shape])

    def _scan(self) -> list[str]:
        for name, shape in self.sequences.values():
            self.body.input(name, np.float32, ["images", *shape])
        self.body.input("step", np.int64, [])
        for name, shape in [*self.following, *self.traces.values()]:
            self.body.output(name, np.float32, ["images", *shape])
        counter = self.outer.constant(np.arange(self.steps, dtype=np.int64))
        return self.outer.scan(self.body, "steps", self.starts, [*self.sequences, counter])
