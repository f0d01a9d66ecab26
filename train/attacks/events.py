"""Attacks on frames of events: values are whole counts of events, and few of them may change.

A count is a multiple of `EVENT`, 1/255 in the scale 0..1 of frames. pgd-frames changes every value by at most eps; sda
changes at most so many values by one event each, after the sparse dynamic attack of Lun et al., CVPR 2025; retime moves
at most so many events by one frame and neither adds nor removes any (retiming under a budget: arXiv:2602.03284).
"""

from __future__ import annotations

import torch
from torch import Tensor

from randhet.base.errors import RandhetError
from randhet.train.attacks.losses import cross_entropy, margin
from randhet.train.attacks.problem import Examples, Problem, Shortlist, pick

EVENT = 1 / 255
SLACK = 1e-3
"""How far from a whole number a count in float32 may be."""
ROUNDS = 10
"""Gradients of sda and retime: the budget is spent in as many equal parts."""


def whole(points: Tensor) -> Tensor:
    """The nearest whole counts."""
    return (points / EVENT).round() * EVENT


def pgd_frames(problem: Problem, steps: int) -> Examples:
    """x <- P(x + 2*eps/n * sign(grad CE(round(x)))): the gradient is taken, and the result given, at whole counts."""
    _has_room(problem)
    step = 2 * problem.eps / steps
    point, shortlist = problem.start(), Shortlist()
    for _ in range(steps):
        answer = problem.ask(whole(point), cross_entropy)
        shortlist.offer(whole(point), answer.margin)
        point = problem.inside(point + step * answer.gradient.sign())
    return shortlist.examples(problem, whole(point))


def sda(problem: Problem, budget: int) -> Examples:
    """Change at most `budget` values by one event each, those of the largest gradient; take back what is not needed.

    In each of ROUNDS rounds the values with the largest |grad CE| whose change stays in the ball are changed, of images
    that are still classified right. Of a misclassified image the changes worth least go back as long as it stays
    misclassified in all redraws.
    """
    _has_room(problem)
    point, shortlist = problem.images.clone(), Shortlist()
    for part in _parts(budget):
        answer = problem.ask(point, cross_entropy)
        shortlist.offer(point, answer.margin)
        moved = point + EVENT * answer.gradient.sign()
        allowed = (problem.inside(moved) - moved).abs() < EVENT / 2
        untouched = (point - problem.images).abs() < EVENT / 2
        gain = answer.gradient.abs() * (allowed & untouched)
        point = torch.where(largest(gain, part) & _active(problem, point), moved, point)
    return shortlist.examples(problem, _reduced(problem, whole(point)))


def retime(problem: Problem, budget: int) -> Examples:
    """Move at most `budget` events to the frame before or after, where the loss grows most: x_t - 1, x_t' + 1.

    The gain of a move is the difference of the gradients of both values. Every move takes an event of the clean
    recording that is not moved yet.
    """
    if problem.images.dim() != 5:
        raise RandhetError("retime moves events between frames, the network takes still images")
    _counts(problem)
    point, left, shortlist = problem.images.clone(), problem.images.clone(), Shortlist()
    for part in _parts(budget):
        answer = problem.ask(point, cross_entropy)
        shortlist.offer(point, answer.margin)
        gains = torch.stack([_gain(answer.gradient, by) for by in (-1, 1)], dim=1)
        gains = torch.where((left >= EVENT / 2).unsqueeze(1), gains, -torch.inf)
        chosen = largest(gains.clamp_min(0).nan_to_num(0), part) & _active(problem, point).unsqueeze(1)
        # an event that could go both ways goes once
        chosen[:, 1] &= ~chosen[:, 0]
        taken = chosen.any(1) * EVENT
        given = sum(_shift(chosen[:, i] * EVENT, by) for i, by in enumerate((-1, 1)))
        point, left = whole(point - taken + given).clamp(0, 1), left - taken
    return shortlist.examples(problem, point)


def _counts(problem: Problem) -> None:
    counts = problem.images / EVENT
    if (apart := float((counts - counts.round()).abs().max())) > SLACK:
        raise RandhetError(
            f"images hold {apart:.3f} of an event of {EVENT:.5f}, attacks on events change whole ones: "
            "divide counts by 255"
        )


def _has_room(problem: Problem) -> None:
    _counts(problem)
    if problem.eps < EVENT / 2:
        raise RandhetError(f"eps is {problem.eps:.5f}, less than half an event of {EVENT:.5f}: give at least 1/255")


def _parts(budget: int) -> list[int]:
    """The budget in at most ROUNDS parts that differ by at most one."""
    rounds = min(ROUNDS, budget)
    return [budget // rounds + (i < budget % rounds) for i in range(rounds)]


def _active(problem: Problem, point: Tensor) -> Tensor:
    """Where an image is still to be changed: classified right when it is asked once, which is asked every round."""
    return (~problem.wrong(point)).view(-1, *[1] * (point.dim() - 1))


def largest(gain: Tensor, count: int) -> Tensor:
    """(N, ...) bool: the `count` largest of the positive values of each image."""
    flat = gain.flatten(1)
    values, places = flat.topk(min(count, flat.shape[1]), dim=1)
    return torch.zeros_like(flat, dtype=torch.bool).scatter_(1, places, values > 0).view(gain.shape)


def _gain(gradient: Tensor, by: int) -> Tensor:
    """What an event gains that moves by so many frames; nothing beyond the ends."""
    other = _shift(gradient, -by)
    inside = _shift(torch.ones_like(gradient), -by) > 0
    return torch.where(inside, other - gradient, torch.full_like(gradient, -torch.inf))


def _shift(frames: Tensor, by: int) -> Tensor:
    """Frames (N, T, ...) moved later by so many steps, over zeros."""
    moved = torch.zeros_like(frames)
    if by > 0:
        moved[:, by:] = frames[:, :-by]
    else:
        moved[:, :by] = frames[:, -by:]
    return moved


def _reduced(problem: Problem, point: Tensor) -> Tensor:
    """Take back changes, half of those that are left at a time, where the image stays misclassified without them."""
    for _ in range(ROUNDS):
        changed = point != problem.images
        count = int(changed.flatten(1).sum(1).max())
        if count < 2:
            break
        gradient = problem.ask(point, margin).gradient
        worth = (gradient * (point - problem.images)).masked_fill(~changed, -torch.inf)
        # keep the better half of each image's changes
        rank = worth.flatten(1).argsort(dim=1, descending=True).argsort(dim=1).view(point.shape)
        kept = changed.flatten(1).sum(1, keepdim=True).add(1).div(2, rounding_mode="floor")
        smaller = torch.where(rank < kept.view(-1, *[1] * (point.dim() - 1)), point, problem.images)
        still = problem.certain(smaller)
        if not still.any():
            break
        point = pick(still, smaller, point)
    return point


def changed_values(problem: Problem, points: Tensor) -> Tensor:
    """(N,) how many values of each recording differ from the clean one."""
    return ((points - problem.images).abs() > EVENT / 2).flatten(1).sum(1)


def added_events(problem: Problem, points: Tensor) -> Tensor:
    """(N,) by how many events each recording has more than the clean one; 0 where events only moved."""
    return ((points - problem.images) / EVENT).flatten(1).sum(1).round()
