"""Training: resuming gives an unbroken run's weights, adversarial examples stay in their ball, settings are checked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from killed import Killed, kill_at
from torch import nn

from randhet.base.errors import RandhetError
from randhet.train.attacks.rfgsm import rfgsm
from randhet.train.checkpoint import build, load
from randhet.train.loop import TrainSettings, augment, evaluate, train
from randhet.train.models import ModelSettings
from randhet.train.neurons import RandomTauLIF, neurons

TINY = ModelSettings(widths=(4,), blocks=(1,), steps=2)


def test_resuming_equals_an_unbroken_run(tmp_path: Path) -> None:
    settings = TrainSettings(epochs=3, batch=50)
    unbroken = train(TINY, settings, tmp_path / "unbroken.pt", samples=150)

    with pytest.raises(Killed):
        train(TINY, settings, tmp_path / "broken.pt", samples=150, report=kill_at(3, 2))
    assert load(tmp_path / "broken.pt").record["epoch"] == 2
    resumed = train(TINY, settings, tmp_path / "broken.pt", samples=150, resume=True)
    assert all(torch.equal(tensor, resumed.state[name]) for name, tensor in unbroken.state.items())
    assert load(tmp_path / "broken.pt").resume is None


@pytest.mark.parametrize(("kind", "count"), [("no", 0), ("layer", 2), ("global", 1)])
def test_a_trained_sigma_is_told_after_every_epoch(kind: str, count: int, tmp_path: Path) -> None:
    told: list[dict[str, Any]] = []
    model = replace(TINY, neuron="randhet", train_sigma=kind, sigma=0.7)
    done = train(model, TrainSettings(epochs=2, batch=50), tmp_path / "it.pt", samples=100, report=told.append)
    epochs = [news["sigmas"] for news in told if "sigmas" in news]
    assert len(epochs) == (2 if count else 0)
    if count:
        built = {name: it.sigma for name, it in neurons(build(done)).items() if isinstance(it, RandomTauLIF)}
        assert epochs[-1] == built and all(0.5 < sigma < 1.5 for sigma in built.values())
        assert epochs[0] != epochs[1] and (len(set(built.values())) == 1) == (kind == "global")


def test_resuming_with_other_settings_is_refused(tmp_path: Path) -> None:
    train(TINY, TrainSettings(epochs=1), tmp_path / "a.pt", samples=64)
    with pytest.raises(RandhetError, match="cannot resume .* epochs, model differ"):
        train(ModelSettings(widths=(8,), blocks=(1,)), TrainSettings(epochs=2), tmp_path / "a.pt", resume=True)


def test_training_learns(tmp_path: Path) -> None:
    """A few epochs of a tiny network must beat chance (10 %) by far."""
    from randhet.train.checkpoint import build
    from randhet.train.data.sources import load as data

    settings = TrainSettings(epochs=5, objective="plain")
    done = train(ModelSettings(widths=(16,), blocks=(1,), steps=2), settings, tmp_path / "a.pt")
    assert np.mean(evaluate(build(done), data("digits").take(200), draws=2)) > 0.25


def linear() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 2))


def test_rfgsm_stays_in_its_ball_and_takes_the_optimal_direction_on_a_linear_model() -> None:
    """On a linear two-class model the gradient's sign is sign(w_other - w_true) everywhere: the closed-form optimum."""
    model, images, labels = linear(), torch.rand(40, 1, 4, 4), torch.randint(2, (40,))
    eps = 0.03
    found = rfgsm(model, images, labels, eps, eps)
    assert (found - images).abs().max() <= eps + 1e-7 and found.min() >= 0 and found.max() <= 1
    weight = model[1].weight
    direction = (weight[1 - labels] - weight[labels]).sign().reshape(images.shape)
    inside = (images > 2 * eps) & (images < 1 - 2 * eps)
    # the random start is at most eps/10 away, so every pixel ends within eps/10 of its optimum
    assert (found - (images + eps * direction))[inside].abs().max() <= eps / 10 + 1e-6


def test_augment_shifts_over_zeros_and_mirrors() -> None:
    images = torch.arange(2 * 9.0).reshape(2, 1, 3, 3) + 1
    torch.manual_seed(0)
    seen = {tuple(augment(images, 1, False)[0].flatten().tolist()) for _ in range(300)}
    padded = torch.nn.functional.pad(images[0, 0], (1, 1, 1, 1))
    expected = {tuple(padded[i : i + 3, j : j + 3].flatten().tolist()) for i in range(3) for j in range(3)}
    assert seen == expected
    mirrored = {tuple(augment(images, 0, True)[0].flatten().tolist()) for _ in range(50)}
    assert mirrored == {tuple(images[0].flatten().tolist()), tuple(images[0].flip(-1).flatten().tolist())}


@pytest.mark.parametrize(
    ("change", "words"),
    [({"objective": "xyz"}, "objective 'xyz'"), ({"epochs": 0}, "epochs is 0"), ({"eps": 3.0}, "eps 3.0")],
)
def test_wrong_settings_are_refused(change: dict[str, object], words: str) -> None:
    with pytest.raises(RandhetError, match=words):
        TrainSettings(**change)  # type: ignore[arg-type]
