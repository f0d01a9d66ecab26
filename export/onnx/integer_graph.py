"""The integer network as ONNX graphs of standard operators on integer types, registers and tables included.

The whole graph has one Scan over the T steps, which carries membrane potentials and registers; its body is one logical
step of every layer. What does not change with the step (a still image, the sums of the layer that reads it) is computed
once, outside. Inputs: images, registers (one start state per core), first_image. Outputs: prediction, sums, spikes (per
image and layer), saturations, and probed layers. With `stream`, states are inputs and outputs too. `step_graph` has one
step alone.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Collection
from pathlib import Path

import numpy as np
import onnx

from randhet.base.errors import NetworkError
from randhet.base.kinds import assert_never
from randhet.export.onnx.graph import Scope, Value
from randhet.export.onnx.lower import Fired, State, Step, fire
from randhet.export.onnx.meta import metadata, save
from randhet.export.onnx.operations import Wire, narrow, operate, plus, wide
from randhet.export.onnx.registers import Registers, banks, draw_rows, pair_table, seeds
from randhet.fixed_point import facts
from randhet.fixed_point.layers import SUM_MAX
from randhet.fixed_point.network import Layer, Network, Read, Shape, read_of

Kind = type[np.generic]


def write(path: str | Path, network: Network, probes: Collection[str] = (), *, stream: bool = False) -> None:
    """Write the integer network as an ONNX file; probes and stream as in `model`."""
    save(path, model(network, probes, stream=stream))


def model(network: Network, probes: Collection[str] = (), *, stream: bool = False) -> onnx.ModelProto:
    """The ONNX model of an integer network. With a seed in the network, `registers` has a default.

    probes: layers whose traces become outputs. stream: states are inputs LAYER/state, zeros before the first piece of a
    recording, and outputs LAYER/next.
    """
    return _Whole(network, set(probes), stream).model()


class Graph(ABC):
    """What both graphs share: walk the layers; `body` is where a step happens, `outer` where the images come in."""

    kind = ""

    def __init__(self, network: Network, probes: set[str]) -> None:
        if unknown := probes - {layer.name for layer in network.layers}:
            raise NetworkError(f"no layer is named {', '.join(sorted(unknown))}")
        self.network, self.probes = network, probes
        self.outer = Scope()
        self.body = self.outer
        self.shapes, self.ranges = network.shapes, network.ranges
        self.read = read_of(network.layers[-1].neuron)
        self.wires: list[Wire] = []
        self.traced: dict[str, tuple[str, Kind]] = {}
        """Traces of probed layers, by name of the output: the value in the body, its type."""
        self.counts: dict[str, str] = {}
        self.clipped: list[str] = []

    def model(self) -> onnx.ModelProto:
        """The finished model."""
        image = self.image()
        self._inputs()
        decays = self.decays()
        for i, layer in enumerate(self.network.layers):
            self.wires.append(self._layer(i, layer, decays) if layer.inputs else image)
            self._probe(layer, "output", self.wires[-1])
        self.finish(self.wires[-1])
        return self.outer.model(self.kind.replace(" ", "_"), self._metadata(), __doc__ or "")

    def _metadata(self) -> dict[str, str]:
        places = [[bank.layer, len(bank.cores)] for bank in banks(self.network)]
        return metadata(self.network, self.kind) | {
            "randhet.input": json.dumps(vars(self.network.input)),
            "randhet.read": self.read,
            "randhet.cores": json.dumps(places),
            "randhet.spiking": json.dumps(list(self.counts)),
            "randhet.probes": json.dumps(sorted(self.probes)),
        }

    def _inputs(self) -> None:
        self.outer.input("first_image", np.int64, [])
        self.outer.constant(np.int64(0), "first_image")
        cores = [(bank.layer, len(bank.cores)) for bank in banks(self.network)]
        if cores:
            self.outer.input("registers", np.uint32, [sum(count for _, count in cores)])
        if cores and self.network.seed is not None:
            self.outer.constant(seeds(cores, self.network.seed), "registers")
        self.batch = self.outer.slice(self.outer.op("Shape", "images"), 0, 1, 0)

    def frame(self, name: str, varies: bool) -> Wire:
        """A value of the input layer."""
        return Wire(name, self.shapes[0], self.ranges[0], varies)

    @property
    def pixel(self) -> Kind:
        """Type of what comes in."""
        return np.uint8 if self.frame("", False).small else np.int32

    # --- what differs -----------------------------------------------------------------------------------------------

    @abstractmethod
    def image(self) -> Wire:
        """Declare the input `images`; returns what the input layer sends at a step."""

    @abstractmethod
    def state(self, name: str, shape: Shape, kind: Kind, offset: int) -> State:
        """A state that carries on in a recording, 0 at first."""

    @abstractmethod
    def keep(self, state: State, value: str) -> None:
        """The state's next value."""

    @abstractmethod
    def running(self, value: str, shape: Shape) -> str:
        """The sum of an int32 value over the steps; "" where the graph does not know it."""

    @abstractmethod
    def rounds(self, source: Registers, numbers: str) -> tuple[Scope, str]:
        """The scope and the states in which registers are drawn from; numbers (images, 1) of the images."""

    @abstractmethod
    def finish(self, last: Wire) -> None:
        """Declare the outputs."""

    # --- decays -----------------------------------------------------------------------------------------------------

    def decays(self) -> dict[int, str]:
        """The decays of every layer whose neurons draw, by layer number, in the layer's shape."""
        sources = [Registers(self.network, "step"), Registers(self.network, "forward")]
        if not any(source.banks for source in sources):
            return {}
        rows = [self.outer.constant(row) for row in draw_rows()]
        numbers = self.outer.op("Range", np.int64(0), self.outer.op("Squeeze", self.batch), np.int64(1))
        numbers = self.outer.reshape(self.outer.op("Add", numbers, "first_image"), -1, 1)
        decays: dict[int, str] = {}
        for source in sources:
            if source.banks:
                scope, state = self.rounds(source, numbers)
                drawn = source.decays(scope, state, rows, self._pairs(source))
                decays |= {i: scope.reshape(name, -1, *self.shapes[i]) for i, name in drawn.items()}
        return decays

    def _pairs(self, source: Registers) -> dict[int, str]:
        tables = {bank.layer: self.outer.constant(bank.drawn.table.astype(np.int32)) for bank in source.banks}
        names = {table: pair_table(self.outer, table) for table in sorted(set(tables.values()))}
        return {layer: names[table] for layer, table in tables.items()}

    # --- layers -----------------------------------------------------------------------------------------------------

    def _layer(self, i: int, layer: Layer, decays: dict[int, str]) -> Wire:
        read = [self.wires[source] for source in layer.inputs]
        varies = any(wire.varies for wire in read)
        span = facts.sum_range(layer.weighted, read[0].span) if layer.weighted else self.ranges[i]
        out = Wire("", self.shapes[i], span, varies)
        sums = operate(layer.operation, self.body if varies else self.outer, read, out)
        if layer.recurrent is None:
            if layer.neuron is None and layer.weighted:  # sums are sent as they are
                return narrow(self.body if varies else self.outer, sums.name, sums)
            return self._neuron(i, layer, sums, decays) if layer.neuron else sums
        own = self.state(f"{layer.name}/spikes", sums.shape, np.uint8, 0)
        sent = Wire(own.name, sums.shape, facts.SPIKE, True)
        fired = self._neuron(i, layer, plus(self.body, sums, sent, layer.recurrent), decays)
        self.keep(own, fired.name)
        return fired

    def _neuron(self, i: int, layer: Layer, sums: Wire, decays: dict[int, str]) -> Wire:
        assert layer.neuron is not None
        state = lambda word, kind, offset: self.state(f"{layer.name}/{word}", sums.shape, kind, offset)
        running = lambda value: self.running(value, sums.shape) if layer.name in self.probes else ""
        fired = fire(layer.neuron, Step(self.body, sums, decays.get(i, ""), state, self.keep, running))
        self._probe_membrane(layer, fired)
        self.clipped += [self._count(clipped, sums.shape) for clipped in fired.clipped]
        if not layer.spikes:
            return Wire(fired.output, sums.shape, self.ranges[i], True)
        wire = Wire(self.body.cast(fired.output, np.uint8), sums.shape, self.ranges[i], True)
        self.counts[layer.name] = self._count(wire.name, sums.shape)
        return wire

    def _count(self, flags: str, shape: Shape) -> str:
        """How many of a layer's neurons are set, per image, (images, 1) int32."""
        flat = self.body.reshape(self.body.cast(flags, np.int32), -1, int(np.prod(shape)))
        return self.body.op("ReduceSum", flat, np.array([1], np.int64), keepdims=1)

    # --- what leaves the graph --------------------------------------------------------------------------------------

    def _probe(self, layer: Layer, quantity: str, wire: Wire) -> None:
        if layer.name in self.probes:
            value = wide(self.body, wire)
            self.traced[f"{layer.name}/{quantity}"] = (self.body.op("Identity", value), np.int32)

    def _probe_membrane(self, layer: Layer, fired: Fired) -> None:
        if layer.name in self.probes and fired.membrane:
            value = self.body.cast(fired.membrane, np.int64)
            self.traced[f"{layer.name}/membrane"] = (self.body.op("Sub", value, np.int64(fired.offset)), np.int64)

    def columns(self) -> dict[str, list[str]]:
        """The counts of a step, (images, 1) each, by name of the output; none where nothing is counted."""
        columns = {"spikes": list(self.counts.values()), "saturations": self.clipped}
        return {name: counts for name, counts in columns.items() if counts}

    def trace_shape(self, name: str) -> Shape:
        """Shape of one image in a trace, by name of its output."""
        names = [layer.name for layer in self.network.layers]
        return self.shapes[names.index(name.rsplit("/", 1)[0])]


class _Whole(Graph):
    """A Scan over the steps; membrane potentials, registers and what is read are its states."""

    kind = "integer"

    def __init__(self, network: Network, probes: set[str], stream: bool) -> None:
        super().__init__(network, probes)
        self.stream = stream
        self.body = Scope(self.outer)
        self.frames: list[tuple[str, str]] = []
        """Sequences that a step sees one slice of: their name outside and in the body."""
        self.initial: list[str] = []
        self.following: dict[str, str] = {}
        """By the name of a state in the body, its next value."""
        self.lasting: dict[str, tuple[State, Shape]] = {}
        """States that are outputs, by name."""

    def _metadata(self) -> dict[str, str]:
        return super()._metadata() | {"randhet.stream": json.dumps(self.stream)}

    def image(self) -> Wire:
        if not self.network.input.sequence:
            self.outer.input("images", self.pixel, ["images", *self.shapes[0]])
            return self.frame("images", False)
        self.outer.input("images", self.pixel, ["images", self.network.steps, *self.shapes[0]])
        order = [1, 0, *range(2, 2 + len(self.shapes[0]))]
        self.frames.append((self.outer.op("Transpose", "images", perm=order), self.body.fresh("frame")))
        return self.frame(self.frames[0][1], True)

    def carried(self, start: str, kind: Kind, shape: Shape) -> str:
        """A state of the Scan: its start in the outer scope; returns its name in the body."""
        self.initial.append(start)
        return self.body.input(self.body.fresh("state"), kind, ["images", *shape])

    def filled(self, shape: Shape, kind: Kind, value: int) -> str:
        """(images, *shape) of one value."""
        full = self.outer.op("Concat", self.batch, np.array(shape, np.int64), axis=0)
        return self.outer.op("ConstantOfShape", full, value=onnx.numpy_helper.from_array(np.array([value], kind)))

    def state(self, name: str, shape: Shape, kind: Kind, offset: int) -> State:
        if not self.stream:
            return State(self.carried(self.filled(shape, kind, offset), kind, shape), kind, offset)
        start = self.outer.input(name, kind, ["images", *shape])
        start = self.outer.op("Add", start, np.array(offset, kind)) if offset else start
        state = State(self.carried(start, kind, shape), kind, offset)
        self.lasting[name] = state, shape
        return state

    def keep(self, state: State, value: str) -> None:
        self.following[state.name] = value

    def running(self, value: str, shape: Shape) -> str:
        state = self.carried(self.filled(shape, np.int32, 0), np.int32, shape)
        self.following[state] = self.body.op("Add", state, value)
        return self.following[state]

    def rounds(self, source: Registers, numbers: str) -> tuple[Scope, str]:
        start = source.start(self.outer, "registers", numbers)
        if source.sampling == "forward":
            return self.outer, start
        state = self.carried(start, np.uint32, (len(source.table),))
        self.following[state] = source.advance(self.body, state)
        return self.body, state

    def finish(self, last: Wire) -> None:
        sums, kind = self._read(last)
        stacked = self.traced | {
            name: (self.body.op("Concat", *counts, axis=1), np.int32) for name, counts in self.columns().items()
        }
        results = self._scan(stacked)
        outer = self.outer
        outer.op("Identity", results[sums], name="sums")
        outer.output(outer.op("ArgMax", "sums", axis=1, keepdims=0, name="prediction"), np.int64, ["images"])
        outer.output("sums", kind, ["images", int(np.prod(last.shape))])
        for name, counts in self.columns().items():
            total = outer.cast(results[name], np.int64)
            outer.op("ReduceSum", total, np.array([0], np.int64), keepdims=0, name=name)
            outer.output(name, np.int64, ["images", len(counts)])
        for name, (_, trace_kind) in self.traced.items():
            shape = self.trace_shape(name)
            outer.op("Transpose", results[name], perm=[1, 0, *range(2, 2 + len(shape))], name=name)
            outer.output(name, trace_kind, ["images", self.network.steps, *shape])
        for name, (state, shape) in self.lasting.items():
            ended(outer, name, results[state.name], state, shape)

    def _read(self, last: Wire) -> tuple[str, Kind]:
        """Add what is read of the last layer over the steps; returns its state, and its type."""
        classes = int(np.prod(last.shape))
        # what one step sends fits int32, T of them may not where the last layer is not a read-out
        kind: Kind = np.int64 if self.read == "sum" and last.span.peak * self.network.steps > SUM_MAX else np.int32
        lowest = int(np.iinfo(np.int32).min)
        state = self.carried(self.filled((classes,), kind, lowest if self.read == "max" else 0), kind, (classes,))
        output = self.body.cast(self.body.reshape(wide(self.body, last), -1, classes), kind)
        self.following[state] = read_on(self.body, state, output, self.read)
        return state, kind

    def _scan(self, stacked: dict[str, tuple[str, Kind]]) -> dict[str, str]:
        """Close the body and run it; the outer name of each state's end and of each stacked output."""
        states = list(self.body.inputs)
        for _, name in self.frames:
            self.body.input(name, self.pixel, ["images", *self.shapes[0]])
        self.body.input("step", np.int64, [])
        for info in states:
            self.body.outputs.append(onnx.ValueInfoProto(name=self.following[info.name], type=info.type))
        for name, kind in stacked.values():
            self.body.output(name, kind)
        steps = self.outer.constant(np.arange(self.network.steps, dtype=np.int64))
        results = self.outer.scan(self.body, "steps", self.initial, [*(name for name, _ in self.frames), steps])
        return dict(zip([*(info.name for info in states), *stacked], results))


def read_on(scope: Scope, before: str, output: str, read: Read) -> str:
    """What is read after one more step of the last layer: the sum of its outputs, the last one, or the largest."""
    match read:
        case "sum":
            return scope.op("Add", before, output)
        case "max":
            return scope.op("Max", before, output)
        case "last":
            return scope.op("Identity", output)
        case _:
            assert_never(read)


def after_name(name: str) -> str:
    """Name of the output that holds a state after a step: LAYER/next of LAYER/state, LAYER/next_WORD of LAYER/WORD."""
    layer, _, word = name.rpartition("/")
    return f"{layer}/next" if word == "state" else f"{layer}/next_{word}"


def ended(scope: Scope, name: str, value: Value, state: State, shape: Shape) -> None:
    """Declare what a state has become as an output."""
    after = after_name(name)
    if state.offset:
        scope.op("Sub", value, np.array(state.offset, state.kind), name=after)
    else:
        scope.op("Identity", value, name=after)
    scope.output(after, state.kind, ["images", *shape])
