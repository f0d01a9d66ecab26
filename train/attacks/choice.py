"""Which surrogate the name of an attack chooses: the part after its plus sign.

| suffix | surrogate |
| --- | --- |
| `+assg` | adaptive sharpness, arctan, A = 0.425 |
| `+assg-SHAPE`, `+assg0.4` | another shape, another A |
| `+assg-search` | the best of several A between 0.3 and 0.49, image by image |
| `+SHAPEalpha`, as `+sigmoid4` | a shape of this sharpness, 2 where none is given |
| `+pdsg`, `+bptr`, `+hart` | potential-dependent; through rates; rates and time mixed |
| `+rga` | through the rate as a function of the mean current |
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from randhet.base.errors import RandhetError
from randhet.train.attacks.problem import Examples, Problem, new_seed, pick, same_draws, strongest
from randhet.train.attacks.spiking import Rule, replaced
from randhet.train.attacks.surrogates import (
    HIGHEST,
    LOWEST,
    PART,
    SHAPES,
    Adaptive,
    Fixed,
    Potential,
    RateCurve,
    Rates,
    RatesAndTime,
)

OTHERS: dict[str, Callable[[], Rule]] = {"pdsg": Potential, "bptr": Rates, "hart": RatesAndTime, "rga": RateCurve}
NAMES = ("assg", *SHAPES, *OTHERS)
_SHAPE = "|".join(SHAPES)
FORM = rf"assg(?:-(?:{_SHAPE}))?(?:0?\.\d+)?(?:-search)?|(?:{_SHAPE})(?:\d+(?:\.\d+)?)?|{'|'.join(OTHERS)}"
_ADAPTIVE = re.compile(rf"assg(?:-({_SHAPE}))?(0?\.\d+)?(-search)?")
_FIXED = re.compile(rf"({_SHAPE})(\d+(?:\.\d+)?)?")
ROUNDS = 3
"""How often the search of A discards a third of the interval: two runs of the attack each, and one in what is left."""


@dataclass(frozen=True)
class Choice:
    """kind: assg, a shape, or one of OTHERS. number: A of assg, sharpness of a fixed shape. search: look for A."""

    kind: str
    shape: str = "arctan"
    number: float = 0.0
    search: bool = False

    def rule(self) -> Rule:
        """Make the surrogate, without any memory yet."""
        if self.kind == "assg":
            return Adaptive(self.shape, self.number)
        return OTHERS[self.kind]() if self.kind in OTHERS else Fixed(self.shape, self.number)


def chosen(text: str) -> Choice:
    """Read a suffix without its plus sign, which FORM has matched."""
    if match := _ADAPTIVE.fullmatch(text):
        return Choice("assg", match[1] or "arctan", float(match[2] or PART), match[3] is not None)
    if match := _FIXED.fullmatch(text):
        return Choice(match[1], match[1], float(match[2] or 2))
    return Choice(text)


def check(text: str) -> None:
    """RandhetError where a text chooses no surrogate, or one that only whole attacks search for; empty is none."""
    if text and not re.fullmatch(FORM, text):
        raise RandhetError(f"surrogate {text!r} is not one of {', '.join(NAMES)}, with numbers as in assg0.4, sigmoid4")
    if text and chosen(text).search:
        raise RandhetError(f"surrogate {text!r} searches over whole attacks, training needs one such as assg")


Run = Callable[[Problem], Examples]


def attacked(problem: Problem, choice: Choice | None, attack: Run) -> Examples:
    """Run an attack under a surrogate; the network's own where none is chosen."""
    if choice is None:
        return attack(problem)
    if choice.search:
        return _searched(problem, choice, attack)
    rule = choice.rule()
    with replaced(problem.model, rule):
        return attack(replace(problem, rule=rule))


def _searched(problem: Problem, choice: Choice, attack: Run) -> Examples:
    """Search A by thirds for the highest share of misclassified images, the margin deciding between equals.

    The runs share their random numbers. Each is a candidate for every image, so that the search is no weaker than any
    of them.
    """
    seed, runs = new_seed(), dict[float, Examples]()

    def strength(part: float) -> tuple[float, float]:
        if part not in runs:
            with same_draws(seed):
                runs[part] = attacked(problem, replace(choice, number=part, search=False), attack)
        found = runs[part].stock if runs[part].aware is None else runs[part].aware
        assert found is not None
        with same_draws(seed):
            margins = problem.redrawn(found)
        return float((margins > 0).double().mean()), float(margins.mean())

    low, high = LOWEST, HIGHEST
    for _ in range(ROUNDS):
        left, right = low + (high - low) / 3, high - (high - low) / 3
        if strength(left) >= strength(right):
            high = right
        else:
            low = left
    strength((low + high) / 2)
    return merged(problem, list(runs.values()))


def restarted(problem: Problem, count: int, attack: Run) -> Examples:
    """Run an attack several times from new random numbers."""
    if count == 1:
        return attack(problem)
    return merged(problem, [_again(problem, attack) for _ in range(count)])


def _again(problem: Problem, attack: Run) -> Examples:
    problem.forget()
    return attack(problem)


def merged(problem: Problem, runs: list[Examples]) -> Examples:
    """Stock: the first run, or a later one that misclassifies where it does not. Noise-aware: the strongest."""
    stock = runs[0].stock
    standing = ~problem.wrong(stock)
    for run in runs[1:]:
        fooled = standing & problem.wrong(run.stock)
        stock, standing = pick(fooled, run.stock, stock), standing & ~fooled
    others = [example for run in runs for example in (run.stock, run.aware) if example is not None]
    return Examples(stock, strongest(problem, stock, *others))
