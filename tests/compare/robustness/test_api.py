"""`randhet.attack` on modules of every kind, against what is known of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import randhet
from randhet.base.errors import RandhetError
from randhet.compare.robustness.api import found_stochastic
from randhet.compare.robustness.evaluation import Execution, Setup, Trial, evaluate
from randhet.train.attacks.battery import masking
from randhet.train.attacks.problem import Problem
from randhet.train.checkpoint import build, random_init
from randhet.train.data.sources import load
from randhet.train.models import ModelSettings

IMAGES = torch.rand(12, 1, 4, 4, generator=torch.Generator().manual_seed(0))
LABELS = torch.zeros(12, dtype=torch.int64)


class Linear(nn.Module):
    """Logits (a, -a, b, c), a = <w, x> + bias: the strongest example of class 0 is x - eps*sign(w)."""

    def __init__(self, bias: float, noise: float = 0.0) -> None:
        super().__init__()
        self.w, self.bias, self.noise = torch.linspace(-1, 2, 16), bias, noise

    def forward(self, x: Tensor) -> Tensor:
        a = x.flatten(1) @ self.w + self.bias
        a = a + self.noise * torch.randn(len(x))
        return torch.stack([a, -a, torch.full_like(a, -50), torch.full_like(a, -60)], 1)


def test_the_accuracy_is_that_of_the_strongest_example() -> None:
    model = Linear(-3.0)
    found = randhet.attack(model, IMAGES, LABELS, "pgd4,sa-pgd6+assg,square100", eps=0.1, batch=5)
    best = (IMAGES - 0.1 * model.w.sign().view(1, 4, 4)).clamp(0, 1)
    right = [(model(points).argmax(1) == 0).float().mean().item() for points in (IMAGES, best)]
    assert 0 < right[1] < right[0] <= 1
    assert found.clean.accuracy == pytest.approx(right[0])
    assert found.accuracy["pgd4"] == found.accuracy["sa-pgd6+assg"] == pytest.approx(right[1])
    assert found.mra == pytest.approx(right[1]) and found.interval[0] <= found.mra <= found.interval[1]
    assert not found.stochastic and found.layers == () and found.warnings == ()
    for examples in found.examples.values():
        assert examples.shape == IMAGES.shape and (examples - IMAGES).abs().max() <= 0.1 + 1e-6


def test_randomness_is_found_and_repeated() -> None:
    found = randhet.attack(Linear(-1.0, noise=0.5), IMAGES, LABELS, "pgd4x2", eps=0.05, draws=7)
    assert found.stochastic and len(found.clean.draws.predictions) == 7
    declared = randhet.attack(Linear(-1.0, noise=0.5), IMAGES, LABELS, "pgd4", eps=0.05, draws=7, stochastic=False)
    assert not declared.stochastic and len(declared.clean.draws.predictions) == 1
    assert found_stochastic(
        build(random_init(ModelSettings(1, 4, (6, 6), (3,), (1,), steps=2))), torch.rand(2, 1, 6, 6)
    )


def test_the_same_seed_gives_the_same_and_nothing_is_left_changed() -> None:
    model = nn.Sequential(Linear(-1.0, noise=0.5), nn.Dropout(0.5))
    model.train()
    model[0].eval()
    torch.manual_seed(3)
    state = torch.get_rng_state()
    first, second = (randhet.attack(model, IMAGES, LABELS, "sa-pgd3", eps=0.1, seed=5) for _ in range(2))
    assert torch.equal(first.examples["sa-pgd3"], second.examples["sa-pgd3"])
    assert first.accuracy == second.accuracy
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training and model[1].training and not model[0].training


class Stateful(nn.Module):
    """Adds what earlier calls have left."""

    def __init__(self) -> None:
        super().__init__()
        self.before = torch.zeros(())

    def forward(self, x: Tensor) -> Tensor:
        self.before = self.before + x.detach().mean()
        return torch.stack([x.flatten(1).sum(1), self.before.expand(len(x))], 1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"images": IMAGES[0]}, "they must be floats"),
        ({"images": (IMAGES * 255).byte()}, "they must be floats"),
        ({"images": IMAGES * 255}, "normalise inside the model"),
        ({"images": IMAGES * torch.nan}, "normalise inside the model"),
        ({"labels": LABELS[:3]}, "they must be int64"),
        ({"labels": LABELS + 4}, "the model has 4 classes"),
        ({"labels": LABELS.float()}, "they must be int64"),
        ({"eps": -0.1}, "it must lie in 0..1"),
        ({"draws": 0}, "draws is 0"),
        ({"attacks": "pgd"}, "needs its number of steps"),
        ({"attacks": "pgd5+mish"}, "which is no surrogate; there are assg, arctan"),
        ({"model": Stateful()}, "begin every call from the same state"),
        ({"model": nn.Flatten(0)}, "must return logits"),
        ({"model": nn.Sequential(nn.Flatten(), nn.Linear(16, 2)), "attacks": "apgd-dlr3"}, "needs 3 classes"),
        ({"model": Linear(0.0, noise=1.0), "attacks": "pgd3@mean"}, "act at their mean, this model has none"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, Any], words: str) -> None:
    given: dict[str, Any] = {"model": Linear(0.0), "images": IMAGES, "labels": LABELS, "attacks": "pgd2", "eps": 0.1}
    with pytest.raises(RandhetError, match=words):
        randhet.attack(**given | change)


class Staircase(nn.Module):
    """Class 0 while floor(20*s)/20 > 0.5, s the mean of the image, else class 1; its gradient may point wrongly."""

    def __init__(self, lies: bool) -> None:
        super().__init__()
        self.lies = lies

    def forward(self, x: Tensor) -> Tensor:
        s = x.flatten(1).mean(1)
        step = (20 * s).floor() / 20 + ((s.detach() - s) if self.lies else (s - s.detach()))
        a = step - 0.5 + 0.001
        return torch.stack([a, -a], 1)


def test_the_battery_warns_where_square_beats_the_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same network with a gradient that points the wrong way, and with one that points the right way."""
    from randhet.train.attacks import battery

    monkeypatch.setattr(battery.snn_auto, "__defaults__", (6, 300, 2))
    images = 0.55 + 0.1 * torch.rand(10, 1, 4, 4)
    for lies in (True, False):
        found = randhet.attack(Staircase(lies), images, LABELS[:10], eps=0.2)
        left = found.outcomes["snn-auto"].left
        assert list(left) == ["ce", "square"]
        assert left["square"] == found.mra == 0
        assert left["ce"] == (1.0 if lies else 0.0)
        assert len(found.warnings) == lies
        if lies:
            assert found.warnings[0].startswith(
                "Square, which uses no gradients, lowered the accuracy from 100.0 to 0.0 %"
            )


def test_a_warning_begins_above_two_tenths_of_a_point() -> None:
    assert masking({"ce": 0.5, "square": 0.498}) is None
    assert masking({"ce": 0.5, "dlr": 0.3, "square": 0.297}) is not None
    assert masking({"square": 0.1}) is None and masking({}) is None


@pytest.mark.parametrize("neuron", ["randhet", "vanilla"])
def test_the_battery_runs_as_any_attack_does(neuron: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over batches, in an evaluation with pieces; its last part is the strongest example that it found."""
    from randhet.train.attacks import battery

    monkeypatch.setattr(battery.snn_auto, "__defaults__", (3, 10, 2))
    data = load("digits").take(20)
    checkpoint = random_init(ModelSettings(1, 10, (8, 8), (3,), (1,), steps=2, neuron=neuron), images=data.pixels)  # type: ignore[arg-type]
    trial = Trial("snn-auto", 0.1)
    found = evaluate(Setup(checkpoint, data, 4, 4), [trial], Execution(batch=8, workers=0))[trial]
    names = ["ce", "dlr", "targeted", "mean", "square"] if neuron == "randhet" else ["ce", "dlr", "targeted", "square"]
    assert list(found.left) == names
    assert all(len(shares) == 20 for shares in found.parts.values())
    if neuron == "vanilla":
        assert found.left["square"] == found.accuracy
        assert list(found.left.values()) == sorted(found.left.values(), reverse=True)


def test_parts_of_a_battery_stop_where_nothing_is_left() -> None:
    from randhet.train.attacks.battery import snn_auto

    problem = Problem(Linear(-100.0), IMAGES, LABELS, 0.1)
    found = snn_auto(problem, steps=2, queries=2)
    assert {name: float(part.sum()) for name, part in found.parts.items()} == dict.fromkeys(
        ("ce", "dlr", "targeted", "square"), 0.0
    )


# --- recordings -------------------------------------------------------------------------------------------------------


class Events(nn.Module):
    """Class 1 where w.x > 0, w of recordings (4, 2, 3, 3); x counts events."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, x: Tensor) -> Tensor:
        score = (x * 255 * self.weight).flatten(1).sum(1)
        return torch.stack([torch.zeros_like(score), score], 1)


def test_recordings_are_attacked_event_by_event() -> None:
    """A linear model: what the strongest change of every value, of two values, and of two times leaves is a sum."""
    generator = torch.Generator().manual_seed(1)
    # small, as cross entropy has no gradient in float32 where scores are above 17
    weight = torch.randn(4, 2, 3, 3, generator=generator) / 5
    counts = torch.randint(0, 3, (20, 4, 2, 3, 3), generator=generator)
    score = (counts * weight).flatten(1).sum(1)
    counts, score = counts[score > 0], score[score > 0]
    labels = torch.ones(len(counts), dtype=torch.int64)
    # an event fewer where the weight is positive, if there is one, and one more where it is negative
    gains = torch.where(weight > 0, weight * (counts > 0), -weight).flatten(1).sort(1, descending=True).values
    left = {"pgd-frames5": score - gains.sum(1), "sda2": score - gains[:, :2].sum(1)}
    # the better of both ways for every event of a value; two of one value may go
    best = torch.zeros_like(weight)
    best[:-1] = (weight[:-1] - weight[1:]).clamp_min(0)
    best[1:] = torch.maximum(best[1:], weight[1:] - weight[:-1])
    moves = torch.cat([best * (counts > 0), best * (counts > 1)], 1).flatten(1)
    left["retime2"] = score - moves.sort(1, descending=True).values[:, :2].sum(1)
    found = randhet.attack(Events(weight), counts / 255, labels, ",".join(left), eps=1 / 255)
    assert found.clean.accuracy == 1 and not found.stochastic
    for name, rest in left.items():
        changed = (found.examples[name] * 255).round() - counts
        assert found.examples[name].shape == counts.shape and changed.abs().max() <= 1 + (name == "retime2")
        assert found.accuracy[name] == pytest.approx((rest > 0).float().mean().item()), name
    assert found.accuracy["pgd-frames5"] == found.mra < found.accuracy["sda2"] < 1
    assert ((found.examples["retime2"] * 255).round() - counts).flatten(1).sum(1).abs().max() == 0


def test_a_trained_network_of_recordings_is_attacked() -> None:
    """The shipped one; the noise-aware evaluation keeps to the budget too."""
    recordings = load("digits-events", "test").take(4)
    frames, labels = torch.from_numpy(recordings.pixels).float() / 255, torch.from_numpy(recordings.labels)
    model = build(randhet.load_checkpoint("checkpoints/digits-events-randhet-at.pt"))
    found = randhet.attack(model, frames, labels, "sda20,retime10", eps=1 / 255, draws=3)
    assert found.stochastic and found.mra <= found.clean.accuracy
    changed = (found.examples["sda20"] - frames).abs() > 0.5 / 255
    assert 0 < int(changed.flatten(1).sum(1).max()) <= 20
    assert (found.examples["retime10"] - frames).flatten(1).sum(1).abs().max() < 1e-3
