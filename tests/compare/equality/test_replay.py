"""The float model with the integer generator's taus: which tau reaches which neuron, and a network where both agree."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from randhet.base.errors import RandhetError
from randhet.compare.equality.layers import Counts, add, count, decibels, findings, float_units, spiking
from randhet.compare.equality.replay import replay, samplers
from randhet.export.pipeline import export_checkpoint
from randhet.fixed_point import generator, reference
from randhet.fixed_point.network import Layer, Lif, Network
from randhet.train.checkpoint import build, random_init
from randhet.train.models import ModelSettings

MODEL = ModelSettings(1, 3, (6, 5), (3, 4), (1, 1), steps=3)
PIXELS = np.random.default_rng(1).integers(0, 256, (5, 1, 6, 5), np.uint8)


def exported(**changes: object) -> tuple[Network, torch.nn.Module]:
    checkpoint = random_init(replace(MODEL, **changes), seed=2)  # type: ignore[arg-type]
    return export_checkpoint(checkpoint, PIXELS).network, build(checkpoint)


def with_cores(network: Network, size: int) -> Network:
    def small(layer: Layer) -> Layer:
        return with_decay(layer, neurons_per_core=size)

    return replace(network, layers=tuple(map(small, network.layers)))


def with_decay(layer: Layer, **fields: Any) -> Layer:
    """The layer with other fields of its drawn decay; itself where it draws none."""
    if layer.lif is None or layer.drawn is None:
        return layer
    return replace(layer, neuron=replace(layer.lif, decay=replace(layer.drawn, **fields)))


def serial_taus(neuron: Lif, seed: int, layer: int, neurons: int, rounds: int) -> np.ndarray:
    """(rounds, neurons): every core's register clocked from its seed on, one draw after another, as a core would."""
    out, drawn = np.empty((rounds, neurons)), neuron.drawn
    assert drawn is not None
    for core, start in enumerate(range(0, neurons, drawn.neurons_per_core)):
        state = generator.core_seed(seed, layer, core)
        for number in range(rounds):
            for n in range(start, min(start + drawn.neurons_per_core, neurons)):
                for _ in range(8):
                    state = (state >> 1) ^ (0x80200003 if state & 1 else 0)
                out[number, n] = drawn.table[state & 0xFF] / 2**neuron.k
    return out


@pytest.mark.parametrize(("kind", "first"), [("randhet", 0), ("randhet", 3), ("randhet-forward", 2)])
def test_each_neuron_gets_the_draw_of_its_core_image_and_step(kind: str, first: int) -> None:
    network = with_cores(exported(neuron=kind)[0], 16)
    index = next(i for i, layer in enumerate(network.layers) if layer.name == "layer1.0.node1")
    neuron = network.layers[index].lif
    assert neuron is not None
    images, steps, shape = 4, MODEL.steps, (3, 6, 5)
    sample = samplers(network, 99, first)["layer1.0.node1"]
    if kind == "randhet":
        taus = serial_taus(neuron, 99, index, 90, (first + images) * steps)[first * steps :]
        expected = taus.reshape(images, steps, *shape).swapaxes(0, 1)
        found = sample((steps, images, *shape))
    else:
        expected = serial_taus(neuron, 99, index, 90, first + images)[first:].reshape(images, *shape)
        found = sample((images, *shape))
    np.testing.assert_array_equal(found.numpy(), expected.astype(np.float32))


def test_replay_is_repeatable_and_a_constant_table_makes_it_the_vanilla_network() -> None:
    network, model = exported()
    _, once = replay(model, network, PIXELS, seed=5)
    _, again = replay(model, network, PIXELS, seed=5)
    assert all(np.array_equal(once[name].membrane, again[name].membrane) for name in once)

    def half(layer: Layer) -> Layer:
        return with_decay(layer, table=np.full(256, 128, np.uint16))

    constant = replace(network, layers=tuple(map(half, network.layers)))
    _, found = replay(model, constant, PIXELS, seed=5)
    source = random_init(MODEL, seed=2)
    vanilla = build(replace(source, settings=replace(MODEL, neuron="vanilla")))
    _, expected = replay(vanilla, exported(neuron="vanilla")[0], PIXELS, seed=5)
    for name, trace in expected.items():
        np.testing.assert_array_equal(found[name].output, trace.output)
        np.testing.assert_allclose(found[name].membrane, trace.membrane, atol=1e-6)


def test_first_layer_differs_from_the_integers_by_rounding_only() -> None:
    """Its input is exact, so until a neuron's first odd spike |error| <= (input rounding + tau and floor rounding)."""
    network, model = exported()
    _, floats = replay(model, network, PIXELS, seed=5)
    result = reference.run(network, PIXELS, seed=5, probes=["node1"])
    layer = network.layers[1]
    fixed = result.traces["node1"]
    assert fixed.membrane is not None
    assert layer.scale is not None
    error = np.abs(floats["node1"].membrane - float_units(layer, fixed.membrane))
    same = np.logical_and.accumulate(floats["node1"].output == fixed.output, axis=1)
    clean = np.concatenate([np.ones_like(same[:, :1]), same[:, :-1]], axis=1).astype(bool)
    # weights are off by at most half a unit each over 9 taps of at most 255; bias and floor shifts by 2^-f units
    unit = layer.scale.max()
    assert error[clean].max() <= unit * (9 * 255 / 2 + 3)
    assert clean.mean() > 0.5


def test_statistics_by_brute_force_whole_and_in_chunks() -> None:
    network, model = exported()
    names = [layer.name for layer in network.layers]
    thresholds = dict.fromkeys(names, 0.5)
    _, floats = replay(model, network, PIXELS, seed=5)
    fixed = reference.run(network, PIXELS, seed=5, probes=names).traces
    counts: Counts = {}
    for start, stop in ((0, 2), (2, 5)):
        _, some = replay(model, network, PIXELS[start:stop], 5, start)
        part = reference.run(network, PIXELS[start:stop], seed=5, first_image=start, probes=names).traces
        counts = add(counts, count(spiking(network), some, part, thresholds))
    for row in findings(network, counts, len(PIXELS), thresholds):
        layer = next(layer for layer in network.layers if layer.name == row.layer)
        one, other = floats[row.layer], fixed[row.layer]
        assert other.membrane is not None
        assert row.neurons == other.output[0, 0].size
        for t, found in enumerate(row.steps):
            integers = float_units(layer, other.membrane)[:, t].ravel()
            spikes = list(zip(one.output[:, t].ravel(), other.output[:, t].ravel()))
            pairs = list(zip(one.membrane[:, t].ravel().tolist(), integers.tolist()))
            assert found.mismatch == pytest.approx(sum(a != b for a, b in spikes) / len(spikes))
            assert found.float_rate == pytest.approx(sum(a for a, _ in spikes) / len(spikes))
            assert found.fixed_rate == pytest.approx(sum(b for _, b in spikes) / len(spikes))
            assert found.error == pytest.approx(sum(abs(a - b) for a, b in pairs) / 0.5 / len(pairs))
            power, noise = sum(a * a for a, _ in pairs), sum((a - b) ** 2 for a, b in pairs)
            assert found.snr == pytest.approx(10 * math.log10(power / noise))
        assert row.whole.mismatch == pytest.approx(np.mean([step.mismatch for step in row.steps]))
        assert row.same_spikes == 1 - row.whole.mismatch
        assert len(row.as_dict()["steps"]) == MODEL.steps


def test_signal_to_noise_of_known_ratios() -> None:
    assert decibels(100.0, 1.0) == pytest.approx(20)
    assert decibels(1.0, 0.0) is None
    assert decibels(0.0, 1.0) == -999


def test_float_units_are_scale_times_two_to_minus_f() -> None:
    network, _ = exported()
    layer = network.layers[1]
    assert layer.scale is not None
    membrane = np.zeros((1, 1, 3, 6, 5), np.int64)
    membrane[0, 0, 2, 4, 1] = -640
    assert float_units(layer, membrane)[0, 0, 2, 4, 1] == pytest.approx(-10 * layer.scale[2])


def test_a_network_of_another_model_is_refused() -> None:
    network, _ = exported()
    shallow = build(random_init(replace(MODEL, widths=(3,), blocks=(1,))))
    with pytest.raises(RandhetError, match=r"layer2\.0.* not in the checkpoint"):
        replay(shallow, network, PIXELS, seed=0)
