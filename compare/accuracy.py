"""Accuracy over several draws of the taus, and how often two runs agree on an image.

The chance of a random network is that of its draws: means, intervals and the equivalence test are over draws, on the
test images as given. How far the choice of images matters is said beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from torch import nn

from randhet.compare.equality.replay import float_predictions
from randhet.compare.equivalence import (
    LEVEL,
    Difference,
    Sample,
    difference,
    exact,
    mean_interval,
    paired,
    share_interval,
)
from randhet.fixed_point import ensemble as ensembles
from randhet.fixed_point.backends import Runner
from randhet.fixed_point.ensemble import NetworkEnsemble
from randhet.fixed_point.network import Network
from randhet.train.data.sources import Images

Told = Callable[[int], None]


@dataclass(frozen=True, eq=False)
class Draws:
    """predictions (draws, images) of independent draws on the same images; labels (images,)."""

    predictions: NDArray[np.int64]
    labels: NDArray[np.int64]

    @cached_property
    def right(self) -> NDArray[np.bool_]:
        """Which predictions are right, (draws, images)."""
        return self.predictions == self.labels

    @cached_property
    def accuracies(self) -> tuple[float, ...]:
        """Accuracy (0..1) of each draw."""
        return tuple(self.right.mean(axis=1).tolist())

    @property
    def sample(self) -> Sample:
        """The accuracies as independent values.

        Where several are all equal their spread cannot be seen. Then no more than a share q = 1 - 0.05^(1/(n*m)) of the
        answers changes, the rule of three over n draws of m images, and the variance is taken to be q(1 - q)/m.
        """
        sample = Sample.of(np.array(self.accuracies))
        if sample.variance or sample.size < 2:
            return sample
        odd = 1 - LEVEL ** (1 / self.predictions.size)
        return replace(sample, variance=odd * (1 - odd) / len(self.labels))

    @property
    def mean(self) -> float:
        """Mean accuracy, 0..1, over the draws."""
        return self.sample.mean

    @property
    def deviation(self) -> float:
        """Standard deviation over the draws (n - 1); 0 for a single one."""
        return float(np.sqrt(Sample.of(np.array(self.accuracies)).variance))

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the mean over the draws."""
        return self.sample.interval()

    @property
    def elsewhere(self) -> tuple[float, float]:
        """95 % interval on images like these, as many as there are (`share_interval`); of one draw as of several."""
        return share_interval(self.mean, len(self.labels))


@dataclass(frozen=True)
class Agreement:
    """Share of images (0..1) on which two runs with independent draws predict the same class.

    floats: two float runs, the noise floor; fixed: two runs of the integers; between: one of each. gap: what deployment
    adds, the mean of (floats + fixed)/2 - between, with its 90 % interval over the images. None: a single draw.
    """

    floats: float | None
    fixed: float | None
    between: float
    gap: float | None
    gap_interval: tuple[float, float] | None


def votes(draws: Draws, classes: int) -> NDArray[np.int64]:
    """Count the draws that predict each class, (images, classes)."""
    return (draws.predictions[:, :, None] == np.arange(classes)).sum(axis=0)


def agreement(floats: Draws, fixed: Draws) -> Agreement:
    """Average over pairs of draws: sum of c(c-1) / (n(n-1)) per image within a side, of c_a*c_b / (n_a*n_b) between."""
    classes = 1 + max(int(draws.predictions.max(initial=0)) for draws in (floats, fixed))
    a, b = votes(floats, classes), votes(fixed, classes)
    na, nb = len(floats.predictions), len(fixed.predictions)
    between = (a * b).sum(axis=1) / (na * nb)
    if min(na, nb) < 2:
        return Agreement(None, None, float(between.mean()), None, None)
    within_floats, within_fixed = ((c * (c - 1)).sum(axis=1) / (n * (n - 1)) for c, n in ((a, na), (b, nb)))
    gap = (within_floats + within_fixed) / 2 - between
    return Agreement(
        float(within_floats.mean()),
        float(within_fixed.mean()),
        float(between.mean()),
        float(gap.mean()),
        mean_interval(gap),
    )


def accuracy_difference(floats: Draws, fixed: Draws, margin: float, chance: bool) -> Difference:
    """Compare float minus fixed mean accuracy on these images; draws are the only randomness, if there is any."""
    if not chance:
        return exact(floats.mean - fixed.mean, margin)
    return difference(floats.sample, fixed.sample, margin)


def elsewhere(floats: Draws, fixed: Draws, margin: float) -> Difference:
    """Compare on images like these: paired by image, so counting the choice of images as chance."""
    return paired(floats.right.mean(axis=0) - fixed.right.mean(axis=0), margin)


def is_random(network: Network) -> bool:
    """Tell whether any layer draws its taus."""
    return any(layer.drawn is not None for layer in network.layers)


def fixed_draws(network: Network, images: Images, seeds: range, run: Runner, done: Told = lambda count: None) -> Draws:
    """Run the integer network under each master seed; `done` is told after each draw."""
    return _draws(
        lambda seed: run(network, images.pixels, seed=seed, first_image=0, probes=()).predictions, images, seeds, done
    )


def ensemble_draws(
    ensemble: NetworkEnsemble, images: Images, seeds: range, run: Runner, done: Told = lambda count: None
) -> Draws:
    """Run the ensemble of integer networks under each master seed; `done` is told after each draw."""
    return _draws(
        lambda seed: ensembles.run(ensemble, images.pixels, run, seed=seed).predictions, images, seeds, done
    )  # fmt: skip


def float_draws(model: nn.Module, images: Images, seeds: range, done: Told = lambda count: None) -> Draws:
    """Run the float model with torch's generator at each seed."""
    return _draws(lambda seed: float_predictions(model, images, seed), images, seeds, done)


def _draws(predict: Callable[[int], NDArray[np.int64]], images: Images, seeds: range, done: Told) -> Draws:
    predictions = []
    for seed in seeds:
        predictions.append(predict(seed))
        done(1)
    return Draws(np.stack(predictions), images.labels)
