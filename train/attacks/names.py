"""Attacks by name: `pgd10` ten steps, `pgd10x20` 20 EOT samples per gradient, `pgd10@mean` at mean decay factors.

NAME[STEPS][xDRAWS][-dDECAY][@mean], NAME one of FAMILIES
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from randhet.base.errors import RandhetError
from randhet.train.attacks import autoattack
from randhet.train.attacks.apgd import apgd, apgd_targeted
from randhet.train.attacks.fab import fab
from randhet.train.attacks.fgsm import fgsm
from randhet.train.attacks.losses import cross_entropy, dlr
from randhet.train.attacks.mifgsm import mifgsm
from randhet.train.attacks.pgd import pgd
from randhet.train.attacks.problem import Examples, Problem, is_random
from randhet.train.attacks.square import square
from randhet.train.neurons import RandomTauLIF, neurons, replaying

REDRAWS = 10
"""Fresh draws behind each choice between two examples."""


@dataclass(frozen=True)
class Attack:
    """A name taken apart; run with `run`. steps: 0 where the family has none to choose."""

    name: str
    family: str
    steps: int
    draws: int = 1
    decay: float = 1.0
    mean: bool = False

    @property
    def iterated(self) -> bool:
        """Whether there are two readings."""
        return FAMILIES[self.family].iterated

    def check(self, classes: int) -> None:
        """RandhetError where its loss needs more classes than the network has."""
        if classes < (needed := FAMILIES[self.family].classes):
            raise RandhetError(f"attack {self.name!r} needs {needed} classes, the network has {classes}")


@dataclass(frozen=True)
class Family:
    """run: the algorithm. steps: default number, None where the name must say it, 0 where there is none to say.

    eot: whether xDRAWS may follow. classes: how many its loss needs. iterated: whether there are two readings.
    """

    run: Callable[[Problem, Attack], Examples]
    steps: int | None
    eot: bool = True
    decay: bool = False
    classes: int = 2
    iterated: bool = True


FAMILIES = {
    "fgsm": Family(lambda p, a: fgsm(p), 0, iterated=False),
    "rfgsm": Family(lambda p, a: fgsm(p, start=0.1), 0, iterated=False),
    "pgd": Family(lambda p, a: pgd(p, a.steps), None),
    "mifgsm": Family(lambda p, a: mifgsm(p, a.steps, a.decay), None, decay=True),
    "apgd": Family(lambda p, a: apgd(p, a.steps, cross_entropy), None),
    "apgd-dlr": Family(lambda p, a: apgd(p, a.steps, dlr), None, classes=3),
    "apgd-t": Family(lambda p, a: apgd_targeted(p, a.steps, 1), None, classes=4),
    "square": Family(lambda p, a: square(p, a.steps), 5000),
    "fab": Family(lambda p, a: fab(p, a.steps), 100),
    "fab-t": Family(lambda p, a: fab(p, a.steps, 1), 100),
    "aa": Family(lambda p, a: autoattack.standard(p), 0, eot=False, classes=4),
    "aa-rand": Family(lambda p, a: autoattack.rand(p), 0, eot=False, classes=3),
}
WORDS = {"square": "Square", "aa": "AutoAttack", "aa-rand": "AutoAttack rand"}
"""Families that are not written in capitals."""
# the longest name first: fgsmx20 is fgsm with draws, and apgd-t10 not apgd
FAMILY = "|".join(sorted(FAMILIES, key=len, reverse=True))
FORM = r"({family})({count})?(?:x({count}))?(?:-d(\d+(?:\.\d+)?))?(@mean)?"
PATTERN = re.compile(FORM.format(family=FAMILY, count=r"\d+"))
TEMPLATE = re.compile(FORM.format(family=FAMILY, count=r"\d+|{\w+}"))
"""The same with {n} or {m} where a number may be, as in sweeps."""


def parse(name: str) -> Attack:
    """The attack of this name, RandhetError where there is none."""
    match = PATTERN.fullmatch(name)
    if match is None:
        raise RandhetError(f"attack {name!r} is not one of {', '.join(FAMILIES)}, with steps as in pgd10 or pgd10x20")
    family, steps, draws, decay, mean = match.groups()
    known = FAMILIES[family]
    for given, allowed, what in (
        (steps, known.steps != 0, "steps"),
        (draws, known.eot, "draws"),
        (decay, known.decay, "decay"),
    ):
        if given is not None and not allowed:
            raise RandhetError(f"attack {name!r}: {family} takes no {what}")
    if steps is None and known.steps is None:
        raise RandhetError(f"attack {name!r} needs its number of steps, such as {family}10")
    if (steps is not None and int(steps) < 1) or (draws is not None and int(draws) < 1):
        raise RandhetError(f"attack {name!r}: steps and draws start at 1")
    return Attack(name, family, int(steps or known.steps or 0), int(draws or 1), float(decay or 1), mean is not None)


def spelled(name: str) -> str:
    """As one writes an attack: pgd10x{m} is PGD-10, m EOT samples. What is no attack's name stays as it is."""
    match = TEMPLATE.fullmatch(name)
    if match is None:
        return name
    family, *counts, decay, mean = match.groups()
    steps, draws = (count and count.strip("{}") for count in counts)
    parts = [WORDS.get(family, family.upper()) + (f"-{steps}" if steps else "")]
    parts += [f"{draws} EOT sample{'s' * (draws != '1')}"] if draws else []
    parts += [f"decay {decay}"] if decay else []
    return ", ".join(parts + ["at mean decay factors"] * (mean is not None))


def parse_list(text: str) -> tuple[Attack, ...]:
    """Attacks from names with commas, each once."""
    names = dict.fromkeys(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise RandhetError("no attack was named, give some such as fgsm,pgd10")
    return tuple(parse(name) for name in names)


def run(
    attack: Attack, model: nn.Module, images: Tensor, labels: Tensor, eps: float, redraws: int = REDRAWS
) -> Examples:
    """Adversarial examples for images (N, C, Y, X) in 0..1, |x' - x| <= eps; chance from torch's global generator."""
    known = FAMILIES[attack.family]
    if not attack.mean:
        problem = Problem(model, images, labels, eps, attack.draws, redraws if is_random(model) else 1)
        return _run(known, attack, problem)
    with mean_taus(model):
        return _run(known, attack, Problem(model, images, labels, eps))


def _run(known: Family, attack: Attack, problem: Problem) -> Examples:
    attack.check(problem.logits(problem.images[:1]).shape[1])
    return known.run(problem, attack)


@contextmanager
def mean_taus(model: nn.Module) -> Iterator[None]:
    """Within the block every random neuron has tau = 1/2, the mean of sigmoid(sigma*n), n ~ N(0, 1), at any sigma."""
    half = torch.tensor(0.5)
    random = [name for name, neuron in neurons(model).items() if isinstance(neuron, RandomTauLIF)]
    with replaying(model, dict.fromkeys(random, half.expand)):
        yield
