"""Projected gradient descent (Madry et al. 2018)."""

from __future__ import annotations

from randhet.train.attacks.losses import cross_entropy
from randhet.train.attacks.problem import Examples, Problem, Shortlist


def pgd(problem: Problem, steps: int) -> Examples:
    """x <- P(x + 2*eps/n * sign(grad CE(x))), n steps from a uniform start; stock: the last iterate.

    The step is Wang et al. 2025's (16/n)/255 at eps = 8/255.
    """
    step = 2 * problem.eps / steps
    point, shortlist = problem.start(), Shortlist()
    for _ in range(steps):
        answer = problem.ask(point, cross_entropy)
        shortlist.offer(point, answer.margin)
        point = problem.inside(point + step * answer.gradient.sign())
    return shortlist.examples(problem, point)
