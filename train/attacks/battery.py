"""snn-auto: a fixed battery without parameters, gradients that suit spikes first and no gradients last.

What AutoAttack (Croce & Hein 2020) is for ordinary networks: several attacks in turn, each on the images that the
earlier ones left, the strongest example counting, and a warning where the attack without gradients still lowers the
accuracy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from randhet.train.attacks.autoattack import TARGETS, Attack, in_turn
from randhet.train.attacks.choice import Choice, attacked
from randhet.train.attacks.losses import Loss, cross_entropy, dlr
from randhet.train.attacks.problem import Examples, Problem, new_seed, same_draws
from randhet.train.attacks.sapgd import sa_pgd, sa_pgd_targeted
from randhet.train.attacks.spiking import can_act_at_mean, mean_taus
from randhet.train.attacks.square import square
from randhet.train.attacks.surrogates import PART

STEPS, EOT, QUERIES, NOISY_QUERIES = 200, 5, 5000, 1000
"""Iterations; EOT samples on a stochastic network; queries of Square on a deterministic and on a stochastic one.

The first two are the cheapest that leave no more than a point above the lowest accuracy that was measured on each
network of docs/how-to/attack.md.
"""
ASSG = Choice("assg", number=PART)
SQUARE = "square"
MASKED = 0.002
"""How far, in 0..1, Square may lower the accuracy before it is a sign of misleading gradients; AutoAttack's limit."""


def snn_auto(problem: Problem, steps: int = STEPS, queries: int | None = None, draws: int = EOT) -> Examples:
    """SA-PGD with ASSG on cross entropy, DLR and targeted DLR to 9 classes; transfer from the mean; Square.

    parts of the result: by attack, (N,), the share 0..1 of repetitions in which the strongest example so far is
    classified correctly, in the same draws for all attacks.
    """
    noisy = problem.stochastic
    plan = members(problem, steps, queries or (NOISY_QUERIES if noisy else QUERIES), draws if noisy else 1)
    seed, parts, names = new_seed(), dict[str, Tensor](), iter(plan)

    def done(strongest: Tensor) -> None:
        with same_draws(seed):
            parts[next(names)] = correct(problem, strongest)

    found = in_turn(problem, list(plan.values()), done)
    if not parts:
        done(problem.images)
    last = list(parts.values())[-1]
    # attacks that found nothing left to do change nothing
    return replace(found, parts={name: parts.get(name, last) for name in plan})


def members(problem: Problem, steps: int, queries: int, draws: int) -> dict[str, Attack]:
    """By name, in order; without those whose loss needs more classes, or which need randomness that is not there."""
    classes = problem.logits(problem.images[:1]).shape[1]
    plan: dict[str, Attack] = {"ce": _sa_pgd(steps, draws, cross_entropy)}
    if classes >= 3:
        plan["dlr"] = _sa_pgd(steps, draws, dlr)
    if classes >= 4:
        plan["targeted"] = _targeted(steps, draws, min(TARGETS, classes - 1))
    if problem.stochastic and can_act_at_mean(problem.model):
        plan["mean"] = _transferred(steps)
    return plan | {SQUARE: lambda given: square(given, queries)}


def _sa_pgd(steps: int, draws: int, loss: Loss) -> Attack:
    return lambda given: attacked(replace(given, draws=draws), ASSG, lambda inner: sa_pgd(inner, steps, loss))


def _targeted(steps: int, draws: int, targets: int) -> Attack:
    def towards(rank: int) -> Attack:
        run: Callable[[Problem], Examples] = lambda inner: sa_pgd_targeted(inner, steps, rank)
        return lambda given: attacked(replace(given, draws=draws), ASSG, run)

    return lambda given: in_turn(given, [towards(rank) for rank in range(1, targets + 1)])


def _transferred(steps: int) -> Attack:
    """Made where the network acts at its mean, without randomness."""

    def run(given: Problem) -> Examples:
        with mean_taus(given.model):
            made = attacked(replace(given, draws=1, redraws=1), ASSG, lambda inner: sa_pgd(inner, steps))
        return made

    return run


@torch.no_grad()
def correct(problem: Problem, points: Tensor) -> Tensor:
    """(N,): the share of `redraws` answers that are right."""
    answers = torch.stack([problem.model(points).argmax(1) == problem.labels for _ in range(problem.redraws)])
    return answers.double().mean(0)


def masking(left: Mapping[str, float]) -> str | None:
    """One sentence where Square lowered what the gradients had left, 0..1 by attack; None where it did not."""
    names = list(left)
    if SQUARE not in names or names.index(SQUARE) == 0:
        return None
    before, after = left[names[names.index(SQUARE) - 1]], left[SQUARE]
    if before - after <= MASKED + 1e-9:
        return None
    return (
        f"Square, which uses no gradients, lowered the accuracy from {100 * before:.1f} to {100 * after:.1f} %: the "
        "gradients of this network mislead attacks, and its robust accuracy is lower than what they show"
    )
