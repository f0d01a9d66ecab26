"""Ensembles over decay distributions: scores and gradients by hand, members, training and attacks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import randhet
from randhet.base.errors import RandhetError
from randhet.train.attacks.losses import cross_entropy
from randhet.train.attacks.names import parse, run
from randhet.train.attacks.problem import Problem, found_stochastic
from randhet.train.attacks.spiking import replaced, spiking_modules
from randhet.train.attacks.surrogates import Adaptive
from randhet.train.checkpoint import build, random_init
from randhet.train.ensemble import Ensemble, over_decays, voted
from randhet.train.models import ModelSettings, SEWResNet
from randhet.train.neurons import neurons
from randhet.train.objectives import OBJECTIVES
from randhet.train.settings import TrainSettings


def small(neuron: Any = "randhet", **settings: Any) -> nn.Module:
    return build(random_init(ModelSettings(1, 4, (8, 8), (4, 6), (1, 1), steps=3, neuron=neuron, **settings)))


def test_votes_are_counted_and_mean_logits_decide_between_equals() -> None:
    """Three members, two images: 2 votes for class 0 against 1; one vote for each, the largest mean logit wins."""
    logits = torch.tensor([
        [[3.0, 0, 0], [3.0, 0, 0]],
        [[3.0, 0, 0], [0, 9.0, 0]],
        [[0, 0, 30.0], [0, 0, 3.0]],
    ])  # fmt: skip
    found = voted(logits)
    assert found.argmax(1).tolist() == [0, 1]
    # mean logits (2, 0, 10) and (1, 3, 1): distances from the largest are 8, 10, 0 and 2, 0, 2
    torch.testing.assert_close(found, torch.tensor([[2 + 1 / 9, 1 / 11, 2.0], [1 + 1 / 3, 2.0, 1 + 1 / 3]]))


def test_equal_votes_far_below_the_largest_mean_logit_are_told_apart() -> None:
    """Mean logits -96.25, -95.5 and 8.4: nobody chose the third class, and a softmax of the others would be 0."""
    logits = torch.tensor([[[8.0, -200, 7.9]], [[-200.5, 9, 8.9]]])
    assert voted(logits).argmax(1).tolist() == [1]


def test_the_gradient_of_votes_is_that_of_the_probabilities() -> None:
    logits = torch.randn(3, 5, 4, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(5, 4, dtype=torch.float64)
    (found,) = torch.autograd.grad((voted(logits) * weights).sum(), logits)
    (wanted,) = torch.autograd.grad((logits.softmax(-1).sum(0) * weights * 4 / 3).sum(), logits)
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("combine", ["average", "vote"])
def test_an_ensemble_is_its_members_one_after_another(combine: Any) -> None:
    model, sigmas = small(), (0.2, 1.0, 3.0)
    images = torch.rand(5, 1, 8, 8)
    torch.manual_seed(6)
    found = Ensemble(over_decays(model, sigmas), combine)(images)
    torch.manual_seed(6)
    parts = []
    for sigma in sigmas:
        for neuron in neurons(model).values():
            neuron.sigma = sigma  # type: ignore[assignment]
        parts.append(model(images))
    logits = torch.stack(parts)
    assert torch.equal(found, logits.mean(0) if combine == "average" else voted(logits))


def test_members_leave_the_network_as_it_was_and_share_its_weights() -> None:
    model = small()
    ensemble = Ensemble(over_decays(model, (0.5, 2.0), (2, 5)))
    seen: list[tuple[float, int]] = []
    first = next(iter(neurons(model).values()))
    first.register_forward_hook(lambda module, given, found: seen.append((module.sigma, len(given[0]))))  # type: ignore[arg-type]
    ensemble(torch.rand(2, 1, 8, 8))
    assert seen == [(0.5, 2), (2.0, 5)]
    assert {neuron.sigma for neuron in neurons(model).values()} == {1.0} and model.encode.steps == 3  # type: ignore[union-attr]
    assert len(list(ensemble.parameters())) == len(list(model.parameters()))


def test_gradients_of_members_are_drawn_again_with_their_own_sigma() -> None:
    """sigma 0 has the decay factor 1/2 everywhere: the ensemble of it has the gradient of the network at its mean."""
    model, images = small(), torch.rand(4, 1, 8, 8)
    labels = torch.arange(4)
    both = Ensemble(over_decays(model, (0.0, 0.0)))
    found = Problem(both, images, labels, 0.1).ask(images, cross_entropy)
    for neuron in neurons(model).values():
        neuron.sigma = 0.0  # type: ignore[assignment]
    wanted = Problem(model, images, labels, 0.1).ask(images, cross_entropy)
    torch.testing.assert_close(found.gradient, wanted.gradient, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("combine", ["average", "vote"])
def test_attacks_take_an_ensemble_with_eot(combine: Any) -> None:
    ensemble = Ensemble(over_decays(small(), (0.5, 1.5)), combine).eval()
    images, labels = torch.rand(4, 1, 8, 8), torch.arange(4)
    assert found_stochastic(ensemble, images)
    for name in ("pgd3x2", "sa-pgd3x2+assg"):
        found = run(parse(name), ensemble, images, labels, 0.1, redraws=2)
        assert found.aware is not None and (found.aware - images).abs().max() <= 0.1 + 1e-6
    report = randhet.attack(ensemble, images, labels, "pgd2x2+assg", eps=0.1)
    assert report.stochastic and len(report.layers) == len(spiking_modules(ensemble)) > 0


def test_an_adaptive_surrogate_keeps_a_memory_for_every_member() -> None:
    ensemble, rule = Ensemble(over_decays(small(), (0.5, 1.5))), Adaptive()
    with replaced(ensemble, rule) as layers:
        rule.begin()
        ensemble(torch.rand(2, 1, 8, 8, requires_grad=True))
        assert len(rule.memory) == 2 * len(layers)


@pytest.mark.parametrize("combine", ["average", "vote"])
def test_an_ensemble_is_trained_as_one_network(combine: Any) -> None:
    digits = randhet.load_data("digits", "train").take(64)
    images, labels = torch.from_numpy(digits.pixels).float() / 255, torch.from_numpy(digits.labels)
    model = build(random_init(ModelSettings(1, 10, (8, 8), (8, 16), (1, 1), steps=2)))
    ensemble = Ensemble(over_decays(model, (0.5, 1.5)), combine)
    optimiser = torch.optim.SGD(ensemble.parameters(), 0.1, 0.9)
    recipe = TrainSettings(eps=4 / 255, attack_step=4 / 255)
    torch.manual_seed(0)
    losses = []
    for _ in range(30):
        optimiser.zero_grad()
        loss: Tensor = OBJECTIVES["at"].loss(ensemble, images, labels, recipe)
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert sum(losses[-5:]) / 5 < losses[0] - 0.25
    with torch.no_grad():
        assert float((ensemble.eval()(images).argmax(1) == labels).float().mean()) > 0.2


def test_what_an_ensemble_cannot_be_is_refused() -> None:
    with pytest.raises(RandhetError, match="no members"):
        Ensemble([])
    with pytest.raises(RandhetError, match="combine is 'sum', it must be one of average, vote"):
        Ensemble([small()], "sum")  # type: ignore[arg-type]
    with pytest.raises(RandhetError, match="draws no decay factors"):
        over_decays(small("vanilla"), (1.0,))
    with pytest.raises(RandhetError, match="trains its sigma"):
        over_decays(small(train_sigma="global"), (1.0,))
    with pytest.raises(RandhetError, match="2 sigmas and 1 steps"):
        over_decays(small(), (1.0, 2.0), (3,))
    with pytest.raises(RandhetError, match="must not be negative"):
        over_decays(small(), (-1.0,))
    with pytest.raises(RandhetError, match="at least 1"):
        over_decays(small("vanilla"), steps=(0,))
    recordings = SEWResNet(ModelSettings(1, 4, (8, 8), (4,), (1,), steps=3, sequence=True), (0.5,), (0.25,))
    with pytest.raises(RandhetError, match="takes recordings"):
        over_decays(recordings, steps=(2,))
