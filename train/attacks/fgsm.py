"""FGSM and RFGSM for evaluation: one signed step of the full radius."""

from __future__ import annotations

from randhet.train.attacks.losses import cross_entropy
from randhet.train.attacks.problem import Examples, Problem


def fgsm(problem: Problem, start: float = 0.0) -> Examples:
    """x' = P(x0 + eps*sign(grad CE(x0))), x0 = x + U(-start*eps, start*eps). Goodfellow 2015; start: Tramer 2018."""
    point = problem.start(start) if start else problem.images
    return Examples(problem.inside(point + problem.eps * problem.ask(point, cross_entropy).gradient.sign()))
