"""The float model in ONNX: the whole inference over T steps as one graph, and one step with explicit states.

Taus are inputs (replay) or drawn inside the graph. Nodes before the encoding are computed once, outside the Scan over
T. The neuron is x + tau*(m - x), as in training; weights stay as they are, runtimes fuse batch norm themselves.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import numpy as np
import onnx

from randhet.base.kinds import assert_never
from randhet.export.float_shape import shapes
from randhet.export.graph import (
    Array,
    Encoding,
    ExportError,
    FloatDense,
    FloatGraph,
    FloatInput,
    FloatNeuron,
    FloatNode,
    TimeMean,
    TimeRead,
)
from randhet.export.onnx.float_operations import Wire, channels, matrix, operate
from randhet.export.onnx.graph import Scope, element
from randhet.export.onnx.integer_graph import after_name, read_on
from randhet.export.onnx.meta import float_metadata, save
from randhet.export.passes.recurrent import laid
from randhet.fixed_point.network import Read, Shape

Taus = Literal["input", "drawn"]
NOTHING: Mapping[str, str] = MappingProxyType({})


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
    only the caller knows how long one lasts. The mean of the outputs over T is the caller's too, or the
    last or largest of them, as the metadata say under `randhet.read`.
    """
    return _Step(graph, taus, set()).model(source)


def steps_of(graph: FloatGraph) -> int:
    """T, from the encoding."""
    for node in graph.nodes:
        if isinstance(node.operation, Encoding):
            return node.operation.steps
    raise ExportError("the model encodes no image over time: it has no number of steps")


# --- the two graphs ---------------------------------------------------------------------------------------------------


class _Graph(ABC):
    """What both graphs share: walk the nodes; `body` is where a step happens, `outer` where the image comes in."""

    kind = ""

    def __init__(self, graph: FloatGraph, taus: Taus, probes: set[str]) -> None:
        graph = laid(graph)
        last = graph.nodes[-1]
        if not isinstance(last.operation, (TimeMean, TimeRead)):
            raise ExportError(f"the last layer {last.name} is not the mean over time that ends a model")
        self.graph, self.taus, self.probes, self.steps = graph, taus, probes, steps_of(graph)
        self.read: Read = "sum" if isinstance(last.operation, TimeMean) else last.operation.read
        self.shapes = shapes(graph)
        self.outer = Scope()
        self.body = self.outer
        self.wires: dict[str, Wire] = {}
        self.traces: dict[str, tuple[str, Shape]] = {}

    def model(self, source: Mapping[str, str]) -> onnx.ModelProto:
        for node in self.graph.nodes:
            self.wires[node.name] = self._node(node)
        self.finish(self.wires[self.graph.nodes[-1].name])
        entries = float_metadata(self.graph, self.kind, self.steps, self.taus, source) | {"randhet.read": self.read}
        return self.outer.model(self.kind.replace(" ", "_"), entries, __doc__ or "")

    def _node(self, node: FloatNode) -> Wire:
        operation, read = node.operation, [self.wires[name] for name in node.inputs]
        if isinstance(operation, FloatInput):
            image = self.image(operation)
            self.batch = self.outer.slice(self.outer.op("Shape", "images"), 0, 1, 0)
            return image
        if isinstance(operation, FloatNeuron):
            return self._neuron(node, operation, read[0])
        varies = any(wire.varies for wire in read)
        output = operate(operation, self.body if varies else self.outer, read)
        output = replace(output, varies=varies, shape=self.shapes[node.name])
        if isinstance(operation, FloatDense) and operation.recurrent is not None:
            return self._returned(node, operation.recurrent, output)
        return output

    def _returned(self, node: FloatNode, weight: Array, sums: Wire) -> Wire:
        """Add what comes from the spikes of the step before, of the neurons that read this layer."""
        before = self.state(f"{node.name}/spikes", sums.shape)
        own = matrix(self.body, before, weight, np.zeros(len(weight)))
        return replace(sums, name=self.body.op("Add", sums.name, own), varies=True)

    def _neuron(self, node: FloatNode, neuron: FloatNeuron, x: Wire) -> Wire:
        """The membrane of its kind; spike where m > theta; there m = 0, or m - theta. A read-out sends the membrane."""
        name, body = node.name, self.body
        before = self.state(f"{name}/state", x.shape)
        membrane = self._bounded(neuron, MEMBRANES[neuron.kind](self, name, neuron, x, before), before, x)
        spike = membrane
        if neuron.read is None:
            fired = self._fired(neuron, membrane)
            spike = body.cast(fired, np.float32)
        after = membrane if neuron.read or neuron.reset_delay else self._reset(neuron, fired, membrane)
        self.next(f"{name}/state", after)
        source = self.graph.node(node.inputs[0])
        if isinstance(source.operation, FloatDense) and source.operation.recurrent is not None:
            self.next(f"{source.name}/spikes", spike)
        if name in self.probes:
            self.traces[f"{name}/output"] = (body.op("Identity", spike), x.shape)
            self.traces[f"{name}/membrane"] = (body.op("Identity", membrane), x.shape)
        return Wire(spike, x.shape, True)

    def _bounded(self, neuron: FloatNeuron, membrane: str, before: str, x: Wire) -> str:
        """The reset of the step before, where it acts late; then the floor."""
        if neuron.reset_delay and neuron.read is None:
            membrane = self._reset(neuron, self._fired(neuron, before), membrane)
        if neuron.floor is None:
            return membrane
        return self.body.op("Max", membrane, channels(np.atleast_1d(neuron.floor), x))

    def _fired(self, neuron: FloatNeuron, membrane: str) -> str:
        kind = "GreaterOrEqual" if neuron.inclusive else "Greater"
        return self.body.op(kind, membrane, np.float32(neuron.threshold))

    def _reset(self, neuron: FloatNeuron, fired: str, membrane: str) -> str:
        """What a spike leaves of the membrane."""
        match neuron.reset:
            case "zero":
                return self.body.op("Where", fired, np.float32(0), membrane)
            case "subtract":
                lower = self.body.op("Sub", membrane, np.float32(neuron.threshold))
                return self.body.op("Where", fired, lower, membrane)
            case _:
                assert_never(neuron.reset)

    def leaky(self, name: str, neuron: FloatNeuron, x: Wire, before: str) -> str:
        """m = x + tau*(m - x), or tau*m + drive*x."""
        tau = self._tau(name, neuron, x)
        if neuron.drive is not None:
            return self.body.op("Add", self.body.op("Mul", tau, before), self._driven(neuron, x))
        leaked = self.body.op("Mul", tau, self.body.op("Sub", before, x.name))
        return self.body.op("Add", x.name, leaked)

    def integrator(self, name: str, neuron: FloatNeuron, x: Wire, before: str) -> str:
        """m = m + x, or m + drive*x."""
        return self.body.op("Add", before, x.name if neuron.drive is None else self._driven(neuron, x))

    def _driven(self, neuron: FloatNeuron, x: Wire) -> str:
        return self.body.op("Mul", x.name, np.float32(neuron.drive))

    def cuba(self, name: str, neuron: FloatNeuron, x: Wire, before: str) -> str:
        """u = synapse*u + x, m = tau*m + u, or tau*m + drive*u."""
        kept = self.body.op("Mul", self.state(f"{name}/current", x.shape), np.float32(neuron.synapse))
        current = self.body.op("Add", kept, x.name)
        self.next(f"{name}/current", current)
        leaked = self.body.op("Mul", before, np.float32(neuron.decay))
        whole = current if neuron.drive is None else self.body.op("Mul", current, np.float32(neuron.drive))
        return self.body.op("Add", leaked, whole)

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
    def image(self, operation: FloatInput) -> Wire:
        """Declare the input `images`; returns the image, or the frame, of a step."""

    @abstractmethod
    def given(self, name: str, shape: Shape) -> str:
        """The taus of this step, from the caller."""

    @abstractmethod
    def held(self, name: str, sigma: float, shape: Shape) -> str:
        """The taus of this forward pass."""

    @abstractmethod
    def state(self, name: str, shape: Shape) -> str:
        """A state before this step."""

    @abstractmethod
    def next(self, name: str, value: str) -> None:
        """The state of this name after this step."""

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

    def image(self, operation: FloatInput) -> Wire:
        self.outer.input("images", np.float32, ["images", *operation.shape])
        return Wire("images", operation.shape)

    def given(self, name: str, shape: Shape) -> str:
        return self.outer.input(f"{name}/tau", np.float32, ["images", *shape])

    def held(self, name: str, sigma: float, shape: Shape) -> str:
        return self.given(name, shape)

    def state(self, name: str, shape: Shape) -> str:
        return self.outer.input(name, np.float32, ["images", *shape])

    def next(self, name: str, value: str) -> None:
        (shape,) = (info.type.tensor_type.shape for info in self.outer.inputs if info.name == name)
        named = self.outer.op("Identity", value, name=after_name(name))
        self.outer.output(named, np.float32, ["images", *(size.dim_value for size in shape.dim[1:])])

    def finish(self, out: Wire) -> None:
        named = self.outer.op("Identity", out.name, name="output")
        self.outer.output(named, np.float32, ["images", *out.shape])


class _Inference(_Graph):
    """A Scan over the steps; membranes and what is read of the outputs are its states."""

    kind = "float inference"

    def __init__(self, graph: FloatGraph, taus: Taus, probes: set[str]) -> None:
        super().__init__(graph, taus, probes)
        self.body = Scope(self.outer)
        self.states: dict[str, tuple[str, Shape]] = {}
        """By name of a state, its start in the outer scope, and its shape."""
        self.following: dict[str, str] = {}
        self.sequences: dict[str, tuple[str, Shape]] = {}
        """What a step sees one slice of: by the outer name, the name in the body, and the shape there."""

    def image(self, operation: FloatInput) -> Wire:
        if not operation.sequence:
            self.outer.input("images", np.float32, ["images", *operation.shape])
            return Wire("images", operation.shape)
        self.outer.input("images", np.float32, ["images", self.steps, *operation.shape])
        order = [1, 0, *range(2, 2 + len(operation.shape))]
        frames = self.outer.op("Transpose", "images", perm=order)
        self.sequences[frames] = (self.body.fresh("frame"), operation.shape)
        return Wire(self.sequences[frames][0], operation.shape, True)

    def given(self, name: str, shape: Shape) -> str:
        outside = self.outer.input(f"{name}/tau", np.float32, [self.steps, "images", *shape])
        self.sequences[outside] = (self.body.fresh("tau"), shape)
        return self.sequences[outside][0]

    def held(self, name: str, sigma: float, shape: Shape) -> str:
        if self.taus == "drawn":
            return self.drawn(self.outer, sigma, shape)
        return self.outer.input(f"{name}/tau", np.float32, ["images", *shape])

    def state(self, name: str, shape: Shape, start: str = "") -> str:
        self.states[name] = (start or self.zeros(shape), shape)
        return self.body.input(self.body.fresh("state"), np.float32, ["images", *shape])

    def next(self, name: str, value: str) -> None:
        self.following[name] = value

    def finish(self, out: Wire) -> None:
        start = (
            self.zeros(out.shape)
            if self.read != "max"
            else self.outer.op("Sub", self.zeros(out.shape), np.float32(np.inf))
        )
        before = self.state("read", out.shape, start)
        self.next("read", read_on(self.body, before, out.name, self.read))
        results = self._scan()
        reading = results["read"]
        divisor = np.float32(self.steps if self.read == "sum" else 1)
        self.outer.op("Div", reading, divisor, name="logits")
        self.outer.op("ArgMax", "logits", axis=1, keepdims=0, name="prediction")
        self.outer.output("logits", np.float32, ["images", *out.shape])
        self.outer.output("prediction", np.int64, ["images"])
        for name, (_, shape) in self.traces.items():
            stacked = self.outer.op("Identity", results[name], name=name)
            self.outer.output(stacked, np.float32, [self.steps, "images", *shape])

    def _scan(self) -> dict[str, str]:
        """Close the body and run it; the outer name of each state's end and of each trace."""
        for name, shape in self.sequences.values():
            self.body.input(name, np.float32, ["images", *shape])
        self.body.input("step", np.int64, [])
        ends = [(self.following[name], shape) for name, (_, shape) in self.states.items()]
        for name, shape in [*ends, *self.traces.values()]:
            self.body.output(name, np.float32, ["images", *shape])
        counter = self.outer.constant(np.arange(self.steps, dtype=np.int64))
        starts = [start for start, _ in self.states.values()]
        results = self.outer.scan(self.body, "steps", starts, [*self.sequences, counter])
        return dict(zip([*self.states, *self.traces], results))
