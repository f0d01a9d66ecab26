"""Search sigma, one per neuron layer, by evolution at fixed weights, where gradients only make it smaller.

Wang et al. (2025) report that a trained sigma collapses to 0 and propose evolution as future work. This is the
(mu + lambda) evolution strategy with self-adapted log-normal steps of Beyer and Schwefel (Natural Computing 1, 2002).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import exp, inf, log, sqrt

import numpy as np
import torch
from torch import Tensor, nn

from randhet.base.errors import RandhetError
from randhet.train.attacks.names import Attack, run
from randhet.train.attacks.problem import same_draws
from randhet.train.neurons import RandomTauLIF, neurons

Sigmas = tuple[float, ...]
Fitness = Callable[[Sigmas], float]
Report = Callable[[int, int, float], None]
"""Gets the number of evaluations that are done, of all, and the best fitness so far."""


@dataclass(frozen=True)
class Plan:
    """parents mu, children lambda per generation; bounds: of every sigma; step: first deviation of log sigma."""

    parents: int = 3
    children: int = 6
    generations: int = 8
    bounds: tuple[float, float] = (0.25, 4.0)
    step: float = 0.3
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("parents", "children", "generations"):
            if getattr(self, name) < 1:
                raise RandhetError(f"{name} is {getattr(self, name)}, it must be at least 1")
        low, high = self.bounds
        if not 0 < low < high < inf:
            raise RandhetError(f"bounds of sigma are {low} to {high}, they must rise, be finite and lie above 0")
        if not 0 < self.step < inf:
            raise RandhetError(f"step is {self.step}, it must be above 0 and finite")
        if self.seed < 0:
            raise RandhetError(f"seed is {self.seed}, it must be at least 0")

    @property
    def evaluations(self) -> int:
        """How often the fitness is computed: of the start, and of every child."""
        return 1 + self.generations * self.children

    def check(self, start: Sigmas) -> None:
        """RandhetError where a search cannot begin there."""
        low, high = self.bounds
        if not start or not all(low <= sigma <= high for sigma in start):
            raise RandhetError(f"the search starts at sigma {start}, the bounds are {low} to {high}")


@dataclass(frozen=True)
class Candidate:
    """sigmas: one per neuron layer. fitness: what is maximised. step: deviation of log sigma of its children."""

    sigmas: Sigmas
    fitness: float
    step: float


def best(candidates: Sequence[Candidate]) -> Candidate:
    """Return the first one of the highest fitness."""
    return max(candidates, key=lambda candidate: candidate.fitness)


def evolve(
    fitness: Fitness, start: Sigmas, plan: Plan, report: Report = lambda done, total, high: None
) -> list[Candidate]:
    """Return every candidate in order of evaluation, the start first.

    A child of a random parent has step' = step * exp(N(0, 1) / sqrt(2n)), n layers, and sigma' = sigma * exp(step' *
    N(0, 1)), cut to the bounds. The mu best of parents and children are the next parents.
    """
    plan.check(start)
    rng = np.random.default_rng(plan.seed)
    tried = [Candidate(start, fitness(start), plan.step)]
    population = list(tried)
    for _ in range(plan.generations):
        children = []
        for _ in range(plan.children):
            parent = population[rng.integers(len(population))]
            step = parent.step * exp(rng.standard_normal() / sqrt(2 * len(start)))
            sigmas = cut(np.array(parent.sigmas) * np.exp(step * rng.standard_normal(len(start))), plan)
            children.append(Candidate(sigmas, fitness(sigmas), step))
            report(len(tried) + len(children), plan.evaluations, best([*tried, *children]).fitness)
        tried += children
        population = sorted([*population, *children], key=lambda one: one.fitness, reverse=True)[: plan.parents]
    return tried


def at_random(
    fitness: Fitness, start: Sigmas, plan: Plan, report: Report = lambda done, total, high: None
) -> list[Candidate]:
    """Return as many candidates as `evolve` evaluates: the start, then sigmas log-uniform within the bounds."""
    plan.check(start)
    rng, (low, high) = np.random.default_rng(plan.seed), plan.bounds
    tried = [Candidate(start, fitness(start), plan.step)]
    while len(tried) < plan.evaluations:
        sigmas = cut(np.exp(rng.uniform(log(low), log(high), len(start))), plan)
        tried.append(Candidate(sigmas, fitness(sigmas), plan.step))
        report(len(tried), plan.evaluations, best(tried).fitness)
    return tried


def cut(sigmas: np.ndarray, plan: Plan) -> Sigmas:
    """The nearest sigmas within the bounds."""
    return tuple(float(sigma) for sigma in sigmas.clip(*plan.bounds))


def random_layers(model: nn.Module) -> list[RandomTauLIF]:
    """Return the random neurons in order; RandhetError where there are none, or their sigma is trained."""
    layers = [neuron for neuron in neurons(model).values() if isinstance(neuron, RandomTauLIF)]
    if not layers:
        raise RandhetError("the model has no random decay factors, so that there is no sigma to search")
    if any(layer.w is not None for layer in layers):
        raise RandhetError("sigma of the model is trained: search it where it is fixed")
    return layers


@contextmanager
def spread(model: nn.Module, sigmas: Sigmas) -> Iterator[None]:
    """Within the block the random neurons have these sigmas, one each."""
    layers = random_layers(model)
    before = [layer.sigma for layer in layers]
    if len(before) != len(sigmas):
        raise RandhetError(f"{len(sigmas)} sigmas were given for {len(before)} layers of random neurons")
    try:
        for layer, sigma in zip(layers, sigmas):
            layer.sigma = sigma
        yield
    finally:
        for layer, sigma in zip(layers, before):
            layer.sigma = sigma


@dataclass(frozen=True, eq=False)
class RobustAccuracy:
    """A fitness: accuracy, 0..1, under an attack that is made again for these sigmas, the lower evaluation.

    model: with random neurons, in evaluation mode. images (N, C, Y, X) in 0..1, labels (N,), eps: L-infinity radius.
    draws: forward passes behind an accuracy and behind each choice of an example. Every call has the same random
    numbers, so that two sigmas differ by nothing else, and leaves torch's generators as they were.
    """

    model: nn.Module
    images: Tensor
    labels: Tensor
    attack: Attack
    eps: float
    draws: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        for name, count in (("images", len(self.images)), ("draws", self.draws)):
            if count < 1:
                raise RandhetError(f"{name} is {count}, an accuracy needs at least 1")

    def __call__(self, sigmas: Sigmas) -> float:
        with same_draws(self.seed), spread(self.model, sigmas):
            found = run(self.attack, self.model, self.images, self.labels, self.eps, self.draws)
            examples = [found.stock] if found.aware is None else [found.stock, found.aware]
            return min(self._right(points) for points in examples)

    @torch.no_grad()
    def _right(self, points: Tensor) -> float:
        answers = [self.model(points).argmax(1) == self.labels for _ in range(self.draws)]
        return float(torch.stack(answers).double().mean())
