"""Momentum iterative FGSM (Dong et al. 2018)."""

from __future__ import annotations

import torch

from randhet.train.attacks.losses import TINY, cross_entropy
from randhet.train.attacks.problem import Examples, Problem, Shortlist


def mifgsm(problem: Problem, steps: int, decay: float = 1.0) -> Examples:
    """g <- decay*g + grad/mean|grad|; x <- P(x + 5*eps/(4n) * sign(g)), n steps from x; stock: the last iterate.

    At n = 5 and eps = 8/255 the step is Wang et al. 2025's 2/255. Their text says decay 0.1, their code 1.
    """
    step = 1.25 * problem.eps / steps
    point, shortlist, momentum = problem.images, Shortlist(), torch.zeros_like(problem.images)
    for _ in range(steps):
        answer = problem.ask(point, cross_entropy)
        shortlist.offer(point, answer.margin)
        size = answer.gradient.abs().mean(dim=tuple(range(1, answer.gradient.dim())), keepdim=True)
        momentum = decay * momentum + answer.gradient / (size + TINY)
        point = problem.inside(point + step * momentum.sign())
    return shortlist.examples(problem, point)
