"""NIR files: our own are restored exactly, foreign nodes one by one against closed forms, refusals all at once."""

# ruff: noqa: E402  (what needs NIR is imported after it is known to be there)
from __future__ import annotations

import json
from dataclasses import replace
from math import exp
from pathlib import Path

import h5py
import numpy as np
import pytest

nir = pytest.importorskip("nir")

from randhet.base.errors import FileError
from randhet.export.graph import (
    AveragePool,
    Encoding,
    ExportError,
    FloatAdd,
    FloatConv,
    FloatDense,
    FloatFlatten,
    FloatGraph,
    FloatInput,
    FloatNeuron,
    FloatNode,
    Normalisation,
    TimeMean,
)
from randhet.export.nir import network as nir_network
from randhet.export.nir import read as nir_read
from randhet.export.nir import write as nir_write
from randhet.export.nir.steps import TOOLS, Discretisation
from randhet.export.passes.quantise import QuantSettings
from randhet.fixed_point import reference
from randhet.fixed_point.diagnosis.difference import differences
from randhet.fixed_point.network import Constant, Cuba, Drawn, PerNeuron

EULER = Discretisation(1e-4)
RNG = np.random.default_rng(2)
NEURONS = {
    "vanilla": FloatNeuron("vanilla", 0.3, decay=np.array(0.6)),
    "het": FloatNeuron("het", 0.3, decay=RNG.random((4, 6, 6))),
    "random": FloatNeuron("randhet", 0.3, "step", 1.5),
    "random forward": FloatNeuron("randhet", 0.3, "forward", 0.7),
    "integrator": FloatNeuron("integrate", 0.3),
    "cuba": FloatNeuron("cuba", 0.3, decay=np.array(0.9), synapse=0.3),
}


def block(neuron: FloatNeuron) -> FloatGraph:
    """Normalisation, stem, residual block, pool, classifier."""
    conv = lambda inputs: FloatConv(RNG.normal(size=(4, inputs, 3, 3)) / 5, np.zeros(4), padding=(1, 1))
    nodes = (
        FloatNode("input", FloatInput((2, 6, 6))),
        FloatNode("normalise", Normalisation(np.array([0.4, 0.5]), np.array([0.2, 0.3])), ("input",)),
        FloatNode("stem", conv(2), ("normalise",)),
        FloatNode("encode", Encoding(3), ("stem",)),
        FloatNode("node1", neuron, ("encode",)),
        FloatNode("conv", conv(4), ("node1",)),
        FloatNode("node2", neuron, ("conv",)),
        FloatNode("add", FloatAdd(), ("node1", "node2")),
        FloatNode("pool", AveragePool(), ("add",)),
        FloatNode("flatten", FloatFlatten(), ("pool",)),
        FloatNode("fc", FloatDense(RNG.normal(size=(3, 4)), RNG.normal(size=3)), ("flatten",)),
        FloatNode("mean", TimeMean(), ("fc",)),
    )
    return FloatGraph(nodes)


@pytest.mark.parametrize("kind", NEURONS)
def test_our_own_file_is_restored_exactly(kind: str, tmp_path: Path) -> None:
    graph = block(NEURONS[kind])
    nir_write.write(tmp_path / "net.nir", graph)
    again = nir_read.read(tmp_path / "net.nir", TOOLS["norse"], steps=99)
    assert list(differences(graph, again)) == []


@pytest.mark.parametrize(
    ("kind", "wanted"), [("vanilla", Constant), ("het", PerNeuron), ("random", Drawn), ("cuba", Cuba)]
)
def test_restored_networks_run(kind: str, wanted: type) -> None:
    made = block(NEURONS[kind])
    if kind == "cuba":  # what a normalisation adds would pass through its synapse
        made = made.changed("normalise", Normalisation(np.zeros(2), np.array([0.2, 0.3])))
    graph = nir_read.from_nir(nir_write.to_nir(made), EULER, 1)
    images = RNG.integers(0, 256, (4, 2, 6, 6), dtype=np.uint8)
    network, calibration = nir_network.network(graph, images, seed=3)
    neurons = [layer.neuron for layer in network.layers if layer.spikes]
    assert {type(getattr(neuron, "decay", neuron)) for neuron in neurons} == {wanted}
    assert network.steps == 3
    assert calibration.saturations == 0
    assert reference.run(network, images).saturations == 0


def test_what_a_normalisation_adds_before_a_synapse_is_refused() -> None:
    with pytest.raises(ExportError, match="layer node1: the bias of its weights would pass through"):
        nir_network.network(block(NEURONS["cuba"]), RNG.integers(0, 256, (4, 2, 6, 6), dtype=np.uint8))


def test_random_taus_look_like_their_mean_to_others() -> None:
    """Euler with the file's dt: 1 - dt/tau = 1/2 = E[sigmoid(sigma n)], measured here on draws."""
    node = nir_write.to_nir(block(NEURONS["random"])).nodes["node1"]
    decay = 1 - 1e-4 / node.tau
    drawn = 1 / (1 + np.exp(-1.5 * np.random.default_rng(0).normal(size=200_000)))
    assert np.allclose(decay, 0.5)
    assert abs(drawn.mean() - 0.5) < 4 * drawn.std() / np.sqrt(drawn.size)
    assert node.tau.shape == (4, 6, 6)
    assert (node.v_threshold == 0.3).all()


def test_an_edited_file_is_read_as_it_stands() -> None:
    """The metadata speaks only while the nodes agree with it."""
    made = nir_write.to_nir(block(NEURONS["random"]))
    made.nodes["node1"].tau = made.nodes["node1"].tau * 2
    assert nir_read.restored(made) is None
    graph = nir_read.from_nir(made, EULER, 7)
    found = {node.name: node.operation for node in graph.nodes if isinstance(node.operation, FloatNeuron)}
    assert [(name, neuron.kind, float(neuron.decay)) for name, neuron in found.items()] == [
        ("node1", "vanilla", 0.75),
        ("node2", "vanilla", 0.5),
    ]
    (grey,) = node_of(graph, Normalisation)
    assert np.allclose(grey.mean, [0.4, 0.5])
    assert np.allclose(grey.std, [0.2, 0.3])
    network, _ = nir_network.network(graph, RNG.integers(0, 256, (2, 2, 6, 6), dtype=np.uint8))
    assert network.steps == 7
    assert network.layers[1].neuron.bias.shape == (4, 6, 6)  # zeros are padded after the image is normalised


def test_descriptions_of_format_1_are_restored(tmp_path: Path) -> None:
    """They call the decay tau and know no reset."""
    graph = block(NEURONS["het"])
    made = nir_write.to_nir(graph)
    description = json.loads(made.metadata["randhet"])
    for entry in description["nodes"]:
        if entry["type"] == "FloatNeuron":
            del entry["fields"]["reset"]
            entry["arrays"]["tau"] = entry["arrays"].pop("decay")
            notes = made.nodes[entry["name"]].metadata
            notes["tau"] = notes.pop("decay")
    made.metadata["randhet"] = json.dumps(description | {"format": 1})
    nir_write.save(tmp_path / "old.nir", made)
    assert list(differences(graph, nir_read.read(tmp_path / "old.nir", EULER, 1))) == []


# --- foreign nodes ----------------------------------------------------------------------------------------------------


def chain(*nodes: nir.NIRNode, shape: tuple[int, ...] = (4,)) -> nir.NIRGraph:
    named = {"input": nir.Input({"input": np.array(shape)})} | {f"n{i}": node for i, node in enumerate(nodes)}
    named["output"] = nir.Output({"output": np.array([1])})
    names = list(named)
    return nir.NIRGraph(named, [(a, b) for a, b in zip(names, names[1:])], type_check=False)  # noqa: RUF007


def lif(count: int = 3, **changed: float | np.ndarray) -> nir.LIF:
    values = {"tau": 4e-4, "r": 1.0, "v_leak": 0.0, "v_threshold": 1.0, "v_reset": 0.0} | changed
    return nir.LIF(**{key: np.broadcast_to(np.asarray(value, float), (count,)).copy() for key, value in values.items()})


def affine(out: int = 3, inputs: int = 4, bias: float = 0.0) -> nir.Affine:
    return nir.Affine(np.arange(out * inputs).reshape(out, inputs) - 3.0, np.full(out, bias))


def node_of(graph: FloatGraph, kind: type) -> list:
    return [node.operation for node in graph.nodes if isinstance(node.operation, kind)]


def test_resistance_leak_and_unequal_thresholds_go_into_the_weights() -> None:
    """x = (R (W s + b) + v_leak) / theta with threshold 1."""
    neuron = lif(r=np.array([2.0, 3.0, 4.0]), v_leak=0.5, v_threshold=np.array([1.0, 2.0, 5.0]))
    graph = nir_read.from_nir(chain(affine(bias=0.25), neuron), EULER, 2)
    (dense,), (found,) = node_of(graph, FloatDense), node_of(graph, FloatNeuron)
    gain = np.array([2.0, 1.5, 0.8])
    assert np.allclose(dense.weight, affine().weight * gain[:, None])
    assert np.allclose(dense.bias, (0.25 * np.array([2.0, 3.0, 4.0]) + 0.5) / np.array([1.0, 2.0, 5.0]))
    assert (found.kind, found.threshold, float(found.decay)) == ("vanilla", 1.0, 0.75)


@pytest.mark.parametrize(
    ("time", "decay", "drive"),
    [
        (Discretisation(1e-4), 0.75, 7.0),
        (Discretisation(2e-4), 0.5, 7.0),
        (Discretisation(1e-4, exponential=True), exp(-0.25), 7.0),
        (Discretisation(1e-4, exponential=True, unit_drive=True), exp(-0.25), 1 / (1 - exp(-0.25))),
    ],
)
def test_decay_and_drive_follow_the_discretisation(time: Discretisation, decay: float, drive: float) -> None:
    graph = nir_read.from_nir(chain(affine(), lif(r=7.0)), time, 2)
    (dense,), (found,) = node_of(graph, FloatDense), node_of(graph, FloatNeuron)
    assert float(found.decay) == pytest.approx(decay)
    assert np.allclose(dense.weight, affine().weight * drive)


def test_a_constant_input_settles_as_the_differential_equation_says() -> None:
    """The exponential rule is exact for a constant current: v(t) = R I (1 - exp(-t/tau)), whatever dt is."""
    for dt in (1e-4, 4e-5):
        time = Discretisation(dt, exponential=True)
        d = float(time.decay(np.array(4e-4)))
        v = 0.0
        for _ in range(round(8e-4 / dt)):
            v = d * v + (1 - d) * 3.0
        assert v == pytest.approx(3.0 * (1 - exp(-2)))


def test_different_time_constants_become_one_per_neuron() -> None:
    graph = nir_read.from_nir(chain(affine(), lif(tau=np.array([2e-4, 4e-4, 1e-3]))), EULER, 2)
    (found,) = node_of(graph, FloatNeuron)
    assert found.kind == "het"
    assert np.allclose(found.decay, [0.5, 0.75, 0.9])


def test_sum_pool_and_average_pool_differ_by_their_window() -> None:
    """An integer sum either way; the average's divisor, and not the sum's, ends in the weights."""
    conv = nir.Conv2d((6, 6), RNG.normal(size=(2, 1, 3, 3)), 1, "same", 1, 1, np.zeros(2))
    pool = [np.array(pair) for pair in ((2, 3), (2, 3), (0, 0))]
    dense = nir.Linear(RNG.normal(size=(3, 12)))
    images = RNG.integers(0, 256, (3, 1, 6, 6), dtype=np.uint8)
    shape = (2, 6, 6)
    neuron = nir.IF(np.full(shape, 1e4), np.full(shape, 0.5), np.zeros(shape))
    scales = []
    for kind in (nir.SumPool2d, nir.AvgPool2d):
        graph = nir_read.from_nir(
            chain(conv, neuron, kind(*pool), nir.Flatten({"input": None}, 0), dense, shape=(1, 6, 6)), EULER, 4
        )
        network, _ = nir_network.network(graph, images)
        scales.append(network.layers[-1].scale)
        assert np.array_equal(
            network.layers[-1].operation.weight, np.rint(dense.weight / np.abs(dense.weight).max() * 127)
        )
    assert np.allclose(scales[0], 6 * scales[1])


def test_two_edges_into_a_node_are_a_residual_sum() -> None:
    graph = chain(affine(4), lif(4), affine(4), lif(4), affine(2))
    graph.edges.append(("n1", "n4"))
    found = nir_read.from_nir(graph, EULER, 2)
    (add,) = (node for node in found.nodes if isinstance(node.operation, FloatAdd))
    assert sorted(add.inputs) == ["n1", "n3"]


def test_a_subtracted_threshold_is_read_where_it_is_given() -> None:
    """Euler, dt/tau = 1/4, by hand: v <- 3/4*v + 1/4*x, spike where v > 1, then 0 or v - 1."""
    graph = chain(nir.Affine(np.full((1, 4), 1.0), np.zeros(1)), lif(1))
    images = np.array([[3, 2, 1, 0]], np.uint8)
    spikes = {}
    for reset in ("zero", "subtract"):
        found = nir_read.from_nir(graph, replace(EULER, reset=reset), 6, scale=1.0)
        (neuron,) = node_of(found, FloatNeuron)
        network, calibration = nir_network.network(found, images)
        assert neuron.reset == network.layers[1].neuron.reset == reset
        assert calibration.saturations == 0
        v, wanted = 0.0, []
        for _ in range(6):
            v = 0.75 * v + 0.25 * 6
            wanted.append(int(v > 1))
            v = v if v <= 1 else (v - 1 if reset == "subtract" else 0.0)
        spikes[reset] = reference.run(network, images, probes=["n1"]).traces["n1"].output[0, :, 0].tolist()
        assert spikes[reset] == wanted
    assert spikes["zero"] != spikes["subtract"] or sum(spikes["zero"]) == 6


def test_an_inclusive_threshold_is_one_integer_lower() -> None:
    graph = chain(affine(), lif(), affine(2, 3))
    images = RNG.integers(0, 256, (3, 4), dtype=np.uint8)
    found = nir_read.from_nir(graph, EULER, 2)
    strict, _ = nir_network.network(found, images)
    (neuron,) = node_of(found, FloatNeuron)
    lower, _ = nir_network.network(found.changed("n1", replace(neuron, inclusive=True)), images)
    (own,) = node_of(nir_read.from_nir(graph, replace(EULER, inclusive=True), 2), FloatNeuron)
    assert own.inclusive and not neuron.inclusive and own.threshold == neuron.threshold
    assert np.array_equal(strict.layers[1].neuron.threshold - 1, lower.layers[1].neuron.threshold)


def test_grey_levels_have_the_value_they_are_given() -> None:
    """One step without a leak: the float current of the network is W * level * scale."""
    graph = nir_read.from_nir(chain(affine(), lif(tau=1e-4)), EULER, 1, scale=0.5)
    images = RNG.integers(0, 256, (3, 4), dtype=np.uint8)
    network, _ = nir_network.network(graph, images)
    layer = network.layers[1]
    membrane = reference.run(network, images, probes=["n1"]).traces["n1"].membrane[:, 0]
    units = layer.scale * 2.0**-layer.neuron.f
    wanted = images * 0.5 @ affine().weight.T
    assert np.abs(membrane * units - wanted).max() <= np.abs(wanted).max() / 127


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_every_unsupported_node_is_named_at_once() -> None:
    neurons = np.ones(3)
    graph = chain(affine(), lif(), nir.Delay(neurons), affine(3, 3), lif(v_reset=-1.0))
    with pytest.raises(ExportError) as caught:
        nir_read.from_nir(graph, EULER, 2)
    text = str(caught.value)
    assert "n2 (Delay): delays by 1, and integer layers send a value at its own step: only a delay of 0" in text
    assert (
        "Supported are Affine, AvgPool2d, Conv1d, Conv2d, CubaLI, CubaLIF, Flatten, I, IF, Input, LI, LIF, Linear, "
        "NIRGraph, Output, Scale, SumPool2d, Threshold" in text
    )
    graph = chain(affine(), lif(v_reset=-1.0))
    graph.nodes |= {"other": lif(v_threshold=-2.0), "side": affine()}
    graph.edges += [("input", "side"), ("side", "other")]
    with pytest.raises(ExportError) as caught:
        nir_read.from_nir(graph, EULER, 2)
    assert "n1 (LIF): resets to -1" in str(caught.value)
    assert "other (LIF): threshold is -2" in str(caught.value)


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (lambda: chain(lif(4)), "must be the only reader of a layer with weights"),
        (lambda: chain(affine(), lif(tau=5e-5)), "shorter than a step"),
        (lambda: chain(affine(), lif(tau=-1.0)), "is not positive"),
        (lambda: chain(affine(3, 5), lif()), "takes 5 values"),
        (lambda: chain(nir.Affine(np.full((3, 4), np.nan), np.zeros(3)), lif()), "not finite"),
        (lambda: chain(affine(), lif(5, tau=np.arange(1, 6) * 1e-3)), "tau has shape"),
        (
            lambda: chain(
                affine(bias=1.0), nir.CubaLIF(*np.full((5, 3), [[4e-4], [4e-4], [1], [0], [1]]), np.zeros(3))
            ),
            "would pass through its synapse",
        ),
        (
            lambda: chain(affine(), nir.CubaLIF(*np.full((5, 3), [[4e-4], [4e-4], [1], [2], [1]]), np.zeros(3))),
            "v_leak is 2",
        ),
    ],
)
def test_what_integers_cannot_do_is_refused(graph: object, message: str) -> None:
    with pytest.raises(ExportError, match=message):
        nir_read.from_nir(graph(), EULER, 2)  # type: ignore[operator]


def test_graphs_that_do_not_hold_together_are_refused() -> None:
    recurrent = chain(affine(4), lif(4), affine(4), lif(4))
    recurrent.edges.append(("n3", "n0"))
    with pytest.raises(ExportError, match="recurrent connections are not supported, but for a matrix of weights from"):
        nir_read.from_nir(recurrent, EULER, 2)
    lost = chain(affine(), lif())
    lost.edges.append(("n1", "nowhere"))
    with pytest.raises(ExportError, match="nowhere"):
        nir_read.from_nir(lost, EULER, 2)
    summed = chain(affine(4), lif(4))
    summed.nodes["other"] = affine(4)
    summed.edges += [("input", "other"), ("other", "n1")]
    with pytest.raises(ExportError, match="only spikes can be added"):
        nir_read.from_nir(summed, EULER, 2)
    del summed.nodes["input"]
    summed.edges = [edge for edge in summed.edges if "input" not in edge]
    with pytest.raises(ExportError, match="0 nodes of type Input"):
        nir_read.from_nir(summed, EULER, 2)


def test_files_that_are_not_nir_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="no such file"):
        nir_read.read(tmp_path / "missing.nir", EULER, 2)
    (tmp_path / "text.nir").write_text("hello")
    with pytest.raises(FileError, match="not an undamaged HDF5 file"):
        nir_read.read(tmp_path / "text.nir", EULER, 2)
    with h5py.File(tmp_path / "other.nir", "w") as file:
        file["x"] = 1
    with pytest.raises(FileError, match="is not a NIR graph"):
        nir_read.read(tmp_path / "other.nir", EULER, 2)
    with pytest.raises(ExportError, match="dt is 0"):
        Discretisation(0.0)
    (tmp_path / "file").touch()
    with pytest.raises(FileError, match="cannot write"):
        nir_write.write(tmp_path / "file" / "net.nir", block(NEURONS["vanilla"]))


def test_what_nir_cannot_say_is_refused() -> None:
    graph = block(NEURONS["vanilla"])
    doubled = FloatGraph(
        tuple(replace(node, inputs=("node1", "node1")) if node.name == "add" else node for node in graph.nodes)
    )
    with pytest.raises(ExportError, match="node1 is added to itself"):
        nir_write.to_nir(doubled)
    mapped = graph.changed("stem", replace(graph.node("stem").operation, bias=np.ones((4, 6, 6))))
    with pytest.raises(ExportError, match="from pixel to pixel"):
        nir_write.to_nir(mapped)


def test_a_reset_that_nir_or_the_integers_cannot_represent_is_refused() -> None:
    soft = replace(NEURONS["vanilla"], reset="subtract")
    with pytest.raises(ExportError, match="node1: NIR cannot represent reset 'subtract', only a reset to zero"):
        nir_write.to_nir(block(soft))
    values = np.ones(3)
    subtract = replace(EULER, reset="subtract")
    for node in (nir.IF(values, values), nir.CubaLIF(4e-4 * values, 4e-4 * values, values, 0 * values, values)):
        with pytest.raises(ExportError, match="resets by 'subtract', its integer neuron, Cuba, only to zero at once"):
            nir_read.from_nir(chain(affine(), node), subtract, 2)
    with pytest.raises(ExportError, match="spike at m = theta already are read with reset zero only"):
        replace(TOOLS["spikingjelly"], reset="subtract")


@pytest.mark.parametrize(
    ("tool", "message"),
    [
        ("snntorch", "snnTorch writes v_reset = 0 for every reset_mechanism: --reset zero reads .* is not supported$"),
        ("sinabs", "Sinabs does not write what a spike does, nor norm_input: --reset zero reads .* are not supported$"),
    ],
)
def test_a_reset_that_a_tool_does_not_write_is_asked_for(tool: str, message: str) -> None:
    graph = chain(affine(), lif(tau=4 * TOOLS[tool].dt))
    with pytest.raises(ExportError, match=message):
        nir_read.from_nir(graph, TOOLS[tool], 2)
    with pytest.raises(ExportError, match=message):
        replace(TOOLS[tool], reset="subtract")
    graph.nodes["n1"] = nir.Delay(np.ones(3))
    with pytest.raises(ExportError, match=r"n1 \(Delay\): delays by 1"):
        nir_read.from_nir(graph, TOOLS[tool], 2)


def spikes_with(decay: float, currents: np.ndarray) -> int:
    """v <- d*v + (1 - d)*I from 0, spike and v = 0 where v > 1, counted."""
    v, count = 0.0, 0
    for current in currents:
        v = decay * v + (1 - decay) * current
        if v > 1:
            v, count = 0.0, count + 1
    return count


def test_a_leak_that_12_bits_cannot_hold_is_refused() -> None:
    """A time constant of 1 s in steps of 0.1 ms leaks 1e-4 a step; 1/4096, the least, gives twice the spikes.

    1,729 for 816 were met in version 0.1 with a drive that is not known; this one, which was searched for, gives both.
    """
    currents = 1920.5 * np.abs(np.random.default_rng(4).normal(size=6000))
    assert (spikes_with(1 - 1e-4, currents), spikes_with(4095 / 4096, currents)) == (816, 1729)
    message = (
        r"time constant 1 leaks 0.0001 in a step of 0.0001, which in 12 bits is 0.000244, .*: a longer step \(--dt\)"
    )
    for tool in ("spikingjelly", "snntorch"):
        with pytest.raises(ExportError, match=message):
            nir_read.from_nir(chain(affine(), lif(tau=1.0)), replace(TOOLS[tool], reset="zero"), 2)
    ones = np.ones(3)
    for times in ((1.0, 4e-4), (4e-4, 1.0)):
        cell = nir.CubaLIF(*(tau * ones for tau in times), ones, 0 * ones, ones, 0 * ones)
        with pytest.raises(ExportError, match="time constant 1 leaks"):
            nir_read.from_nir(chain(affine(), cell), EULER, 2)


@pytest.mark.parametrize(
    ("leak", "fits"),
    [
        *((units / 4096, True) for units in (1, 1.04, 9.55, 20.48, 1024, 4096)),
        *((units / 4096, False) for units in (0.94, 1.06, 1.5, 8.5)),
    ],
)
def test_a_leak_changes_by_at_most_a_twentieth(leak: float, fits: bool) -> None:
    """|rounded - leak| / leak: 1.04 -> 1 is 3.8 %, 1.06 -> 1 5.7 %, 9.55 -> 10 4.7 %, 8.5 -> 8 or 9 5.9 %."""
    graph = chain(affine(), lif(tau=1e-4 / leak))
    if not fits:
        with pytest.raises(ExportError, match="another by more than 5%"):
            nir_read.from_nir(graph, EULER, 2)
        return
    found = nir_read.from_nir(graph, EULER, 2)
    network, _ = nir_network.network(found, RNG.integers(0, 256, (2, 4), dtype=np.uint8))
    neuron = network.layers[1].lif
    assert neuron is not None and isinstance(neuron.decay, Constant)
    assert abs((4096 - neuron.decay.mantissa) / 4096 - leak) <= 0.05 * leak


def test_neurons_that_start_at_their_leak_are_refused() -> None:
    """Norse's do; elsewhere v_leak is where the membrane potential goes, from 0."""
    graph = chain(affine(), lif(tau=4e-3, v_leak=np.array([0.0, 0.5, 0.0])))
    with pytest.raises(ExportError, match="starts at v_leak = 0.5 in Norse 1.1, integer neurons start at 0"):
        nir_read.from_nir(graph, TOOLS["norse"], 2)
    (dense,) = node_of(nir_read.from_nir(graph, Discretisation(1e-3), 2), FloatDense)
    assert dense.bias.tolist() == [0, 0.5, 0]


def test_a_current_that_norse_writes_is_undivided() -> None:
    """Its export leaves out R and w_in: i = a*i + I, v = b*v + (1 - b)*i; read by it, i = a*i + (1 - a)*w_in*I."""
    ones = np.ones(3)
    for tool, gain in (("norse", 0.5 * 0.25), ("norse-export", 0.25)):
        dt = TOOLS[tool].dt
        cell = nir.CubaLIF(2 * dt * ones, 4 * dt * ones, ones, 0 * ones, ones, 0 * ones)
        (dense,) = node_of(nir_read.from_nir(chain(affine(), cell), TOOLS[tool], 2), FloatDense)
        assert np.allclose(dense.weight, affine().weight * gain)


def test_an_integrator_of_snntorch_adds_its_input_as_it_is() -> None:
    graph = chain(affine(), nir.IF(np.ones(3), np.ones(3)))
    (dense,) = node_of(nir_read.from_nir(graph, replace(TOOLS["snntorch"], reset="zero"), 2), FloatDense)
    assert np.array_equal(dense.weight, affine().weight)


def test_metadata_describes_the_draws() -> None:
    made = nir_write.to_nir(block(NEURONS["random forward"]))
    description = json.loads(made.metadata["randhet"])
    (neuron,) = (node for node in description["nodes"] if node["name"] == "node2")
    assert neuron["fields"] == {
        "kind": "randhet",
        "threshold": 0.3,
        "sampling": "forward",
        "sigma": 0.7,
        "synapse": 0.0,
        "reset": "zero",
    }
    assert made.metadata["dt"] == 1e-4
    assert QuantSettings(k=12) == nir_network.FINE
