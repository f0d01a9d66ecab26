"""How alike the gradients, and the attacks, of two runs of a random network are: cosines, image by image.

Where two gradients by the image have little in common, one draw's attack is not the next draw's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from randhet.compare.equivalence import Sample
from randhet.compare.robustness.evaluation import Execution, Setup, Trial, spread, task
from randhet.train.attacks.losses import cross_entropy
from randhet.train.attacks.names import parse, run
from randhet.train.attacks.problem import Problem


@dataclass(frozen=True, eq=False)
class Cosines:
    """(images,) each, in -1..1: of two gradients of the cross entropy, of two runs' perturbations x' - x."""

    gradient: NDArray[np.float64]
    perturbation: NDArray[np.float64]

    def samples(self) -> dict[str, Sample]:
        """Both with mean and spread over the images."""
        return {"gradient": Sample.of(self.gradient), "perturbation": Sample.of(self.perturbation)}


def similarity(setup: Setup, trials: Sequence[Trial], execution: Execution) -> dict[Trial, Cosines]:
    """For every trial the cosines with its attack; the perturbations are those of the stock reading."""
    results = spread(cosines, setup, trials, execution)
    return {
        trial: Cosines(*(np.concatenate([piece[name] for piece in pieces]) for name in ("gradient", "perturbation")))
        for trial, pieces in results.items()
    }


def cosines(setup: Setup, trial: Trial, start: int, stop: int) -> dict[str, list[float]]:
    """Both cosines of images start..stop."""
    with task(setup, trial, start, stop) as (model, images, labels):
        problem = Problem(model, images, labels, trial.eps, precision=setup.precision)
        gradients = [problem.ask(images, cross_entropy).gradient for _ in range(2)]
        # one redraw: the choice of the noise-aware example is not looked at here
        made = partial(run, parse(trial.attack), redraws=1, precision=setup.precision)
        moves = [made(model, images, labels, trial.eps).stock - images for _ in range(2)]
        return {"gradient": cosine(*gradients).tolist(), "perturbation": cosine(*moves).tolist()}


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """<a, b> / (|a| |b|) of each image, (N, ...) twice to (N,) float64; 0 where one of them is 0."""
    # rounding alone takes equal vectors beyond 1, where a histogram over -1..1 would lose them
    return F.cosine_similarity(a.flatten(1).to(torch.float64), b.flatten(1).to(torch.float64)).clamp(-1, 1)
