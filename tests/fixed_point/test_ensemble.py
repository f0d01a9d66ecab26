"""Ensembles of integer networks: the rule by hand, members on every backend, random networks, what is refused."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
from equality import assert_equal

from hardware_tests import oracle
from hardware_tests.random_networks import numbered
from randhet.base.errors import NetworkError
from randhet.fixed_point import network as ir
from randhet.fixed_point.backends import BACKENDS, runner
from randhet.fixed_point.ensemble import NetworkEnsemble, decided, joined, member_seed, run
from randhet.fixed_point.generator import splitmix64, tau_table
from randhet.fixed_point.network import Network
from randhet.fixed_point.result import Result

HERE = [name for name in BACKENDS if name not in ("lava", "c") and BACKENDS[name].missing() is None]


def other(network: Network, sigma: float, steps: int | None = None) -> Network:
    """The same network with tables of another sigma, made here from the layers' own fields."""
    layers = []
    for layer in network.layers:
        if layer.drawn is not None:
            lif = cast(ir.Lif, layer.dynamics)
            lif = replace(lif, decay=replace(layer.drawn, table=tau_table(lif.k, sigma), sigma=sigma))
            neuron: Any = replace(layer.neuron, dynamics=lif) if isinstance(layer.neuron, ir.Leaky) else lif
            layer = replace(layer, neuron=neuron)
        layers.append(layer)
    return replace(network, layers=tuple(layers), steps=steps or network.steps)


def small(steps: int = 4, read_out: bool = True) -> Network:
    rng = np.random.default_rng(5)
    weight = lambda *shape: rng.integers(-60, 60, shape).astype(np.int8)
    lif = ir.Lif(np.full(3, 90_000, np.int32), np.zeros(3, np.int32), ir.Drawn(tau_table(8, 1.0), "step", 1.0, 16))
    layers = (
        ir.Layer("input", ir.Input((1, 4, 4))),
        ir.Layer("conv", ir.Conv(weight(3, 1, 3, 3), padding=(1, 1)), (0,), lif, np.ones(3)),
        ir.Layer("flatten", ir.Flatten(), (1,)),
        ir.Layer("fc", ir.Dense(weight(5, 48)), (2,), ir.ReadOut(np.zeros(5, np.int64)), np.ones(1)),
    )
    return Network(layers, steps)


def images(count: int = 6) -> np.ndarray:
    return np.random.default_rng(2).integers(0, 256, (count, 1, 4, 4)).astype(np.uint8)


def answer(*sums: int) -> Result:
    """A member's answer to one image."""
    array = np.array([sums], np.int64)
    return Result(array.argmax(1), array, {"n": 1}, 2)


# --- the rule by hand -------------------------------------------------------------------------------------------------


def test_sums_of_members_with_other_time_steps_are_means_over_time() -> None:
    """T = 2, 3 and 6: the means over time of 4/2, 3/3, 6/6 are 4*3, 3*2, 6*1 over the common multiple 6."""
    members = tuple(small(steps) for steps in (2, 3, 6))
    ensemble = NetworkEnsemble(members, "average")
    assert (ensemble.common, ensemble.weights) == (6, (3, 2, 1))
    found = joined(ensemble, [answer(4, 0, 0, 0, 0), answer(3, 9, 0, 0, 0), answer(6, 7, 0, 0, 0)])
    assert found.sums.tolist() == [[24, 25, 0, 0, 0]] and found.predictions.tolist() == [1]
    assert found.votes.tolist() == [[1, 2, 0, 0, 0]]
    assert (found.spikes, found.saturations, found.operations) == ({"n": 3}, 6, None)


def test_a_value_that_is_no_sum_over_the_steps_is_not_divided_by_them() -> None:
    def leaky(steps: int, read: Any) -> Network:
        network = small(steps)
        lif = ir.Lif(np.full(5, 2**23 - 1, np.int32), np.zeros(5, np.int32))
        return replace(network, layers=(*network.layers[:-1], replace(network.layers[-1], neuron=ir.Leaky(lif, read))))

    assert NetworkEnsemble((leaky(2, "last"), leaky(3, "last"))).weights == (1, 1)
    assert NetworkEnsemble((leaky(2, "max"), leaky(3, "max"))).weights == (1, 1)
    assert NetworkEnsemble((leaky(2, "sum"), leaky(3, "sum"))).weights == (3, 2)


def test_votes_decide_then_sums_then_the_lowest_class() -> None:
    votes = np.array([[1, 2, 0], [1, 1, 1], [1, 0, 1], [0, 3, 0]])
    sums = np.array([[90, -5, 99], [4, 4, 3], [-9, 50, -7], [7, -7, 8]])
    assert decided(sums, votes, "vote").tolist() == [1, 0, 2, 1]
    assert decided(sums, votes, "average").tolist() == [2, 0, 1, 2]
    assert decided(sums[:0], votes[:0], "vote").tolist() == []


def test_members_draw_from_registers_of_their_own() -> None:
    """mix(mix(master) ^ (2^32 + member)), and no two members of many masters share a seed."""
    assert member_seed(7, 3) == splitmix64(splitmix64(7) ^ (2**32 + 3))
    assert len({member_seed(master, member) for master in range(100) for member in range(64)}) == 6400
    network = small()
    found = run(NetworkEnsemble((network, network)), images(), runner("reference"), seed=1)
    assert not np.array_equal(found.members[0].sums, found.members[1].sums)


# --- members on every backend -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", HERE)
def test_an_ensemble_is_its_members_on_every_backend(backend: str) -> None:
    """Each member equals the network with its table, run alone by the reference under the member's seed."""
    network = small()
    members = (network, other(network, 0.2), other(network, 3.0, 7))
    found = run(NetworkEnsemble(members, "vote"), images(), runner(backend), seed=9, first_image=3, probes=("conv",))
    for number, member in enumerate(members):
        alone = runner("reference")(
            member, images(), seed=member_seed(9, number), first_image=3, probes=("conv",)
        )  # fmt: skip
        assert_equal(found.members[number], alone)
    wanted = sum(result.sums * weight for result, weight in zip(found.members, (7, 7, 4)))
    assert np.array_equal(found.sums, wanted)
    assert len({tuple(result.predictions) for result in found.members}) > 1


@pytest.mark.parametrize("backend", ["c", pytest.param("lava", marks=pytest.mark.lava)])
def test_two_members_on_backends_that_start_programs(backend: str) -> None:
    if reason := BACKENDS[backend].missing():
        pytest.skip(reason)
    ensemble = NetworkEnsemble((small(), other(small(), 3.0, 3)), "average")
    found, wanted = (run(ensemble, images(2), runner(name), seed=9) for name in (backend, "reference"))
    for one, two in zip(found.members, wanted.members, strict=True):
        assert_equal(one, two)
    assert np.array_equal(found.sums, wanted.sums) and found.predictions.tolist() == wanted.predictions.tolist()


@pytest.mark.parametrize("number", range(8))
def test_members_of_random_networks_give_the_oracle_s_integers(number: int) -> None:
    case = numbered(number)
    network, members = case.network, [case.network, other(case.network, 0.3)]
    if not network.input.sequence:
        with suppress(NetworkError):  # a step more can leave a range; then there is no such member
            members.append(other(network, 2.0, network.steps + 1))
    ensemble = NetworkEnsemble(tuple(members))
    for backend in ("reference", "engine", "add-only"):
        found = run(ensemble, case.images, runner(backend), seed=case.seed, first_image=case.first_image)
        for place, (member, result) in enumerate(zip(members, found.members)):
            wanted = oracle.run(member, case.images.tolist(), member_seed(case.seed, place), case.first_image)
            last = member.layers[-1]
            sums = [oracle.read(last.neuron, steps) for steps in wanted.outputs[last.name]]
            assert result.sums.tolist() == sums, (backend, place)


def test_a_seed_of_the_file_is_used_and_none_is_fresh() -> None:
    ensemble = NetworkEnsemble((replace(small(), seed=4),) * 2)
    first, second = (run(ensemble, images(), runner("reference")) for _ in range(2))
    assert np.array_equal(first.sums, second.sums)
    assert np.array_equal(first.sums, run(ensemble, images(), runner("reference"), seed=4).sums)
    free = NetworkEnsemble((small(),) * 2)
    first, second = (run(free, images(60), runner("engine")) for _ in range(2))
    assert not np.array_equal(first.sums, second.sums)


# --- what is refused --------------------------------------------------------------------------------------------------


def changed(network: Network, place: int, **changes: Any) -> Network:
    layers = list(network.layers)
    layers[place] = replace(layers[place], **changes)
    return replace(network, layers=tuple(layers))


def test_members_that_differ_in_more_than_tables_are_refused() -> None:
    network = small()
    conv, lif = cast(ir.Conv, network.layers[1].operation), cast(ir.Lif, network.layers[1].neuron)
    wrong = conv.weight.copy()
    wrong[0, 0, 0, 0] += 1
    cases = {
        "layer conv, weight": changed(network, 1, operation=replace(conv, weight=wrong)),
        "layer conv, threshold": changed(network, 1, neuron=replace(lif, threshold=lif.threshold + 1)),
        "layer conv, f": changed(network, 1, neuron=replace(lif, f=5)),
        "layer conv, sampling": changed(network, 1, neuron=replace(lif, decay=replace(lif.decay, sampling="forward"))),  # type: ignore[type-var]
        "layer conv, decay": changed(network, 1, neuron=replace(lif, decay=ir.Constant())),
        "layer fc, scale": changed(network, 3, scale=np.full(1, 2.0)),
        "layer input, bits": changed(network, 0, operation=ir.Input((1, 4, 4), 7)),
        "seed": replace(network, seed=1),
        "generator": replace(network, generator="chacha"),
        "classes": replace(network, classes=("a", "b", "c", "d", "e")),
        "the number of layers": replace(network, layers=network.layers[:3]),
    }
    for difference, member in cases.items():
        with pytest.raises(NetworkError, match=f"^member 1 differs from member 0 in {difference}"):
            NetworkEnsemble((network, member))


def test_an_ensemble_has_members_and_a_way_to_combine() -> None:
    with pytest.raises(NetworkError, match="0 members, the limits are 1 to 64"):
        NetworkEnsemble(())
    with pytest.raises(NetworkError, match="65 members"):
        NetworkEnsemble((small(),) * 65)
    with pytest.raises(NetworkError, match="combine is 'sum', it must be one of average, vote"):
        NetworkEnsemble((small(),), "sum")  # type: ignore[arg-type]
    with pytest.raises(NetworkError, match="common multiple .*, which is too large"):
        NetworkEnsemble(tuple(small(steps) for steps in (997, 991, 983, 977)))
