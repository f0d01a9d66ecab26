"""The average of the weights: its formula, what is written, resuming, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from killed import Killed, kill_at
from torch import nn

from randhet.base.errors import RandhetError
from randhet.train import loop
from randhet.train.average import Average, entries
from randhet.train.checkpoint import build, load
from randhet.train.loop import TrainSettings, train
from randhet.train.models import ModelSettings
from randhet.train.neurons import neurons

TINY = ModelSettings(widths=(4,), blocks=(1,), steps=2)


def test_the_average_is_its_formula() -> None:
    """Weights 1, 2, 4, 8 after steps: by hand with d = 1/10, 2/11, 3/12 of the warm-up, below a decay of 0.9."""
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1))
    model[0].weight.data.fill_(1.0)
    average = Average(model, 0.9)
    expected = 1.0
    for value, decay in ((2.0, 1 / 10), (4.0, 2 / 11), (8.0, 3 / 12)):
        model[0].weight.data.fill_(value)
        model[1].running_mean.fill_(value)
        model[1].num_batches_tracked += 1
        average.follow(model)
        expected = decay * expected + (1 - decay) * value
    assert average.state["0.weight"].item() == pytest.approx(expected, rel=1e-6)
    assert average.state["1.num_batches_tracked"].item() == 3
    with average.applied(model):
        assert model[0].weight.item() == average.state["0.weight"].item()
    assert (model[0].weight.item(), model[1].running_mean.item()) == (8.0, 8.0)


def test_a_decay_holds_after_the_warm_up() -> None:
    model = nn.Linear(1, 1, bias=False)
    model.weight.data.fill_(0.0)
    average = Average(model, 0.5)
    average.steps = 100
    model.weight.data.fill_(1.0)
    average.follow(model)
    assert average.state["weight"].item() == 0.5


def test_resuming_gives_the_unbroken_average(tmp_path: Path) -> None:
    settings = TrainSettings(epochs=3, batch=50, ema=0.9)
    unbroken = train(TINY, settings, tmp_path / "unbroken.pt", samples=150)
    with pytest.raises(Killed):
        train(TINY, settings, tmp_path / "broken.pt", samples=150, report=kill_at(3, 2))
    resumed = train(TINY, settings, tmp_path / "broken.pt", samples=150, resume=True)
    assert all(torch.equal(tensor, resumed.state[name]) for name, tensor in unbroken.state.items())
    plain = train(TINY, TrainSettings(epochs=3, batch=50), tmp_path / "plain.pt", samples=150)
    assert any(not torch.equal(tensor, plain.state[name]) for name, tensor in unbroken.state.items())


def test_the_average_is_what_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the file holds is the average that was followed, while the weights themselves go their own way."""
    kept: list[Average] = []
    begin = Average.__init__

    def watched(self: Average, *given: Any) -> None:
        begin(self, *given)
        kept.append(self)

    monkeypatch.setattr(Average, "__init__", watched)
    train(TINY, TrainSettings(epochs=2, batch=50, ema=0.9), tmp_path / "a.pt", samples=150)
    (average,) = kept
    assert average.steps == 6
    written = load(tmp_path / "a.pt")
    assert all(torch.equal(value, written.state[name]) for name, value in average.state.items())


def test_the_average_is_what_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model whose accuracy is taken holds what the file holds then, and gives the sigmas that are reported."""
    measured: list[dict[str, torch.Tensor]] = []
    before, sigmas = loop.evaluate, []

    def watched(model: nn.Module, *given: Any, **more: Any) -> Any:
        measured.append({name: value.clone() for name, value in model.state_dict().items()})
        return before(model, *given, **more)

    monkeypatch.setattr(loop, "evaluate", watched)
    trained = replace(TINY, train_sigma="layer")
    settings = TrainSettings(epochs=1, batch=50, ema=0.9)
    raw = train(trained, replace(settings, ema=0.0), tmp_path / "raw.pt", samples=150)
    train(trained, settings, tmp_path / "a.pt", samples=150, report=lambda epoch: sigmas.append(epoch.get("sigmas")))
    written = load(tmp_path / "a.pt")
    assert all(torch.equal(value, measured[-1][name]) for name, value in written.state.items())
    held = {name: neuron.sigma for name, neuron in neurons(build(written)).items()}
    assert sigmas[-1] == pytest.approx(held)
    assert any(not torch.equal(value, raw.state[name]) for name, value in written.state.items())


def test_entries_are_the_models_own_tensors() -> None:
    model = nn.Linear(2, 2)
    entries(model)["weight"].zero_()
    assert not model.weight.any()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ema": 1.0}, "ema is 1.0, which keeps the random start: give 0 to below 1"),
        ({"ema": -0.1}, "ema -0.1 must lie in 0..1"),
        ({"ema": 0.9, "qat_bits": 4}, "rounded weights have no average: leave one out"),
    ],
)
def test_what_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(RandhetError, match=message):
        TrainSettings(**settings)
