"""Accuracy of a float model under attack: each attack in both evaluations, over Monte-Carlo repetitions, in parallel.

A piece is one attack on one batch of images. Its examples are made once, then predicted in fresh draws that no attack
has seen, so that what is reported is an unbiased estimate of what an example does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from randhet.base.errors import RandhetError
from randhet.base.parallel import Progress, run_all
from randhet.compare.accuracy import Draws, votes
from randhet.export.model import Model, as_model
from randhet.export.varied import changed
from randhet.train.attacks.battery import masking
from randhet.train.attacks.names import REDRAWS, parse, run
from randhet.train.attacks.problem import Examples, found_stochastic
from randhet.train.checkpoint import Checkpoint
from randhet.train.data.sources import Images
from randhet.train.layout import layout
from randhet.train.models import ModelSettings, one_of
from randhet.train.precision import PRECISIONS

CLEAN = "clean"
"""In place of an attack's name: the images as they are."""
CHOICE = 2
"""Version of the rule that chooses noise-aware examples: results of another rule are not taken up again."""


@dataclass(frozen=True, eq=False)
class Setup:
    """What all pieces share. draws: of the taus behind each accuracy; redraws: behind each choice between examples.

    precision: of the passes behind gradients, float32 or bfloat16; accuracies are of float32.
    """

    checkpoint: Checkpoint | Model
    images: Images
    draws: int = 10
    redraws: int = REDRAWS
    seed: int = 0
    precision: str = "float32"

    def __post_init__(self) -> None:
        one_of("precision", self.precision, PRECISIONS)
        for name in ("draws", "redraws"):
            if getattr(self, name) < 1:
                raise RandhetError(f"{name} is {getattr(self, name)}, it must be at least 1")
        if self.model.checkpoint:
            _images_fit(self.model.checkpoint.settings, self.images)
        if len(self.images.classes) != self.classes:
            count = len(self.images.classes)
            raise RandhetError(f"data {self.images.name} has {count} classes, the network {self.classes}")

    @cached_property
    def model(self) -> Model:
        """What is attacked."""
        return as_model(self.checkpoint)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one image."""
        return self.images.pixels.shape[1:]

    @cached_property
    def classes(self) -> int:
        """How many classes the model tells apart."""
        if self.model.checkpoint:
            return self.model.checkpoint.settings.classes
        with torch.no_grad():
            return self.model.make(self.shape)(torch.zeros(1, *self.shape)).shape[1]

    @property
    def identity(self) -> dict[str, Any]:
        """What decides the results beside the names of the pieces."""
        pixels = hashlib.sha256(self.images.pixels.tobytes() + self.images.labels.tobytes()).hexdigest()
        numbers = {"draws": self.draws, "redraws": self.redraws, "seed": self.seed}
        return {
            "weights": self.model.source,
            "model": hashlib.sha256(repr(self._settings).encode()).hexdigest(),
            "images": pixels,
            "choice": CHOICE,
            # named only where it is not what it was before there was a choice, so that older results are taken up again
            **({} if self.precision == "float32" else {"precision": self.precision}),
        } | numbers

    @property
    def _settings(self) -> Any:
        """What the model is beside its weights."""
        if checkpoint := self.model.checkpoint:
            return (checkpoint.settings, checkpoint.mean, checkpoint.std)
        return repr(self.model.make(self.shape))


def _images_fit(settings: ModelSettings, images: Images) -> None:
    channels, *size = images.frame
    if tuple(size) != settings.image_size:
        sizes = (f"{y} x {x}" for y, x in (size, settings.image_size))
        raise RandhetError("data {} has {} pixels, the network {}".format(images.name, *sizes))
    if channels != settings.in_channels:
        raise RandhetError(f"data {images.name} has {channels} channels, the network {settings.in_channels}")


@dataclass(frozen=True)
class Trial:
    """One attack, or CLEAN, at an L-inf radius eps (0..1), on the model with some of its settings changed."""

    attack: str
    eps: float
    changes: tuple[tuple[str, Any], ...] = ()

    @property
    def name(self) -> str:
        """What its pieces are called in a file of results."""
        changes = "".join(f" {name}={value}" for name, value in self.changes)
        return f"{self.attack} eps={self.eps:.6f}{changes}"


@dataclass(frozen=True, eq=False)
class Reading:
    """Predictions of one set of examples over several draws, (draws, images)."""

    draws: Draws

    @property
    def accuracy(self) -> float:
        """Mean over draws and images, 0..1."""
        return self.draws.mean

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % interval of the accuracy on these images over the draws; None for a single draw."""
        return self.draws.interval if len(self.draws.predictions) > 1 else None

    @property
    def elsewhere(self) -> tuple[float, float]:
        """95 % interval of the accuracy on images like these, of one draw as of several (`share_interval`)."""
        return self.draws.elsewhere

    @cached_property
    def majority(self) -> float:
        """Accuracy of the most frequent prediction of each image; of equals the lower class."""
        count = 1 + max(int(self.draws.predictions.max()), int(self.draws.labels.max()))
        return float((votes(self.draws, count).argmax(axis=1) == self.draws.labels).mean())


@dataclass(frozen=True, eq=False)
class Outcome:
    """The stock evaluation and the noise-aware one, None where the attack chooses nothing.

    parts: of a battery, by attack, (images,): the share 0..1 of correct answers that it and those before it left.
    """

    stock: Reading
    aware: Reading | None = None
    parts: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)

    @property
    def accuracy(self) -> float:
        """The smaller of both: never the kinder one alone."""
        return min(reading.accuracy for reading in self.readings.values())

    @property
    def readings(self) -> dict[str, Reading]:
        """By name, those there are."""
        return {"stock": self.stock} | ({} if self.aware is None else {"aware": self.aware})

    @property
    def left(self) -> dict[str, float]:
        """Accuracy, 0..1, after each attack of a battery."""
        return {name: float(shares.mean()) for name, shares in self.parts.items()}

    @property
    def warning(self) -> str | None:
        """One sentence where an attack without gradients was stronger than those with gradients."""
        return masking(self.left)


def mra(outcomes: Mapping[str, Outcome]) -> float:
    """Minimum robust accuracy over all attacks and both evaluations."""
    return min(outcome.accuracy for name, outcome in outcomes.items() if name != CLEAN)


def mra_apart(outcomes: Mapping[str, Outcome]) -> float:
    """The same where the attack is chosen on other images than those that judge it (`chosen_apart`)."""
    attacks = [reading for name, outcome in outcomes.items() if name != CLEAN for reading in outcome.readings.values()]
    return chosen_apart(np.stack([reading.draws.right.mean(axis=0) for reading in attacks]))


def chosen_apart(right: NDArray[np.float64]) -> float:
    """Accuracy under the attack that is lowest on the other half of the images, mean of both halves.

    right (attacks, images) in 0..1. The minimum of several means over the same images is too low, since chance takes
    part in the choice; this is free of that, and too high where half of the images choose worse than all.
    """
    halves = right[:, 0::2], right[:, 1::2]
    if not halves[1].size:
        return float(right.mean(axis=1).min())
    sums = [
        judging[choosing.mean(axis=1).argmin()].sum() for judging, choosing in (halves, halves[::-1])
    ]  # each half judges what the other chose
    return float(sum(sums) / right.shape[1])


@dataclass(frozen=True)
class Execution:
    """How and where the pieces run and what they leave, as in `randhet.base.parallel.run_all`; batch: images per piece.

    begin gets a name and the number of pieces, and returns what to tell as they are done.
    """

    batch: int = 100
    out: Path | None = None
    scheduler: str | None = None
    workers: int | None = None
    begin: Callable[[str, int], Progress] = lambda name, total: lambda count: None


def evaluate(setup: Setup, trials: Sequence[Trial], execution: Execution) -> dict[Trial, Outcome]:
    """Every trial on every image."""
    return {
        trial: outcome(pieces, setup.images.labels)
        for trial, pieces in spread(predicted, setup, trials, execution).items()
    }


def spread(
    function: Callable[[Setup, Trial, int, int], Any], setup: Setup, trials: Sequence[Trial], execution: Execution
) -> dict[Trial, list[Any]]:
    """function(setup, trial, start, stop) for every trial and every batch of images, in order of the images."""
    for trial in trials:
        check(setup, trial)
    count = len(setup.images)
    batches = [(start, min(start + execution.batch, count)) for start in range(0, count, execution.batch)]
    name = lambda trial, start, stop: f"{function.__name__} {trial.name} images={start}:{stop}"
    pieces = {name(trial, *batch): (trial, *batch) for trial in trials for batch in batches}
    # starting processes for a single piece is not worth it, nor for little, where nobody asked for them
    little = execution.workers is None and execution.scheduler is None and count * len(trials) <= FEW
    workers = 0 if len(pieces) == 1 or little else execution.workers
    done = execution.begin(setup.images.name, len(pieces))
    identity = setup.identity | {"batch": execution.batch}
    results = run_all(
        function, pieces, execution.out, execution.scheduler, workers, done, shared=setup, identity=identity
    )
    return {trial: [results[name(trial, *batch)] for batch in batches] for trial in trials}


FEW = 50
"""Images, counted for each trial, for which processes are not started: two of them cost 4 s of a processor."""


def check(setup: Setup, trial: Trial) -> None:
    """RandhetError where a trial cannot be run."""
    if not 0 <= trial.eps <= 1:
        raise RandhetError(f"eps is {trial.eps}, it must lie in 0..1")
    if trial.attack != CLEAN:
        parse(trial.attack).check(setup.classes)
    changed(setup.model, dict(trial.changes))


def outcome(pieces: list[dict[str, Any]], labels: NDArray[np.int64]) -> Outcome:
    """Both evaluations, and the parts of a battery, from what `judged` left of consecutive images."""
    readings = {
        name: Reading(Draws(np.concatenate([np.array(piece[name]) for piece in pieces], axis=1), labels))
        for name in ("stock", "aware")
        if pieces[0][name] is not None
    }
    names = pieces[0].get("parts", {})
    parts = {name: np.concatenate([np.array(piece["parts"][name]) for piece in pieces]) for name in names}
    return Outcome(readings["stock"], readings.get("aware"), parts)


def predicted(setup: Setup, trial: Trial, start: int, stop: int) -> dict[str, Any]:
    """Predictions (draws, images) of the examples of images start..stop, by evaluation; seeded by seed and names."""
    with task(setup, trial, start, stop) as (model, images, labels):
        stochastic = found_stochastic(model, images[:4])
        crafted = examples(model, trial, images, labels, setup.redraws, stochastic, setup.precision)
        return judged(model, crafted, setup.draws if stochastic else 1)


def judged(model: nn.Module, crafted: Examples, draws: int) -> dict[str, Any]:
    """Predictions (draws, images) of the examples by evaluation, and the parts of a battery, as lists."""
    return {
        "stock": predictions(model, crafted.stock, draws).tolist(),
        "aware": None if crafted.aware is None else predictions(model, crafted.aware, draws).tolist(),
        "parts": {name: shares.tolist() for name, shares in crafted.parts.items()},
    }


@contextmanager
def task(setup: Setup, trial: Trial, start: int, stop: int) -> Iterator[tuple[nn.Module, Tensor, Tensor]]:
    """Model, images (N, C, Y, X) in 0..1 and labels of a piece; within the block torch has the piece's own seed."""
    model = changed(setup.model, dict(trial.changes)).make(setup.shape)
    order = {"memory_format": torch.contiguous_format if setup.images.sequence else layout(model)}
    model = model.to(**order)  # type: ignore[call-overload]
    subset = setup.images.pick(np.arange(start, stop))
    images = (torch.from_numpy(subset.pixels).float() / 255).contiguous(**order)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(setup.seed, trial.name, start))
        yield model, images, torch.from_numpy(subset.labels)


def examples(
    model: nn.Module,
    trial: Trial,
    images: Tensor,
    labels: Tensor,
    redraws: int = REDRAWS,
    stochastic: bool | None = None,
    precision: str = "float32",
) -> Examples:
    """What the attack makes of images (N, C, Y, X) in 0..1, the images themselves for CLEAN."""
    if trial.attack == CLEAN:
        return Examples(images)
    return run(parse(trial.attack), model, images, labels, trial.eps, redraws, stochastic, precision)


@torch.no_grad()
def predictions(model: nn.Module, images: Tensor, draws: int) -> NDArray[np.int64]:
    """Classes (draws, N), each draw with taus of its own."""
    return np.stack([model(images).argmax(1).cpu().numpy() for _ in range(draws)])


def seed_of(seed: int, name: str, start: int) -> int:
    """A seed of its own for every piece, whatever runs beside it."""
    return int.from_bytes(hashlib.sha256(f"{seed} {name} {start}".encode()).digest()[:7], "big")
