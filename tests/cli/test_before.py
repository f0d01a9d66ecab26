"""Shipped networks give, on every backend, the integers that version 0.1 gave: `before.json` was written by it.

100 test digits, or 20 made-up pictures of 3x32x32, with seed 7. predictions: a digit an image; spikes: by layer; sums
and network: SHA-256 of little-endian 64 bit integers, of the network those of weights and neurons, layer by layer.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from randhet.export.pipeline import export_checkpoint
from randhet.fixed_point import network as ir
from randhet.fixed_point.backends import BACKENDS, runner
from randhet.train import checkpoint as checkpoints
from randhet.train.data.sources import load

CHECKPOINTS = Path(__file__).parents[2] / "checkpoints"
BEFORE: dict[str, dict[str, Any]] = json.loads(Path(__file__).with_name("before.json").read_text())
LATER = {
    "digits-events-randhet-at",
    "digits-randhet-quiet",
    "cifar10-randhet-quiet",
    "cifar10-randhet-at-wide",
    "cifar10-vanilla-at-wide",
}
"""Trained after 0.1."""
SEED = 7


def pictures(seed: int, count: int) -> np.ndarray:
    """Blocks of 8x8 pixels of one colour, with noise."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, 3, 4, 4)).repeat(8, 2).repeat(8, 3)
    return np.clip(coarse + rng.integers(-40, 41, coarse.shape), 0, 255).astype(np.uint8)


def images(name: str) -> tuple[np.ndarray, np.ndarray]:
    """What the network is calibrated on, and what it is shown."""
    if name.startswith("digits"):
        return load("digits", "train").pixels[:128], load("digits").pixels[:100]
    return pictures(1, 32), pictures(2, 20)


def digest(*arrays: np.ndarray) -> str:
    found = sha256()
    for array in arrays:
        found.update(np.ascontiguousarray(array, dtype="<i8").tobytes())
    return found.hexdigest()


@cache
def exported(name: str) -> ir.Network:
    return export_checkpoint(checkpoints.load(CHECKPOINTS / f"{name}.pt"), images(name)[0]).network


def integers(network: ir.Network) -> Iterator[np.ndarray]:
    """Weights, thresholds, biases and decays, layer by layer."""
    for layer in network.layers:
        if layer.weighted:
            yield layer.weighted.weight
        parts = [layer.neuron, getattr(layer.neuron, "decay", None)]
        for name in ("threshold", "bias", "mantissa", "table"):
            yield from (np.asarray(getattr(part, name)) for part in parts if hasattr(part, name))


def test_every_shipped_checkpoint_is_here() -> None:
    assert set(BEFORE) | LATER == {path.stem for path in CHECKPOINTS.glob("*.pt")}


@pytest.mark.parametrize("name", BEFORE)
def test_the_exported_network_is_the_same(name: str) -> None:
    assert digest(*integers(exported(name))) == BEFORE[name]["network"]


KINDS = ("digits-randhet-at", "digits-vanilla-at", "cifar10-het-at", "cifar10-randhet-forward-at")
"""A checkpoint of every kind of decay."""
SLOW = 10
"""Images on Lava."""


@pytest.mark.parametrize(
    ("name", "backend"),
    [
        *((name, "engine") for name in BEFORE),
        *((name, backend) for name in KINDS for backend in BACKENDS if backend not in ("engine", "lava")),
    ],
)
def test_predictions_and_spikes_are_the_same(name: str, backend: str) -> None:
    """The engine on all checkpoints, every other backend on one of each kind."""
    if reason := BACKENDS[backend].missing():
        pytest.skip(reason)
    found = runner(backend)(exported(name), images(name)[1], seed=SEED, first_image=0, probes=())
    expected = BEFORE[name]
    assert "".join(map(str, found.predictions)) == expected["predictions"]
    assert list(found.spikes.values()) == expected["spikes"]
    assert (digest(found.sums), found.saturations) == (expected["sums"], expected["saturations"])


@pytest.mark.lava
@pytest.mark.parametrize("name", KINDS[:3])
def test_predictions_on_lava_are_the_same(name: str) -> None:
    """Of the first images, with the sums and spikes of the engine, which are those of before."""
    lava, engine = (
        runner(backend)(exported(name), images(name)[1][:SLOW], seed=SEED, first_image=0, probes=())
        for backend in ("lava", "engine")
    )
    assert "".join(map(str, lava.predictions)) == BEFORE[name]["predictions"][:SLOW]
    assert np.array_equal(lava.sums, engine.sums) and lava.spikes == engine.spikes
