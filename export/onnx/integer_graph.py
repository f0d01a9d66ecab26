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
from randhet.fixed_point.network import Het, Input, Layer, Lif, Network, RandomTau, ReadOut, Shape


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
        self.shapes, self.peaks, self.bounds = network.shapes, [span.peak for span in network.ranges], network.bounds
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
            "randhet.input": json.dumps(vars(self.network.layers[0].operation)),
            "randhet.cores": json.dumps(places),
            "randhet.spiking": json.dumps(list(self.counts)),
            "randhet.probes": json.dumps(sorted(self.probes)),
        }
        return self.outer.model("randhet_integer", entries, __doc__ or "")

    def _inputs(self) -> None:
        operation = self.network.layers[0].operation
        assert isinstance(operation, Input)
        wire = Wire("images", operation.shape, self.peaks[0], operation.signed, False)
        self.outer.input("images", np.uint8 if wire.small else np.int32, ["images", *operation.shape])
        self.outer.input("first_image", np.int64, [])
        self.outer.constant(np.int64(0), "first_image")
        cores = [(bank.layer, len(bank.cores)) for bank in banks(self.network)]
        if cores:
            self.outer.input("registers", np.uint32, [sum(count for _, count in cores)])
        if cores and self.network.seed is not None:
            self.outer.constant(seeds(cores, self.network.seed), "registers")
        self.batch = self.outer.slice(self.outer.op("Shape", "images"), 0, 1, 0)

    # --- decays -----------------------------------------------------------------------------------------------------

    def _decays(self) -> dict[int, str]:
        """The decays of every layer whose neurons draw, by layer number: names in the body, or in the outer scope."""
        sources = [Registers(self.network, "step"), Registers(self.network, "forward")]
        if not any(source.banks for source in sources):
            return {}
        rows = [self.outer.constant(row) for row in draw_rows()]
        numbers = self.outer.op("Range", np.int64(0), self.outer.op("Squeeze", self.batch), np.int64(1))
        numbers = self.outer.reshape(self.outer.op("Add", numbers, "first_image"), -1, 1)
        found: dict[int, str] = {}
        for source, scope in zip(sources, (self.body, self.outer)):
            if source.banks:
                state = source.start(self.outer, "registers", numbers)
                if scope is self.body:
                    state = self._carry(state, np.uint32, (len(source.table),))
                    self.following.append(source.advance(scope, state))
                found |= source.decays(scope, state, rows, self._pairs(source))
        return found

    def _pairs(self, source: Registers) -> dict[int, str]:
        tables = {bank.layer: self.outer.constant(bank.neuron.table.astype(np.int32)) for bank in source.banks}
        made = {table: pair_table(self.outer, table) for table in sorted(set(tables.values()))}
        return {layer: made[table] for layer, table in tables.items()}

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
        if isinstance(layer.operation, Input):
            return Wire("images", self.shapes[0], self.peaks[0], layer.operation.signed, False)
        read = [self.wires[source] for source in layer.inputs]
        varies, signed = any(wire.varies for wire in read), any(wire.signed for wire in read)
        scope, weights = self.body if varies else self.outer, layer.neuron is not None
        out = Wire("", self.shapes[i], self.bounds[i] if weights else self.peaks[i], weights or signed, varies)
        result = operate(layer.operation, scope, read, out)
        return self._neuron(i, layer, result, decays) if weights else result

    def _neuron(self, i: int, layer: Layer, sums: Wire, decays: dict[int, str]) -> Wire:
        assert layer.neuron is not None
        decay = self._decay(i, layer, decays)
        step = Step(self.body, sums, self.bounds[i], decay, self._state)
        fired = fire(layer.neuron, step)
        self.following += step.next
        self._probe_membrane(layer, fired)
        self.clipped += [self._count(clipped, sums.shape) for clipped in fired.clipped]
        if isinstance(layer.neuron, ReadOut):
            return Wire(fired.output, sums.shape, self.peaks[i], True, True)
        wire = Wire(self.body.cast(fired.output, np.uint8), sums.shape, 1, False, True)
        self.counts[layer.name] = self._count(wire.name, sums.shape)
        return wire

    def _decay(self, i: int, layer: Layer, decays: dict[int, str]) -> str:
        neuron = layer.neuron
        if isinstance(neuron, RandomTau):
            scope = self.body if neuron.sampling == "step" else self.outer
            return scope.reshape(decays[i], -1, *self.shapes[i])
        if isinstance(neuron, (Lif, Het)):
            return self.outer.constant(np.asarray(neuron.decay, np.int32))
        return ""

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
        state = self._state((classes,), np.int32, 0)
        self.sums_at = len(self.initial) - 1
        added = self.body.reshape(wide(self.body, last), -1, classes)
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
        outer.output(sums, np.int32, ["images", int(np.prod(self.shapes[-1]))])
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
