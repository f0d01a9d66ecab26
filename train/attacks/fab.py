"""Fast Adaptive Boundary attack (Croce & Hein 2020): the nearest adversarial point, by projections on hyperplanes."""

from __future__ import annotations

import torch
from torch import Tensor

from randhet.train.attacks.apgd import target
from randhet.train.attacks.losses import TINY
from randhet.train.attacks.problem import Examples, Problem, Shortlist, pick

ALPHA, ETA, BETA = 0.1, 1.05, 0.9


def fab(problem: Problem, steps: int, rank: int | None = None) -> Examples:
    """x <- (1-a)*(x + 1.05*d) + a*(x_clean + 1.05*d_clean), d onto the linearised boundary; 0.9 back where it crossed.

    rank: of the one wrong class to go for, None for the nearest boundary of all. Stock, as released: the
    nearest point that was misclassified when asked once, if it lies within eps, otherwise the clean image. Noise-aware:
    a point just across the boundary fools a random network every other time, so each direction is also offered
    stretched to the full radius.
    """
    classes = _targets(problem, rank)
    nearest, distance = problem.images, problem.images.new_full((len(problem.images),), torch.inf)
    attacked = ~problem.wrong(problem.images)
    point, shortlist = problem.images, Shortlist()
    for _ in range(steps):
        point = _step(problem, point, classes)
        stretched = _stretch(problem, point)
        shortlist.offer(stretched, problem.margins(stretched))
        wrong, length = problem.wrong(point), _length(point - problem.images)
        nearer = wrong & attacked & (length < distance)
        nearest, distance = pick(nearer, point, nearest), torch.where(nearer, length, distance)
        point = pick(wrong, problem.images + BETA * (point - problem.images), point)
    # what lies farther than eps by rounding only is projected; anything beyond that is no success
    close = distance <= problem.eps * (1 + 1e-5)
    return shortlist.examples(problem, problem.inside(pick(close, nearest, problem.images)))


def _step(problem: Problem, point: Tensor, classes: Tensor) -> Tensor:
    """One step from (N, C, Y, X) towards the nearest of the linearised boundaries to classes (N, J)."""
    gaps, gradients = differences(problem, point, classes)
    nearest = (gaps.abs() / (gradients.abs().sum(2) + TINY)).argmin(1)
    rows = torch.arange(len(point), device=point.device)
    gap, normal = gaps[rows, nearest], gradients[rows, nearest]
    flat, clean = point.flatten(1), problem.images.flatten(1)
    here = to_plane(flat, normal, -gap)
    there = to_plane(clean, normal, -gap + (normal * (flat - clean)).sum(1))
    alpha = (_length(here) / (_length(here) + _length(there)).clamp_min(TINY)).clamp_max(ALPHA)[:, None]
    moved = (1 - alpha) * (flat + ETA * here) + alpha * (clean + ETA * there)
    return moved.clamp(0, 1).view_as(point)


def _targets(problem: Problem, rank: int | None) -> Tensor:
    """(N, J): the wrong classes to go for."""
    if rank is not None:
        return target(problem, rank)[:, None]
    count = problem.logits(problem.images[:1]).shape[1]
    others = torch.arange(count - 1, device=problem.labels.device).expand(len(problem.labels), -1)
    return others + (others >= problem.labels[:, None])


def differences(problem: Problem, points: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
    """z_j - z_y for classes (N, J), and its gradients (N, J, pixels), means over the draws."""
    points = points.detach().requires_grad_(True)
    gaps = points.new_zeros(classes.shape)
    gradients = points.new_zeros(*classes.shape, points[0].numel())
    for _ in problem.passes():
        logits = problem.differentiable(points)
        gap = logits.gather(1, classes) - logits.gather(1, problem.labels[:, None])
        gaps += gap.detach() / problem.draws
        for j in range(classes.shape[1]):
            (gradient,) = torch.autograd.grad(gap[:, j].sum(), points, retain_graph=j + 1 < classes.shape[1])
            gradients[:, j] += gradient.flatten(1) / problem.draws
    return gaps, gradients


def to_plane(points: Tensor, normal: Tensor, gap: Tensor) -> Tensor:
    """The d of least L-inf norm with <normal, d> = gap and points + d in 0..1; (N, D), (N, D), (N,) -> (N, D).

    Every pixel moves by min(t, room to the border) the right way, which gains G(t), concave and piecewise linear. With
    the pixels sorted by room, piece k is A_k + B_k*t; each lies above G, so t = max_k (|gap| - A_k)/B_k. Where the
    borders leave too little room every pixel goes to its border.
    """
    way = torch.sign(gap)[:, None] * torch.sign(normal)
    room, order = torch.where(way > 0, 1 - points, points).sort(1)
    weight = normal.abs().gather(1, order)
    spent = torch.cat([points.new_zeros(len(points), 1), (weight * room).cumsum(1)], 1)
    left = weight.sum(1, keepdim=True) - torch.cat([points.new_zeros(len(points), 1), weight.cumsum(1)], 1)
    reach = ((gap.abs()[:, None] - spent) / left.clamp_min(TINY)).amax(1, keepdim=True).clamp_min(0)
    return way * torch.minimum(reach, torch.where(way > 0, 1 - points, points))


def _stretch(problem: Problem, points: Tensor) -> Tensor:
    """Along the same direction to the surface of the ball."""
    change = points - problem.images
    longest = _length(change).clamp_min(TINY).view(-1, 1, 1, 1)
    return problem.inside(problem.images + problem.eps / longest * change)


def _length(change: Tensor) -> Tensor:
    """L-inf norm of each row."""
    return change.flatten(1).abs().amax(1)
