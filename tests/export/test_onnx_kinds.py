"""The integer ONNX graphs, whole and by step, of sequences, recordings and every kind of layer and neuron."""

# ruff: noqa: E402  (what needs ONNX is imported after it is known to be there)
from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is the peer of this test")

from hardware_tests.random_networks import Run, numbered
from randhet.base.errors import FileError, NetworkError
from randhet.export.onnx import by_step, integer_graph, meta, read, step_graph
from randhet.export.onnx import run as whole
from randhet.fixed_point import reference
from randhet.fixed_point.network import (
    Concat,
    Constant,
    Conv,
    Cuba,
    Dense,
    Drawn,
    Iand,
    Input,
    Layer,
    Leaky,
    Lif,
    MaxPool,
    Network,
    Operation,
    Read,
    ReadOut,
    Spread,
)
from randhet.fixed_point.result import Result

RNG = np.random.default_rng(4)
RUNNERS: dict[str, Callable[..., Result]] = {"whole": whole.run, "by step": by_step.run}


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


def same(found: Result, wanted: Result) -> None:
    assert np.array_equal(found.sums, wanted.sums)
    assert np.array_equal(found.predictions, wanted.predictions)
    assert dict(found.spikes) == dict(wanted.spikes)
    assert found.saturations == wanted.saturations
    for name, trace in wanted.traces.items():
        other = found.traces[name]
        assert np.array_equal(other.output, trace.output), name
        assert other.membrane is None or np.array_equal(other.membrane, trace.membrane), name


@pytest.mark.parametrize("stream", [False, True], ids=["images", "recording"])
@pytest.mark.parametrize("graph", RUNNERS)
def test_random_networks_of_every_kind_equal_the_reference(graph: str, stream: bool) -> None:
    for number in range(25):
        run = numbered(number, wide=True)
        options: dict[str, Any] = {"seed": run.seed, "first_image": run.first_image, "probes": run.names}
        wanted = reference.run(run.network, run.images, stream=stream, **options)
        same(RUNNERS[graph](run.network, run.images, batch=2, threads=1, stream=stream, **options), wanted)


def moving(read_as: Read = "max", steps: int = 6) -> tuple[Network, np.ndarray]:
    """A sequence through everything that keeps a state: late and floored resets, recurrence, both leaky dynamics."""
    late = Lif(ints(900, 900), ints(5, -5), Drawn(), reset="subtract", reset_delay=1, floor=ints(-400, -300))
    held = Lif(ints(500, 500, 500), ints(9, 0, 1), Drawn(sampling="forward"), reset_delay=1)
    dense = Dense(RNG.integers(-60, 90, (3, 32)).astype(np.int8), RNG.integers(-60, 60, (3, 3)).astype(np.int8))
    cuba = Cuba(ints(2**23 - 1, 2**23 - 1), ints(3, -3), 2000, 700, 2)
    layers = (
        Layer("input", Input((1, 4, 4), 4, sequence=True)),
        Layer("conv", Conv(RNG.integers(-20, 30, (2, 1, 3, 3)).astype(np.int8), padding=(1, 1)), (0,), late),
        Layer("dense", dense, (1,), held),
        Layer("read", Dense(RNG.integers(-90, 90, (2, 3)).astype(np.int8)), (2,), Leaky(cuba, read_as)),
    )
    return Network(layers, steps, 17), RNG.integers(0, 16, (4, steps, 1, 4, 4)).astype(np.uint8)


@pytest.mark.parametrize("graph", RUNNERS)
@pytest.mark.parametrize("read_as", ["sum", "last", "max"])
def test_every_state_carries_on(graph: str, read_as: Read) -> None:
    """Four pieces in turn are one recording four times as long, read at the end of each piece."""
    network, images = moving(read_as)
    whole_network = Network(network.layers, 24, 17)
    apart = RUNNERS[graph](network, images, probes=["read"], stream=True)
    assert not np.array_equal(apart.sums, RUNNERS[graph](network, images).sums)
    same(apart, reference.run(network, images, probes=["read"], stream=True))
    deterministic = Network(tuple(map(without_draws, whole_network.layers)), 24)
    pieces = Network(deterministic.layers, 6)
    found = RUNNERS[graph](pieces, images, probes=["read"], stream=True).traces["read"].output.reshape(1, 24, 2)
    (wanted,) = reference.run(deterministic, images.reshape(1, 24, 1, 4, 4), probes=["read"]).traces.values()
    assert np.array_equal(found, wanted.output)


def without_draws(layer: Layer) -> Layer:
    return replace(layer, neuron=replace(layer.neuron, decay=Constant(200))) if layer.lif else layer


# --- by hand ----------------------------------------------------------------------------------------------------------


def values_of(operations: list[Operation], images: np.ndarray, graph: str) -> np.ndarray:
    """What a chain of operations makes of images, (N, *shape), over one step."""
    layers = (Layer("input", Input(images.shape[1:], 16, True)),)
    chain = tuple(Layer(f"o{i}", operation, (i,)) for i, operation in enumerate(operations))
    network = Network((*layers, *chain), 1)
    return RUNNERS[graph](network, images).sums.reshape(len(images), *network.shapes[-1])


@pytest.mark.parametrize("graph", RUNNERS)
@pytest.mark.parametrize("pool", [MaxPool((3, 2), (2, 1), (1, 1)), MaxPool((1, 4), (1, 3)), MaxPool((5, 4), (1, 1))])
def test_the_largest_of_signed_values_in_windows(graph: str, pool: MaxPool) -> None:
    """All values are negative, so that a padded zero would be the largest."""
    images = RNG.integers(-(2**15), -1, (2, 3, 5, 4)).astype(np.int32)
    found = values_of([pool], images, graph)
    for n, c, y, x in np.ndindex(found.shape):
        top, left = y * pool.stride[0] - pool.padding[0], x * pool.stride[1] - pool.padding[1]
        window = product(range(top, top + pool.kernel[0]), range(left, left + pool.kernel[1]))
        assert found[n, c, y, x] == max(images[n, c, i, j] for i, j in window if 0 <= i < 5 and 0 <= j < 4)


@pytest.mark.parametrize("graph", RUNNERS)
@pytest.mark.parametrize("spread", [Spread((2, 3)), Spread((1, 2), (2, 1)), Spread((3, 1), (0, 2))])
def test_values_are_spread_with_zeros(graph: str, spread: Spread) -> None:
    images = RNG.integers(1, 99, (2, 2, 3, 4)).astype(np.int32)
    found = values_of([spread], images, graph)
    assert found.shape[2:] == tuple(
        (n - 1) * s + 1 + e for n, s, e in zip((3, 4), spread.stride, spread.extra)
    )  # fmt: skip
    assert np.array_equal(found[:, :, :: spread.stride[0], :: spread.stride[1]][:, :, :3, :4], images)
    assert found.sum() == images.sum()


@pytest.mark.parametrize("graph", RUNNERS)
def test_bytes_and_wide_values_are_concatenated_and_gates_gate(graph: str) -> None:
    """(1 - a) * b for all four pairs; values beyond a byte beside spikes keep both."""
    gate = (
        Layer("input", Input((2, 1, 2), 1)),
        Layer("a", Conv(np.array([[1, 0]], np.int8).reshape(1, 2, 1, 1)), (0,), Lif(ints(1), ints(0), Constant(0))),
        Layer("b", Conv(np.array([[0, 1]], np.int8).reshape(1, 2, 1, 1)), (0,), Lif(ints(1), ints(0), Constant(0))),
        Layer("gate", Iand(), (1, 2)),
        Layer("sums", Concat(), (0, 3)),
    )
    images = np.array(list(product((0, 1), repeat=4)), np.uint8).reshape(16, 2, 1, 2)
    found = RUNNERS[graph](Network(gate, 1), images).sums.reshape(16, 3, 2)
    assert np.array_equal(found[:, :2], images[:, :, 0])
    assert np.array_equal(found[:, 2], (1 - images[:, 0, 0].astype(int)) * images[:, 1, 0])
    wide = (Layer("input", Input((1, 1, 2), 12, True)), Layer("twice", Concat(), (0, 0)))
    assert RUNNERS[graph](Network(wide, 1), np.array([[[[-2048, 2047]]]])).sums.tolist() == [[-2048, 2047] * 2]


@pytest.mark.parametrize("graph", RUNNERS)
def test_a_late_subtraction_saturates(graph: str) -> None:
    """Decay 0: m is the current. It saturates up and spikes; then down, and the threshold goes below that: 3 times."""
    neuron = Lif(ints(8_000_000), ints(0), Constant(0), f=16, reset="subtract", reset_delay=1)
    layers = (
        Layer("input", Input((1,), 8, True, sequence=True)),
        Layer("lif", Dense(np.array([[2]], np.int8)), (0,), neuron),
    )
    result = RUNNERS[graph](Network(layers, 3), np.array([[[100], [-100], [0]]], np.int32), probes=["lif"])
    assert result.traces["lif"].membrane.ravel().tolist() == [2**23 - 1, -(2**23) + 1, 0]
    assert result.traces["lif"].output.ravel().tolist() == [1, 0, 0]
    assert result.saturations == 3


@pytest.mark.parametrize("graph", RUNNERS)
@pytest.mark.parametrize("top", [1, 90])
def test_weights_without_a_neuron_send_their_sums(graph: str, top: int) -> None:
    """Sums that fit a byte, and signed ones beyond it, through a pool into weights and out as they are."""
    weight = np.array([[top, 0], [0, 1 if top == 1 else -top]], np.int8).reshape(2, 2, 1, 1)
    layers = (
        Layer("input", Input((2, 1, 2))),
        Layer("sums", Conv(weight), (0,)),
        Layer("pool", MaxPool((1, 2), (1, 1)), (1,)),
        Layer("read", Dense(np.array([[1, 2]], np.int8)), (2,), ReadOut(ints(0))),
    )
    images = RNG.integers(0, 256, (5, 2, 1, 2)).astype(np.uint8)
    sums = images[:, :, 0].astype(int) * np.array([top, weight[1, 1, 0, 0]])[:, None]
    assert np.array_equal(RUNNERS[graph](Network(layers, 1), images).sums, sums.max(2) @ np.array([[1], [2]]))
    assert np.array_equal(RUNNERS[graph](Network(layers[:2], 1), images).sums, sums.reshape(5, 4))


# --- files ------------------------------------------------------------------------------------------------------------


def test_a_step_in_a_plain_session(tmp_path: Path) -> None:
    """What a user writes: zeros first, then each state's successor; draws follow by themselves."""
    network, images = moving("sum")
    step_graph.write(tmp_path / "step.onnx", network)
    session = onnxruntime.InferenceSession(tmp_path / "step.onnx", providers=["CPUExecutionProvider"])
    kinds = {"tensor(uint8)": np.uint8, "tensor(int32)": np.int32, "tensor(uint32)": np.uint32, "tensor(int64)": "i8"}
    after = lambda name: name.replace("/", "/next_").replace("/next_state", "/next")
    states = {
        value.name: np.zeros((4, *value.shape[1:]), kinds[value.type])
        for value in session.get_inputs()
        if "/" in value.name
    }
    total = 0
    for t in range(6):
        output, *values = session.run(["output", *map(after, states)], {"images": images[:, t], **states})
        states, total = dict(zip(states, values)), total + output
    assert np.array_equal(total, reference.run(network, images).sums)


def test_registers_start_at_any_step() -> None:
    network, images = moving()
    graph = by_step.StepGraph.of(network, ["conv"], 1)
    wanted = reference.run(network, images, first_image=5, probes=["conv"]).traces["conv"].membrane
    registers, states = graph.registers(None), graph.zeros(4)
    for t in range(6):
        if t == 3:
            states = {name: state * (not name.endswith("registers")) for name, state in states.items()}
        values, states = graph.step(images[:, t], t, registers, 5, states)
        assert np.array_equal(values["conv/membrane"], wanted[:, t])


def test_files_of_both_graphs_run(tmp_path: Path) -> None:
    network, images = moving()
    integer_graph.write(tmp_path / "whole.onnx", network, ["conv"], stream=True)
    step_graph.write(tmp_path / "step.onnx", network, ["conv"])
    for stream in (False, True):
        wanted = reference.run(network, images, probes=["conv"], stream=stream)
        same(whole.run(tmp_path / "whole.onnx", images, probes=["conv"], stream=stream), wanted)
        same(by_step.run(tmp_path / "step.onnx", images, probes=["conv"], stream=stream), wanted)
    with pytest.raises(NetworkError, match=r"takes recordings of T frames, integers of \(6, 1, 4, 4\)"):
        whole.run(tmp_path / "whole.onnx", images[:, :5])
    integer_graph.write(tmp_path / "plain.onnx", network)
    with pytest.raises(NetworkError, match="carries no states from piece to piece; write it with stream=True"):
        whole.run(tmp_path / "plain.onnx", images, stream=True)
    with pytest.raises(FileError, match="is not one step of an integer network"):
        by_step.run(tmp_path / "plain.onnx", images)
    with pytest.raises(FileError, match="is not an integer network"):
        whole.run(tmp_path / "step.onnx", images)


@pytest.mark.parametrize("number", range(8))
@pytest.mark.parametrize("make", [integer_graph.model, step_graph.model], ids=["whole", "by step"])
def test_standard_operators_on_integers(make: Callable[..., Any], number: int) -> None:
    run: Run = numbered(number, wide=True)
    model = make(run.network, run.names)
    onnx.checker.check_model(model, full_check=True)
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    nodes = list(read._nodes(model.graph))
    assert {node.op_type for node in nodes} <= read.OPERATORS and {node.domain for node in nodes} == {""}
    assert len({node.name for node in nodes}) == len(nodes)
    values = [*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output]
    floats = {onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16}
    assert not {value.type.tensor_type.elem_type for value in values} & floats
    assert not {part.data_type for part in model.graph.initializer} & floats


@pytest.mark.parametrize("kind", ["type", "size", "successor", "read"])
def test_states_and_readings_of_an_untrusted_file_are_checked(kind: str, tmp_path: Path) -> None:
    model = step_graph.model(moving()[0])
    (state,) = (value for value in model.graph.input if value.name == "conv/state")
    if kind == "type":
        state.type.tensor_type.elem_type = onnx.TensorProto.INT16
    elif kind == "size":
        state.type.tensor_type.shape.dim[1].dim_value = 2**40
    elif kind == "successor":
        model.graph.output.remove(next(value for value in model.graph.output if value.name == "conv/next"))
    else:
        next(entry for entry in model.metadata_props if entry.key == "randhet.read").value = "least"
    (tmp_path / "a.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(FileError):
        by_step.run(tmp_path / "a.onnx", moving()[1])
    assert meta.load_metadata(model)["randhet.kind"] == "integer step"


@pytest.mark.parametrize("graph", RUNNERS)
def test_a_read_outs_sums_start_anew_with_each_piece(graph: str) -> None:
    layers = (
        Layer("input", Input((1,), sequence=True)),
        Layer("read", Dense(np.array([[1]], np.int8)), (0,), ReadOut(ints(0))),
    )
    pieces = np.array([[[1], [2]], [[30], [40]]], np.uint8)
    assert RUNNERS[graph](Network(layers, 2), pieces, stream=True).sums.tolist() == [[3], [70]]
