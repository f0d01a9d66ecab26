"""Neurons of other libraries, in the words of `GeneralLIF`: verified, folded and run in integers against float."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from randhet.export.graph import ExportError
from randhet.export.passes import fold
from randhet.export.pipeline import export_model
from randhet.export.trace import trace
from randhet.export.verify import verify
from randhet.fixed_point import reference
from randhet.train.general import GeneralLIF
from randhet.train.layers import Conv2d, Encode, Flatten, Linear, MeanOverTime

SHAPE = (1, 6, 6)
IMAGES = np.random.default_rng(2).integers(0, 256, (16, *SHAPE), dtype=np.uint8)
STEPS = 6

NEURONS: dict[str, Callable[[], GeneralLIF]] = {
    "leaky": lambda: GeneralLIF(0.9, 0.6, drive=1.0, reset="subtract"),
    "divided": lambda: GeneralLIF(0.5, 0.3),
    "inclusive": lambda: GeneralLIF(0.75, 0.25, inclusive=True),
    "integrate": lambda: GeneralLIF(1.0, 1.0, drive=1.0),
    "half drive": lambda: GeneralLIF(0.8, 0.4, drive=0.5),
    "channels": lambda: GeneralLIF(torch.linspace(0.3, 0.9, 4).view(4, 1, 1), 0.5, drive=1.0),
}


def model(neuron: Callable[[], GeneralLIF]) -> nn.Sequential:
    torch.manual_seed(4)
    tail = (Flatten(), Linear(144, 3), MeanOverTime())
    return nn.Sequential(Conv2d(1, 4, 3, padding=1), Encode(STEPS), neuron(), *tail).eval()


@pytest.mark.parametrize("neuron", NEURONS.values(), ids=NEURONS)
def test_integers_spike_as_the_module_does(neuron: Callable[[], GeneralLIF]) -> None:
    """Except where a membrane potential comes close to the threshold, as rounding explains: under 2 % of spikes."""
    net = model(neuron)
    verify(net, trace(net, SHAPE), IMAGES)
    network = export_model(net, IMAGES).network
    with torch.no_grad():
        expected = net[:3](torch.from_numpy(IMAGES).float() / 255).transpose(0, 1).numpy()
    found = reference.run(network, IMAGES, seed=0, probes=("2",)).traces["2"].output
    assert found.shape == expected.shape and 0.02 < expected.mean() < 0.98
    assert np.mean(found != expected) < 0.02


def test_currents_at_the_threshold_tell_inclusive_from_strict() -> None:
    """One synapse of weight 1 on a white image: m = x = theta exactly, in float and in integers."""
    for inclusive, spikes in ((True, STEPS), (False, 0)):
        layer = nn.Conv2d(1, 1, 1, bias=False)
        nn.init.constant_(layer.weight, 1.0)
        tail = (Flatten(), Linear(1, 2), MeanOverTime())
        net = nn.Sequential(layer, Encode(STEPS), GeneralLIF(0.0, 1.0, drive=1.0, inclusive=inclusive), *tail)
        white = np.full((1, 1, 1, 1), 255, np.uint8)
        with torch.no_grad():
            assert net[:3](torch.ones(1, 1, 1, 1)).sum() == spikes
        network = export_model(net, white).network
        assert reference.run(network, white, seed=0).spikes["2"] == spikes


def test_slow_decays_get_all_bits() -> None:
    """0.99 of 8 bits is 253/256, whose leak is 17 % too large; of 12 bits 4055/4096, 0.1 %."""
    network = export_model(model(lambda: GeneralLIF(0.99, 0.6, drive=1.0)), IMAGES).network
    neuron = network.layers[1].lif
    assert neuron is not None and neuron.k == 12
    assert network.layers[1].neuron.decay.mantissa == round(0.99 * 4096)  # type: ignore[union-attr]


def test_a_decay_that_cannot_be_told_from_one_is_refused() -> None:
    with pytest.raises(ExportError, match=r"decay 0.9999 leaks 0.0001 a step, the least .* is 0.000244"):
        export_model(model(lambda: GeneralLIF(0.9999, 0.6, drive=1.0)), IMAGES)


def test_decays_within_a_channel_cannot_have_a_drive() -> None:
    with pytest.raises(ExportError, match="decays that differ within a channel"):
        fold(trace(model(lambda: GeneralLIF(torch.linspace(0.1, 0.9, 144).view(4, 6, 6), 0.5, drive=1.0)), SHAPE))
