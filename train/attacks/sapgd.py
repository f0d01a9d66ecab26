"""Stable adaptive PGD (Wang et al. 2025, arXiv:2512.22522): a step per pixel that survives imprecise gradients."""

from __future__ import annotations

import torch
from torch import Tensor

from randhet.train.attacks.apgd import checkpoints, target
from randhet.train.attacks.losses import TINY, Loss, cross_entropy, targeted_dlr
from randhet.train.attacks.problem import Examples, Problem, Shortlist, pick

MOMENTUM, MEMORY = 0.5, 0.8


def sa_pgd(problem: Problem, steps: int, loss: Loss = cross_entropy) -> Examples:
    """m <- 0.5*m + g/mean|g|; v <- 0.8*v + g^2/mean(g^2); x <- P(x + clip(eta*m/sqrt(v), -eta, eta)).

    Means over the pixels of an image; eta is eps, halved at the checkpoints of APGD; from a uniform start that touches
    eps. Stock: the iterate with the largest loss.
    """
    point, shortlist, eta = problem.touching_start(), Shortlist(), problem.eps
    answer = problem.ask(point, loss)
    best, highest = point, answer.loss
    shortlist.offer(point, answer.margin)
    momentum, memory = torch.zeros_like(point), torch.zeros_like(point)
    for i in range(steps):
        momentum, memory, move = step(answer.gradient, momentum, memory)
        point = problem.inside(point + (eta * move).clamp_(-eta, eta))
        answer = problem.ask(point, loss)
        shortlist.offer(point, answer.margin)
        better = answer.loss > highest
        best, highest = pick(better, point, best), torch.maximum(answer.loss, highest)
        if i + 1 in checkpoints(steps):
            eta /= 2
    return shortlist.examples(problem, best)


def step(gradient: Tensor, momentum: Tensor, memory: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The new m and v, and m / sqrt(v), which is 0 where no gradient has been; all (N, ...)."""
    pixels = tuple(range(1, gradient.dim()))
    # both means are of the same degree as what they divide, so a first division keeps tiny gradients from underflow
    g = gradient / gradient.abs().amax(pixels, keepdim=True).clamp_min(torch.finfo(gradient.dtype).tiny)
    momentum = MOMENTUM * momentum + g / (g.abs().mean(pixels, keepdim=True) + TINY)
    memory = MEMORY * memory + g.square() / (g.square().mean(pixels, keepdim=True) + TINY)
    return momentum, memory, momentum / (memory.sqrt() + TINY)


def sa_pgd_targeted(problem: Problem, steps: int, rank: int) -> Examples:
    """SA-PGD on the targeted DLR loss towards the class that comes `rank`-th, 1 or more, after the label."""
    return sa_pgd(problem, steps, targeted_dlr(target(problem, rank)))
