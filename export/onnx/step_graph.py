"""One step of the integer network as an ONNX graph, for sequences of any length: states are inputs and outputs.

Inputs: images, one frame (N, *shape); each state, zeros at first; first_image and step, 0 unless given, which say where
registers start whose states are zeros. Outputs: `output`, what the last layer sends at this step; each state after it;
spikes and saturations of this step, and probed layers. The caller sums up `output` over the steps, or takes the last or
the largest, as `randhet.read` says. Registers that draw once per image start anew with each: their states are zeros
again then.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
import onnx

from randhet.export.onnx.graph import Scope
from randhet.export.onnx.integer_graph import Graph, Kind, ended
from randhet.export.onnx.lower import State
from randhet.export.onnx.meta import save
from randhet.export.onnx.operations import Wire, wide
from randhet.export.onnx.registers import Registers
from randhet.fixed_point.network import Network, Shape


def write(path: str | Path, network: Network, probes: Collection[str] = ()) -> None:
    """Write one step of the integer network as an ONNX file."""
    save(path, model(network, probes))


def model(network: Network, probes: Collection[str] = ()) -> onnx.ModelProto:
    """The ONNX model of one step; probes names layers whose NAME/output and NAME/membrane become outputs."""
    return _Step(network, set(probes)).model()


class _Step(Graph):
    """The body is the whole graph."""

    kind = "integer step"

    def __init__(self, network: Network, probes: set[str]) -> None:
        super().__init__(network, probes)
        self.lasting: dict[str, tuple[str, Shape]] = {}
        """By the name of a state in the graph, that of its input, and its shape."""

    def image(self) -> Wire:
        self.outer.input("step", np.int64, [])
        self.outer.constant(np.int64(0), "step")
        self.outer.input("images", self.pixel, ["images", *self.shapes[0]])
        return self.frame("images", True)

    def state(self, name: str, shape: Shape, kind: Kind, offset: int) -> State:
        start = self.outer.input(name, kind, ["images", *shape])
        state = State(self.outer.op("Add", start, np.array(offset, kind)) if offset else start, kind, offset)
        self.lasting[state.name] = name, shape
        return state

    def keep(self, state: State, value: str) -> None:
        ended(self.outer, self.lasting[state.name][0], value, state, self.lasting[state.name][1])

    def running(self, value: str, shape: Shape) -> str:
        """A read-out's sum is the caller's."""
        return ""

    def rounds(self, source: Registers, numbers: str) -> tuple[Scope, str]:
        """No register is ever 0, so that zeros mean: start here, at `step` of the images with these numbers."""
        carried = self.state(f"{source.sampling}/registers", (len(source.table),), np.uint32, 0)
        total = self.outer.op("ReduceSum", self.outer.cast(carried.name, np.int64), keepdims=0)
        starts, held = Scope(self.outer), Scope(self.outer)
        started = source.start(starts, "registers", numbers, "step" if source.sampling == "step" else "")
        starts.output(started, np.uint32)
        held.output(held.op("Identity", carried.name), np.uint32)
        branches = {"then_branch": starts.graph("start"), "else_branch": held.graph("carry")}
        now = self.outer.op("If", self.outer.op("Equal", total, np.int64(0)), **branches)
        self.keep(carried, source.advance(self.outer, now) if source.sampling == "step" else now)
        return self.outer, now

    def finish(self, last: Wire) -> None:
        self.outer.op("Identity", wide(self.outer, last), name="output")
        self.outer.output("output", np.int32, ["images", *last.shape])
        for name, counts in self.columns().items():
            self.outer.op("Concat", *counts, axis=1, name=name)
            self.outer.output(name, np.int32, ["images", len(counts)])
        for name, (value, kind) in self.traced.items():
            self.outer.op("Identity", value, name=name)
            self.outer.output(name, kind, ["images", *self.trace_shape(name)])
