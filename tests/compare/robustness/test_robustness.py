"""Evaluation under attack: what is reported is the truth of the examples, for either reading, whatever runs it."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import norm, t
from torch import Tensor, nn

from randhet.base.errors import FileError, RandhetError
from randhet.compare.accuracy import Draws
from randhet.compare.equivalence import share_interval
from randhet.compare.robustness import evaluation as robustness
from randhet.compare.robustness.evaluation import (
    CLEAN,
    Execution,
    Outcome,
    Reading,
    Setup,
    Trial,
    chosen_apart,
    evaluate,
    mra,
)
from randhet.compare.robustness.similarity import cosine, similarity
from randhet.compare.robustness.summary import as_dict
from randhet.export.model import as_model
from randhet.export.varied import varied
from randhet.train.checkpoint import Checkpoint, build, random_init
from randhet.train.data.sources import Images, load
from randhet.train.models import ModelSettings
from randhet.train.neurons import LIF, RandomTauLIF, neurons

EPS = 0.1
HERE = Execution(batch=8, workers=0)
TINY = ModelSettings(1, 10, (8, 8), (3,), (1,), steps=2)


def small(neuron: str = "randhet", count: int = 20, **chosen: int) -> Setup:
    images = load("digits").take(count)
    checkpoint = random_init(replace(TINY, neuron=neuron), images=images.pixels)  # type: ignore[arg-type]
    return Setup(checkpoint, images, **{"draws": 4, "redraws": 2} | chosen)


def reading(*rows: list[int], labels: list[int]) -> Reading:
    return Reading(Draws(np.array(rows), np.array(labels)))


def test_a_reading_by_hand() -> None:
    """Three draws on four images: 3/4, 2/4, 3/4 right; the images 3/3, 2/3, 3/3, 0/3; votes 1, 1, 2, 0."""
    found = reading([1, 1, 2, 0], [1, 0, 2, 0], [1, 1, 2, 0], labels=[1, 1, 2, 2])
    assert found.accuracy == pytest.approx(8 / 12)
    assert found.majority == 3 / 4
    accuracies = np.array([0.75, 0.5, 0.75])
    half = t.ppf(0.975, 2) * accuracies.std(ddof=1) / sqrt(3)
    assert found.interval == pytest.approx((accuracies.mean() - half, accuracies.mean() + half))
    assert found.elsewhere == pytest.approx(share_interval(8 / 12, 4))
    assert reading([1, 1], labels=[1, 0]).interval is None


def test_an_attack_chosen_on_other_images_is_not_flattered_by_chance() -> None:
    """Ten attacks that all leave 30 %: the minimum over 100 images is several points lower, on average."""
    rng = np.random.default_rng(0)
    tries = [(rng.random((10, 100)) < 0.3).astype(float) for _ in range(300)]
    apart, together = (np.mean([measure(it) for it in tries]) for measure in (chosen_apart, lowest_mean))
    assert abs(apart - 0.3) < 0.01
    assert together < 0.25
    better = np.vstack([np.ones((1, 100)), np.zeros((1, 100))])
    assert chosen_apart(better) == 0
    assert chosen_apart(np.ones((2, 1))) == 1


def lowest_mean(right: np.ndarray) -> float:
    return float(right.mean(axis=1).min())


def test_the_minimum_is_over_all_attacks_and_both_readings() -> None:
    half, quarter, none = (reading(row, labels=[1] * 4) for row in ([1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]))
    outcomes = {CLEAN: Outcome(none), "a": Outcome(half), "b": Outcome(quarter, half), "c": Outcome(half, quarter)}
    assert [outcomes[name].accuracy for name in "abc"] == [0.5, 0.25, 0.25]
    assert mra(outcomes) == 0.25
    assert mra({"a": Outcome(half)}) == 0.5


class Coin(nn.Module):
    """One neuron for one step: it spikes, which is class 1, with probability Phi(logit(1 - theta/x) / sigma)."""

    def __init__(self) -> None:
        super().__init__()
        self.neuron = RandomTauLIF(1.0)

    def forward(self, x: Tensor) -> Tensor:
        spike = self.neuron(2 * x.flatten(1)[None])[0].sum(1)
        return torch.stack([torch.full_like(spike, 0.5), spike], 1)

    def accuracy(self, x: Tensor) -> float:
        ratio = 1 - 0.5 / (2 * x.double().numpy().clip(0.2501))
        return float(norm.sf(np.log(ratio / (1 - ratio))).mean())


@pytest.mark.parametrize("attack", ["pgd4", "apgd4", "square20"])
def test_what_is_reported_is_what_the_examples_do(attack: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Choosing among examples by the draws that are reported would show less accuracy than there is; and luck, more."""
    model, seen = Coin(), []
    predictions = robustness.predictions

    def keep(model: nn.Module, images: Tensor, draws: int) -> np.ndarray:
        seen.append(images)
        return predictions(model, images, draws)

    monkeypatch.setattr(robustness, "predictions", keep)
    count, draws = 400, 50
    images = Images("coins", np.full((count, 1, 1, 1), 100, np.uint8), np.zeros(count, np.int64), ("0", "1"))
    given = Setup(as_model(model), images, draws, redraws=30)
    trial = Trial(attack, EPS)
    outcome = evaluate(given, [trial], Execution(batch=count, workers=0))[trial]
    assert outcome.aware is not None and len(seen) == 2
    for reported, examples in zip((outcome.stock, outcome.aware), seen):
        assert abs(reported.accuracy - model.accuracy(examples)) < 4 * sqrt(0.25 / (count * draws))
    # the truth of the noise-aware examples is the optimum's: every pixel at x + eps
    assert outcome.aware.accuracy < model.accuracy(torch.full((1,), 100 / 255 + EPS)) + 0.02


def test_resumed_results_are_the_same(tmp_path: Path) -> None:
    given, trials = small(), [Trial(CLEAN, 0.0), Trial("pgd2", EPS)]
    whole = evaluate(given, trials, HERE)
    file = tmp_path / "results.jsonl"
    evaluate(given, trials[:1], replace(HERE, out=file))
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(lines[:3]) + lines[3][:20])  # two of three pieces of the clean images, and half a line
    told: list[int] = []
    begin = lambda name, total: told.append
    again = evaluate(given, trials, replace(HERE, out=file, begin=begin))
    assert told == [2, 1, 1, 1, 1]
    for trial in trials:
        for name, expected in whole[trial].readings.items():
            np.testing.assert_array_equal(again[trial].readings[name].draws.predictions, expected.draws.predictions)
    with pytest.raises(FileError, match=r"other settings \(seed\)"):
        evaluate(replace(given, seed=1), trials, replace(HERE, out=file))


def test_a_piece_sent_to_another_process_gives_the_same() -> None:
    """Processes themselves are the matter of test_parallel.py; what they are sent must survive the way."""
    given, trial = small(), Trial("apgd2x2", EPS, (("sigma", 0.5),))
    sent, received = pickle.loads(pickle.dumps((given, trial)))
    assert received == trial and sent.identity == given.identity
    assert robustness.predicted(sent, received, 4, 9) == robustness.predicted(given, trial, 4, 9)


def test_a_deterministic_network_is_asked_once() -> None:
    trial = Trial("pgd2", EPS)
    outcome = evaluate(small("vanilla"), [trial], HERE)[trial]
    assert [len(it.draws.predictions) for it in outcome.readings.values()] == [1, 1]


def test_the_json_object_holds_what_is_promised() -> None:
    given = small()
    trials = {name: Trial(name, EPS if name != CLEAN else 0.0) for name in (CLEAN, "fgsm", "pgd2")}
    outcomes = evaluate(given, list(trials.values()), HERE)
    found = json.loads(json.dumps(as_dict(given, {name: outcomes[it] for name, it in trials.items()}, EPS)))
    assert {"clean", "attacks", "mra", "samples", "eps"} <= set(found)
    assert found["samples"] == 20 and found["eps"] == EPS and list(found["attacks"]) == ["fgsm", "pgd2"]
    assert list(found["readings"]["fgsm"]) == ["stock"] and list(found["readings"]["pgd2"]) == ["stock", "aware"]
    values = {
        f"{name} {kind}": it["accuracy"]
        for name, kinds in found["readings"].items()
        for kind, it in kinds.items()
        if name != CLEAN
    }
    assert found["mra"] == min(values.values()) == values[found["mra_attack"]]
    for name, kinds in found["readings"].items():
        for kind, it in kinds.items():
            right = outcomes[trials[name]].readings[kind].draws.right
            assert it["draws"] == len(right) == 4
            assert [int(count) for count in it["correct"].split()] == [sum(column) for column in right.T.tolist()]
    assert found["attacks"]["pgd2"] == min(values["pgd2 stock"], values["pgd2 aware"])


def test_cosines_by_hand_and_of_a_deterministic_network() -> None:
    a, b = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]]), torch.tensor([[0.0, 2.0], [1.0, 0.0], [1.0, 0.0]])
    torch.testing.assert_close(cosine(a, b), torch.tensor([0.0, 0.5**0.5, 0.0], dtype=torch.float64))
    many = torch.rand(200, 30, generator=torch.Generator().manual_seed(0))
    assert float(cosine(many, many).max()) <= 1  # rounding alone gives 1 + 4e-16, which a histogram would lose
    trial = Trial("mifgsm2", EPS)  # starts from the image itself, so without random taus nothing is chance
    fixed = similarity(small("vanilla"), [trial], HERE)[trial]
    for name in ("gradient", "perturbation"):
        lengths = getattr(fixed, name)
        assert len(lengths) == 20 and np.allclose(lengths[lengths != 0], 1)
        assert np.mean(getattr(similarity(small(), [trial], HERE)[trial], name)) < 0.999


def built(checkpoint: Checkpoint) -> nn.Module:
    return build(checkpoint)


def test_settings_of_a_trained_model_can_be_varied() -> None:
    checkpoint = random_init(ModelSettings(1, 10, (8, 8), (3, 4), (1, 1), steps=2))
    assert all(it.sigma == 0.3 for it in neurons(built(varied(checkpoint, {"sigma": 0.3}))).values())  # type: ignore[attr-defined]
    assert built(varied(checkpoint, {"steps": 5})).encode.steps == 5  # type: ignore[union-attr]
    second = neurons(built(varied(checkpoint, {"random": "second"})))
    assert [name for name, it in second.items() if isinstance(it, RandomTauLIF)] == [
        name for name in second if name.startswith("layer2.")
    ]
    assert all(isinstance(it, LIF) for it in neurons(built(varied(checkpoint, {"neuron": "vanilla"}))).values())


def test_what_cannot_be_done_is_said() -> None:
    given, tiny = small(), random_init(TINY)
    for trial, words in (
        (Trial("pgd", EPS), "needs its number of steps"),
        (Trial("fgsm", 1.5), "eps is 1.5"),
        (Trial("fgsm", EPS, (("widths", 3),)), "'widths' cannot be changed"),
    ):
        with pytest.raises(RandhetError, match=words):
            evaluate(given, [trial], HERE)
    with pytest.raises(RandhetError, match="vanilla neurons has no random decay factors"):
        varied(small("vanilla").checkpoint, {"sigma": 1.0})
    with pytest.raises(RandhetError, match="sigmas were trained"):
        varied(replace(tiny, settings=replace(TINY, train_sigma="layer")), {"sigma": 1.0})
    with pytest.raises(RandhetError, match="10 classes, the network 9"):
        Setup(random_init(replace(TINY, classes=9)), given.images)
    with pytest.raises(RandhetError, match="1 channels, the network 3"):
        Setup(random_init(replace(TINY, in_channels=3)), given.images)
    with pytest.raises(RandhetError, match="8 x 8 pixels, the network 6 x 8"):
        Setup(random_init(replace(TINY, image_size=(6, 8))), given.images)
    with pytest.raises(RandhetError, match="draws is 0"):
        small(draws=0)


@pytest.mark.parametrize(
    ("count", "trials", "asked", "used"),
    [
        (10, 5, Execution(batch=4), 0),
        (10, 6, Execution(batch=4), None),
        (100, 1, Execution(batch=100), 0),  # one piece
        (10, 2, Execution(batch=4, workers=2), 2),
        (10, 2, Execution(batch=4, scheduler="tcp://127.0.0.1:1"), None),
    ],
)
def test_processes_are_started_where_it_is_worth_it_or_asked_for(
    count: int, trials: int, asked: Execution, used: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[int | None] = []

    def run_all(
        function: Any, pieces: Any, out: Any, scheduler: Any, workers: int | None, *rest: Any, **named: Any
    ) -> Any:
        found.append(workers)
        return dict.fromkeys(pieces)

    monkeypatch.setattr(robustness, "run_all", run_all)
    robustness.spread(
        robustness.predicted, small(count=count), [Trial(f"pgd{n + 1}", EPS) for n in range(trials)], asked
    )
    assert found == [used]
