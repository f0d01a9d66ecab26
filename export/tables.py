"""What goes where, read from the registries that do the work, as Markdown tables for docs/interop.md."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, get_args

import nir
import numpy as np

from randhet.export import graph
from randhet.export.graph import FloatOperation
from randhet.export.nir import nodes as nir_nodes
from randhet.export.nir import write as nir_write
from randhet.export.nir.steps import TOOLS, Discretisation
from randhet.export.onnx import float_graph as onnx_float
from randhet.export.onnx import float_operations
from randhet.fixed_point.network import Reset
from randhet.netx import words

YES, NO = "yes", "no"
NEURON_CHOICES: dict[str, dict[str, Any]] = {
    "a reset one step late": {"reset_delay": 1},
    "spikes at the threshold": {"inclusive": True},
    "a lowest membrane potential": {"floor": np.array(-0.1)},
    "currents with a factor": {"drive": 1.5},
    "a leaky read-out": {"read": "sum"},
}
"""Choices of neurons that other libraries make, as fields of a `FloatNeuron`."""
FLOAT_NEURONS = tuple(onnx_float.MEMBRANES)


def knows(function: Any, kind: type) -> bool:
    """Whether a singledispatch function has something to say about a kind."""
    return function.dispatch(kind) is not function.dispatch(object)


def said(answer: bool) -> str:
    """The table's word for yes or no."""
    return YES if answer else NO


def integer_rows() -> list[tuple[str, str]]:
    """Operations, neurons, decays and resets of the integer network, each with its word in the file."""
    kinds = {"": {**words.OPERATIONS, **words.NEURONS}, "decay ": words.DECAYS}
    named = [(f"{prefix}{kind.__name__}", word) for prefix, table in kinds.items() for word, kind in table.items()]
    return [*named, *((f"reset {reset}", reset) for reset in get_args(Reset))]


def float_rows() -> list[tuple[str, ...]]:
    """Parts of the float model: in float ONNX, in NIR."""
    shared = (graph.FloatInput, graph.FloatNeuron)
    rows: list[tuple[str, ...]] = []
    for kind in get_args(FloatOperation):
        if kind is not graph.FloatNeuron:
            to_nir = "folded" if kind is graph.Affine else said(knows(nir_write.convert, kind))
            rows.append((kind.__name__, said(kind in shared or knows(float_operations.operate, kind)), to_nir))
    for name in FLOAT_NEURONS:
        to_nir = "as its mean tau" if name == "randhet" else said(name in nir_write.NEURONS)
        rows.append((f"neuron {name}", said(name in onnx_float.MEMBRANES), to_nir))
    for choice, changed in NEURON_CHOICES.items():
        rows.append((choice, YES, said(not graph.FloatNeuron("vanilla", 1.0, **changed).beyond_nir)))
    others = [("recurrent weights", YES, YES), ("a sequence", YES, YES)]
    return [*rows, *((f"reset {reset}", YES, said(reset == "zero")) for reset in get_args(Reset)), *others]


def nir_rows() -> list[tuple[str, ...]]:
    """Every node of the nir package: whether `import-nir` reads it."""
    kinds = (getattr(nir, name) for name in dir(nir) if name not in ("NIRNode", "NIRGraph"))
    nodes = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, nir.NIRNode)]
    return [(kind.__name__, _read(kind)) for kind in nodes]


def _read(kind: type[nir.NIRNode]) -> str:
    if kind is nir.Delay:
        return "a delay of 0"
    read_outs = "with --read-out" if kind in (nir.LI, nir.CubaLI, nir.I) else YES
    return read_outs if kind.__name__ in nir_nodes.supported() else NO


def tool_rows() -> list[tuple[str, ...]]:
    """Every tool whose NIR is read: how it turns differential equations into steps."""
    return [(name, *_discretisation(time)) for name, time in TOOLS.items()]


def _discretisation(time: Discretisation) -> tuple[str, ...]:
    decay = "exp(-dt/tau)" if time.exponential else "1 - dt/tau"
    lif = "v = d*v + I" if time.unit_drive else "v = d*v + (1 - d)*(R*I + v_leak)"
    integrator = "v = v + I" if time.unit_integrator else "v = v + dt*R*I"
    synapse = "i = d*i + I" if time.unit_synapse else "i = d*i + (1 - d)*w_in*I"
    start = "v_leak" if time.starts_at_leak else "0"
    return (
        time.version,
        f"{time.dt:g}",
        decay,
        lif,
        synapse,
        integrator,
        start,
        "v >= theta" if time.inclusive else "v > theta",
        time.reset or "ask",
        ", ".join(f"{reset} late" if late else reset for reset, late in time.resets if time.allows(reset)),
    )


def table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    heads = list(heads)
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in lines)


TABLES: dict[str, Callable[[], str]] = {
    "integer": lambda: table(("integer network", "its word in `.net`"), integer_rows()),
    "float": lambda: table(("float model", "float ONNX", "NIR, written"), float_rows()),
    "nir": lambda: table(("NIR node", "read by import-nir"), nir_rows()),
    "tools": lambda: table(
        (
            "--tool",
            "version",
            "dt",
            "decay d of a time constant",
            "LIF",
            "synapse of CubaLIF",
            "IF",
            "start",
            "spikes where",
            "reset",
            "resets that are read",
        ),
        tool_rows(),
    ),
}


def page(template: str) -> str:
    """A page with {integer}, {float}, {nir} and {tools} filled in."""
    for name, make in TABLES.items():
        template = template.replace(f"{{{name}}}", make())
    return template
