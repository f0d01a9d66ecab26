"""Training on recordings: what its examples may change, and a short run that learns."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from randhet.base.errors import RandhetError
from randhet.train.attacks.events import EVENT
from randhet.train.checkpoint import build, load, random_init
from randhet.train.data.sources import load as load_data
from randhet.train.loop import fit, train
from randhet.train.models import NAMED
from randhet.train.objectives.at_events import examples
from randhet.train.settings import TrainSettings

SMALL = replace(NAMED["sew-events"], widths=(4, 6), blocks=(1, 1))


def test_examples_change_a_share_of_the_values_by_one_event_each() -> None:
    data = load_data("digits-events", "test").take(6)
    model = build(random_init(fit(SMALL, data), 1, data.pixels))
    images, labels = torch.from_numpy(data.pixels).float() / 255, torch.from_numpy(data.labels)
    for share in (0.001, 0.02):
        points = examples(model, images, labels, TrainSettings(share=share))
        change = ((points - images) / EVENT).round()
        assert torch.allclose(images + change * EVENT, points, atol=1e-6)
        assert change.abs().max() == 1 and points.min() >= 0
        assert change.abs().flatten(1).sum(1).max() <= round(share * images[0].numel())
        assert change.abs().flatten(1).sum(1).min() > 0 and model.training


def test_training_on_recordings_lowers_the_loss_and_its_checkpoint_says_that_it_takes_them(tmp_path: Path) -> None:
    losses: list[float] = []
    settings = TrainSettings("digits-events", "at-events", epochs=2, batch=16, plain_epochs=1, seed=3)
    done = train(SMALL, settings, tmp_path / "a.pt", samples=64, report=lambda news: losses.append(news["loss"]))
    again = load(tmp_path / "a.pt")
    assert again.settings.sequence and again.settings.steps == 18 and again.settings.image_size == (20, 20)
    assert again.mean == (0.0, 0.0) and done.record["objective"] == "at-events"
    assert np.isfinite(losses).all()


def test_half_of_the_steps_of_a_recording_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RandhetError, match="cannot be shown in half the time steps"):
        train(SMALL, TrainSettings("digits-events", short_epochs=1), tmp_path / "a.pt", samples=32)
