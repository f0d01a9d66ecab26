"""The peers compute the same network: equal logits where nothing is drawn, equal neurons where the draws are."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from randhet.benchmarks.networks import SIZES, Case, at_rate, patches, prepare
from randhet.benchmarks.peers.network import loaded
from randhet.fixed_point import reference
from randhet.netx.write import read
from randhet.train import checkpoint as checkpoints

PEERS = {"plain": "torch", "jelly": "spikingjelly", "snn_torch": "snntorch"}
SETTINGS = SIZES["tiny"]


@pytest.fixture(params=PEERS)
def peer(request: pytest.FixtureRequest) -> Any:
    """The module of a peer whose library is here."""
    if find_spec(PEERS[request.param]) is None:
        pytest.skip(f"{PEERS[request.param]} is not installed")
    return import_module(f"randhet.benchmarks.peers.{request.param}")


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return patches(4, SETTINGS.image_size)


def test_peers_give_the_logits_of_our_model(peer: Any, images: np.ndarray) -> None:
    made = at_rate(replace(SETTINGS, neuron="vanilla"), 0.2, images)
    pixels = torch.from_numpy(images).float() / 255
    with torch.inference_mode():
        expected = checkpoints.build(made)(pixels)
        network = peer.make(made, False)
        network(pixels)
        again = network(pixels)  # states must not leak from one batch into the next
    assert expected.std() > 0.01
    torch.testing.assert_close(again, expected, rtol=1e-5, atol=1e-6)


def steps_of(neuron: Any, x: Tensor) -> Tensor:
    """Spikes (T, N, ...) of a peer's neuron in its own way of taking time."""
    name = type(neuron).__module__
    if name.endswith("plain"):
        return neuron(x.flatten(0, 1)).view_as(x)
    if name.endswith("jelly"):
        return neuron(x)
    return torch.stack([neuron(current) for current in x])


def test_random_neurons_draw_sigmoid_of_sigma_n(peer: Any, images: np.ndarray) -> None:
    """Against the equation of the paper, with torch's normal numbers drawn in the same order."""
    made = at_rate(replace(SETTINGS, sigma=1.5), 0.2, images)
    neuron = peer.make(made, True).node1
    x = 2 * torch.randn(3, 2, 5, 4, 4, generator=torch.Generator().manual_seed(1))
    torch.manual_seed(7)
    with torch.inference_mode():
        seen = steps_of(neuron, x)
    torch.manual_seed(7)
    m, expected = torch.zeros(x.shape[1:], dtype=torch.float64), []
    for current in x.double():
        tau = torch.sigmoid(1.5 * torch.randn(x.shape[1:]).double())
        m = tau * m + (1 - tau) * current
        expected.append((m > 0.5).float())
        m = torch.where(m > 0.5, 0.0, m)
    assert 0 < seen.mean() < 1
    assert torch.equal(seen, torch.stack(expected))


def test_a_weight_without_a_place_is_refused(images: np.ndarray) -> None:
    from randhet.benchmarks.peers import plain

    made = at_rate(SETTINGS, 0.2, images)
    network = plain.make(made, True)
    broken = replace(made, state=dict(made.state) | {"layer9.0.conv1.weight": torch.zeros(1)})
    with pytest.raises(checkpoints.RandhetError, match="layer9.0.conv1.weight"):
        loaded(network, broken)  # type: ignore[arg-type]


def test_every_layer_fires_at_the_rate(tmp_path: Any) -> None:
    """Counted on the integer networks by the reference, with other draws than those that the rate was set with."""
    case = Case("tiny", rate=0.2, batch=8)
    prepare(case, tmp_path)
    sizes = [8 * 8 * 8] * 3 + [16 * 4 * 4] * 3  # stem and block of 8 channels, block and shortcut of 16
    for kind in ("random", "constant"):
        result = reference.run(read(tmp_path / f"{kind}.net"), np.load(tmp_path / "pixels.npy"), seed=3)
        rates = [count / (3 * 8 * size) for count, size in zip(result.spikes.values(), sizes)]
        assert result.saturations == 0
        assert np.abs(np.array(rates) - 0.2).max() < 0.03
