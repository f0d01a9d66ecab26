"""onnxruntime on the integer graph gives the reference's integers: every neuron, operation, batch and start index."""

# ruff: noqa: E402  (what needs ONNX is imported after it is known to be there)
from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from strategies import cases

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is the peer of this test")

from randhet.base.errors import FileError, NetworkError
from randhet.export.onnx import integer_graph as onnx_integer
from randhet.export.onnx import meta as onnx_meta
from randhet.export.onnx import run as onnx_run
from randhet.export.onnx.registers import byte_tables, draw_rows
from randhet.fixed_point import generator, reference
from randhet.fixed_point.network import (
    Add,
    Conv,
    Cuba,
    Dense,
    Flatten,
    Het,
    Input,
    Layer,
    Lif,
    Network,
    Neuron,
    RandomTau,
    ReadOut,
    SumPool,
)
from randhet.fixed_point.result import Result

Case = tuple[Network, np.ndarray]
Make = Callable[[tuple[int, ...]], Neuron]
RNG = np.random.default_rng(0)


def weights(*shape: int, top: int = 127) -> np.ndarray:
    return RNG.integers(-top, top + 1, shape).astype(np.int8)


def lif(shape: tuple[int, ...], theta: int = 3000, spread: int = 2000) -> dict[str, np.ndarray]:
    return {
        "threshold": np.full(shape[0], theta, np.int32),
        "bias": RNG.integers(-spread, spread, shape[0]).astype(np.int32),
    }


NEURONS: dict[str, Make] = {
    "random": lambda shape: RandomTau(**lif(shape)),
    "random cores of 300": lambda shape: RandomTau(**lif(shape), neurons_per_core=300),
    "random cores of 7": lambda shape: RandomTau(**lif(shape), neurons_per_core=7),
    "random k=12": lambda shape: RandomTau(**lif(shape), table=generator.tau_table(12, 1.5), k=12),
    "random k=3 f=0": lambda shape: RandomTau(**lif(shape, 40, 30), table=generator.tau_table(3), k=3, f=0),
    "random forward": lambda shape: RandomTau(**lif(shape), sampling="forward", neurons_per_core=256),
    "vanilla": lambda shape: Lif(**lif(shape)),
    "het": lambda shape: Het(**lif(shape), decay=RNG.integers(0, 256, shape).astype(np.int32)),
    "cuba": lambda shape: Cuba(**lif(shape, 20000), current_decay=900, voltage_decay=300),
    "saturating": lambda shape: Lif(**lif(shape, 2**19, 2**18), decay=200, f=14),
    "saturating random": lambda shape: RandomTau(**lif(shape, 2**19, 2**18), f=16),
    "wrapping cuba": lambda shape: Cuba(**lif(shape, 2**20, 2**18), current_decay=5, voltage_decay=9, f=13),
}


def residual(make: Make, steps: int = 3, seed: int | None = 11) -> Network:
    """Stem, a block with a strided shortcut convolution, a residual sum, a second sum of sums, pool, classifier."""
    layers = (
        Layer("input", Input((3, 9, 8))),
        Layer("stem", Conv(weights(4, 3, 3, 3), padding=(1, 1)), (0,), make((4, 9, 8))),
        Layer("branch", Conv(weights(6, 2, 3, 3), (2, 1), (1, 2), (1, 2), groups=2), (1,), make((6, 5, 8))),
        Layer("shortcut", Conv(weights(6, 4, 1, 1), stride=(2, 1)), (1,), make((6, 5, 8))),
        Layer("sum", Add(), (2, 3)),
        Layer("more", Conv(weights(6, 6, 3, 3), padding=(1, 1)), (4,), make((6, 5, 8))),
        Layer("sums", Add(), (5, 4, 2)),
        Layer("pool", SumPool((2, 3), (1, 2)), (6,)),
        Layer("flat", Flatten(), (7,)),
        Layer("hidden", Dense(weights(300, 72)), (8,), make((300,))),
        Layer("classes", Dense(weights(5, 300)), (9,), ReadOut(RNG.integers(-99, 99, 5).astype(np.int32))),
    )
    return Network(layers, steps, seed)


def pixels(network: Network, count: int) -> np.ndarray:
    return RNG.integers(0, 256, (count, *network.layers[0].operation.shape)).astype(np.uint8)


def same(one: Result, other: Result) -> None:
    assert np.array_equal(one.sums, other.sums)
    assert np.array_equal(one.predictions, other.predictions)
    assert dict(one.spikes) == dict(other.spikes)
    assert one.saturations == other.saturations
    assert one.traces.keys() == other.traces.keys()
    for name, trace in one.traces.items():
        assert np.array_equal(trace.output, other.traces[name].output), name
        if trace.membrane is not None:
            assert np.array_equal(trace.membrane, other.traces[name].membrane), name


@pytest.mark.parametrize("neuron", NEURONS)
def test_every_layer_of_every_neuron_equals_the_reference(neuron: str) -> None:
    network = residual(NEURONS[neuron])
    images, probes = pixels(network, 5), [layer.name for layer in network.layers]
    wanted = reference.run(network, images, first_image=3, probes=probes)
    assert min(wanted.spikes.values()) > 0
    assert wanted.saturations > 0 or "saturating" not in neuron
    same(onnx_run.run(network, images, first_image=3, probes=probes, batch=2), wanted)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(cases(), st.integers(0, 2**64 - 1), st.integers(0, 2**40), st.integers(1, 5))
def test_random_networks_equal_the_reference(case: Case, seed: int, first: int, batch: int) -> None:
    network, images = case
    names = [layer.name for layer in network.layers]
    wanted = reference.run(network, images, seed=seed, first_image=first, probes=names)
    same(onnx_run.run(network, images, seed=seed, first_image=first, probes=names, batch=batch, threads=1), wanted)


@pytest.mark.parametrize(
    "operation", [Input((2, 5, 5), 16), Input((2, 5, 5), 8, signed=True), Input((2, 5, 5), 15, True)]
)
def test_wide_and_signed_inputs_go_byte_by_byte(operation: Input) -> None:
    low = -(2 ** (operation.bits - 1)) if operation.signed else 0
    high = 2 ** (operation.bits - operation.signed)
    images = RNG.integers(low, high, (3, *operation.shape)).astype(np.int32)
    layers = (
        Layer("input", operation),
        Layer("pool", SumPool((2, 2), (1, 1)), (0,)),
        Layer("pad", Conv(weights(3, 2, 3, 3), padding=(2, 2)), (1,), Lif(**lif((3,), 2**21), f=0)),
        Layer("classes", Dense(weights(4, 108)), (2,), ReadOut(np.zeros(4, np.int32))),
    )
    network = Network(layers, 3)
    probes = [layer.name for layer in layers]
    same(onnx_run.run(network, images, probes=probes), reference.run(network, images, probes=probes))


def test_file_needs_nothing_but_images(tmp_path: Path) -> None:
    """A plain onnxruntime session, the file's own seed, and every batch numbered by its first image."""
    network = residual(NEURONS["random cores of 300"])
    images = pixels(network, 6)
    onnx_integer.write(tmp_path / "net.onnx", network)
    wanted = reference.run(network, images)
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    for first, count in ((0, 1), (1, 2), (3, 3)):
        feeds = {"images": images[first : first + count], "first_image": np.array(first)}
        prediction, sums = session.run(["prediction", "sums"], feeds)
        assert np.array_equal(sums, wanted.sums[first : first + count])
        assert np.array_equal(prediction, wanted.predictions[first : first + count])
    same(onnx_run.run(tmp_path / "net.onnx", images, batch=4), wanted)
    other = onnx_run.run(tmp_path / "net.onnx", images, seed=5, first_image=2**35)
    same(other, reference.run(network, images, seed=5, first_image=2**35))
    assert not np.array_equal(other.sums, wanted.sums)


def test_without_a_seed_every_run_draws_anew(tmp_path: Path) -> None:
    network = residual(NEURONS["random"], seed=None)
    onnx_integer.write(tmp_path / "net.onnx", network)
    one, other = (onnx_run.run(tmp_path / "net.onnx", pixels(network, 3)) for _ in range(2))
    assert not np.array_equal(one.sums, other.sums)


def all_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from all_nodes(attribute.g)


@pytest.mark.parametrize("neuron", ["random", "random forward", "cuba"])
def test_standard_operators_and_integers_only(neuron: str) -> None:
    model = onnx_integer.model(residual(NEURONS[neuron]), ["stem"])
    onnx.checker.check_model(model, full_check=True)
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    assert {entry.domain for entry in model.opset_import} == {""}
    assert {node.domain for node in all_nodes(model.graph)} == {""}
    values = [*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output]
    kinds = {value.type.tensor_type.elem_type for value in values} | {
        part.data_type for part in model.graph.initializer
    }
    floats = {onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16}
    assert not kinds & floats
    casts = [node.attribute[0].i for node in all_nodes(model.graph) if node.op_type == "Cast"]
    assert not set(casts) & floats


def test_metadata_says_what_the_file_is() -> None:
    network = replace(residual(NEURONS["random"]), metadata={"source": "abc"}, classes=("a", "b", "c", "d", "e"))
    entries = onnx_meta.load_metadata(onnx_integer.model(network))
    assert entries["randhet.format"] == "1"
    assert entries["randhet.seed"] == "fixed in the file"
    assert entries["source.source"] == "abc"
    assert json.loads(entries["randhet.classes"]) == list(network.classes)
    stem = json.loads(entries["randhet.quantisation"])[0]
    assert (stem["layer"], stem["neuron"], stem["k"], stem["f"]) == ("stem", "RandomTau", 8, 6)
    changed = replace(network, steps=4)
    assert onnx_meta.digest(changed) != entries["randhet.network_sha256"] == onnx_meta.digest(network)


def test_large_tensors_go_to_a_second_file(tmp_path: Path) -> None:
    """The limit is lowered: the path is the one a model over 2 GB takes."""
    network = residual(NEURONS["random"])
    path = tmp_path / "net.onnx"
    onnx_meta.save(path, onnx_integer.model(network), external_limit=1000)
    assert {part.name for part in tmp_path.iterdir()} == {"net.onnx", "net.onnx.data"}
    assert path.stat().st_size < (tmp_path / "net.onnx.data").stat().st_size
    images = pixels(network, 2)
    same(onnx_run.run(path, images), reference.run(network, images))


def test_draw_rows_are_the_registers_draws() -> None:
    """256 draws from a state by table against the serial generator."""
    state = 0x9E3779B9
    parts = [draw_rows()[b][state >> 8 * b & 0xFF] for b in range(4)]
    words = np.bitwise_xor.reduce(parts)
    assert np.array_equal(np.concatenate([words & 0xFF, words >> 8]), generator.draws(state, 0, 256))


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**40))
def test_byte_tables_are_the_jump(state: int, distance: int) -> None:
    tables = byte_tables(np.array(generator.jump_matrix(distance), np.uint32))
    found = np.bitwise_xor.reduce([tables[b][state >> 8 * b & 0xFF] for b in range(4)])
    assert found == generator.jump(state, distance)


def test_bad_input_is_refused(tmp_path: Path) -> None:
    network = residual(NEURONS["random"])
    with pytest.raises(NetworkError, match="no layer is named nowhere"):
        onnx_integer.model(network, ["nowhere"])
    with pytest.raises(FileError, match="cannot read"):
        onnx_run.run(tmp_path / "missing.onnx", pixels(network, 1))
    (tmp_path / "damaged.onnx").write_bytes(b"\x08nonsense")
    with pytest.raises(FileError, match="is not an ONNX file"):
        onnx_run.run(tmp_path / "damaged.onnx", pixels(network, 1))
    foreign = onnx.helper.make_model(onnx.helper.make_graph([], "empty", [], []))
    onnx.save(foreign, tmp_path / "foreign.onnx")
    with pytest.raises(FileError, match="not an integer network"):
        onnx_run.run(tmp_path / "foreign.onnx", pixels(network, 1))
    onnx_integer.write(tmp_path / "net.onnx", network)
    with pytest.raises(NetworkError, match="no trace of stem"):
        onnx_run.run(tmp_path / "net.onnx", pixels(network, 1), probes=["stem"])
    with pytest.raises(NetworkError, match="images are"):
        onnx_run.run(tmp_path / "net.onnx", np.zeros((1, 3, 4, 4), np.uint8))
    with pytest.raises(FileError, match="cannot write"):
        onnx_integer.write(tmp_path / "net.onnx" / "below", network)
