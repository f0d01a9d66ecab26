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
from randhet.export.onnx import graph as onnx_graph
from randhet.export.onnx import integer_graph as onnx_integer
from randhet.export.onnx import meta as onnx_meta
from randhet.export.onnx import registers
from randhet.export.onnx import run as onnx_run
from randhet.export.onnx.registers import byte_tables, draw_rows
from randhet.fixed_point import generator, reference
from randhet.fixed_point.network import (
    Add,
    Constant,
    Conv,
    Cuba,
    Dense,
    Drawn,
    Flatten,
    Input,
    Layer,
    Lif,
    Network,
    Neuron,
    PerNeuron,
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
    "random": lambda shape: Lif(**lif(shape), decay=Drawn()),
    "random cores of 300": lambda shape: Lif(**lif(shape), decay=Drawn(neurons_per_core=300)),
    "random cores of 7": lambda shape: Lif(**lif(shape), decay=Drawn(neurons_per_core=7)),
    "random k=12": lambda shape: Lif(**lif(shape), decay=Drawn(generator.tau_table(12, 1.5)), k=12),
    "random k=3 f=0": lambda shape: Lif(**lif(shape, 40, 30), decay=Drawn(generator.tau_table(3)), k=3, f=0),
    "random forward": lambda shape: Lif(**lif(shape), decay=Drawn(sampling="forward", neurons_per_core=256)),
    "random subtract": lambda shape: Lif(**lif(shape, 1500), decay=Drawn(), reset="subtract"),
    "vanilla": lambda shape: Lif(**lif(shape)),
    "vanilla subtract": lambda shape: Lif(**lif(shape, 1500), reset="subtract"),
    "het": lambda shape: Lif(**lif(shape), decay=PerNeuron(RNG.integers(0, 256, shape).astype(np.int32))),
    "het subtract": lambda shape: Lif(
        **lif(shape, 1500), decay=PerNeuron(RNG.integers(0, 256, shape)), reset="subtract"
    ),
    "cuba": lambda shape: Cuba(**lif(shape, 20000), current_decay=900, voltage_decay=300, f=5),
    "saturating": lambda shape: Lif(**lif(shape, 2**19, 2**18), decay=Constant(200), f=14),
    "saturating subtract": lambda shape: Lif(**lif(shape, 2**19, 2**18), decay=Constant(200), f=14, reset="subtract"),
    "saturating random": lambda shape: Lif(**lif(shape, 2**19, 2**18), decay=Drawn(), f=16),
    "slow cuba": lambda shape: Cuba(**lif(shape, 2**14, 2**12), current_decay=-1, voltage_decay=0, f=5),
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
    return RNG.integers(0, 256, (count, *network.input.shape)).astype(np.uint8)


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
@given(cases(), st.integers(0, 2**64 - 1), st.integers(0, 2**62 - 5), st.integers(1, 5))
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


SIGNED = [Input((2, 4, 4), 4, True), Input((2, 4, 4), 8, True), Input((2, 4, 4), 13, True), Input((2, 4, 4), 24, True)]


@pytest.mark.parametrize("operation", SIGNED, ids=lambda it: f"{it.bits} bits")
def test_sums_and_pools_of_signed_values_keep_their_sign(operation: Input) -> None:
    """The lowest and the highest input through a sum of sums and a pool, into weights and out as it is."""
    top = 2 ** (operation.bits - 1)
    images = np.array([np.full((2, 4, 4), value, np.int32) for value in (-top, top - 1, -1)])
    first = (
        Layer("input", operation),
        Layer("sum", Add(), (0, 0, 0)),
        Layer("pool", SumPool((2, 1), (2, 1)), (1,)),
    )
    plane = Layer("plane", SumPool((2, 4), (1, 1)), (2,))
    read = Layer("read", Dense(np.full((1, 16), -1, np.int8)), (2,), ReadOut(np.zeros(1, np.int32)))
    for end, factor in (((), 6), ((plane,), 48), ((read,), -96)):
        found = onnx_run.run(Network((*first, *end), 1), images)
        assert np.array_equal(found.sums[:, 0], factor * images[:, 0, 0, 0])


def test_values_of_31_bits_enter_a_layer_with_weights() -> None:
    """64 sums of a 24 bit input reach 2^30: four bytes, of which int32 cannot shift the highest."""
    images = np.array([[[[2**23 - 1]]], [[[-(2**23)]]], [[[12345]]]], np.int32)
    layers = (
        Layer("input", Input((1, 1, 1), 24, True)),
        Layer("eight", Add(), (0,) * 8),
        Layer("sixty-four", Add(), (1,) * 8),
        Layer("read", Dense(np.array([[1], [-1]], np.int8)), (2,), ReadOut(np.zeros(2, np.int32))),
    )
    expected = 64 * images.reshape(3, 1).astype(np.int64) * np.array([1, -1])
    assert np.array_equal(onnx_run.run(Network(layers, 1), images).sums, expected)


def test_sums_over_the_steps_beyond_32_bits() -> None:
    """Without a read-out the last layer's values add up over T, each of them below 2^31."""
    layers = (Layer("input", Input((1, 1, 2), 24)), Layer("sum", Add(), (0,) * 16))
    images = np.array([[[[2**24 - 1, 3]]], [[[0, 2**24 - 1]]]], np.int32)
    result = onnx_run.run(Network(layers, 200), images)
    assert np.array_equal(result.sums, images.reshape(2, 2).astype(np.int64) * 16 * 200)
    assert result.predictions.tolist() == [0, 1]


def test_a_current_of_cuba_wraps() -> None:
    """255 * 127 << 9 is 196,096 below 2^24, which folds away."""
    layers = (
        Layer("input", Input((1,))),
        Layer("cuba", Dense(np.array([[127], [-127]], np.int8)), (0,), Cuba(*[np.array([9, 9], np.int32)] * 2, f=9)),
    )
    trace = onnx_run.run(Network(layers, 1), np.array([[255]], np.uint8), probes=["cuba"]).traces["cuba"]
    assert trace.membrane.tolist() == [[[9 - 196_096, 9 + 196_096]]] and trace.output.tolist() == [[[0, 1]]]


@pytest.mark.parametrize("neuron", ["random cores of 7", "random forward"])
def test_image_numbers_to_their_end(neuron: str) -> None:
    """The last images that there are, 2^62 - 3 to 2^62 - 1, and what lies beyond."""
    network, last = residual(NEURONS[neuron]), 2**62 - 3
    images = pixels(network, 3)
    same(onnx_run.run(network, images, first_image=last, batch=2), reference.run(network, images, first_image=last))
    for number in (last + 1, -1):
        with pytest.raises(NetworkError, match=f"first_image is {number}, images have numbers 0 to {2**62 - 1}"):
            onnx_run.run(network, images, first_image=number)


def test_more_draws_per_image_than_31_bits() -> None:
    """65,536 steps of a core of 2^20 neurons: image numbers times 2^36 draws, modulo the register's period."""
    number, draws = 2**62 - 1, 2**36
    scope = onnx_graph.Scope()
    scope.input("number", np.int64, [])
    scope.output(registers.times(scope, "number", np.array([draws, 1, 2**40 - 1])), np.int64, [3])
    session = onnx_run.session(scope.model("times", {}))
    (found,) = session.run(None, {"number": np.array(number)})
    assert found.tolist() == [number * factor % generator.PERIOD for factor in (draws, 1, 2**40 - 1)]


def test_every_node_has_a_name_of_its_own() -> None:
    nodes = list(all_nodes(onnx_integer.model(residual(NEURONS["random"])).graph))
    names = [node.name for node in nodes]
    assert all(names) and len(set(names)) == len(names) > 100


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
    assert entries["randhet.format"] == "2"
    assert entries["randhet.seed"] == "fixed in the file"
    assert entries["source.source"] == "abc"
    assert json.loads(entries["randhet.classes"]) == list(network.classes)
    stem = json.loads(entries["randhet.quantisation"])[0]
    assert (stem["layer"], stem["neuron"], stem["k"], stem["f"], stem["reset"]) == ("stem", "RHLIF", 8, 6, "zero")
    assert (stem["decay"], stem["sampling"], stem["sigma"]) == ("drawn", "step", 1.0)
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
