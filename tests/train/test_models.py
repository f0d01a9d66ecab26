"""Segments, sigmas, connect functions and trained sigmas of a SEW-ResNet, each against what it says it is."""

from __future__ import annotations

import math

import pytest
import torch

from randhet.base.errors import RandhetError
from randhet.train.models import CONNECT, ModelSettings, SEWResNet
from randhet.train.neurons import LIF, RandomTauLIF, neurons

SMALL = ModelSettings(1, 3, (8, 8), (2, 3, 4), (1, 1, 1), steps=2)


def made(**changes: object) -> SEWResNet:
    from dataclasses import replace

    torch.manual_seed(0)
    return SEWResNet(replace(SMALL, **changes), (0.5,), (0.5,))  # type: ignore[arg-type]


def test_layers_are_counted_as_built() -> None:
    """Stem, two per block, and one at each of the two smaller stages' shortcuts: 1 + 3*2 + 2."""
    assert SMALL.layers == len(neurons(made())) == 9


@pytest.mark.parametrize(
    ("segment", "random"),
    [
        ("first", {"node1", "layer1.0.node1", "layer1.0.node2"}),
        ("second", {"layer2.0.node1", "layer2.0.node2", "layer2.0.downsample_sn"}),
        ("third", {"layer3.0.node1", "layer3.0.node2", "layer3.0.downsample_sn"}),
    ],
)
def test_only_the_segment_asked_for_is_random(segment: str, random: set[str]) -> None:
    found = neurons(made(random=segment))
    assert {name for name, neuron in found.items() if isinstance(neuron, RandomTauLIF)} == random
    assert all(type(neuron) is LIF for name, neuron in found.items() if name not in random)


def test_a_sigma_of_its_own_for_each_layer_in_order_of_computation() -> None:
    sigmas = tuple(0.1 * (i + 1) for i in range(9))
    found = [neuron.sigma for neuron in neurons(made(sigmas=sigmas)).values() if isinstance(neuron, RandomTauLIF)]
    assert sorted(found) == pytest.approx(sigmas) and found[0] == pytest.approx(0.1)


def test_every_neuron_has_the_reset_asked_for() -> None:
    found = neurons(made(reset="subtract", random="second"))
    assert [neuron.reset for neuron in found.values()] == ["subtract"] * 9
    with pytest.raises(RandhetError, match="reset 'none' is not one of zero, subtract"):
        made(reset="none")


def test_connect_functions_on_the_four_pairs_of_spikes() -> None:
    shortcut, branch = torch.tensor([0.0, 0.0, 1.0, 1.0]), torch.tensor([0.0, 1.0, 0.0, 1.0])
    found = {name: connect(shortcut, branch).tolist() for name, connect in CONNECT.items()}
    assert found == {"add": [0, 1, 1, 2], "and": [0, 0, 0, 1], "iand": [0, 0, 1, 0]}


@pytest.mark.parametrize("connect", ["and", "iand"])
def test_and_and_iand_keep_spikes_binary(connect: str) -> None:
    model, seen = made(connect=connect), list[torch.Tensor]()
    model.layer2[0].register_forward_hook(lambda module, inputs, output: seen.append(output))
    model(torch.rand(4, 1, 8, 8))
    assert set(seen[0].unique().tolist()) <= {0.0, 1.0}


@pytest.mark.parametrize(("kind", "parameters"), [("layer", 9), ("global", 1)])
def test_trained_sigmas_start_where_told_and_stay_between_their_bounds(kind: str, parameters: int) -> None:
    model = made(train_sigma=kind, sigma=0.7, sigma_bounds=(0.5, 1.5))
    layers = [neuron for neuron in neurons(model).values() if isinstance(neuron, RandomTauLIF)]
    trained = {id(neuron.w): neuron.w for neuron in layers}
    assert len(trained) == parameters
    assert [neuron.sigma for neuron in layers] == pytest.approx([0.7] * 9)
    for w in trained.values():
        torch.nn.init.constant_(w, -30.0)
    assert all(0.5 <= neuron.sigma < 0.5 + 1e-6 for neuron in layers)


def test_the_gradient_of_a_trained_sigma_is_that_of_the_sampled_network() -> None:
    """One neuron, one step: m = (1 - tau)*x, tau = sigmoid(sigma*n), so dm/dsigma = -x * tau*(1 - tau) * n."""
    neuron = RandomTauLIF(0.7, 0.5, bounds=(0.5, 1.5)).train()
    x = torch.full((1, 1, 1), 2.0, dtype=torch.float64)
    torch.manual_seed(3)
    seed = int(torch.randint(2**62, ()))
    tau = float(neuron.draws(x, seed)(0))
    torch.manual_seed(3)
    neuron(x).sum().backward()
    n = math.log(tau / (1 - tau)) / 0.7
    m = (1 - tau) * 2.0
    surrogate = 1 / (1 + (math.pi * (m - 0.5)) ** 2)
    inner = (0.7 - 0.5) / 1.0
    by_w = surrogate * -2.0 * tau * (1 - tau) * n * inner * (1 - inner)
    assert neuron.w is not None and neuron.w.grad is not None
    assert float(neuron.w.grad) == pytest.approx(by_w, rel=1e-4)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"random": "fourth"}, "random segment 'fourth' is not one of all, first"),
        ({"sigmas": (1.0,)}, "1 sigmas for 9 neuron layers"),
        ({"train_sigma": "layer", "sigma": 2.0}, "start inside its bounds"),
        ({"connect": "xor"}, "connect function 'xor'"),
    ],
)
def test_wrong_settings_are_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(RandhetError, match=words):
        made(**changes)
