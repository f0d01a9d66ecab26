"""Files of SANA-FE are read back and run by the simulator here; costs are added up edge by edge."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from randhet.base.errors import RandhetError
from randhet.export.sana_fe import wiring
from randhet.export.sana_fe.energy import cost
from randhet.export.sana_fe.files import deployed, runs, write
from randhet.fixed_point import network as ir
from randhet.fixed_point import reference
from randhet.fixed_point.chips import chip
from randhet.fixed_point.chips.energy import activity
from randhet.fixed_point.chips.mapping import map_network

yaml = pytest.importorskip("yaml")


def lif(rng: np.random.Generator, channels: int, **options: Any) -> ir.Lif:
    """Neurons whose decay is 0 unless said otherwise: m is the current, and nothing is rounded."""
    bias = rng.integers(-400, 400, channels).astype(np.int32)
    threshold = rng.integers(300, 900, channels).astype(np.int32)
    return ir.Lif(threshold, bias, **({"decay": ir.Constant(0)} | options))


def network(sequence: bool = False, **options: Any) -> ir.Network:
    """A stem, a branch, their sum, a convolution of groups on it beside its copy, a pool, own spikes, a read-out."""
    rng = np.random.default_rng(2)
    conv = lambda o, c, **geometry: ir.Conv(rng.integers(-9, 10, (o, c, 3, 3)).astype(np.int8), **geometry)
    dense = lambda o, i: rng.integers(-20, 21, (o, i)).astype(np.int8)
    layers = [
        ir.Layer("input", ir.Input((2, 6, 6), bits=1 if sequence else 8, sequence=sequence)),
        ir.Layer("a.stem", conv(4, 2, padding=(1, 1)), (0,), lif(rng, 4, **options)),
        ir.Layer("a_stem", conv(4, 4, padding=(1, 1)), (1,), lif(rng, 4, **options)),
        ir.Layer("add", ir.Add(), (1, 2)),
        ir.Layer("grouped", conv(6, 2, stride=(1, 1), padding=(2, 0), groups=2), (3,), lif(rng, 6, **options)),
        ir.Layer("both", ir.Concat(), (4, 4)),
        ir.Layer("pool", ir.SumPool((2, 2), (2, 2)), (5,)),
        ir.Layer("flat", ir.Flatten(), (6,)),
        ir.Layer("hidden", ir.Dense(dense(7, 12 * 4 * 2), dense(7, 7)), (7,), lif(rng, 7, **options)),
        ir.Layer("out", ir.Dense(dense(3, 7)), (8,), ir.ReadOut(np.array([5, -7, 0], np.int32))),
    ]
    return ir.Network(tuple(layers), 4)


def parsed(path: Path) -> Any:
    """The content of a file, by the fast loader where there is one."""
    return yaml.load(path.read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def span(text: str) -> range:
    first, _, last = text.partition("..")
    return range(int(first), int(last or first) + 1)


class File:
    """snn.yaml as SANA-FE reads it: ranges spelled out, attributes of a group below those of its neurons."""

    def __init__(self, path: Path) -> None:
        content = parsed(path)
        self.neurons: dict[tuple[str, int], dict[str, Any]] = {}
        for group in content["network"]["groups"]:
            for entry in group["neurons"]:
                ((numbers, attributes),) = entry.items()
                for number in span(str(numbers)):
                    assert (group["name"], number) not in self.neurons
                    self.neurons[group["name"], number] = group["attributes"] | attributes
        self.edges = []
        for entry in content["network"]["edges"]:
            ((text, attributes),) = entry.items()
            source, target = (re.fullmatch(r"(\w+)\.(\d+)", end) for end in text.split(" -> "))
            assert source and target
            ends = [(end[1], int(end[2])) for end in (source, target)]
            self.edges.append((*ends, attributes["weight"]))
        self.core: dict[tuple[str, int], tuple[int, int]] = {}
        self.units = {}
        for entry in content["mappings"]:
            ((text, attributes),) = entry.items()
            name, numbers = text.split(".", 1)
            tile, core = map(int, attributes["core"].split("."))
            for number in span(numbers):
                assert (name, number) not in self.core
                self.core[name, number], self.units[name, number] = (tile, core), attributes

    def run(self, order: list[str], steps: int) -> dict[str, np.ndarray]:
        """Spikes (T, neurons) of each group, of the last its potential: v = v*leak_decay + bias + u, without delays."""
        sizes = {name: sum(group == name for group, _ in self.neurons) for name in order}
        into: dict[str, list[tuple[str, int, int, float]]] = {name: [] for name in order}
        for (sender, source), (reader, target), weight in self.edges:
            into[reader].append((sender, source, target, weight))
        sent = {name: np.zeros((steps + 1, size)) for name, size in sizes.items()}
        v = {name: np.zeros(size) for name, size in sizes.items()}
        for t in range(steps):
            for name in order:
                each = [self.neurons[name, number] for number in range(sizes[name])]
                if "spikes" in each[0]:
                    sent[name][t] = [one["spikes"][t] for one in each]
                    continue
                u = np.zeros(sizes[name])
                for sender, source, target, weight in into[name]:
                    u[target] += weight * sent[sender][t - 1 if sender == name else t][source]
                keys = ("leak_decay", "bias", "threshold")
                leak, bias, threshold = (np.array([one[key] for one in each]) for key in keys)
                v[name] = v[name] * leak + bias + u
                fired = v[name] > threshold
                assert {one["reset_mode"] for one in each} <= {"hard", "none"}
                v[name][fired] = 0
                sent[name][t] = fired
        return {name: spikes[:steps] for name, spikes in sent.items()} | {order[-1]: v[order[-1]]}


def laid_out(found: ir.Network, image: np.ndarray | None, folder: Path) -> tuple[Any, File]:
    made = deployed(found, map_network(found, chip.load("loihi1")), image)
    _, path = write(folder, made)
    return made, File(path)


@pytest.mark.parametrize("sequence", [False, True])
def test_the_file_fires_as_the_reference(tmp_path: Path, sequence: bool) -> None:
    found = network(sequence)
    image = np.random.default_rng(3).integers(0, 2 if sequence else 40, found.image_shape).astype(np.uint8)
    _, file = laid_out(found, image, tmp_path)
    names = {"a.stem": "a_stem", "a_stem": "a_stem__2", "grouped": "grouped", "hidden": "hidden"}
    seen = file.run([*(["input"] if sequence else []), *names.values(), "out"], found.steps)
    run = reference.run(found, image[None], seed=0, probes=list(names))
    for layer, group in names.items():
        expected = run.traces[layer].output[0].reshape(found.steps, -1)
        assert 0 < expected.mean() < 1, layer
        assert np.array_equal(seen[group], expected), layer
    assert np.array_equal(seen["out"], run.sums[0])


def test_synapses_are_all_there_zeros_too(tmp_path: Path) -> None:
    """By the definition: of every output the taps that lie inside."""
    found = network()
    made, file = laid_out(found, None, tmp_path)
    ends = [edge[:2] for edge in file.edges]
    assert len(set(ends)) == len(ends)
    inside = (3 * 6 - 2) ** 2  # taps along an axis of 6 with padding 1
    grouped = (3 * 8 - 6) * (3 * 4)  # padding 2 along y makes 8 rows, of whose taps 6 are outside; none along x
    count = {
        ("a_stem", "a_stem__2"): 4 * 4 * inside,
        ("a_stem", "grouped"): 6 * 2 * grouped,
        ("a_stem__2", "grouped"): 6 * 2 * grouped,
        ("grouped", "hidden"): 7 * 6 * 8 * 4,
        ("hidden", "hidden"): 49,
        ("hidden", "out"): 21,
    }
    for (sender, reader), expected in count.items():
        assert sum((a[0], b[0]) == (sender, reader) for a, b in ends) == expected, (sender, reader)
    assert len(ends) == sum(count.values()) == sum(len(one.weights) for one in made.wired)
    assert any(weight == 0 for *_, weight in file.edges)


def test_every_neuron_is_on_one_core_that_the_chip_has(tmp_path: Path) -> None:
    found = network()
    made, file = laid_out(found, None, tmp_path)
    arch = parsed(tmp_path / "arch.yaml")["architecture"]
    attributes = arch["attributes"]
    tiles = attributes["width"] * attributes["height"]
    assert file.core.keys() == file.neurons.keys()
    assert len(set(file.core.values())) == made.mapping.cores
    assert all(tile < tiles and core < 4 for tile, core in file.core.values())
    assert arch["tile"][0]["name"] == f"loihi_tile[0..{tiles - 1}]"
    core = arch["tile"][0]["core"][0]
    assert core["name"] == "loihi_core[0..3]"
    units = {unit["name"] for kind in ("soma", "dendrite", "synapse") for unit in core[kind]}
    assert {units_of[key] for units_of in file.units.values() for key in ("soma", "dendrite", "synapse")} <= units
    assert file.units["out", 0]["synapse"] == "loihi_dense_synapse"


def test_more_cores_than_loihi_has_widen_the_mesh() -> None:
    layers = (
        ir.Layer("input", ir.Input((1, 32, 32))),
        ir.Layer(
            "a",
            ir.Conv(np.ones((1, 1, 1, 1), np.int8)),
            (0,),
            lif(np.random.default_rng(1), 1, decay=ir.Drawn(neurons_per_core=4)),
        ),
    )
    found = ir.Network(layers, 2)
    made = deployed(found, map_network(found, chip.load("loihi1")))
    assert (made.placement.cores, made.placement.width) == (256, 16)
    x, y = made.placement.tile(np.array([0, 3, 4, 15, 16, 255]))
    assert x.tolist() == [0, 0, 0, 0, 1, 15] and y.tolist() == [0, 0, 1, 3, 0, 3]


def test_figures_are_those_of_loihi_yaml(tmp_path: Path) -> None:
    laid_out(network(), None, tmp_path)
    arch = parsed(tmp_path / "arch.yaml")["architecture"]
    tile = arch["tile"][0]
    units = [unit for kind in tile["core"][0].values() if isinstance(kind, list) for unit in kind]
    core = {unit["name"]: unit["attributes"] for unit in units}
    hop = lambda way, energy, latency: {f"energy_{way}_hop": energy, f"latency_{way}_hop": latency}
    along_y = hop("north", 4.2e-12, 6.5e-9) | hop("south", 4.2e-12, 6.5e-9)
    assert tile["attributes"] == along_y | hop("east", 3.0e-12, 4.1e-9) | hop("west", 3.0e-12, 4.1e-9)
    assert core["loihi_lif"] == {
        "model": "leaky_integrate_fire", "energy_access_neuron": 51.2e-12, "latency_access_neuron": 6.0e-9,
        "energy_update_neuron": 21.6e-12, "latency_update_neuron": 3.7e-9, "energy_spike_out": 69.3e-12,
        "latency_spike_out": 30.0e-9,
    }  # fmt: skip
    synapse = lambda energy, latency: {
        "model": "current_based", "energy_process_spike": energy, "latency_process_spike": latency
    }  # fmt: skip
    assert core["loihi_dense_synapse"] == synapse(35.5e-12, 3.8e-9)
    assert core["loihi_conv_synapse"] == synapse(24.0e-12, 3.1e-9)
    assert core["loihi_out"] == {"energy_message_out": 111.0e-12, "latency_message_out": 5.1e-9}
    assert core["loihi_in"] == {"energy_message_in": 0.0, "latency_message_in": 16.0e-9}


def test_costs_edge_by_edge(tmp_path: Path) -> None:
    """From the file: messages to different cores, hops between their tiles, a synapse for every edge of a spike."""
    found = network()
    images = np.random.default_rng(3).integers(0, 40, (3, *found.image_shape)).astype(np.uint8)
    made, file = laid_out(found, images[0], tmp_path)
    names = [layer.name for layer in found.layers if layer.spikes]
    counted = activity(found, images, reference.run(found, images, seed=0, probes=names))
    spikes = {
        (made.names[i], number): value
        for i, values in counted.sent.items() if i in made.names
        for number, value in enumerate(values.ravel())
    }  # fmt: skip
    place = lambda neuron: divmod(file.core[neuron][0], 4)
    energy = messages = 0.0
    targets: dict[Any, set[Any]] = {}
    for source, target, _ in file.edges:
        energy += spikes[source] * (35.5 if target[0] in ("hidden", "out") else 24.0)
        targets.setdefault(source, set()).add(target)
    for source, reached in targets.items():
        cores = {file.core[target]: target for target in reached}
        messages += spikes[source] * len(cores)
        for target in cores.values():
            (x, y), (far_x, far_y) = place(source), place(target)
            energy += spikes[source] * (111.0 + 3.0 * abs(far_x - x) + 4.2 * abs(far_y - y))
    energy += len(file.neurons) * found.steps * (51.2 + 21.6)
    energy += sum(value for neuron, value in spikes.items() if neuron[0] != "out") * 69.3
    result = cost(made, counted.sent)
    assert result.energy == pytest.approx(1e-12 * energy)
    assert result.counts["axon_out"] == pytest.approx(messages) and messages > 0
    assert len(set(file.core.values())) > 4  # so that there are hops
    assert result.counts["hop_y"] > 0


def test_a_decay_divides_the_threshold_and_a_table_counts_by_its_mean() -> None:
    table = np.array([64] * 128 + [128] * 128, np.int32)
    for decay, tau in ((ir.Constant(192), 0.75), (ir.Drawn(table=table), 0.375)):
        one = network(decay=decay)
        made = deployed(one, map_network(one, chip.load("loihi2")))
        soma, neuron = made.neurons[4], one.layers[4].lif
        assert neuron is not None
        assert np.allclose(soma.leak, tau) and soma.reset == "hard" and soma.gain == 2**6
        assert np.allclose(soma.threshold, np.repeat(neuron.threshold / (1 - tau), 8 * 4))
        assert np.array_equal(soma.bias, np.repeat(neuron.bias, 8 * 4))


def test_runs_of_equal_neurons() -> None:
    assert list(runs(np.array([1.0, 1, 2, 2, 2]), np.array([0.0, 0, 0, 0, 1]))) == [(0, 1), (2, 3), (4, 4)]


def with_layer(operation: Any, neuron: Any = None) -> ir.Network:
    layers = (
        ir.Layer("input", ir.Input((1, 4, 4))),
        ir.Layer("a", ir.Conv(np.ones((1, 1, 1, 1), np.int8)), (0,), lif(np.random.default_rng(1), 1)),
        ir.Layer("odd", operation, (1,), neuron),
        ir.Layer("out", ir.Conv(np.ones((1, 1, 1, 1), np.int8)), (2,), ir.ReadOut(np.zeros(1, np.int32))),
    )
    return ir.Network(layers, 2)


CONV = ir.Conv(np.ones((1, 1, 1, 1), np.int8))
CUBA = ir.Cuba(np.array([5], np.int32), np.array([0], np.int32))


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        (with_layer(ir.MaxPool((2, 2), (2, 2))), "layer odd is a MaxPool, SANA-FE's files have synapses"),
        (with_layer(CONV, CUBA), "layer odd has neurons with a current of their own"),
        (with_layer(CONV, lif(np.random.default_rng(1), 1, reset_delay=1)), "layer odd has a reset one step late"),
        (
            with_layer(CONV, lif(np.random.default_rng(1), 1, floor=np.array([-3], np.int32))),
            "layer odd has a lowest membrane potential",
        ),
    ],
)
def test_what_the_files_cannot_hold_is_refused(found: ir.Network, sentence: str) -> None:
    with pytest.raises(RandhetError, match=sentence):
        deployed(found, map_network(found, chip.load("loihi2")))


def test_too_many_synapses_and_graded_events_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    found = network(sequence=True)
    mapping = map_network(found, chip.load("loihi2"))
    frames = np.full(found.image_shape, 1, np.uint8)
    frames[0, 0, 0, 0] = 3
    with pytest.raises(RandhetError, match="the recording has values of 3, SANA-FE's inputs send 0 or 1"):
        deployed(found, mapping, frames)
    monkeypatch.setattr(wiring, "MOST_SYNAPSES", 1000)
    with pytest.raises(RandhetError, match=r"the network has [\d,]+ synapses, a file of SANA-FE lists 1,000 at most"):
        deployed(found, mapping)


def test_soft_resets_and_leaky_read_outs_keep_their_kind() -> None:
    soft = with_layer(CONV, lif(np.random.default_rng(1), 1, reset="subtract"))
    made = deployed(soft, map_network(soft, chip.load("loihi2")))
    assert made.neurons[2].reset == "soft"
    last = ir.Leaky(
        replace(lif(np.random.default_rng(1), 1, decay=ir.Constant(128)), threshold=np.array([2**23 - 1], np.int32))
    )
    leaky = ir.Network((*soft.layers[:3], replace(soft.layers[3], neuron=last)), 2)
    soma = deployed(leaky, map_network(leaky, chip.load("loihi2"))).neurons[3]
    assert (soma.spikes, soma.reset, set(soma.leak), soma.threshold.min()) == (False, "none", {0.5}, 1e30)
