"""The integer network as one ONNX graph of standard operators on integer types, registers and tables included.

One Scan over the T steps carries membranes and registers; its body is one logical step of every layer. What does not
change with the step (the image, the stem's sums) is computed once, outside. Inputs: images, registers (one start state
per core), first_image. Outputs: prediction, sums, spikes (per image and layer), saturations, and probed layers.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path

import numpy as np
import onnx

from randhet.base.errors import NetworkError
from randhet.export.onnx.graph import Scope
from randhet.export.onnx.lower import Fired, Step, Wire, fire, operate, wide
from randhet.export.onnx.meta import metadata, save
from randhet.export.onnx.registers import Registers, banks, draw_rows, pair_table, seeds
from randhet.fixed_point import facts
from randhet.fixed_point.layers import SUM_MAX
from randhet.fixed_point.network import Layer, Network, Shape


def write(path: str | Path, network: Network, probes: Collection[str] = ()) -> None:
    """Write the integer network as an ONNX file; `probes` names layers whose traces become outputs."""
    save(path, model(network, probes))


def model(network: Network, probes: Collection[str] = ()) -> onnx.ModelProto:
    """The ONNX model of an integer network. With a seed in the network, `registers` has a default."""
    unknown = set(probes) - {layer.name for layer in network.layers}
    if unknown:
        raise NetworkError(f"no layer is named {', '.join(sorted(unknown))}")
    return _Builder(network, set(probes)).model()


class _Builder:
    """The state of one export: two scopes, the wires between layers, the states of the Scan."""

    def __init__(self, network: Network, probes: set[str]) -> None:
        self.network, self.probes = network, probes
        self.outer = Scope()
        self.body = Scope(self.outer)
        self.shapes, self.ranges = network.shapes, network.ranges
        self.wires: list[Wire] = []
        self.initial: list[str] = []
        self.following: list[str] = []
        self.stacked: dict[str, tuple[str, type[np.generic]]] = {}
        self.counts: dict[str, str] = {}
        self.clipped: list[str] = []

    def model(self) -> onnx.ModelProto:
        self._inputs()
        decays = self._decays()
        for i, layer in enumerate(self.network.layers):
            self.wires.append(self._layer(i, layer, decays))
            self._probe(layer, f"{layer.name}/output", self.wires[-1])
        self._read_out()
        self._outputs(self._scan())
        places = [[bank.layer, len(bank.cores)] for bank in banks(self.network)]
        entries = metadata(self.network, "integer") | {
            "randhet.input": json.dumps(vars(self.network.input)),
            "randhet.cores": json.dumps(places),
            "randhet.spiking": json.dumps(list(self.counts)),
            "randhet.probes": json.dumps(sorted(self.probes)),
        }
        return self.outer.model("randhet_integer", entries, __doc__ or "")

    def _inputs(self) -> None:
        image = self._image()
        self.outer.input("images", np.uint8 if image.small else np.int32, ["images", *image.shape])
        self.outer.input("first_image", np.int64, [])
        self.outer.constant(np.int64(0), "first_image")
        cores = [(bank.layer, len(bank.cores)) for bank in banks(self.network)]
        if cores:
            self.outer.input("registers", np.uint32, [sum(count for _, count in cores)])
        if cores and self.network.seed is not None:
            self.outer.constant(seeds(cores, self.network.seed), "registers")
        self.batch = self.outer.slice(self.outer.op("Shape", "images"), 0, 1, 0)

    def _image(self) -> Wire:
        return Wire("images", self.shapes[0], self.ranges[0], False)

    # --- decays -----------------------------------------------------------------------------------------------------

    def _decays(self) -> dict[int, str]:
        """The decays of every layer whose neurons draw, by layer number: names in the body, or in the outer scope."""
        sources = [Registers(self.network, "step"), Registers(self.network, "forward")]
        if not any(source.banks for source in sources):
            return {}
        rows = [self.outer.constant(row) for row in draw_rows()]
        numbers = self.outer.op("Range", np.int64(0), self.outer.op("Squeeze", self.batch), np.int64(1))
        numbers = self.outer.reshape(self.outer.op("Add", numbers, "first_image"), -1, 1)
        decays: dict[int, str] = {}
        for source, scope in zip(sources, (self.body, self.outer)):
            if source.banks:
                state = source.start(self.outer, "registers", numbers)
                if scope is self.body:
                    state = self._carry(state, np.uint32, (len(source.table),))
                    self.following.append(source.advance(scope, state))
                decays |= source.decays(scope, state, rows, self._pairs(source))
        return decays

    def _pairs(self, source: Registers) -> dict[int, str]:
        tables = {bank.layer: self.outer.constant(bank.drawn.table.astype(np.int32)) for bank in source.banks}
        names = {table: pair_table(self.outer, table) for table in sorted(set(tables.values()))}
        return {layer: names[table] for layer, table in tables.items()}

    def _carry(self, start: str, kind: type[np.generic], shape: Shape) -> str:
        """A state of the Scan: its start in the outer scope; returns its name in the body."""
        self.initial.append(start)
        return self.body.input(self.body.fresh("state"), kind, ["images", *shape])

    def _state(self, shape: Shape, kind: type[np.generic], start: int) -> str:
        full = self.outer.op("Concat", self.batch, np.array(shape, np.int64), axis=0)
        value = onnx.numpy_helper.from_array(np.array([start], kind))
        return self._carry(self.outer.op("ConstantOfShape", full, value=value), kind, shape)

    # --- layers -----------------------------------------------------------------------------------------------------

    def _layer(self, i: int, layer: Layer, decays: dict[int, str]) -> Wire:
        if not layer.inputs:
            return self._image()
        read = [self.wires[source] for source in layer.inputs]
        varies = any(wire.varies for wire in read)
        span = facts.sum_range(layer.weighted, read[0].span) if layer.weighted else self.ranges[i]
        out = Wire("", self.shapes[i], span, varies)
        sums = operate(layer.operation, self.body if varies else self.outer, read, out)
        return self._neuron(i, layer, sums, decays) if layer.neuron else sums

    def _neuron(self, i: int, layer: Layer, sums: Wire, decays: dict[int, str]) -> Wire:
        assert layer.neuron is not None
        step = Step(self.body, sums, self._drawn(i, layer, decays), self._state)
        fired = fire(layer.neuron, step)
        self.following += step.next
        self._probe_membrane(layer, fired)
        self.clipped += [self._count(clipped, sums.shape) for clipped in fired.clipped]
        if not layer.spikes:
            return Wire(fired.output, sums.shape, self.ranges[i], True)
        wire = Wire(self.body.cast(fired.output, np.uint8), sums.shape, self.ranges[i], True)
        self.counts[layer.name] = self._count(wire.name, sums.shape)
        return wire

    def _drawn(self, i: int, layer: Layer, decays: dict[int, str]) -> str:
        """The decays drawn for a layer, in its shape; "" where none are."""
        if layer.drawn is None:
            return ""
        scope = self.body if layer.drawn.sampling == "step" else self.outer
        return scope.reshape(decays[i], -1, *self.shapes[i])

    def _count(self, flags: str, shape: Shape) -> str:
        """How many of a layer's neurons are set, per image, (images, 1) int32."""
        flat = self.body.reshape(self.body.cast(flags, np.int32), -1, int(np.prod(shape)))
        return self.body.op("ReduceSum", flat, np.array([1], np.int64), keepdims=1)

    # --- what leaves the graph --------------------------------------------------------------------------------------

    def _probe(self, layer: Layer, name: str, wire: Wire) -> None:
        if layer.name in self.probes:
            value = wide(self.body, wire)
            self.stacked[name] = (self.body.op("Identity", value), np.int32)

    def _probe_membrane(self, layer: Layer, fired: Fired) -> None:
        if layer.name in self.probes:
            value = self.body.cast(fired.membrane, np.int64)
            self.stacked[f"{layer.name}/membrane"] = (self.body.op("Sub", value, np.int64(fired.offset)), np.int64)

    def _read_out(self) -> None:
        """The sums over the steps of the last layer's output, and the counts of this step."""
        last = self.wires[-1]
        classes = int(np.prod(last.shape))
        # what one step sends fits int32, T of them may not where the last layer is not a read-out
        kind = np.int32 if last.span.peak * self.network.steps <= SUM_MAX else np.int64
        state = self._state((classes,), kind, 0)
        self.sums, self.sums_at = kind, len(self.initial) - 1
        added = self.body.cast(self.body.reshape(wide(self.body, last), -1, classes), kind)
        self.following.append(self.body.op("Add", state, added))
        for name, counts in (("spikes", list(self.counts.values())), ("saturations", self.clipped)):
            if counts:
                self.stacked[name] = (self.body.op("Concat", *counts, axis=1), np.int32)

    def _scan(self) -> dict[str, str]:
        """Close the body and run it; returns the outer name of the sums and of each stacked output."""
        self.body.input("step", np.int64, [])
        for name, info in zip(self.following, list(self.body.inputs)):
            self.body.outputs.append(onnx.ValueInfoProto(name=name, type=info.type))
        for name, kind in self.stacked.values():
            self.body.output(name, kind)
        steps = self.outer.constant(np.arange(self.network.steps, dtype=np.int64))
        results = self.outer.scan(self.body, "steps", self.initial, [steps])
        return {"sums": results[self.sums_at], **dict(zip(self.stacked, results[len(self.initial) :]))}

    def _outputs(self, results: dict[str, str]) -> None:
        outer = self.outer
        sums = outer.op("Identity", results["sums"], name="sums")
        outer.output(outer.op("ArgMax", sums, axis=1, keepdims=0, name="prediction"), np.int64, ["images"])
        outer.output(sums, self.sums, ["images", int(np.prod(self.shapes[-1]))])
        for name, columns in (("spikes", len(self.counts)), ("saturations", len(self.clipped))):
            if name in results:
                total = outer.cast(results.pop(name), np.int64)
                outer.op("ReduceSum", total, np.array([0], np.int64), keepdims=0, name=name)
                outer.output(name, np.int64, ["images", columns])
        for name, (_, kind) in self.stacked.items():
            if name in results:
                order = [1, 0, *range(2, 2 + len(self._trace_shape(name)))]
                outer.op("Transpose", results[name], perm=order, name=name)
                outer.output(name, kind, ["images", self.network.steps, *self._trace_shape(name)])

    def _trace_shape(self, name: str) -> Shape:
        names = [layer.name for layer in self.network.layers]
        return self.shapes[names.index(name.rsplit("/", 1)[0])]
