"""AutoAttack (Croce & Hein 2020), standard and rand: several attacks in turn on what the earlier ones left standing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from randhet.train.attacks.apgd import apgd, apgd_targeted
from randhet.train.attacks.fab import fab
from randhet.train.attacks.losses import dlr
from randhet.train.attacks.problem import Examples, Problem, pick, strongest
from randhet.train.attacks.square import square

Attack = Callable[[Problem], Examples]
TARGETS = 9


def standard(problem: Problem, steps: int = 100, queries: int = 5000) -> Examples:
    """APGD on cross entropy, APGD on the targeted DLR loss and FAB to 9 classes each, Square."""
    return in_turn(problem, _standard(steps, queries, min(TARGETS, _classes(problem) - 1)))


def rand(problem: Problem, steps: int = 100, draws: int = 20) -> Examples:
    """For random networks: APGD on cross entropy and on the DLR loss, each gradient a mean over 20 draws."""
    eot = replace(problem, draws=draws)
    return in_turn(
        eot, [lambda problem_part: apgd(problem_part, steps), lambda problem_part: apgd(problem_part, steps, dlr)]
    )


def _standard(steps: int, queries: int, targets: int) -> Iterator[Attack]:
    yield lambda problem_part: apgd(problem_part, steps)
    for rank in range(1, targets + 1):
        yield lambda problem_part, rank=rank: apgd_targeted(problem_part, steps, rank)  # type: ignore[misc]
    for rank in range(1, targets + 1):
        yield lambda problem_part, rank=rank: fab(problem_part, steps, rank)  # type: ignore[misc]
    yield lambda problem_part: square(problem_part, queries)


def in_turn(
    problem: Problem, attacks: Iterator[Attack] | list[Attack], done: Callable[[Tensor], None] = lambda strongest: None
) -> Examples:
    """Stock: an image leaves once it was misclassified when asked once. Noise-aware: once in all fresh draws.

    The noise-aware result is the strongest example that any of the attacks found; done gets it after each attack.
    """
    stock = aware = problem.images
    standing, certain = ~problem.wrong(stock), problem.certain(aware)
    for attack in attacks:
        active = standing | ~certain
        if not active.any():
            break
        active_problem = problem.only(active)
        active_problem.forget()
        examples = attack(active_problem)
        fooled = _spread(active, active_problem.wrong(examples.stock)) & standing
        stock, standing = _place(active, fooled, examples.stock, stock), standing & ~fooled
        candidate = examples.stock if examples.aware is None else examples.aware
        best = strongest(active_problem, aware[active], candidate)
        aware, certain = _place(active, active, best, aware), certain | _spread(active, active_problem.certain(best))
        done(aware)
    return Examples(stock, aware)


def _spread(active: Tensor, values: Tensor) -> Tensor:
    """(N,) bool: values of the active images among all, False elsewhere."""
    whole = torch.zeros_like(active)
    whole[active] = values
    return whole


def _place(active: Tensor, which: Tensor, values: Tensor, whole: Tensor) -> Tensor:
    """`whole` with those of the active images' new examples that `which`, (N,) bool, says."""
    new = whole.clone()
    new[active] = values
    return pick(which, new, whole)


def _classes(problem: Problem) -> int:
    return problem.logits(problem.images[:1]).shape[1]
