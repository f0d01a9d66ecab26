"""Auto-PGD (Croce & Hein 2020): PGD with momentum that halves its step where the loss no longer rises."""

from __future__ import annotations

import torch
from torch import Tensor

from randhet.train.attacks.losses import Loss, cross_entropy, targeted_dlr
from randhet.train.attacks.problem import Answer, Examples, Problem, Shortlist, pick

MOMENTUM, RISING = 0.75, 0.75


def apgd(problem: Problem, steps: int, loss: Loss = cross_entropy) -> Examples:
    """z = P(x + h*sign(grad)); x <- P(x + 0.75*(z - x) + 0.25*(x - x_before)); h = 2*eps, halved at checkpoints.

    Stock, as the released code has it: the last iterate that was misclassified when asked once; the clean image where
    there was none, or where the clean image itself was misclassified when asked once.
    """
    skipped, shortlist = problem.wrong(problem.images), Shortlist()
    before = point = problem.touching_start()
    answer = problem.ask(point, loss)
    state = _Schedule(problem, point, answer)
    shortlist.offer(point, answer.margin)
    lucky = pick(answer.wrong & ~skipped, point, problem.images)
    for i in range(steps):
        ahead = problem.inside(point + state.step * answer.gradient.sign())
        weight = MOMENTUM if i else 1.0
        moved = problem.inside(point + weight * (ahead - point) + (1 - weight) * (point - before))
        before, point = point, moved
        answer = problem.ask(point, loss)
        # before the check, which may go back and forget it
        shortlist.offer(point, answer.margin)
        lucky = pick(answer.wrong & ~skipped, point, lucky)
        state.update(point, answer)
        if i + 1 in checkpoints(steps):
            point, answer = state.check(point, answer)
    return shortlist.examples(problem, lucky)


def checkpoints(steps: int) -> set[int]:
    """Iterations at which the step may be halved: gaps of 22 % of the steps, 3 % less each time, at least 6 %."""
    gap, less, least = (max(int(share * steps), 1) for share in (0.22, 0.03, 0.06))
    steps_at = [gap]
    while steps_at[-1] < steps:
        gap = max(gap - less, least)
        steps_at.append(steps_at[-1] + gap)
    return set(steps_at)


class _Schedule:
    """Step size, (N, 1, ...), and the best point by loss, image by image."""

    def __init__(self, problem: Problem, point: Tensor, answer: Answer) -> None:
        count = len(point)
        self.step = point.new_full((count, *[1] * (point.dim() - 1)), 2 * problem.eps)
        self.best, self.best_answer = point, answer
        self.checked = answer.loss
        # of the released code: the first step counts as a rise where its loss is above 0
        self.last = point.new_zeros(count)
        self.rises, self.iterations = point.new_zeros(count), 0
        self.halved = torch.ones(count, dtype=torch.bool, device=point.device)

    def update(self, point: Tensor, answer: Answer) -> None:
        self.rises += answer.loss > self.last
        self.iterations += 1
        self.last = answer.loss
        better = answer.loss > self.best_answer.loss
        self.best = pick(better, point, self.best)
        self.best_answer = _merge(better, answer, self.best_answer)

    def check(self, point: Tensor, answer: Answer) -> tuple[Tensor, Answer]:
        """Halve where the loss rose too seldom or its maximum stood still; go on from the best point there."""
        stuck = ~self.halved & (self.best_answer.loss <= self.checked)
        self.halved = (self.rises <= RISING * self.iterations) | stuck
        self.checked = self.best_answer.loss
        self.rises, self.iterations = torch.zeros_like(self.rises), 0
        self.step = pick(self.halved, self.step / 2, self.step)
        return pick(self.halved, self.best, point), _merge(self.halved, self.best_answer, answer)


def _merge(which: Tensor, yes: Answer, no: Answer) -> Answer:
    return Answer(**{name: pick(which, getattr(yes, name), getattr(no, name)) for name in Answer.__dataclass_fields__})


def apgd_targeted(problem: Problem, steps: int, rank: int) -> Examples:
    """APGD on the targeted DLR loss towards the class that comes `rank`-th, 1 or more, after the label."""
    return apgd(problem, steps, targeted_dlr(target(problem, rank)))


def target(problem: Problem, rank: int) -> Tensor:
    """(N,): the wrong class with the rank-th highest logit on the clean image."""
    logits = problem.logits(problem.images).scatter(1, problem.labels[:, None], -torch.inf)
    return logits.argsort(1, descending=True)[:, rank - 1]
