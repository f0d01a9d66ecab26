"""Draws, their means and how often runs agree, by hand and by brute force."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pytest
import torch

from randhet.compare.accuracy import (
    Draws,
    accuracy_difference,
    agreement,
    elsewhere,
    fixed_draws,
    float_draws,
    is_random,
)
from randhet.fixed_point import reference
from randhet.fixed_point.backends import runner
from randhet.fixed_point.network import Constant, Decay, Dense, Drawn, Flatten, Input, Layer, Lif, Network
from randhet.train.checkpoint import build, random_init
from randhet.train.data.sources import Images
from randhet.train.models import ModelSettings

LABELS = np.array([0, 1, 2, 0, 1])


def draws(seed: int, count: int, classes: int = 3) -> Draws:
    return Draws(np.random.default_rng(seed).integers(0, classes, (count, len(LABELS))), LABELS)


def test_accuracy_of_each_draw_by_hand() -> None:
    found = Draws(np.array([[0, 1, 2, 0, 0], [0, 1, 0, 1, 0], [0, 1, 2, 0, 1]]), LABELS)
    assert found.accuracies == pytest.approx((0.8, 0.4, 1.0))
    assert found.mean == pytest.approx(2.2 / 3)
    assert found.deviation == pytest.approx(np.std([0.8, 0.4, 1.0], ddof=1))


def test_agreement_is_that_of_all_pairs_of_runs() -> None:
    floats, fixed = draws(1, 4), draws(2, 3)
    found = agreement(floats, fixed)
    same = lambda pairs: np.mean([np.mean(a == b) for a, b in pairs])
    assert found.floats == pytest.approx(same(combinations(floats.predictions, 2)))
    assert found.fixed == pytest.approx(same(combinations(fixed.predictions, 2)))
    assert found.between == pytest.approx(same(product(floats.predictions, fixed.predictions)))
    assert found.floats is not None
    assert found.fixed is not None
    assert found.gap == pytest.approx((found.floats + found.fixed) / 2 - found.between)


def test_two_halves_of_the_same_runs_show_no_gap_and_a_broken_side_does() -> None:
    rng, labels = np.random.default_rng(3), np.arange(400) % 5
    noisy = lambda share: np.where(rng.random((6, 400)) < share, rng.integers(0, 5, (6, 400)), labels)
    same = agreement(Draws(noisy(0.2), labels), Draws(noisy(0.2), labels))
    assert same.gap_interval is not None
    assert same.gap_interval[0] <= 0 <= same.gap_interval[1]
    wrong = agreement(Draws(noisy(0.2), labels), Draws((noisy(0.2) + (labels < 1)) % 5, labels))
    assert wrong.gap_interval is not None
    assert wrong.gap_interval[0] > 0.05


def test_a_single_draw_shows_no_noise_floor() -> None:
    found = agreement(draws(1, 1), draws(2, 1))
    assert (found.floats, found.gap) == (None, None)
    assert found.between == np.mean(draws(1, 1).predictions == draws(2, 1).predictions)


def test_elsewhere_is_paired_by_image() -> None:
    floats, fixed = draws(1, 4), draws(2, 3)
    by_image = [floats.right[:, i].mean() - fixed.right[:, i].mean() for i in range(len(LABELS))]
    assert elsewhere(floats, fixed, 0.005).value == pytest.approx(np.mean(by_image))
    assert elsewhere(floats, fixed, 0.005).value == pytest.approx(accuracy_difference(floats, fixed, 0.005, True).value)


def test_without_chance_one_draw_decides() -> None:
    assert accuracy_difference(draws(1, 1), draws(1, 1), 0.005, chance=False).finding == "equivalent"
    assert accuracy_difference(draws(1, 1), draws(1, 1), 0.005, chance=True).finding == "not enough data"


def test_float_draws_repeat_by_seed_and_leave_the_random_state_alone() -> None:
    model = build(random_init(ModelSettings(1, 3, (6, 5), (8, 16), (1, 1), steps=2), seed=3))
    images = Images("x", np.random.default_rng(4).integers(0, 256, (30, 1, 6, 5), np.uint8), np.zeros(30, int), ("a",))
    before = torch.get_rng_state()
    one, two = float_draws(model, images, range(3)), float_draws(model, images, range(1, 3))
    assert torch.equal(before, torch.get_rng_state())
    np.testing.assert_array_equal(one.predictions[1:], two.predictions)
    assert (one.predictions[0] != one.predictions[1]).any()


def small(decay: Decay) -> Network:
    rng = np.random.default_rng(3)
    synapse = Dense(rng.integers(-90, 91, (7, 12)).astype(np.int8))
    spiking = Lif(np.full(7, 900_000, np.int32), np.zeros(7, np.int32), decay)
    layers = (
        Layer("input", Input((3, 2, 2))),
        Layer("flat", Flatten(), (0,)),
        Layer("out", synapse, (1,), spiking, np.ones(1)),
    )
    return Network(layers, steps=5)


def test_a_draw_is_the_share_of_right_predictions_under_its_own_seed() -> None:
    network, rng = small(Drawn()), np.random.default_rng(4)
    images = Images("x", rng.integers(0, 256, (40, 3, 2, 2), np.uint8), rng.integers(0, 7, 40), tuple("abcdefg"))
    told: list[int] = []
    found = fixed_draws(network, images, range(11, 14), runner("reference"), told.append)
    for i, seed in enumerate((11, 12, 13)):
        predictions = reference.run(network, images.pixels, seed=seed).predictions
        np.testing.assert_array_equal(found.predictions[i], predictions)
        assert found.accuracies[i] == sum(int(p == label) for p, label in zip(predictions, images.labels)) / 40
    assert len(set(found.accuracies)) > 1, "the seeds must matter for this test to say anything"
    assert told == [1, 1, 1]


def test_only_drawn_taus_are_chance() -> None:
    assert is_random(small(Drawn()))
    assert not is_random(small(Constant()))
