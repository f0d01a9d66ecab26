"""Primitives of NIR by hand: read-outs, factors, thresholds, one dimension, nested and recurrent graphs, sequences.

Decays are 1/2 and weights lie on the 8 bit grid, so that the integers are exact multiples of the float values.
"""

# ruff: noqa: E402  (what needs NIR is imported after it is known to be there)
from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

nir = pytest.importorskip("nir")
pytest.importorskip("onnxruntime")

from randhet.export import inputs
from randhet.export.graph import (
    Encoding,
    ExportError,
    FloatConv,
    FloatDense,
    FloatGraph,
    FloatInput,
    FloatMaxPool,
    FloatNeuron,
    FloatNode,
    FloatOperation,
    TimeMean,
    TimeRead,
)
from randhet.export.nir import network as nir_network
from randhet.export.nir import read as nir_read
from randhet.export.nir import write as nir_write
from randhet.export.nir.foreign import ReadOutOf
from randhet.export.nir.steps import TOOLS, Discretisation
from randhet.export.onnx import float_graph, run
from randhet.export.passes.quantise import QuantSettings
from randhet.fixed_point import reference
from randhet.fixed_point.diagnosis.difference import differences
from randhet.fixed_point.network import Input, Network

EULER = Discretisation(1e-4)
HALF = 2e-4
"""A time constant that keeps half of a potential in a step."""
RNG = np.random.default_rng(3)
START = RNG.bit_generator.state


@pytest.fixture(autouse=True)
def the_same_numbers_in_any_order_of_tests() -> None:
    RNG.bit_generator.state = START


EXACT = QuantSettings(k=12, f=8)
STEPS = 5


def on_grid(*shape: int) -> np.ndarray:
    """Weights -127..127 quarters, the largest of each output reached, so that its scale is a quarter."""
    weight = RNG.integers(-127, 128, shape) / 4
    weight.reshape(len(weight), -1)[:, 0] = 127 / 4
    return weight


def graph(*nodes: object, shape: tuple[int, ...] = (4,)) -> object:
    named = {"input": nir.Input({"input": np.array(shape)})} | {f"n{i}": node for i, node in enumerate(nodes)}
    named["output"] = nir.Output({"output": np.array([1])})
    names = list(named)
    return nir.NIRGraph(named, list(zip(names, names[1:])), type_check=False)  # noqa: RUF007


def params(count: int, **given: float) -> dict[str, np.ndarray]:
    return {name: np.full(count, value) for name, value in given.items()}


def lif(count: int, threshold: float = 40.0) -> object:
    return nir.LIF(**params(count, tau=HALF, r=1, v_leak=0, v_threshold=threshold, v_reset=0))


def made(
    source: object, images: np.ndarray, read_out: ReadOutOf | None = None, time: Discretisation = EULER
) -> tuple[FloatGraph, Network]:
    """The float graph and the network; floats in onnxruntime give the network's prediction where sums differ."""
    found = nir_read.from_nir(source, time, STEPS, scale=1.0, read_out=read_out)
    network, calibration = nir_network.network(found, images, EXACT)
    assert calibration.saturations == 0
    return found, network


def floats(found: FloatGraph, images: np.ndarray) -> np.ndarray:
    """Logits of the float graph in onnxruntime."""
    (logits,) = run.session(float_graph.inference(found)).run(["logits"], {"images": images.astype(np.float32) / 255})
    return np.asarray(logits)


def of_integers(network: Network, images: np.ndarray) -> np.ndarray:
    """What is read of the network, in float units."""
    last = network.layers[-1]
    assert last.scale is not None and last.neuron is not None
    return reference.run(network, images).sums * last.scale * 2.0**-last.neuron.f


# --- read-outs --------------------------------------------------------------------------------------------------------

READ_OUTS = {
    "LI": lambda: nir.LI(**params(3, tau=HALF, r=2, v_leak=0.5)),
    "CubaLI": lambda: nir.CubaLI(**params(3, tau_syn=HALF, tau_mem=HALF, r=1, v_leak=0, w_in=4)),
    "I": lambda: nir.I(np.full(3, 2e4)),
}


def potentials(kind: str, x: np.ndarray) -> np.ndarray:
    """(T, N, 3) from NIR's equations by Euler, dt = 1e-4."""
    v, i, seen = np.zeros_like(x), np.zeros_like(x), []
    for _ in range(STEPS):
        i = 0.5 * i + 0.5 * 4 * x
        v = {"LI": 0.5 * v + 0.5 * (2 * x + 0.5), "CubaLI": 0.5 * v + 0.5 * i, "I": v + 2 * x}[kind]
        seen.append(v)
    return np.stack(seen)


@pytest.mark.parametrize("read_out", ["last", "max", "mean"])
@pytest.mark.parametrize("kind", READ_OUTS)
def test_a_leaky_read_out_gives_the_value_that_is_asked_for(kind: str, read_out: ReadOutOf) -> None:
    weight, images = on_grid(3, 4), RNG.integers(0, 8, (5, 4), dtype=np.uint8)
    found, network = made(graph(nir.Linear(weight), READ_OUTS[kind]()), images, read_out)
    seen = potentials(kind, images @ weight.T)
    wanted = {"last": seen[-1], "max": seen.max(0), "mean": seen.mean(0)}[read_out]
    assert np.array_equal(of_integers(network, images) / (STEPS if read_out == "mean" else 1), wanted)
    np.testing.assert_allclose(floats(found, images), wanted, rtol=1e-5)


def test_which_value_is_read_must_be_said_where_there_is_a_choice() -> None:
    leaky = graph(nir.Linear(on_grid(3, 4)), READ_OUTS["LI"]())
    with pytest.raises(ExportError, match=r"output \(Output\): n1 is a leaky read-out, .*: give --read-out last, max"):
        nir_read.from_nir(leaky, EULER, 2)
    spiking = graph(nir.Linear(on_grid(3, 4)), lif(3))
    with pytest.raises(ExportError, match=r"n1, which is no leaky read-out \(LI, CubaLI, I\): leave out --read-out"):
        nir_read.from_nir(spiking, EULER, 2, read_out="last")
    hidden = graph(nir.Linear(on_grid(3, 4)), READ_OUTS["LI"](), nir.Linear(on_grid(2, 3)))
    with pytest.raises(ExportError, match=r"n1 \(LI\): sends its membrane potential to n2: .* must be the last node"):
        nir_read.from_nir(hidden, EULER, 2, read_out="last")
    with pytest.raises(ExportError, match=r"n1 \(LI\): starts at v_leak = 0.5 in Norse 1.1"):
        nir_read.from_nir(leaky, TOOLS["norse"], 2, read_out="last")


# --- thresholds and factors -------------------------------------------------------------------------------------------


def test_a_threshold_spikes_where_its_input_is_above() -> None:
    weight, images = on_grid(6, 4), RNG.integers(0, 8, (40, 4), dtype=np.uint8)
    sums = images @ weight.T
    level = float(np.median(sums[sums > 0]))
    images = np.concatenate([images, images[(sums == level).any(1)]])
    _, network = made(graph(nir.Linear(weight), nir.Threshold(np.full(6, level))), images)
    assert np.array_equal(reference.run(network, images).sums, STEPS * (images @ weight.T > level))
    with pytest.raises(ExportError, match=r"n1 \(Threshold\): threshold is -1, it must be positive"):
        made(graph(nir.Linear(weight), nir.Threshold(np.full(6, -1.0))), images)


def test_factors_go_into_the_weights_beside_them() -> None:
    """Before a matrix, behind it, two in a row, through a flattening, before a convolution."""
    weight, factors = on_grid(3, 4), np.array([1, 2, 3, 4.0])
    rows = np.array([2, 3, 5.0])
    found = nir_read.from_nir(
        graph(nir.Scale(factors), nir.Scale(factors), nir.Linear(weight), nir.Scale(rows)), EULER, 2
    )
    (dense,) = (node.operation for node in found.nodes if isinstance(node.operation, FloatDense))
    assert np.allclose(dense.weight, rows[:, None] * weight * factors**2)
    planes = np.arange(8.0).reshape(2, 2, 2)
    flat = graph(nir.Scale(planes), nir.Flatten({"input": None}, 0), nir.Linear(on_grid(3, 8)), shape=(2, 2, 2))
    (dense,) = (
        node.operation for node in nir_read.from_nir(flat, EULER, 2).nodes if isinstance(node.operation, FloatDense)
    )
    assert np.allclose(dense.weight, flat.nodes["n2"].weight * planes.ravel())
    channels = np.broadcast_to(np.array([3.0, 7.0])[:, None, None], (2, 2, 2))
    conv = nir.Conv2d((2, 2), on_grid(4, 1, 2, 2), 1, 0, 1, 2, np.ones(4))
    (read,) = (
        node.operation
        for node in nir_read.from_nir(graph(nir.Scale(channels), conv, shape=(2, 2, 2)), EULER, 2).nodes
        if isinstance(node.operation, FloatConv)
    )
    assert np.allclose(read.weight, conv.weight * np.array([3, 3, 7, 7.0])[:, None, None, None])
    assert np.array_equal(read.bias, np.ones(4))


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        (lambda: (nir.Linear(on_grid(3, 4)), lif(3), nir.Scale(np.ones(3))), "only a layer with weights can take"),
        (lambda: (nir.Scale(np.arange(3.0)), nir.Linear(on_grid(3, 4))), r"scale has shape \(3,\), the layer has"),
        (lambda: (nir.Delay(np.full(4, 2e-4)), nir.Linear(on_grid(3, 4))), "delays by 0.0002, .* only a delay of 0"),
    ],
)
def test_factors_and_delays_without_a_counterpart_are_refused(nodes: object, message: str) -> None:
    with pytest.raises(ExportError, match=message):
        nir_read.from_nir(graph(*nodes()), EULER, 2)  # type: ignore[operator]


def test_a_delay_of_nothing_is_nothing() -> None:
    plain = graph(nir.Linear(on_grid(3, 4)), lif(3))
    delayed = graph(plain.nodes["n0"], nir.Delay(np.zeros(3)), plain.nodes["n1"])
    images = RNG.integers(0, 9, (6, 4), dtype=np.uint8)
    one, other = (reference.run(made(source, images)[1], images) for source in (plain, delayed))
    assert np.array_equal(one.sums, other.sums) and one.sums.any()


# --- shapes -----------------------------------------------------------------------------------------------------------


def test_a_one_dimensional_convolution_has_one_row() -> None:
    """(channel, x): stride 2, dilation 2, padding 1, groups 2, against the sum by hand."""
    weight, bias = on_grid(4, 1, 3), np.array([1, -2, 3, 0.5])
    conv = nir.Conv1d(9, weight, 2, 1, 2, 2, bias)
    level = nir.Threshold(np.full((4, 4), 20.0))
    flat = nir.Flatten({"input": None}, 0)
    images = RNG.integers(0, 8, (7, 2, 9), dtype=np.uint8)
    found = nir_read.from_nir(graph(conv, level, flat, shape=(1, 2, 9)), EULER, STEPS, scale=1.0)
    pixels = inputs.fitted(found, images)
    network, _ = nir_network.network(found, pixels, EXACT)
    assert inputs.for_images(network, (2, 9)).input.shape == network.input.shape == (2, 1, 9)
    padded = np.pad(images.astype(float), ((0, 0), (0, 0), (1, 1)))
    sums = np.zeros((7, 4, 4))
    for n, o, x in np.ndindex(sums.shape):
        sums[n, o, x] = bias[o] + sum(weight[o, 0, j] * padded[n, o // 2, 2 * x + 2 * j] for j in range(3))
    assert np.array_equal(reference.run(network, pixels).sums, STEPS * (sums > 20).reshape(7, 16))


def test_a_pool_may_stand_between_a_convolution_and_its_neuron() -> None:
    """v <- (v + mean of 2x2)/2 by hand; R, v_leak and unequal thresholds pass through the mean."""
    conv = nir.Conv2d((4, 4), on_grid(2, 1, 3, 3), 1, 0, 1, 1, np.zeros(2))
    pool = nir.AvgPool2d(*(np.array(pair) for pair in ((2, 2), (2, 2), (0, 0))))
    shape = (2, 1, 1)
    cell = nir.LIF(*(np.full(shape, value) for value in (HALF, 2.0, 4.0, 30.0, 0.0)))
    whole = graph(conv, pool, cell, nir.Flatten({"input": None}, 0), shape=(1, 4, 4))
    images = RNG.integers(0, 8, (6, 1, 4, 4), dtype=np.uint8)
    found, network = made(whole, images)
    sums = np.zeros((6, 2))
    for n, o in np.ndindex(6, 2):
        windows = [images[n, 0, y : y + 3, x : x + 3] for y in (0, 1) for x in (0, 1)]
        sums[n, o] = np.mean([(window * conv.weight[o, 0]).sum() for window in windows])
    v, seen = np.zeros((6, 2)), []
    for _ in range(STEPS):
        v = 0.5 * v + 0.5 * (2 * sums + 4)
        seen.append(v > 30)
        v = np.where(seen[-1], 0, v)
    assert 0.1 < np.mean(seen) < 0.9
    assert np.array_equal(reference.run(network, images).sums, np.sum(seen, 0))
    assert np.allclose(floats(found, images), np.mean(seen, 0))


@pytest.mark.parametrize("shape", [(4,), (1, 4), (8, 4)])
def test_a_batch_axis_of_the_input_is_none_of_the_image(shape: tuple[int, ...]) -> None:
    found = nir_read.from_nir(graph(nir.Linear(on_grid(3, 4)), lif(3), shape=shape), EULER, 2)
    assert found.nodes[0].operation.shape == (4,)  # type: ignore[union-attr]


def test_a_reset_potential_that_is_missing_is_0(tmp_path: Path) -> None:
    whole = graph(nir.Linear(on_grid(3, 4)), lif(3))
    nir.write(tmp_path / "a.nir", whole)
    with h5py.File(tmp_path / "a.nir", "a") as file:
        del file["node/nodes/n1/v_reset"]
    again, wanted = nir_read.read(tmp_path / "a.nir", EULER, 3), nir_read.from_nir(whole, EULER, 3)
    assert list(differences(again, wanted)) == []


# --- nested and recurrent graphs --------------------------------------------------------------------------------------


def recurrent_inside(weight: np.ndarray, bias: np.ndarray) -> object:
    """A nested graph of a neuron that reads its own spikes, as snnTorch writes one."""
    count = np.array([len(bias)])
    nodes = {"input": nir.Input({"input": count}), "lif": lif(len(bias)), "w_rec": nir.Affine(weight, bias)}
    nodes["output"] = nir.Output({"output": count})
    edges = [("input", "lif"), ("lif", "w_rec"), ("w_rec", "lif"), ("lif", "output")]
    return nir.NIRGraph(nodes, edges, type_check=False)


def test_a_neuron_reads_its_own_spikes_of_the_step_before(tmp_path: Path) -> None:
    forward, back, bias = on_grid(6, 4), on_grid(6, 6), np.array([0.25, -3, 1, 0, 2, -1.5])
    whole = graph(nir.Linear(forward), recurrent_inside(back, bias))
    nir.write(tmp_path / "a.nir", whole)
    images = RNG.integers(0, 8, (6, 4), dtype=np.uint8)
    found = nir_read.read(tmp_path / "a.nir", EULER, STEPS, scale=1.0)
    network, calibration = nir_network.network(found, images, EXACT)
    v, spikes, seen = np.zeros((6, 6)), np.zeros((6, 6)), []
    for _ in range(STEPS):
        v = 0.5 * v + 0.5 * (images @ forward.T + spikes @ back.T + bias)
        spikes = (v > 40).astype(float)
        v = np.where(spikes > 0, 0, v)
        seen.append(spikes)
    assert 0.1 < np.mean(seen) < 0.9 and np.ptp(seen, axis=0).any()
    result = reference.run(network, images, probes=["n1.lif"])
    assert np.array_equal(result.traces["n1.lif"].output, np.stack(seen, 1))
    assert np.allclose(floats(found, images), np.mean(seen, 0))
    largest = np.abs(images @ forward.T + np.stack(seen)[:-1] @ back.T + bias).max()
    (seen_range,) = calibration.layers
    assert seen_range.current * network.layers[1].scale.max() * 2.0**-seen_range.f >= largest  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda it: it.edges.append(("n1", "n1")), "recurrent connections are not supported, but for a matrix"),
        (lambda it: it.nodes.update(n1=nir.NIRGraph({}, [], type_check=False)), "has 0 nodes of type Input"),
        (lambda it: it.nodes.update(n1=recurrent_inside(on_grid(2, 2), np.ones(2))), "recurrent weights of shape"),
    ],
)
def test_other_cycles_and_graphs_are_refused(change: object, message: str) -> None:
    whole = graph(nir.Linear(on_grid(3, 4)), lif(3))
    change(whole)  # type: ignore[operator]
    with pytest.raises(ExportError, match=message):
        nir_read.from_nir(whole, EULER, 2)


def test_a_convolution_that_reads_its_own_spikes_is_refused() -> None:
    conv = nir.Conv2d((1, 2), on_grid(2, 1, 1, 1), 1, 0, 1, 1, np.zeros(2))
    whole = graph(conv, lif(4), shape=(1, 1, 2))
    whole.nodes["back"] = nir.Linear(on_grid(4, 4))
    whole.edges += [("n1", "back"), ("back", "n1")]
    with pytest.raises(ExportError, match="reads its own spikes, which is possible behind a dense layer only"):
        nir_read.from_nir(whole, EULER, 2)


def test_graphs_in_graphs_are_opened_to_a_depth() -> None:
    inner = graph(nir.Linear(on_grid(3, 4)), lif(3))
    found = nir_read.from_nir(graph(inner), EULER, 2)
    assert [node.name for node in found.nodes] == ["input", "encode", "n0.n0", "n0.n1", "output.mean"]
    assert np.array_equal(found.nodes[2].operation.weight, inner.nodes["n0"].weight)  # type: ignore[union-attr]
    whole = inner
    for _ in range(17):
        whole = graph(whole)
    with pytest.raises(ExportError, match="nested more than 16 deep"):
        nir_read.from_nir(whole, EULER, 2)


# --- resets and sequences ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reset", ["zero", "subtract"])
def test_a_late_reset_with_a_floor(reset: str) -> None:
    """By hand: the spike of a step acts at the next, after the decay; then v is raised to the floor of -8."""
    weight, images = on_grid(6, 4), RNG.integers(0, 8, (6, 4), dtype=np.uint8)
    time = replace(EULER, reset=reset, reset_delay=1, floor=-8.0)
    found, network = made(graph(nir.Linear(weight), lif(6)), images, time=time)
    v, seen = np.zeros((6, 6)), []
    for _ in range(STEPS):
        fired, v = v > 40, 0.5 * v + 0.5 * (images @ weight.T)
        v = np.maximum(np.where(fired, 0 if reset == "zero" else v - 40, v), -8)
        seen.append(v > 40)
    assert (v == -8).any() and 0.1 < np.mean(seen) < 0.9
    assert np.array_equal(reference.run(network, images).sums, np.sum(seen, 0))
    assert np.allclose(floats(found, images), np.mean(seen, 0))


def test_floors_that_are_none_are_refused() -> None:
    for floor in (1.0, float("nan")):
        with pytest.raises(ExportError, match="the lowest membrane potential is .*, it must be a number of at most 0"):
            replace(EULER, floor=floor)
    with pytest.raises(ExportError, match="Norse 1.1 has no neurons with reset zero one step late"):
        replace(TOOLS["norse"], reset_delay=1)
    neuron = nir.IF(np.full(3, 1e4), np.full(3, 9.0))
    with pytest.raises(ExportError, match="is not allowed below -2, its integer neuron, Cuba, has no lowest value"):
        nir_read.from_nir(graph(nir.Linear(on_grid(3, 4)), neuron), replace(EULER, floor=-2.0), 2)


def test_a_sequence_has_a_frame_for_each_step() -> None:
    weight, frames = on_grid(6, 4), RNG.integers(0, 8, (6, STEPS, 4), dtype=np.uint8)
    found = nir_read.from_nir(graph(nir.Linear(weight), lif(6)), EULER, STEPS, scale=1.0, sequence=True)
    network, _ = nir_network.network(found, inputs.fitted(found, frames), EXACT)
    v, seen = np.zeros((6, 6)), []
    for t in range(STEPS):
        v = 0.5 * v + 0.5 * (frames[:, t] @ weight.T)
        seen.append(v > 40)
        v = np.where(seen[-1], 0, v)
    assert isinstance(network.layers[0].operation, Input) and network.input.sequence
    assert np.array_equal(reference.run(network, frames).sums, np.sum(seen, 0))
    assert np.allclose(floats(found, frames), np.mean(seen, 0))
    with pytest.raises(ExportError, match="the graph takes recordings of 5 frames"):
        inputs.fitted(found, frames[:, :3])


# --- writing ----------------------------------------------------------------------------------------------------------


def chain(*operations: FloatOperation, sequence: bool = False) -> FloatGraph:
    parts = (FloatInput((4,), sequence), Encoding(3, sequence), *operations)
    names = [f"p{i}" for i in range(len(parts))]
    return FloatGraph(tuple(FloatNode(n, p, tuple(names[i - 1 : i])) for i, (n, p) in enumerate(zip(names, parts))))


def dense(recurrent: bool = False, bias: float = 1.0) -> FloatDense:
    return FloatDense(
        RNG.normal(size=(3, 4)), bias * RNG.normal(size=3), RNG.normal(size=(3, 3)) if recurrent else None
    )


LEAKY = FloatNeuron("vanilla", 1.0, decay=np.array(0.6), read="sum")
WRITTEN = {
    "LI": lambda: chain(dense(), LEAKY, TimeRead("last")),
    "I": lambda: chain(dense(), replace(LEAKY, kind="integrate", decay=np.array(1.0), drive=0.5), TimeRead("max")),
    "CubaLI": lambda: chain(dense(bias=0.0), replace(LEAKY, kind="cuba", synapse=0.25), TimeMean()),
    "driven LIF": lambda: chain(dense(), FloatNeuron("vanilla", 0.3, decay=np.array(0.6), drive=1.5), TimeMean()),
    "recurrent": lambda: chain(dense(True), FloatNeuron("vanilla", 0.3), TimeMean()),
    "sequence": lambda: chain(dense(), FloatNeuron("vanilla", 0.3), TimeMean(), sequence=True),
}


@pytest.mark.parametrize("kind", WRITTEN)
def test_what_is_written_is_read_as_ours_and_as_any_tools(kind: str, tmp_path: Path) -> None:
    whole = WRITTEN[kind]()
    nir_write.write(tmp_path / "a.nir", whole)
    assert list(differences(whole, nir_read.read(tmp_path / "a.nir", TOOLS["norse"], 99))) == []
    written = nir.read(tmp_path / "a.nir")
    written.metadata = {}
    read_out = {"LI": "last", "I": "max", "CubaLI": "mean"}.get(kind)
    plain = nir_read.from_nir(written, EULER, 3, read_out=read_out, sequence=kind == "sequence")
    images = RNG.random((5, 3, 4) if kind == "sequence" else (5, 4))
    np.testing.assert_allclose(floats(plain, 255 * images), floats(whole, 255 * images), rtol=1e-5, atol=1e-6)
    names = {type(node).__name__ for node in written.nodes.values()}
    assert kind in names or kind not in ("LI", "I", "CubaLI")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"reset_delay": 1}, "p3: NIR cannot represent a reset one step late"),
        ({"inclusive": True}, "p3: NIR cannot represent spikes at the threshold itself"),
        ({"floor": np.array(-1.0)}, "p3: NIR cannot represent a lowest membrane potential"),
        ({"reset": "subtract"}, "p3: NIR cannot represent reset 'subtract', only a reset to zero"),
    ],
)
def test_neurons_that_nir_cannot_represent_are_refused(changed: dict[str, object], message: str) -> None:
    cell = replace(FloatNeuron("vanilla", 0.3), **changed)  # type: ignore[arg-type]
    with pytest.raises(ExportError, match=message):
        nir_write.to_nir(chain(dense(), cell, TimeMean()))


def test_a_max_pool_is_refused() -> None:
    conv, pool = FloatConv(np.ones((1, 1, 1, 1)), np.zeros(1)), FloatMaxPool((2, 2), (2, 2))
    nodes = [
        FloatNode("in", FloatInput((1, 4, 4))),
        FloatNode("t", Encoding(2), ("in",)),
        FloatNode("c", conv, ("t",)),
        FloatNode("n", FloatNeuron("vanilla", 0.5), ("c",)),
        FloatNode("p", pool, ("n",)),
        FloatNode("m", TimeMean(), ("p",)),
    ]
    with pytest.raises(ExportError, match="p: NIR cannot represent FloatMaxPool"):
        nir_write.to_nir(FloatGraph(tuple(nodes)))
