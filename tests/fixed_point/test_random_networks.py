"""Random networks: every backend gives the oracle's integers, the generator reaches its ends, differences get small."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import wrong_backend
from equality import assert_equal
from hypothesis import HealthCheck, given, settings
from strategies import runs

from hardware_tests import agreement
from hardware_tests.agreement import CONTENDERS, SLOW, Counts, compare, contenders, described, reduced
from hardware_tests.random_networks import Run, fingerprint, numbered
from randhet.base.errors import NetworkError
from randhet.fixed_point import network as ir
from randhet.fixed_point import reference
from randhet.fixed_point.backends import BACKENDS
from randhet.fixed_point.check import CUBA_MAX
from randhet.fixed_point.chips.chip import names as chips
from randhet.fixed_point.chips.inspection import inspect
from randhet.fixed_point.integer import STATE_MAX
from randhet.netx.read import read
from randhet.netx.write import write

RECORD = Path(agreement.__file__).with_name("agreement.json")
NUMBERS = range(400)


@cache
def fast() -> dict[str, agreement.Runner]:
    """Every contender that runs here but those whose runs take seconds."""
    here = [name for name in CONTENDERS if name not in SLOW and BACKENDS[name.split(",")[0]].missing() is None]
    assert {"reference", "engine", "engine, 2 threads", "add-only"} <= set(here)
    return contenders(here)


# --- equality ---------------------------------------------------------------------------------------------------------


@settings(max_examples=25, suppress_health_check=list(HealthCheck))
@given(runs())
def test_every_backend_gives_the_oracle_s_integers(run: Run) -> None:
    assert list(compare(-1, run, fast(), Counts())) == []


@pytest.mark.parametrize("number", range(30))
def test_numbered_networks_give_the_oracle_s_integers(number: int) -> None:
    assert list(compare(number, numbered(number), fast(), Counts())) == []


@pytest.mark.lava
@pytest.mark.parametrize("number", range(6))
def test_numbered_networks_on_lava(number: int) -> None:
    counts = Counts()
    assert list(compare(number, numbered(number), contenders(["lava"]), counts)) == []
    assert counts.integers["lava"] > 0


PLACED = (ir.SumPool, ir.MaxPool, ir.And, ir.Iand, ir.Spread)
"""Operations without weights that take neurons of a chip."""


@pytest.mark.parametrize("chip", chips())
def test_numbered_networks_are_placed_on_a_chip(chip: str) -> None:
    """Every weighted layer gets cores and a row, or the network has nothing to place and is refused."""
    for run in made()[:60]:
        result = reference.run(run.network, run.images, seed=1)
        if not any(layer.weighted or isinstance(layer.operation, PLACED) for layer in run.network.layers):
            with pytest.raises(NetworkError, match="^no layer of the network has weights"):
                inspect(run.network, chip)
            continue
        found = inspect(run.network, chip, images=run.images, result=result)
        assert [row.layer for row in found.layers] == run.names and found.sentences()
        assert all(row.cores for row, layer in zip(found.layers, run.network.layers) if layer.weighted)


def test_numbered_networks_are_written_and_read(tmp_path: Path) -> None:
    """What was read gives the integers of what was written."""
    for run in made()[:60]:
        write(tmp_path / "it.net", run.network)
        again = replace(run, network=read(tmp_path / "it.net"))
        assert (again.network.ranges, again.network.bounds) == (run.network.ranges, run.network.bounds)
        options = {"seed": run.seed, "first_image": run.first_image, "probes": run.names}
        assert_equal(*(reference.run(it.network, it.images, **options) for it in (again, run)))


# --- what the generator reaches ---------------------------------------------------------------------------------------


@cache
def made() -> tuple[Run, ...]:
    return tuple(map(numbered, NUMBERS))


def neurons(kind: type) -> Iterator[tuple[Any, int]]:
    """Neurons of a kind in all networks, with the bound of their sums."""
    for run in made():
        for layer, bound in zip(run.network.layers, run.network.bounds):
            if isinstance(layer.neuron, kind):
                yield layer.neuron, bound


def test_every_kind_occurs_and_reads_every_other() -> None:
    """Every operation on the input itself, on spikes, on graded and on negative values; every decay with each reset."""
    found: Counter[Any] = Counter()
    for run in made():
        layers, ranges = run.network.layers, run.network.ranges
        for layer in layers[1:]:
            found[type(layer.operation), type(layer.neuron)] += 1
            for i in layer.inputs:
                read = "input" if i == 0 else "spikes" if layers[i].spikes else "sums"
                found[type(layer.operation), read, ranges[i].signed] += 1
    operations = set(get_args(ir.Operation)) - {ir.Input}
    gates = {ir.And, ir.Iand}  # which read spikes alone
    wanted = {
        (kind, "input", signed) for kind in operations for signed in (False, True) if not (signed and kind in gates)
    }
    wanted |= {(kind, "spikes", False) for kind in operations} | {(kind, "sums", True) for kind in operations - gates}
    wanted |= {(weighted, neuron) for weighted in get_args(ir.Weighted) for neuron in (ir.Lif, ir.Cuba)}
    assert {it for it in wanted if not found[it]} == set()
    decays = {(type(neuron.decay), neuron.reset) for neuron, _ in neurons(ir.Lif)}
    assert decays == {(kind, reset) for kind in get_args(ir.Decay) for reset in get_args(ir.Reset)}


def test_fields_reach_their_ends() -> None:
    lifs = [neuron for neuron, _ in neurons(ir.Lif)]
    assert {neuron.k for neuron in lifs} == set(range(1, 13)) and {0, 16} <= {neuron.f for neuron in lifs}
    drawn = [neuron.drawn for neuron in lifs if neuron.drawn]
    assert {it.sampling for it in drawn} == set(get_args(ir.Sampling)) and {1, 7} <= {
        it.neurons_per_core for it in drawn
    }
    for name, ends in (("threshold", {1, STATE_MAX}), ("bias", {-STATE_MAX, STATE_MAX})):
        values = {int(value) for neuron in lifs for value in getattr(neuron, name).ravel()}
        assert ends <= values, name
    lows, tops = {min(mantissas(it)) for it in lifs}, {max(mantissas(it)) - (2**it.k - 1) for it in lifs}
    assert min(lows) == 0 and max(tops) == 0 and len(lows) > 20 and len(tops) > 20


def mantissas(neuron: ir.Lif) -> list[int]:
    """The ends of a neuron's decays."""
    match neuron.decay:
        case ir.Constant():
            return [neuron.decay.mantissa]
        case ir.PerNeuron():
            return [int(neuron.decay.mantissa.min()), int(neuron.decay.mantissa.max())]
        case ir.Drawn():
            return [int(neuron.decay.table.min()), int(neuron.decay.table.max())]


def test_cuba_reaches_its_ends() -> None:
    found = list(neurons(ir.Cuba))
    assert {-1, 0, 4095} <= {neuron.current_decay for neuron, _ in found}
    assert {0, 4095, 4096} <= {neuron.voltage_decay for neuron, _ in found}
    currents = [bound << neuron.f for neuron, bound in found]
    assert max(currents) <= CUBA_MAX and sum(current > CUBA_MAX // 2 for current in currents) > 20


def test_inputs_and_image_numbers_reach_their_ends() -> None:
    inputs = {(run.network.input.bits, run.network.input.signed) for run in made()}
    assert {(1, False), (1, True), (8, False), (8, True), (16, False), (16, True)} <= inputs
    pixels = {(int(run.images.min()), int(run.images.max())) == run.network.ranges[0] for run in made()}
    assert pixels == {False, True}
    assert {run.first_image for run in made()} >= {0, 1, 2**61}
    assert any(run.first_image + len(run.images) == 2**62 for run in made())


def test_a_read_out_is_the_last_layer_or_absent_and_dense_layers_read_pictures() -> None:
    kinds = {type(run.network.layers[-1].neuron) for run in made()}
    assert kinds == {ir.ReadOut, ir.Leaky, ir.Lif, ir.Cuba, type(None)}
    assert not any(
        isinstance(layer.neuron, ir.ReadOut | ir.Leaky) for run in made() for layer in run.network.layers[:-1]
    )
    pictures = [
        len(run.network.shapes[layer.inputs[0]]) == 3
        for run in made()
        for layer in run.network.layers
        if isinstance(layer.operation, ir.Dense)
    ]
    assert 100 < sum(pictures) < len(pictures)


def test_neurons_are_neither_silent_nor_always_firing() -> None:
    """Half of the spiking layers fire at some neurons and steps, and not at others."""
    lively, count = 0, 0
    for run in made()[:80]:
        found = reference.run(run.network, run.images, seed=run.seed, first_image=run.first_image, probes=run.names)
        shares = [found.traces[layer.name].output.mean() for layer in run.network.layers if layer.spikes]
        lively += sum(0 < share < 1 for share in shares)
        count += len(shares)
    assert lively > count / 2


# --- differences ------------------------------------------------------------------------------------------------------


def test_a_wrong_backend_is_noticed_and_its_case_gets_small() -> None:
    """A reference whose resets by subtraction go to zero: of a whole network, one layer and one image are left."""

    def forgetful(network: ir.Network, images: np.ndarray, **options: Any) -> Any:
        layers = [
            replace(layer, neuron=replace(layer.neuron, reset="zero")) if isinstance(layer.neuron, ir.Lif) else layer
            for layer in network.layers
        ]
        return reference.run(replace(network, layers=tuple(layers)), images, **options)

    counts = Counts()
    found = {n: text for n in range(40) for text in compare(n, numbered(n), {"forgetful": forgetful}, counts)}
    assert counts.different == {"forgetful": list(found)} and 0 < len(found) < 40
    for number in list(found)[:3]:
        differs = lambda run: bool([*compare(-1, run, {"forgetful": forgetful}, Counts())])
        small = reduced(numbered(number), differs)
        assert differs(small) and len(small.images) == 1 and small.first_image == 0
        assert len(small.network.layers) <= 3 and len(described(small)["layers"]) == len(small.network.layers)


def test_a_backend_that_raises_is_a_difference() -> None:
    def broken(*_: Any, **options: Any) -> Any:
        raise RuntimeError("no such kernel")

    assert list(compare(3, numbered(3), {"broken": broken}, Counts())) == ["broken: RuntimeError: no such kernel"]


def test_one_weight_one_off_is_noticed() -> None:
    """`wrong_backend`, which other tests plant, differs from the oracle."""
    rng = np.random.default_rng(2)
    conv = ir.Conv(rng.integers(-50, 51, (2, 1, 3, 3)).astype(np.int8), padding=(1, 1))
    neuron = ir.Lif(np.full(2, 9000, np.int32), np.zeros(2, np.int32))
    layers = (ir.Layer("input", ir.Input((1, 4, 4))), ir.Layer("conv", conv, (0,), neuron))
    run = Run(ir.Network(layers, 3), rng.integers(0, 256, (2, 1, 4, 4)).astype(np.uint8), 1, 0)
    assert len(list(compare(0, run, {"wrong": wrong_backend.run, "right": reference.run}, Counts()))) == 1


# --- the record -------------------------------------------------------------------------------------------------------


def test_the_record_is_of_this_generator_and_says_that_nothing_differs() -> None:
    record = json.loads(RECORD.read_text())
    first, last = record["networks"]
    assert record["fingerprint"] == fingerprint(range(20)), "the generator has changed: scripts/random_networks"
    fast_ones = set(CONTENDERS) - SLOW
    assert {name for name in fast_ones if record["backends"][name]["networks"] == last - first + 1} == fast_ones
    assert last - first + 1 >= 2000 and record["backends"]["lava"]["networks"] >= 100
    assert not any(backend["different"] for backend in record["backends"].values())
    assert all(backend["integers"] > 0 for backend in record["backends"].values())
