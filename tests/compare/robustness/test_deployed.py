"""Attacks on the integer network: the module is the network, its gradient the twin's, examples stay in the ball."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from randhet.base.errors import RandhetError
from randhet.base.split import Split
from randhet.compare.equality.replay import samplers
from randhet.compare.report import words
from randhet.compare.robustness.deployed import (
    FIXED,
    FLOAT,
    OTHERS,
    REPLAYED,
    AttackSettings,
    Deployed,
    attack_deployed,
    inside,
    pieces,
)
from randhet.compare.robustness.deployed_split import Work, attack_in_ranges
from randhet.compare.study import paired
from randhet.export.pipeline import export_checkpoint, export_model
from randhet.fixed_point import reference
from randhet.fixed_point.backends import runner
from randhet.fixed_point.network import Network
from randhet.train.checkpoint import Checkpoint, build, random_init
from randhet.train.data.sources import Images
from randhet.train.general import LastStep, LeakyReadOut, MaxOverTime
from randhet.train.layers import Encode, Flatten, MeanOverTime
from randhet.train.models import ModelSettings
from randhet.train.neurons import LIF, replaying

MODEL = ModelSettings(1, 3, (6, 6), (6, 8), (1, 1), steps=4)
PIXELS = np.random.default_rng(1).integers(0, 256, (12, 1, 6, 6), np.uint8)
ENGINE = runner("engine", threads=1)


@pytest.fixture(scope="module", params=["randhet", "randhet-forward", "vanilla"])
def pair(request: pytest.FixtureRequest) -> tuple[Checkpoint, Network]:
    checkpoint = random_init(replace(MODEL, neuron=request.param), seed=2)
    return checkpoint, export_checkpoint(checkpoint, PIXELS).network


def points(pixels: np.ndarray = PIXELS) -> torch.Tensor:
    return torch.from_numpy(pixels).float() / 255


def test_scores_are_the_integers_in_the_units_of_the_logits(pair: tuple[Checkpoint, Network]) -> None:
    checkpoint, network = pair
    expected = reference.run(network, PIXELS, seed=7, first_image=30)
    found = Deployed(network, build(checkpoint), ENGINE, (7, 30))(points())
    assert found.argmax(1).tolist() == expected.predictions.tolist()
    scale = network.layers[-1].scale
    assert scale is not None
    np.testing.assert_allclose(found.numpy(), expected.sums * scale / MODEL.steps, rtol=1e-6)
    model = build(checkpoint)
    with torch.no_grad(), replaying(model, samplers(network, 7, 30)):
        floats = model(points())
    slope = float((found * floats).sum() / (floats * floats).sum())
    assert slope == pytest.approx(1, abs=0.1), "the same units as the float model's logits"


READ_OUTS: dict[str, Callable[[], nn.Module]] = {"last": LastStep, "largest": MaxOverTime, "mean": MeanOverTime}


@pytest.mark.parametrize("name", READ_OUTS)
@pytest.mark.parametrize("drive", [1.0, 0.2])
def test_scores_of_a_leaky_read_out_are_in_the_units_of_the_logits(name: str, drive: float) -> None:
    torch.manual_seed(4)
    read = (LeakyReadOut(0.8, drive=drive), READ_OUTS[name]())
    front = (nn.Conv2d(1, 4, 3, padding=1), Encode(5), LIF(0.6, 0.1), Flatten())
    model = nn.Sequential(*front, nn.Linear(144, 3), *read).eval()
    made = export_model(model, PIXELS)
    images = labelled(made.network, model)
    twin = paired(model, made.network, images).twin
    found = Deployed(made.network, twin, ENGINE, (7, 0))(points())
    with torch.no_grad():
        floats = model(points())
    assert found.argmax(1).tolist() == reference.run(made.network, PIXELS, seed=7).predictions.tolist()
    slope = float((found * floats).sum() / (floats * floats).sum())
    assert slope == pytest.approx(1, abs=0.1)


def test_gradient_is_the_twin_s_at_the_integers_scores(pair: tuple[Checkpoint, Network]) -> None:
    """d CE/dx = (softmax(z_int) - y) times the Jacobian of the float logits, here with the Jacobian row by row."""
    checkpoint, network = pair
    model, labels = build(checkpoint), torch.arange(4) % 3
    x = points(PIXELS[:4]).requires_grad_(True)
    scores = Deployed(network, model, ENGINE, (7, 0))(x)
    (found,) = torch.autograd.grad(F.cross_entropy(scores, labels, reduction="sum"), x)
    weight = scores.detach().softmax(1) - F.one_hot(labels, 3)
    expected = torch.zeros_like(found)
    with replaying(model, samplers(network, 7, 0)):
        for j in range(3):
            (row,) = torch.autograd.grad(model(x)[:, j].sum(), x)
            expected += weight[:, j].view(-1, 1, 1, 1) * row
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    assert found.abs().sum() > 0


def test_without_a_key_every_answer_is_drawn_anew_and_with_one_none() -> None:
    checkpoint = random_init(MODEL, seed=2)
    network = export_checkpoint(checkpoint, PIXELS).network
    free, held = Deployed(network, build(checkpoint), ENGINE), Deployed(network, build(checkpoint), ENGINE, (3, 5))
    torch.manual_seed(0)
    assert not torch.equal(free(points()), free(points()))
    torch.manual_seed(0)
    again = free(points())
    torch.manual_seed(0)
    assert torch.equal(again, free(points()))
    assert torch.equal(held(points()), held(points()))
    x = points().requires_grad_(True)
    assert torch.equal(held(x), held(x))


@given(st.integers(0, 2**32), st.floats(0, 0.2))
def test_examples_are_bytes_inside_the_ball(seed: int, eps: float) -> None:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (3, 1, 2, 2), np.uint8)
    found = inside(torch.from_numpy(rng.uniform(-0.3, 1.3, pixels.shape)).float(), pixels, eps)
    assert found.dtype == np.uint8
    assert (np.abs(found.astype(int) - pixels) / 255 <= eps + 1e-6).all()


def test_points_on_whole_grey_levels_are_kept() -> None:
    moved = np.clip(PIXELS.astype(int) + np.random.default_rng(0).choice([-8, 8], PIXELS.shape), 0, 255)
    assert np.array_equal(inside(torch.from_numpy(moved).float() / 255, PIXELS, 8 / 255), moved)


def labelled(network: Network, model: torch.nn.Module) -> Images:
    """Images whose labels are what the network mostly says, so that an attack has something to break."""
    sums = sum(reference.run(network, PIXELS, seed=seed).sums for seed in range(8))
    return Images("noise", PIXELS, np.asarray(sums).argmax(axis=1), ("a", "b", "c"))


def test_whoever_replays_the_draws_does_best() -> None:
    """The replaying attacker is at least as strong as the one without the seed, whose examples are for all draws."""
    checkpoint = random_init(MODEL, seed=2)
    network = export_checkpoint(checkpoint, PIXELS).network
    settings = AttackSettings("fgsm,pgd5x2", eps=24 / 255, draws=3, redraws=4)
    images, told = labelled(network, build(checkpoint)), []
    found = attack_deployed(network, build(checkpoint), images, settings, ENGINE, told.append)
    assert sum(told) == pieces(network, settings) == 2 * (2 + 3)
    mra = {pair: found.weakest(*pair).accuracy for pair in found.pairs}
    assert mra["seed and position", REPLAYED] < mra["deployed network", FIXED]
    assert mra["seed and position", REPLAYED] < mra["seed and position", OTHERS]
    assert found.clean[FIXED].accuracy > mra["deployed network", FIXED]
    gap = found.gaps["on fixed point, seed unknown less seed known"]
    assert gap.value == pytest.approx(mra["deployed network", FIXED] - mra["seed and position", REPLAYED])
    assert gap.low <= gap.value <= gap.high
    assert len(found.of("float model", FLOAT)) == 3, "fgsm, pgd, and pgd's noise-aware reading"
    said = words.robustness_dict(found)
    assert min(one["accuracy"] for one in said["attacks"]) == min(one["accuracy"] for one in said["mra"])
    assert "master seed" in words.secrets(found)


def test_replayed_examples_are_judged_on_the_draws_they_were_made_for() -> None:
    checkpoint = random_init(MODEL, seed=2)
    network = export_checkpoint(checkpoint, PIXELS).network
    images = labelled(network, build(checkpoint))
    asked: list[tuple[int, int]] = []

    def spy(network: Network, pixels: np.ndarray, **options: Any) -> Any:
        asked.append((options["seed"], options["first_image"]))
        return ENGINE(network, pixels, **options)

    settings = AttackSettings("fgsm", eps=8 / 255, draws=2, seed=40)
    attack_deployed(network, build(checkpoint), images, settings, spy)
    assert {(40, 0), (41, 0)} <= set(asked)
    assert all(first == 0 for _, first in asked)
    asked.clear()
    attack_deployed(network, build(checkpoint), images, settings, spy, first=200)
    # who does not know the seed asks with seeds of its own, of 62 bits
    assert {(seed, first) for seed, first in asked if seed < 100} == {(40, 200), (41, 200)}


def test_ranges_of_images_are_attacked_by_themselves_and_put_together() -> None:
    checkpoint = random_init(MODEL, seed=2)
    network = export_checkpoint(checkpoint, PIXELS).network
    images = labelled(network, build(checkpoint))
    settings = AttackSettings("fgsm", eps=24 / 255, draws=2, redraws=2)
    half = len(images) // 2
    parts = [
        attack_deployed(network, build(checkpoint), images.pick(np.arange(first, end)), settings, ENGINE, first=first)
        for first, end in ((0, half), (half, len(images)))
    ]
    found = attack_in_ranges(Work(network, build(checkpoint), images, settings, 1), Split(images=half))
    for i, standing in enumerate(found.standings):
        right = np.concatenate([part.standings[i].right for part in parts])
        np.testing.assert_array_equal(standing.right, right)
    assert found.clean[FIXED].accuracy == np.concatenate([part.clean[FIXED].right for part in parts]).mean()
    assert (found.images, found.chance, len(found.standings)) == (len(images), True, len(parts[0].standings))
    assert not np.array_equal(parts[0].clean[FIXED].right, np.ones(half)), "draws must matter"


def test_a_network_without_chance_has_no_seed_to_know() -> None:
    checkpoint = random_init(replace(MODEL, neuron="vanilla"), seed=2)
    network = export_checkpoint(checkpoint, PIXELS).network
    settings = AttackSettings("fgsm", eps=8 / 255, draws=3)
    found = attack_deployed(network, build(checkpoint), labelled(network, build(checkpoint)), settings, ENGINE)
    assert {attacker for attacker, _ in found.pairs} == {"float model", "deployed network"}
    assert words.secrets(found).startswith("The network is deterministic")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"eps": 1.5}, "eps is 1.5"),
        ({"draws": 0}, "draws is 0"),
        ({"attacks": "square100"}, "'square100' cannot be made on a deployed network"),
        ({"attacks": "pgd10@mean"}, "cannot be made on a deployed network"),
        ({"attacks": "laser"}, "'laser' is not one of"),
    ],
)
def test_settings_out_of_range(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(RandhetError, match=said):
        AttackSettings(**fields)
