"""Run the integer ONNX graph in onnxruntime: the reference's integers from another project's runtime."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnx
import onnxruntime

from randhet.base.errors import FileError, NetworkError
from randhet.export.onnx import integer_graph as onnx_integer
from randhet.export.onnx import read as onnx_read
from randhet.export.onnx.integer_graph import after_name
from randhet.export.onnx.meta import load_metadata
from randhet.export.onnx.registers import seeds
from randhet.fixed_point.check import MAX_VALUES, check_images
from randhet.fixed_point.network import Network
from randhet.fixed_point.reference import join, master_seed
from randhet.fixed_point.result import Result, Trace

Progress = Callable[[int], None]
States = dict[str, np.ndarray]
"""By name of the input, what a graph keeps from step to step or from piece to piece."""
TYPES = {f"tensor({kind.__name__})": kind for kind in (np.uint8, np.int32, np.uint32, np.int64)}


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
    """Run images (N, *shape) through an integer network, or a file that `onnx_integer.write` wrote, in onnxruntime.

    seed, first_image, probes, progress and stream as in `reference.run`. threads: None for all cores. A file traces
    only the layers it was written with, and carries states on only where it was written with `stream`.
    """
    graph = Graph.of(source, probes, threads, stream)
    graph.check(images, probes, first_image)
    registers, states = graph.registers(seed), graph.zeros(1 if stream else batch)
    batch = 1 if stream else batch
    parts = []
    for start in range(0, len(images), batch):
        chunk = images[start : start + batch]
        fed = states if stream else {name: zeros[: len(chunk)] for name, zeros in states.items()}
        part, after = graph.run(chunk, registers, first_image + start, probes, fed)
        parts.append(part)
        states = after if stream else states
        if progress:
            progress(len(chunk))
    return join(parts, graph.network)


def load(path: str | Path, threads: int | None = None) -> Graph:
    """A file that `onnx_integer.write` wrote, verified first; FileError where it is anything else."""
    return Graph(str(path), onnx_read.entries(path), threads)


class Graph:
    """A loaded integer ONNX graph: its session and what its metadata says."""

    def __init__(self, model: onnx.ModelProto | str, entries: dict[str, str], threads: int | None = None) -> None:
        self.session = session(model, threads)
        self.entries = entries
        self.network = onnx_read.images(entries)
        """Only the input layer: what images look like."""
        self.states = _states(self.session)
        """Zeros of one image by name of a state: what the graph carries on starts with these."""
        self.spiking: list[str] = json.loads(entries["randhet.spiking"])
        self.outputs = [output.name for output in self.session.get_outputs()]
        if missing := {*self.needed, *map(after_name, self.states)} - {*self.outputs}:
            raise FileError(f"the ONNX graph has no output {sorted(missing)[0]}")

    needed: ClassVar[tuple[str, ...]] = ("prediction", "sums")

    @classmethod
    def of(
        cls, source: Network | str | Path, probes: Collection[str], threads: int | None, stream: bool = False
    ) -> Graph:
        """From a network (built here) or a file."""
        if isinstance(source, Network):
            model = onnx_integer.model(replace(source, seed=None), probes, stream=stream)
            graph = cls(model, load_metadata(model), threads)
            graph.network = source
            return graph
        graph = load(source, threads)
        if stream and graph.entries.get("randhet.stream") != "true":
            raise NetworkError("the ONNX file carries no states from piece to piece; write it with stream=True")
        return graph

    def check(self, images: np.ndarray, probes: Collection[str], first_image: int) -> None:
        """Refuse images or numbers that do not fit, and probes the graph has no output for."""
        check_images(self.network.input, self.network.steps, images, first_image)
        missing = [name for name in probes if f"{name}/output" not in self.outputs]
        if missing:
            raise NetworkError(f"the ONNX file has no trace of {', '.join(missing)}; write it with these as probes")

    def registers(self, seed: int | None) -> np.ndarray | None:
        """Start states from a seed; None where the file's own, or none at all, serve."""
        cores = json.loads(self.entries["randhet.cores"])
        fixed = [entry.name for entry in self.session.get_overridable_initializers()]
        if not cores or (seed is None and "registers" in fixed):
            return None
        return seeds(cores, master_seed(self.network, seed))

    def zeros(self, images: int) -> States:
        """States before a recording, of so many images."""
        return {name: np.repeat(zero, images, axis=0) for name, zero in self.states.items()}

    def run(
        self, images: np.ndarray, registers: np.ndarray | None, first: int, probes: Collection[str], states: States
    ) -> tuple[Result, States]:
        """One batch, and the states after it; `first` is the number of its first image."""
        feeds: dict[str, Any] = {"images": images.astype(self.pixel()), "first_image": np.array(first, np.int64)}
        if registers is not None:
            feeds["registers"] = registers
        traced = [f"{name}/{quantity}" for name in probes for quantity in ("output", "membrane")]
        after = {after_name(name): name for name in states}
        wanted = [name for name in self.outputs if "/" not in name or name in traced or name in after]
        values = dict(zip(wanted, outputs(self.session, wanted, feeds | states)))
        counts = values["spikes"].sum(axis=0) if "spikes" in values else []
        result = Result(
            predictions=values["prediction"],
            sums=values["sums"].astype(np.int64),
            spikes={name: int(count) for name, count in zip(self.spiking, counts)},
            saturations=int(values["saturations"].sum()) if "saturations" in values else 0,
            traces={name: _trace(values, name) for name in probes},
        )
        return result, {name: values[new] for new, name in after.items()}

    def pixel(self) -> type[np.generic]:
        """Type of the input `images`."""
        return np.uint8 if "uint8" in self.session.get_inputs()[0].type else np.int32


def _states(session: onnxruntime.InferenceSession) -> States:
    """Zeros (1, *shape) for every state that is an input; FileError where it is none that our graphs have."""
    states: States = {}
    for value in session.get_inputs():
        if "/" in value.name:
            sizes = value.shape[1:]
            known = value.type in TYPES and all(isinstance(size, int) and size > 0 for size in sizes)
            if not known or prod(sizes) > MAX_VALUES:
                raise FileError(f"the ONNX graph has a state {value.name} of {value.type} {value.shape}")
            states[value.name] = np.zeros((1, *sizes), TYPES[value.type])
    return states


def _trace(values: dict[str, np.ndarray], name: str) -> Trace:
    return Trace(values[f"{name}/output"].astype(np.int64), values.get(f"{name}/membrane"))


def outputs(session: onnxruntime.InferenceSession, wanted: list[str], feeds: dict[str, Any]) -> list[np.ndarray]:
    """What the session computes; FileError where the graph, which may be anyone's, cannot be computed."""
    try:
        return list(session.run(wanted, feeds))
    except Exception as error:
        raise FileError(f"onnxruntime {onnxruntime.__version__} cannot run the model: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def session(model: onnx.ModelProto | str, threads: int | None = None) -> onnxruntime.InferenceSession:
    """An onnxruntime session on the CPU from a model or a path."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.log_severity_level = 3
    source = model if isinstance(model, str) else model.SerializeToString()
    try:
        return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise FileError(f"onnxruntime {onnxruntime.__version__} refuses the model: {_reason(error)}") from None
