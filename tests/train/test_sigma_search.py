"""The search of sigma against a fitness whose optimum is known, and the fitness of real networks."""

from __future__ import annotations

from dataclasses import replace
from math import log
from typing import Any

import pytest
import torch

from randhet.base.errors import RandhetError
from randhet.train.attacks.names import parse
from randhet.train.models import ModelSettings, SEWResNet
from randhet.train.neurons import RandomTauLIF, neurons
from randhet.train.sigma_search import Plan, RobustAccuracy, Sigmas, at_random, best, evolve, random_layers, spread

TARGET = (0.5, 2.0, 1.0, 3.0)
START = (1.0,) * 4


def distance(sigmas: Sigmas) -> float:
    """0 at TARGET, lower elsewhere."""
    return -sum((log(sigma) - log(wanted)) ** 2 for sigma, wanted in zip(sigmas, TARGET))


def model(neuron: str = "randhet", **settings: object) -> SEWResNet:
    torch.manual_seed(0)
    sizes = ModelSettings(1, 3, (6, 6), (4,), (1,), steps=3, neuron=neuron, **settings)  # type: ignore[arg-type]
    return SEWResNet(sizes, [0.5], [0.25]).eval()


def robust(network: SEWResNet, eps: float = 0.2) -> RobustAccuracy:
    images, labels = torch.rand(12, 1, 6, 6, generator=torch.Generator().manual_seed(1)), torch.arange(12) % 3
    return RobustAccuracy(network, images, labels, parse("sa-pgd2+assg"), eps, draws=3)


def test_evolution_finds_the_optimum_of_a_smooth_fitness_where_random_search_does_not() -> None:
    plan = Plan(parents=4, children=8, generations=40)
    found, control = (best(method(distance, START, plan)) for method in (evolve, at_random))
    assert all(abs(log(sigma / wanted)) < 0.15 for sigma, wanted in zip(found.sigmas, TARGET))
    assert found.fitness > control.fitness and found.fitness == distance(found.sigmas)


@pytest.mark.parametrize("method", [evolve, at_random])
def test_a_search_begins_at_the_start_keeps_the_bounds_and_repeats_itself(method) -> None:  # type: ignore[no-untyped-def]
    plan, reports = Plan(3, 5, 6, bounds=(0.8, 1.25)), []
    tried = method(lambda sigmas: sum(sigmas), START, plan, lambda *news: reports.append(news))
    assert tried[0].sigmas == START and len(tried) == plan.evaluations == 31
    assert all(0.8 <= sigma <= 1.25 for candidate in tried for sigma in candidate.sigmas)
    assert best(tried).fitness > 4 and reports[-1] == (31, 31, best(tried).fitness)
    assert tried == method(lambda sigmas: sum(sigmas), START, plan)
    assert tried[1:] != method(lambda sigmas: sum(sigmas), START, Plan(3, 5, 6, (0.8, 1.25), seed=1))[1:]


def test_parents_that_nothing_surpasses_stay() -> None:
    """Every child then varies the start: a search that kept the children alone would wander off."""
    plan = Plan(parents=1, children=2, generations=40, bounds=(1e-6, 1e6))
    tried = evolve(lambda sigmas: float(sigmas == START), START, plan)
    squares = [log(sigma) ** 2 for candidate in tried[1:] for sigma in candidate.sigmas]
    # a step s of the start gives E[log^2] = s^2 exp(1 / n) = 0.3^2 exp(1/4) = 0.12, a walk of 40 steps 20 times that
    assert 0.06 < sum(squares) / len(squares) < 0.24


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"children": 0}, "children is 0, it must be at least 1"),
        ({"bounds": (2.0, 1.0)}, "bounds of sigma are 2.0 to 1.0"),
        ({"bounds": (0.1, float("inf"))}, "bounds of sigma are 0.1 to inf, they must rise, be finite and lie above 0"),
        ({"bounds": (0.1, float("nan"))}, "bounds of sigma are 0.1 to nan"),
        ({"step": 0}, "step is 0, it must be above 0"),
        ({"step": float("inf")}, "step is inf, it must be above 0 and finite"),
        ({"step": float("nan")}, "step is nan"),
        ({"seed": -1}, "seed is -1, it must be at least 0"),
    ],
)
def test_plans_that_cannot_be_are_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(RandhetError, match=message):
        Plan(**changed)


def test_a_start_beyond_the_bounds_is_refused() -> None:
    with pytest.raises(RandhetError, match=r"starts at sigma \(5.0,\), the bounds are 0.25 to 4.0"):
        evolve(distance, (5.0,), Plan())


def test_models_without_a_sigma_to_search_are_refused() -> None:
    with pytest.raises(RandhetError, match="no random decay factors"):
        random_layers(model("vanilla"))
    with pytest.raises(RandhetError, match="sigma of the model is trained"):
        random_layers(model(train_sigma="layer"))
    with pytest.raises(RandhetError, match="2 sigmas were given for 3 layers"), spread(model(), (1.0, 1.0)):
        pass


def test_sigmas_are_those_of_the_layers_within_the_block_alone() -> None:
    network = model()
    layers = [neuron for neuron in neurons(network).values() if isinstance(neuron, RandomTauLIF)]
    with spread(network, (0.5, 1.5, 2.5)):
        assert [layer.sigma for layer in layers] == [0.5, 1.5, 2.5]
    assert [layer.sigma for layer in layers] == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("changed", "message"), [({"images": torch.rand(0, 1, 6, 6)}, "images is 0"), ({"draws": 0}, "draws is 0")]
)
def test_an_accuracy_of_nothing_is_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(RandhetError, match=message):
        replace(robust(model()), **changed)


def test_the_fitness_repeats_itself_and_leaves_no_trace() -> None:
    measure = robust(model())
    torch.manual_seed(7)
    values = {measure((1.0, 1.0, 1.0)) for _ in range(2)}
    after = torch.rand(())
    torch.manual_seed(7)
    assert len(values) == 1 and after == torch.rand(())


def test_the_fitness_without_a_radius_is_the_clean_accuracy() -> None:
    """Sigma so small that every decay factor is 1/2: the vanilla network with these weights, which can be asked."""
    measure, vanilla = robust(model(), eps=0.0), model("vanilla")
    vanilla.load_state_dict(measure.model.state_dict())
    right = (vanilla(measure.images).argmax(1) == measure.labels).double().mean()
    assert measure((1e-7,) * 3) == pytest.approx(float(right))
