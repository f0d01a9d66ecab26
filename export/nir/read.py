"""Read a NIR graph into the float graph, from which the passes make the integer network.

Files of `nir_write` are restored exactly; graphs of other tools are read by `foreign`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import nir
import numpy as np

from randhet.export.graph import ExportError, FloatGraph, FloatNode, FloatOperation
from randhet.export.nir.file import nir_file
from randhet.export.nir.foreign import PIXEL, ReadOutOf, foreign
from randhet.export.nir.steps import Discretisation
from randhet.export.nir.write import FORMATS, to_nir

OPERATIONS: dict[str, Any] = {kind.__name__: kind for kind in get_args(FloatOperation)}
RENAMED = {"tau": "decay"}
"""Fields of the descriptions of format 1."""


def read(
    path: str | Path,
    time: Discretisation,
    steps: int,
    scale: float = PIXEL,
    *,
    read_out: ReadOutOf | None = None,
    sequence: bool = False,
) -> FloatGraph:
    """The float graph of a NIR file, run for `steps` steps on an image whose grey level is worth `scale`.

    read_out: which value of a leaky read-out is the answer. sequence: the input has a frame for each step. A file that
    `nir_write` wrote says all of these itself; then the arguments are not used.
    """
    return load(path, time, steps, scale, read_out=read_out, sequence=sequence)[0]


def load(
    path: str | Path,
    time: Discretisation | None,
    steps: int,
    scale: float = PIXEL,
    *,
    read_out: ReadOutOf | None = None,
    sequence: bool = False,
) -> tuple[FloatGraph, bool]:
    """The same, and whether it is one of our own, restored as it was; ExportError for others where time is None."""
    graph = nir_file(path)
    ours = restored(graph)
    if ours:
        return ours, True
    if time is None:
        raise ExportError(
            f"{path} says neither how time becomes steps nor how many there are: give the tool that it is of (--tool) "
            "and the number of time steps per image (--steps)"
        )
    return foreign(graph, time, steps, scale, read_out, sequence), False


def from_nir(
    graph: nir.NIRGraph,
    time: Discretisation,
    steps: int,
    scale: float = PIXEL,
    *,
    read_out: ReadOutOf | None = None,
    sequence: bool = False,
) -> FloatGraph:
    """The same for a graph in memory."""
    return restored(graph) or foreign(graph, time, steps, scale, read_out, sequence)


# --- graphs of our own ------------------------------------------------------------------------------------------------


def restored(graph: nir.NIRGraph) -> FloatGraph | None:
    """The float graph in the metadata with the nodes' arrays; None where there is none, or where the nodes disagree."""
    notes = graph.metadata.get("randhet")
    if not isinstance(notes, str):
        return None
    try:
        description = json.loads(notes)
        if description["format"] not in FORMATS:
            return None
        float_graph = FloatGraph(tuple(_restored(entry, graph.nodes) for entry in description["nodes"]))
        again = to_nir(float_graph, description["dt"])
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError, ExportError):
        return None
    return float_graph if _same(graph, again) else None


def _restored(entry: dict[str, Any], nodes: dict[str, nir.NIRNode]) -> FloatNode:
    """Weights from the NIR node itself; what NIR rounds or does not have, from its metadata."""
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in entry["fields"].items()}
    for key, shape in entry["arrays"].items():
        node = nodes[f"{entry['name']}.recurrent" if key == "recurrent" else entry["name"]]
        field = {"recurrent": "weight"}.get(key, key)
        array = getattr(node, field) if field in ("weight", "bias") else node.metadata[field]
        values[RENAMED.get(key, key)] = np.asarray(array, np.float64).reshape(shape)
    return FloatNode(entry["name"], OPERATIONS[entry["type"]](**values), tuple(entry["inputs"]))


def _same(first: nir.NIRGraph, other: nir.NIRGraph) -> bool:
    """The same edges, and the same parameters in every node."""
    if set(first.edges) != set(other.edges) or first.nodes.keys() != other.nodes.keys():
        return False
    return all(_alike(first.nodes[name], node) for name, node in other.nodes.items())


def _alike(first: nir.NIRNode, other: nir.NIRNode) -> bool:
    derived = ("input_type", "output_type", "metadata", "input_shape")
    values, wanted = (
        {key: value for key, value in vars(node).items() if key not in derived} for node in (first, other)
    )
    if type(first) is not type(other) or values.keys() != wanted.keys():
        return False
    return all(np.array_equal(np.asarray(values[key]), np.asarray(wanted[key])) for key in wanted)
