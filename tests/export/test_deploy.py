"""`deploy` and `compare_models` as a user calls them: what they take, what they refuse, that both belong together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import randhet
from randhet.base.errors import RandhetError
from randhet.export.deploy import pixels_of
from randhet.fixed_point import reference
from randhet.train.data.sources import load
from randhet.train.layers import Encode, MeanOverTime
from randhet.train.neurons import LIF

BYTES = np.random.default_rng(0).integers(0, 256, (6, 1, 4, 4), dtype=np.uint8)


def model(steps: int = 4) -> nn.Sequential:
    torch.manual_seed(0)
    layers = (nn.Flatten(), nn.Linear(16, 12), Encode(steps), LIF(0.6, 0.1), nn.Linear(12, 3), MeanOverTime())
    return nn.Sequential(*layers).eval()


def test_bytes_floats_and_tensors_are_the_same_images() -> None:
    floats = BYTES.astype(np.float32) / 255
    for images in (BYTES, floats, torch.from_numpy(floats), torch.from_numpy(BYTES), floats.astype(np.float64)):
        assert np.array_equal(pixels_of(images), BYTES)


@pytest.mark.parametrize(
    ("images", "sentence"),
    [
        (BYTES.astype(np.int64), "images are int64"),
        (BYTES / 255 - 0.5, "they must lie in 0..1: leave normalisation to the model"),
        (BYTES / 256, "must be multiples of 1/255"),
        (np.full((1, 1, 4, 4), np.nan), "they must lie in 0..1"),
        (BYTES[0], r"of shape \(1, 4, 4\)"),
        (BYTES[:0], r"of shape \(0, 1, 4, 4\)"),
    ],
)
def test_other_images_are_refused(images: Any, sentence: str) -> None:
    with pytest.raises(RandhetError, match=sentence):
        randhet.deploy(model(), images)


def test_the_network_answers_as_the_module() -> None:
    """A linear first layer on the image: predictions agree wherever the float scores are not nearly equal."""
    net = model()
    network = randhet.deploy(net, BYTES, classes=("a", "b", "c"), weight_bits=8)
    assert (network.classes, network.steps, network.input.shape) == (("a", "b", "c"), 4, (1, 4, 4))
    with torch.no_grad():
        scores = net(torch.from_numpy(BYTES).float() / 255).numpy()
    top = np.sort(scores, axis=1)
    clear = top[:, -1] - top[:, -2] > 0.05
    assert clear.sum() >= 3
    found = reference.run(network, BYTES, seed=0).predictions
    assert np.array_equal(found[clear], scores.argmax(1)[clear])


def test_settings_are_said_once() -> None:
    from randhet.export.passes.quantise import QuantSettings

    with pytest.raises(RandhetError, match="settings and weight_bits are both given"):
        randhet.deploy(model(), BYTES, settings=QuantSettings(), weight_bits=4)


def test_the_report_is_of_this_pair() -> None:
    net = model()
    network = randhet.deploy(net, BYTES)
    labels = np.zeros(6, np.int64)
    report = randhet.compare_models(net, network, BYTES, labels, draws=1, backends=("engine",))
    assert report.found.tracing.backends["engine"].identical and report.found.images == 6
    for other, sentence in ((model(3), "runs 4 time steps"), (nn.Sequential(*model()[:-1], MeanOverTime()), None)):
        if sentence is None:
            with torch.no_grad():
                other[1].bias += 0.25
        with pytest.raises(RandhetError, match=sentence or "other weights"):
            randhet.compare_models(other, network, BYTES, labels, draws=1, backends=())


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        (None, "labels must be one whole number for each of 6 images"),
        (np.zeros(5, np.int64), "labels must be one whole number for each of 6 images"),
        (np.zeros(6), "labels must be one whole number"),
        (np.full(6, 3), "labels reach from 3 to 3, the network has 3 classes"),
    ],
)
def test_labels_must_fit(labels: Any, sentence: str) -> None:
    net = model()
    network = randhet.deploy(net, BYTES)
    with pytest.raises(RandhetError, match=sentence):
        randhet.compare_models(net, network, BYTES, labels, draws=1, backends=())


def test_images_bring_their_labels() -> None:
    with pytest.raises(RandhetError, match="the images have labels of their own"):
        randhet.compare_models(model(), randhet.deploy(model(), BYTES), load("digits"), np.zeros(3, np.int64))
