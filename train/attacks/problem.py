"""What every attack is given, and gives back: the network behind questions that average over draws of its taus.

A stochastic network answers every question differently, so an attack has two evaluations. Its *stock* result is what
the published code returns; iterates that count as adversarial because they were misclassified once are, on such a
network, often lucky. Its *noise-aware* result is, of the most promising iterates of the same run and the stock result,
the one with the highest mean margin in fresh draws, and the stock result unless another is clearly ahead of it. That an
example should be asked about repeatedly before it counts was proposed for AutoAttack in its pull requests 104 and 105.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache

import torch
from torch import Tensor, nn

from randhet.base.errors import RandhetError
from randhet.train.attacks.losses import Loss, margin
from randhet.train.attacks.spiking import Rule
from randhet.train.attacks.spiking import declared_stochastic as is_random
from randhet.train.precision import mixed

__all__ = [
    "Answer",
    "Examples",
    "Problem",
    "Shortlist",
    "found_stochastic",
    "is_random",
    "new_seed",
    "pick",
    "same_draws",
    "strongest",
]
SAME = 1e-5
"""How far, relative to the largest logit, two answers may lie apart that count as one."""
LEVEL = 0.05
"""Chance that any of the other examples replaces the stock one where none is better."""


@dataclass(frozen=True, eq=False)
class Examples:
    """Adversarial images (N, C, Y, X) of both evaluations; aware is None where there was nothing to choose from.

    parts: of a battery, by attack, (N,): the share of correct answers that it and those before it left.
    """

    stock: Tensor
    aware: Tensor | None = None
    parts: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Answer:
    """Means over the draws: gradient (N, C, Y, X), loss (N,), margin (N,); wrong (N,) in the last draw."""

    gradient: Tensor
    loss: Tensor
    margin: Tensor
    wrong: Tensor


@dataclass(frozen=True, eq=False)
class Problem:
    """A network in evaluation mode; images (N, C, Y, X) in 0..1; labels (N,); L-inf radius eps in units of 0..1.

    draws: of the taus behind each answer (EOT, Athalye et al. 2018). redraws: behind each choice between candidates.
    stochastic: whether two answers can differ.
    rule: the surrogate in place of the network's own, where there is one; who makes the problem has put it in place.
    precision: of the passes behind gradients and the losses beside them; every other question is answered in float32.
    """

    model: nn.Module
    images: Tensor
    labels: Tensor
    eps: float
    draws: int = 1
    redraws: int = 1
    stochastic: bool = False
    rule: Rule | None = None
    precision: str = "float32"

    def only(self, which: Tensor) -> Problem:
        """The problem for some of the images, (N,) bool."""
        return replace(self, images=self.images[which], labels=self.labels[which])

    def forget(self) -> None:
        """Begin another attack: an adaptive surrogate keeps nothing of the images of the last one."""
        if self.rule is not None:
            self.rule.forget()

    def passes(self) -> Iterator[None]:
        """The `draws` forward passes of one gradient; an adaptive surrogate learns from the first of them."""
        for i in range(self.draws):
            if self.rule is not None:
                self.rule.begin(learns=i == 0)
            yield

    def inside(self, points: Tensor) -> Tensor:
        """The nearest point with |x - images| <= eps and x in 0..1."""
        return torch.minimum(torch.maximum(points, self.images - self.eps), self.images + self.eps).clamp_(0, 1)

    def start(self, radius: float = 1.0) -> Tensor:
        """Uniform within radius*eps, then within 0..1."""
        reach = radius * self.eps
        return (self.images + torch.empty_like(self.images).uniform_(-reach, reach)).clamp_(0, 1)

    def touching_start(self) -> Tensor:
        """Uniform, stretched so that the farthest pixel of each image has moved by eps; then within 0..1."""
        noise = 2 * torch.rand_like(self.images) - 1
        farthest = noise.abs().amax(dim=tuple(range(1, noise.dim())), keepdim=True)
        return (self.images + self.eps * noise / farthest).clamp_(0, 1)

    def ask(self, points: Tensor, loss: Loss) -> Answer:
        """Loss, its gradient, and the margin at points, averaged over `draws` draws."""
        points = points.detach().requires_grad_(True)
        gradient = torch.zeros_like(self.images)
        losses, margins = points.new_zeros(len(points)), points.new_zeros(len(points))
        for _ in self.passes():
            logits = self.differentiable(points)
            values = loss(logits, self.labels)
            gradient += torch.autograd.grad(values.sum(), points)[0] / self.draws
            losses += values.detach() / self.draws
            margins += margin(logits.detach(), self.labels) / self.draws
        return Answer(gradient, losses, margins, logits.detach().argmax(1) != self.labels)

    def differentiable(self, points: Tensor) -> Tensor:
        """(N, classes) of one draw, computed in `precision`: what a gradient is taken of."""
        with mixed(points.device.type, self.precision):
            return torch.as_tensor(self.model(points)).to(points.dtype)

    @torch.no_grad()
    def logits(self, points: Tensor) -> Tensor:
        """(N, classes), averaged over `draws` draws."""
        return torch.stack([self.model(points) for _ in range(self.draws)]).mean(0)

    def margins(self, points: Tensor) -> Tensor:
        """(N,), of the averaged logits."""
        return margin(self.logits(points), self.labels)

    @torch.no_grad()
    def wrong(self, points: Tensor) -> Tensor:
        """(N,) bool: misclassified, asked once, whatever `draws` says."""
        return torch.as_tensor(self.model(points).argmax(1) != self.labels)

    @torch.no_grad()
    def redrawn(self, points: Tensor) -> Tensor:
        """(redraws, N) float64: the margin in each of `redraws` fresh draws."""
        return torch.stack([margin(self.model(points), self.labels).double() for _ in range(self.redraws)])

    def certain(self, points: Tensor) -> Tensor:
        """(N,) bool: misclassified in all of `redraws` fresh draws."""
        return torch.as_tensor((self.redrawn(points) > 0).all(0))


class Shortlist:
    """The `size` iterates of highest margin for each image, as far as one answer tells."""

    def __init__(self, size: int = 3) -> None:
        self.size = size
        self.points: list[Tensor] = []
        self.margins: list[Tensor] = []

    def offer(self, points: Tensor, margins: Tensor) -> None:
        """Iterates (N, C, Y, X) with their margins (N,)."""
        self.points.append(points.detach())
        self.margins.append(margins)
        if len(self.points) > self.size:
            worst = torch.stack(self.margins).argmin(0)
            for i in range(self.size):
                hit = worst == i
                self.points[i] = pick(hit, points.detach(), self.points[i])
                self.margins[i] = torch.where(hit, margins, self.margins[i])
            del self.points[-1], self.margins[-1]

    def examples(self, problem: Problem, stock: Tensor) -> Examples:
        """The stock result beside the stronger of it and the shortlist, told by fresh draws."""
        return Examples(stock, strongest(problem, stock, *self.points))


@contextmanager
def same_draws(seed: int) -> Iterator[None]:
    """Within the block torch's generators start at the seed; what follows sees nothing of it."""
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


def new_seed() -> int:
    """A seed from torch's global generator."""
    return int(torch.randint(2**62, ()))


def strongest(problem: Problem, *candidates: Tensor) -> Tensor:
    """Image by image the candidate of highest mean margin; the first one unless another is clearly ahead of it.

    All are judged under the same draws, so that what decides between two alike is the examples and not their luck.
    Margins rather than misclassified draws, because a mean of ten margins says more than a count out of ten.
    """
    seed = new_seed()

    def redrawn(candidate: Tensor) -> Tensor:
        with same_draws(seed):
            return problem.redrawn(candidate)

    first = redrawn(candidates[0])
    winner, best = candidates[0], first.mean(0)
    for candidate in candidates[1:]:
        margins = redrawn(candidate)
        better = ahead(margins - first, len(candidates) - 1) & (margins.mean(0) > best)
        winner, best = pick(better, candidate, winner), torch.where(better, margins.mean(0), best)
    return winner


def ahead(gains: Tensor, rivals: int) -> Tensor:
    """(N,) bool: Student's one-sided test of mean gains (draws, N) > 0, at 5 % over all rivals (Bonferroni).

    Above 0 for a single draw, which is exact on a network that always answers the same.
    """
    count = len(gains)
    if count < 2:
        return gains[0] > 0
    return gains.mean(0) > clearly(count, rivals) * gains.std(0) / count**0.5


@lru_cache
def clearly(count: int, rivals: int) -> float:
    """Standard errors by which the mean of `count` gains must exceed 0: t(1 - 5 % / rivals, count - 1)."""
    from scipy.stats import t

    return float(t.ppf(1 - LEVEL / rivals, count - 1))


def pick(which: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    """Image by image `yes` where `which`, (N,) bool."""
    return torch.where(which.view(-1, *[1] * (yes.dim() - 1)), yes, no)


@torch.no_grad()
def found_stochastic(model: nn.Module, images: Tensor) -> bool:
    """Whether a model is stochastic: its modules declare it, or two answers from other random numbers differ.

    RandhetError where answers differ from the same random numbers: they then depend on earlier calls.
    """
    if is_random(model):
        return True
    answers = []
    for seed in (1, 1, 2):
        with same_draws(seed):
            answers.append(model(images))
    if not _same(answers[0], answers[1]):
        raise RandhetError(
            "the model gives two answers to the same images from the same random numbers: begin every call from the "
            "same state, or declare a model with random numbers of its own by stochastic=True"
        )
    return not _same(answers[0], answers[2])


def _same(first: Tensor, second: Tensor) -> bool:
    """Whether answers are equal but for the order of sums, which differs from run to run on some devices."""
    return bool((first - second).abs().max() <= SAME * first.abs().max())
