"""Square Attack (Andriushchenko et al. 2020): random search that asks for logits only."""

from __future__ import annotations

import torch
from torch import Tensor

from randhet.train.attacks.problem import Examples, Problem, new_seed, pick, same_draws, strongest

SHARE = 0.8
HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""Of ten thousand queries: where the share of the image that a square covers is halved."""


def square(problem: Problem, queries: int) -> Examples:
    """Set squares to x +- eps, keep what raises the margin, after vertical stripes. Stock: it stops at one success.

    The noise-aware search asks about the present point again beside every proposal, under the same draws, because an
    answer kept for being high was probably lucky, and goes on until all of `redraws` fresh draws are misclassified.
    """
    stripes = problem.eps * _signs(problem.images[:, :, :1])
    start = problem.inside(problem.images + stripes)
    stock = _stock(problem, start, queries)
    if problem.redraws == 1:
        return Examples(stock, stock)
    return Examples(stock, strongest(problem, stock, _aware(problem, start, queries)))


def _stock(problem: Problem, start: Tensor, queries: int) -> Tensor:
    point, best = start, problem.margins(start)
    for i in range(queries):
        active = best < 0
        if not active.any():
            break
        standing = problem.only(active)
        proposal = _propose(standing, point[active], _side(problem.images, i / queries))
        margins = standing.margins(proposal)
        better = margins > best[active]
        point[active] = pick(better, proposal, point[active])
        best[active] = torch.maximum(best[active], margins)
    return point


def _aware(problem: Problem, start: Tensor, queries: int) -> Tensor:
    point, active = start.clone(), torch.ones(len(start), dtype=torch.bool, device=start.device)
    for i in range(queries):
        if i % max(queries // 20, 1) == 0:
            active = ~problem.certain(point)
        if not active.any():
            break
        uncertain, present = problem.only(active), point[active]
        proposal = _propose(uncertain, present, _side(problem.images, i / queries))
        seed = new_seed()
        with same_draws(seed):
            before = uncertain.margins(present)
        with same_draws(seed):
            after = uncertain.margins(proposal)
        point[active] = pick(after > before, proposal, present)
    return point


def _side(images: Tensor, progress: float) -> int:
    """Length of the square when this part, 0..1, of the queries is spent."""
    halvings = sum(int(progress * 10_000) > limit for limit in HALVINGS)
    height, width = images.shape[-2:]
    return max(round((SHARE / 2**halvings * height * width) ** 0.5), 1)


def _propose(problem: Problem, points: Tensor, side: int) -> Tensor:
    """One square per image at a random place, all channels, set to the clean pixels + eps or - eps."""
    inside = _place(points, -2, side) & _place(points, -1, side)
    corner = problem.images + problem.eps * _signs(points[:, :, :1, :1])
    return torch.where(inside, problem.inside(corner), points)


def _place(points: Tensor, axis: int, side: int) -> Tensor:
    """(N, 1, Y, 1) or (N, 1, 1, X) bool: a run of `side` at a random place of this axis."""
    length = points.shape[axis]
    side = min(side, length)
    first = torch.randint(length - side + 1, (len(points), 1), device=points.device)
    position = torch.arange(length, device=points.device)
    run = (position >= first) & (position < first + side)
    return run[:, None, :, None] if axis == -2 else run[:, None, None, :]


def _signs(like: Tensor) -> Tensor:
    return torch.randint(2, like.shape, device=like.device).to(like) * 2 - 1
