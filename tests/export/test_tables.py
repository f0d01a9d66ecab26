"""Every row of the tables in docs/interop.md is done: what is "yes" goes through, what is "no" is refused by name."""

# ruff: noqa: E402  (what needs ONNX and NIR is imported after it is known to be there)
from __future__ import annotations

from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any, get_args

import h5py
import numpy as np
import pytest

nir = pytest.importorskip("nir")
pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from randhet.export import tables
from randhet.export.graph import (
    Affine,
    AveragePool,
    Encoding,
    ExportError,
    FloatAdd,
    FloatAnd,
    FloatConcat,
    FloatConv,
    FloatDense,
    FloatFlatten,
    FloatGraph,
    FloatIand,
    FloatInput,
    FloatMaxPool,
    FloatNeuron,
    FloatNode,
    FloatOperation,
    FloatSpread,
    Normalisation,
    TimeMean,
    TimeRead,
)
from randhet.export.nir import read as nir_read
from randhet.export.nir import write as nir_write
from randhet.export.nir.steps import TOOLS
from randhet.export.onnx import float_graph as onnx_float
from randhet.export.onnx import run as onnx_run
from randhet.fixed_point import reference
from randhet.fixed_point.diagnosis.difference import differences
from randhet.fixed_point.network import (
    Add,
    And,
    Concat,
    Constant,
    Conv,
    Cuba,
    Decay,
    Dense,
    Drawn,
    Flatten,
    Iand,
    Input,
    Layer,
    Leaky,
    Lif,
    MaxPool,
    Network,
    Neuron,
    Operation,
    PerNeuron,
    ReadOut,
    Reset,
    Spread,
    SumPool,
)
from randhet.netx import write as netx

RNG = np.random.default_rng(4)
KERNEL = RNG.integers(-127, 128, (2, 2, 3, 3)).astype(np.int8)
DECAYS = [it.__name__ for it in get_args(Decay)]
CELL = {"threshold": np.full(2, 3000, np.int32), "bias": np.full(2, 900, np.int32)}
NEURONS: dict[str, Any] = {
    "decay Constant": Lif(**CELL, decay=Constant(77)),
    "decay PerNeuron": Lif(**CELL, decay=PerNeuron(RNG.integers(0, 256, (2, 4, 4)))),
    "decay Drawn": Lif(**CELL, decay=Drawn()),
    "Cuba": Cuba(**CELL, current_decay=900, voltage_decay=300, f=5),
    "reset subtract": Lif(**CELL, reset="subtract"),
}
SPIKES: dict[str, Any] = {"And": And(), "Iand": Iand()}
"""Operations on the two layers of spikes."""
IMAGES_TO_IMAGES: dict[str, Any] = {"MaxPool": MaxPool((2, 2), (1, 1), (1, 1)), "Spread": Spread((2, 1), (0, 1))}


def integers(part: str) -> Network:
    """Input, two convolutions, sum or gate, another operation, pool, dense read-out, around one kind of neuron."""
    conv, neuron = Conv(KERNEL, padding=(1, 1)), NEURONS.get(part, Lif(**CELL))
    both = Concat() if part == "Concat" else SPIKES.get(part, Add())
    layers = [
        Layer("input", Input((2, 4, 4))),
        Layer("a", conv, (0,), neuron),
        Layer("b", conv, (1,), neuron),
        Layer("both", both, (1, 2)),
        Layer("other", IMAGES_TO_IMAGES.get(part, SumPool((1, 1), (1, 1))), (3,)),
        Layer("pool", SumPool((2, 2), (2, 2)), (4,)),
        Layer("flat", Flatten(), (5,)),
    ]
    weight = RNG.integers(-9, 9, (3, prod(Network(tuple(layers), 1).shapes[-1]))).astype(np.int8)
    top = np.full(3, 2**23 - 1, np.int32)
    read: Neuron = Leaky(Lif(top, np.zeros(3, np.int32))) if part == "Leaky" else ReadOut(np.zeros(3, np.int32))
    return Network((*layers, Layer("out", Dense(weight), (6,), read)), 3, seed=2)


def parts(network: Network) -> set[str]:
    """What of the table's rows a network is made of."""
    lifs = [layer.neuron for layer in network.layers if isinstance(layer.neuron, Lif)]
    kinds = {type(it).__name__ for layer in network.layers for it in (layer.operation, layer.neuron) if it}
    decays = {f"decay {type(neuron.decay).__name__}" for neuron in lifs}
    return kinds | decays | {f"reset {neuron.reset}" for neuron in lifs}


def test_integer_rows_are_all_kinds() -> None:
    """Read from the types of the representation, so that a new kind is missed here."""
    kinds = {it.__name__ for it in (*get_args(Operation), *get_args(Neuron))}
    decays, resets = ({f"{name} {it}" for it in its} for name, its in (("decay", DECAYS), ("reset", get_args(Reset))))
    assert {part for part, _ in tables.integer_rows()} == kinds | decays | resets


@pytest.mark.parametrize("row", tables.integer_rows(), ids=lambda row: row[0])
def test_integer_rows(row: tuple[str, str], tmp_path: Path) -> None:
    part, word = row
    made = integers(part)
    assert part in parts(made)
    netx.write(tmp_path / "a.net", made)
    assert word in texts(tmp_path / "a.net")
    again = netx.read(tmp_path / "a.net")
    assert list(differences(again, made)) == []
    images = RNG.integers(0, 256, (3, 2, 4, 4)).astype(np.uint8)
    wanted, found = reference.run(made, images), onnx_run.run(again, images)
    assert np.array_equal(found.sums, wanted.sums) and dict(found.spikes) == dict(wanted.spikes)
    assert min(wanted.spikes.values()) > 0


def texts(path: Path) -> set[str]:
    """Every text that a file holds as a dataset."""
    found: set[str] = set()
    with h5py.File(path) as file:
        file.visititems(
            lambda _, it: found.add(it[0].decode()) if getattr(it, "dtype", np.dtype(int)).kind == "S" else None
        )
    return found


JOINS = {"FloatAnd": FloatAnd(), "FloatIand": FloatIand(), "FloatConcat": FloatConcat()}


def floats(part: str) -> FloatGraph:
    """Every operation, around the neuron, its choices or the reset of a row."""
    neuron = part.removeprefix("neuron ") if part.startswith("neuron") else "vanilla"
    decay = np.full((2, 4, 4), 0.4) if neuron == "het" else np.array(0.4)
    changed = tables.NEURON_CHOICES.get(part, {})
    leaky = "read" in changed or part == "TimeRead"
    cell = FloatNeuron(
        neuron, 0.3, decay=decay, synapse=0.2, reset="subtract" if part == "reset subtract" else "zero",
        **({} if leaky else changed),
    )  # fmt: skip
    conv, sequence = FloatConv(RNG.normal(size=(2, 2, 3, 3)), np.zeros(2), padding=(1, 1)), part == "a sequence"
    pool = FloatMaxPool((2, 2), (2, 2)) if part == "FloatMaxPool" else AveragePool((2, 2))
    # 2x2 values, those between them 0, are 3x3
    zeros: dict[str, Any] = {"spread": (FloatSpread((2, 2)), "pool")} if part == "FloatSpread" else {}
    width = {"FloatConcat": 16, "FloatSpread": 18}.get(part, 8)
    back = RNG.normal(size=(6, 6)) if part == "recurrent weights" else None
    last = FloatNeuron("vanilla", 1.0, decay=np.array(0.4), read="sum")
    parts = {
        "input": (FloatInput((2, 4, 4), sequence),),
        "grey": (Normalisation(np.array([0.4, 0.5]), np.array([0.2, 0.3])), "input"),
        "stem": (conv, "grey"),
        "norm": (Affine(np.array([1.5, 0.5]), np.array([0.1, 0.0])), "stem"),
        "encode": (Encoding(3, sequence), "norm"),
        "n1": (cell, "encode"),
        "conv": (conv, "n1"),
        "n2": (cell, "conv"),
        "add": (JOINS.get(part, FloatAdd()), "n1", "n2"),
        "pool": (pool, "add"),
        **zeros,
        "flat": (FloatFlatten(), "spread" if zeros else "pool"),
        "hidden": (FloatDense(RNG.normal(size=(6, width)), np.zeros(6), back), "flat"),
        "n3": (FloatNeuron("vanilla", 0.3), "hidden"),
        "fc": (FloatDense(RNG.normal(size=(3, 6)), np.zeros(3)), "n3"),
        **({"leaky": (last, "fc")} if leaky else {}),
        "mean": (TimeRead("max") if part == "TimeRead" else TimeMean(), "leaky" if leaky else "fc"),
    }
    return FloatGraph(tuple(FloatNode(name, part[0], tuple(part[1:])) for name, part in parts.items()))  # type: ignore[arg-type]


@pytest.mark.parametrize("row", tables.float_rows(), ids=lambda row: row[0])
def test_float_rows(row: tuple[str, ...]) -> None:
    part, to_onnx, to_nir = row
    graph, kinds = floats(part), {kind.__name__ for kind in get_args(FloatOperation)}
    assert part not in kinds or part in {type(node.operation).__name__ for node in graph.nodes}
    assert to_onnx == "yes"
    session = onnx_run.session(onnx_float.inference(graph))
    shape = (2, 3, 2, 4, 4) if part == "a sequence" else (2, 2, 4, 4)
    logits = session.run(["logits"], {"images": RNG.random(shape, np.float32)})[0]
    assert logits.shape == (2, 3) and np.isfinite(logits).all()
    onnx_run.session(onnx_float.step(graph))
    if to_nir == "no":
        with pytest.raises(ExportError, match="NIR cannot represent"):
            nir_write.to_nir(graph)
        return
    assert to_nir in ("yes", "folded", "as its mean tau")
    made = nir_write.to_nir(graph)
    restored = nir_read.restored(made)
    assert restored is not None
    found = {type(node.operation).__name__ for node in restored.nodes}
    assert part not in kinds or (part in found) is (to_nir == "yes")
    if part.startswith("neuron"):
        kind = type(made.nodes["n1"]).__name__
        assert kind == {"integrate": "IF", "cuba": "CubaLIF"}.get(part.split()[1], "LIF")


ONES, ZEROS = np.ones(4), np.zeros(4)
SAMPLES: dict[str, Any] = {
    "Affine": lambda: nir.Affine(np.eye(4), ONES),
    "Linear": lambda: nir.Linear(np.eye(4)),
    "LIF": lambda: nir.LIF(3e-4 * ONES, ONES, ZEROS, ONES, ZEROS),
    "IF": lambda: nir.IF(ONES, ONES, ZEROS),
    "CubaLIF": lambda: nir.CubaLIF(3e-4 * ONES, 3e-4 * ONES, ONES, ZEROS, ONES, ZEROS),
    "Conv2d": lambda: nir.Conv2d((2, 2), np.ones((1, 1, 1, 1)), 1, 0, 1, 1, np.zeros(1)),
    "AvgPool2d": lambda: nir.AvgPool2d(*(np.array(pair) for pair in ((2, 2), (2, 2), (0, 0)))),
    "SumPool2d": lambda: nir.SumPool2d(*(np.array(pair) for pair in ((2, 2), (2, 2), (0, 0)))),
    "Flatten": lambda: nir.Flatten({"input": None}, 0),
    "CubaLI": lambda: nir.CubaLI(3e-4 * ONES, 3e-4 * ONES, ONES, ZEROS),
    "LI": lambda: nir.LI(3e-4 * ONES, ONES, ZEROS),
    "I": lambda: nir.I(ONES),
    "Delay": lambda: nir.Delay(ONES),
    "Scale": lambda: nir.Scale(ONES),
    "Threshold": lambda: nir.Threshold(ONES),
    "Conv1d": lambda: nir.Conv1d(4, np.ones((1, 1, 1)), 1, 0, 1, 1, np.zeros(1)),
}
TIME = replace(TOOLS["snntorch"], reset="zero")
NEEDS_WEIGHTS = ("LIF", "IF", "CubaLIF", "LI", "CubaLI", "I", "Threshold", "Delay")
IMAGES = ("Conv2d", "AvgPool2d", "SumPool2d", "Flatten")


def around(name: str) -> Any:
    """A graph with the node in a place where it can stand: neurons behind weights, pools before them."""
    shape = (1, 2, 2) if name in IMAGES else (1, 4) if name == "Conv1d" else (4,)
    before = {"w": nir.Linear(np.eye(4))} if name in NEEDS_WEIGHTS else {}
    after = {
        "AvgPool2d": {"c": nir.Conv2d((1, 1), np.ones((1, 1, 1, 1)), 1, 0, 1, 1, np.zeros(1))},
        "Flatten": {"r": nir.Linear(np.eye(4))},
        "Scale": {"r": nir.Linear(np.eye(4))},
    }
    after["SumPool2d"] = after["AvgPool2d"]
    middle = {"node": SAMPLES[name]()} if name in SAMPLES else {}
    ends = {"input": nir.Input({"input": np.array(shape)})}, {"output": nir.Output({"output": np.array([1])})}
    nodes = ends[0] | before | middle | after.get(name, {}) | ends[1]
    order = list(nodes)
    return nir.NIRGraph(nodes, list(zip(order, order[1:])), type_check=False)  # noqa: RUF007


@pytest.mark.parametrize("row", tables.nir_rows(), ids=lambda row: row[0])
def test_nir_rows(row: tuple[str, ...]) -> None:
    name, answer = row
    if answer in ("yes", "with --read-out"):
        graph = nir_read.from_nir(around(name), TIME, 2, read_out="last" if answer != "yes" else None)
        assert name in ("Input", "Output", "Scale") or any(node.name.startswith("node") for node in graph.nodes)
    else:
        assert (name, answer) == ("Delay", "a delay of 0")
        with pytest.raises(ExportError, match=rf"node \({name}\): delays by 1, .* only a delay of 0 is exact"):
            nir_read.from_nir(around(name), TIME, 2)


def test_all_primitives_have_a_row() -> None:
    """The 16 of nir 1.0.8 besides Input and Output, of which one is read in part."""
    rows = dict(tables.nir_rows())
    assert rows.keys() == SAMPLES.keys() | {"Input", "Output"} and len(SAMPLES) == 16
    assert [name for name, answer in rows.items() if answer not in ("yes", "with --read-out")] == ["Delay"]


@pytest.mark.parametrize("row", tables.tool_rows(), ids=lambda row: row[0])
def test_tool_rows(row: tuple[str, ...]) -> None:
    """The formulas of the row, evaluated, against what the reader uses: tau = 4 dt, R = 3, I = 2, v = i = 0.7."""
    name, version, dt, decay, lif, synapse, integrator, start, spikes, reset, resets = row
    time, names = TOOLS[name], {"exp": np.exp, "dt": float(dt), "tau": 4 * float(dt), "R": 3.0, "I": 2.0, "v_leak": 0.0}
    names |= {"v": 0.7, "i": 0.7, "w_in": 5.0, "d": eval(decay, {}, names)}
    d = float(time.decay(np.array(names["tau"])))
    assert d == pytest.approx(names["d"])
    x = float(time.drive(np.array(3.0), np.array(d))) * 2.0
    assert d * 0.7 + (1 - d) * x == pytest.approx(eval(lif.split(" = ")[1], {}, names))
    assert 0.7 + float(time.integrator(np.array(3.0))) * 2.0 == pytest.approx(
        eval(integrator.split(" = ")[1], {}, names)
    )
    added = float(time.synapse(np.array(5.0), np.array(d))) * 2.0
    assert d * 0.7 + added == pytest.approx(eval(synapse.split(" = ")[1], {}, names))
    assert (start == "v_leak", version) == (time.starts_at_leak, time.version)
    assert version.rpartition(" ")[2].replace(".", "").isdigit()
    assert (None if reset == "ask" else reset) == time.reset
    assert eval(spikes, {}, {"v": 1.0, "theta": 1.0}) is time.inclusive
    for each in resets.split(", "):
        kind, _, late = each.partition(" ")
        replace(time, reset=kind, reset_delay=int(late == "late"))
    for kind, late in {("zero", 0), ("zero", 1), ("subtract", 0), ("subtract", 1)}:
        if kind + " late" * late not in resets.split(", "):
            with pytest.raises(ExportError):
                replace(time, reset=kind, reset_delay=late)
