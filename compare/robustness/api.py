"""`randhet.attack`: accuracy under attack of any module from images in 0..1 to logits, spiking or not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from randhet.base.errors import RandhetError
from randhet.compare.robustness.evaluation import Outcome, Reading, judged, mra, outcome, seed_of
from randhet.compare.robustness.taken import taken
from randhet.train.attacks.names import REDRAWS, Attack, parse_list, run
from randhet.train.attacks.problem import Examples, found_stochastic, same_draws
from randhet.train.attacks.spiking import spiking_modules


@dataclass(frozen=True, eq=False)
class Robustness:
    """What `attack` found. Accuracies lie in 0..1; an attack counts with its lower evaluation.

    clean: on the images as they are. outcomes: both evaluations by attack. examples: the stronger example of every
    image, of the images' shape, by attack. stochastic: whether two answers of the model can differ. layers: the spiking
    modules whose surrogate an attack such as `sa-pgd50+assg` replaces.
    """

    clean: Reading
    outcomes: Mapping[str, Outcome]
    examples: Mapping[str, Tensor] = field(repr=False)
    eps: float
    stochastic: bool
    layers: tuple[str, ...]

    @property
    def accuracy(self) -> dict[str, float]:
        """Accuracy by attack."""
        return {name: found.accuracy for name, found in self.outcomes.items()}

    @property
    def mra(self) -> float:
        """Minimum robust accuracy over attacks and evaluations; an upper limit, as stronger attacks may exist."""
        return mra(self.outcomes)

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the minimum on images like these, of the evaluation that attains it."""
        readings = [reading for found in self.outcomes.values() for reading in found.readings.values()]
        return min(readings, key=lambda reading: reading.accuracy).elsewhere

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences about what makes the numbers too high."""
        return tuple(found.warning for found in self.outcomes.values() if found.warning)


def attack(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    attacks: str = "snn-auto",
    eps: float = 8 / 255,
    *,
    steps: int | None = None,
    stochastic: bool | None = None,
    draws: int = 10,
    batch: int = 100,
    seed: int = 0,
) -> Robustness:
    """Attack a model and report its accuracy, in the stock and the noise-aware evaluation.

    model: images (N, C, Y, X) in 0..1, or recordings (N, T, C, Y, X), to logits (N, K), K at least 2. It normalises
    inside, begins every call from the same state, and is used in evaluation mode; a model of another library that does
    otherwise is read as by `randhet.deploy`. images, labels (N,) int64: on the device of the model; an event of a
    recording is 1/255. attacks: names with commas, as in `randhet attack --help`. eps: L-infinity radius, 0..1. steps:
    T, where the model does not say it. stochastic: whether two answers can differ; None finds out. draws: Monte-Carlo
    repetitions behind each accuracy of a stochastic model.
    batch: images that are attacked together. Random numbers are torch's, from the seed; the state of its generators is
    left as it was.

    RandhetError: shapes or values that do not fit, an unknown attack, a model that keeps state between calls.
    """
    images, labels = _checked(images, labels, eps, {"draws": draws, "batch": batch})
    plan = parse_list(attacks)
    with _evaluating(model), same_draws(seed):
        model = taken(model, images[:2], steps)
        classes = _classes(model, images[:1], labels)
        for named in plan:
            named.check(classes)
        random = found_stochastic(model, images[:4]) if stochastic is None else stochastic
        job = _Job(model, images, labels, eps, draws if random else 1, batch, seed, random)
        clean = job.outcome([Examples(part) for part in images.split(batch)]).stock
        made = {named.name: job.examples(named) for named in plan}
        outcomes = {name: job.outcome(parts) for name, parts in made.items()}
    examples = {name: torch.cat([_stronger(part) for part in parts]) for name, parts in made.items()}
    return Robustness(clean, outcomes, examples, eps, random, tuple(spiking_modules(model)))


def _stronger(found: Examples) -> Tensor:
    return found.stock if found.aware is None else found.aware


@dataclass(frozen=True, eq=False)
class _Job:
    """A call of `attack` with its arguments checked; draws is 1 for a deterministic model."""

    model: nn.Module
    images: Tensor
    labels: Tensor
    eps: float
    draws: int
    batch: int
    seed: int
    stochastic: bool

    def examples(self, named: Attack) -> list[Examples]:
        """Make the examples of one attack; every batch has random numbers of its own, whatever runs beside it."""
        parts = []
        for start in range(0, len(self.images), self.batch):
            piece = slice(start, start + self.batch)
            with same_draws(seed_of(self.seed, named.name, start)):
                given = self.model, self.images[piece], self.labels[piece]
                parts.append(run(named, *given, self.eps, REDRAWS, self.stochastic))
        return parts

    def outcome(self, parts: list[Examples]) -> Outcome:
        """Ask the model for its answers, in repetitions that no attack has seen."""
        return outcome([judged(self.model, part, self.draws) for part in parts], self.labels.cpu().numpy())


def _checked(images: Tensor, labels: Tensor, eps: float, counts: Mapping[str, int]) -> tuple[Tensor, Tensor]:
    """RandhetError where the arguments do not fit each other."""
    if images.dim() not in (4, 5) or not images.is_floating_point() or not len(images):
        raise RandhetError(
            f"images are {images.dtype} {tuple(images.shape)}, they must be floats (N, C, Y, X), or recordings "
            "(N, T, C, Y, X), N above 0"
        )
    low, high = float(images.min()), float(images.max())
    if not (low >= 0 and high <= 1):
        raise RandhetError(f"images lie in {low:g} to {high:g}, the limits are 0 to 1: normalise inside the model")
    if labels.shape != (len(images),) or labels.dtype != torch.int64:
        raise RandhetError(f"labels are {labels.dtype} {tuple(labels.shape)}, they must be int64 ({len(images)},)")
    if not 0 <= eps <= 1:
        raise RandhetError(f"eps is {eps}, it must lie in 0..1")
    for name, value in counts.items():
        if value < 1:
            raise RandhetError(f"{name} is {value}, it must be at least 1")
    return images.detach(), labels


@torch.no_grad()
def _classes(model: nn.Module, image: Tensor, labels: Tensor) -> int:
    logits = model(image)
    if not isinstance(logits, Tensor) or logits.dim() != 2 or len(logits) != 1 or logits.shape[1] < 2:
        what = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise RandhetError(f"the model returns {what} for one image, it must return logits (1, K), K at least 2")
    if not 0 <= int(labels.min()) <= int(labels.max()) < logits.shape[1]:
        raise RandhetError(f"labels lie in {labels.min()} to {labels.max()}, the model has {logits.shape[1]} classes")
    return int(logits.shape[1])


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Within the block the model is in evaluation mode; afterwards every module is as it was."""
    before = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in before.items():
            module.training = training
