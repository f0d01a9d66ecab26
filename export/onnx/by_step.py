"""Run the step graph in onnxruntime, one step a call: recordings of any length in the memory of one step."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx

from randhet.base.errors import FileError
from randhet.export.onnx import read as onnx_read
from randhet.export.onnx import step_graph
from randhet.export.onnx.integer_graph import after_name
from randhet.export.onnx.meta import load_metadata
from randhet.export.onnx.run import Graph, Progress, States, outputs
from randhet.fixed_point.network import Network, Read
from randhet.fixed_point.reference import join, read_on
from randhet.fixed_point.result import Int, Result, Trace


def run(
    source: Network | str | Path,
    images: np.ndarray,
    *,
    seed: int | None = None,
    first_image: int = 0,
    probes: Collection[str] = (),
    batch: int = 8,
    threads: int | None = None,
    progress: Progress | None = None,
    stream: bool = False,
) -> Result:
    """Run images (N, *shape) through the step graph of a network, or a file that `step_graph.write` wrote.

    Arguments as in `randhet.export.onnx.run.run`.
    """
    graph = StepGraph.of(source, probes, threads)
    graph.check(images, probes, first_image)
    registers, parts, states = graph.registers(seed), [], graph.zeros(1)
    batch = 1 if stream else batch
    for start in range(0, len(images), batch):
        chunk = images[start : start + batch]
        states = states if stream else graph.zeros(len(chunk))
        part, states = graph.run(chunk, registers, first_image + start, probes, states)
        parts.append(part)
        if progress:
            progress(len(chunk))
    return join(parts, graph.network)


class StepGraph(Graph):
    """A loaded step graph: `step` for one frame, `run` for T of them."""

    needed = ("output",)

    def __init__(self, model: onnx.ModelProto | str, entries: dict[str, str], threads: int | None = None) -> None:
        super().__init__(model, entries, threads)
        if entries.get("randhet.read") not in ("sum", "last", "max"):
            raise FileError("the ONNX graph does not say how its last layer is read")
        self.read = cast(Read, entries["randhet.read"])

    @classmethod
    def of(
        cls, source: Network | str | Path, probes: Collection[str], threads: int | None, stream: bool = False
    ) -> StepGraph:
        """From a network (built here) or a file."""
        if not isinstance(source, Network):
            return cls(str(source), onnx_read.entries(source, "integer step"), threads)
        model = step_graph.model(replace(source, seed=None), probes)
        graph = cls(model, load_metadata(model), threads)
        graph.network = source
        return graph

    def step(
        self, frames: np.ndarray, t: int, registers: np.ndarray | None, first: int, states: States
    ) -> tuple[dict[str, np.ndarray], States]:
        """Outputs by name of step t of images whose first has number `first`, and the states after it."""
        numbers = {"first_image": np.array(first, np.int64), "step": np.array(t, np.int64)}
        feeds: dict[str, Any] = {"images": frames.astype(self.pixel()), **numbers}
        feeds |= {} if registers is None else {"registers": registers}
        values = dict(zip(self.outputs, outputs(self.session, self.outputs, feeds | states)))
        return values, {name: values[after_name(name)] for name in states}

    def run(
        self, images: np.ndarray, registers: np.ndarray | None, first: int, probes: Collection[str], states: States
    ) -> tuple[Result, States]:
        """All T steps of a batch, and the states after it; `first` is the number of its first image."""
        # registers start at the number of each image or piece, whatever else carries on
        states = {name: state * (not name.endswith("/registers")) for name, state in states.items()}
        seen = _Seen(self.read, probes)
        for t in range(self.network.steps):
            frames = images[:, t] if self.network.input.sequence else images
            values, states = self.step(frames, t, registers, first, states)
            seen.add(values)
        return seen.result(self.spiking), states


class _Seen:
    """What a run returns of the steps so far; states are not kept."""

    def __init__(self, read: Read, probes: Collection[str]) -> None:
        self.read, self.probes = read, probes
        self.sums: Int | None = None
        self.counts: dict[str, Int] = {}
        self.traces: dict[str, list[np.ndarray]] = {}

    def add(self, values: dict[str, np.ndarray]) -> None:
        """Add the outputs of one step."""
        output = values["output"].astype(np.int64)
        self.sums = read_on(self.sums, output.reshape(len(output), -1), self.read)
        for name in ("spikes", "saturations"):
            if name in values:
                self.counts[name] = self.counts.get(name, 0) + values[name].sum(axis=0, dtype=np.int64)
        for name in (f"{probe}/{quantity}" for probe in self.probes for quantity in ("output", "membrane")):
            if name in values:
                self.traces.setdefault(name, []).append(values[name].astype(np.int64))

    def result(self, spiking: list[str]) -> Result:
        """The result of all steps."""
        assert self.sums is not None  # T is at least 1
        traces = {name: np.stack(steps, 1) for name, steps in self.traces.items()}
        return Result(
            predictions=self.sums.argmax(axis=1),
            sums=self.sums,
            spikes={name: int(count) for name, count in zip(spiking, self.counts.get("spikes", ()))},
            saturations=int(np.sum(self.counts.get("saturations", 0))),
            traces={name: Trace(traces[f"{name}/output"], traces.get(f"{name}/membrane")) for name in self.probes},
        )
