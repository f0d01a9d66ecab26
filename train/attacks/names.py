"""Attacks by name: `pgd10` ten steps, `pgd10x20` 20 EOT samples per gradient, `pgd10@mean` at mean decay factors.

NAME[STEPS][xDRAWS][rRESTARTS][-dDECAY][+SURROGATE][@mean], NAME one of FAMILIES, SURROGATE as in `choice`
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass

from torch import Tensor, nn

from randhet.base.errors import RandhetError
from randhet.train.attacks import autoattack, battery
from randhet.train.attacks.apgd import apgd, apgd_targeted
from randhet.train.attacks.choice import FORM as SURROGATE
from randhet.train.attacks.choice import NAMES, Choice, attacked, chosen, restarted
from randhet.train.attacks.events import pgd_frames, retime, sda
from randhet.train.attacks.fab import fab
from randhet.train.attacks.fgsm import fgsm
from randhet.train.attacks.losses import cross_entropy, dlr
from randhet.train.attacks.mifgsm import mifgsm
from randhet.train.attacks.pgd import pgd
from randhet.train.attacks.problem import Examples, Problem, is_random
from randhet.train.attacks.sapgd import sa_pgd, sa_pgd_targeted
from randhet.train.attacks.spiking import can_act_at_mean, mean_taus
from randhet.train.attacks.square import square

__all__ = ["FAMILIES", "NAMES", "REDRAWS", "Attack", "Family", "mean_taus", "parse", "parse_list", "run", "spelled"]

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
    restarts: int = 1
    surrogate: Choice | None = None

    @property
    def iterated(self) -> bool:
        """Whether there are two evaluations."""
        searched = self.surrogate is not None and self.surrogate.search
        return FAMILIES[self.family].iterated or self.restarts > 1 or searched

    def check(self, classes: int) -> None:
        """RandhetError where its loss needs more classes than the network has."""
        if classes < (needed := FAMILIES[self.family].classes):
            raise RandhetError(f"attack {self.name!r} needs {needed} classes, the network has {classes}")


@dataclass(frozen=True)
class Family:
    """run: the algorithm. steps: default number, None where the name must say it, 0 where there is none to say.

    eot: whether xDRAWS may follow. classes: how many its loss needs. iterated: whether there are two evaluations.
    gradients: whether a surrogate can matter.
    """

    run: Callable[[Problem, Attack], Examples]
    steps: int | None
    eot: bool = True
    decay: bool = False
    classes: int = 2
    iterated: bool = True
    gradients: bool = True


FAMILIES = {
    "fgsm": Family(lambda p, a: fgsm(p), 0, iterated=False),
    "rfgsm": Family(lambda p, a: fgsm(p, start=0.1), 0, iterated=False),
    "pgd": Family(lambda p, a: pgd(p, a.steps), None),
    "mifgsm": Family(lambda p, a: mifgsm(p, a.steps, a.decay), None, decay=True),
    "apgd": Family(lambda p, a: apgd(p, a.steps, cross_entropy), None),
    "apgd-dlr": Family(lambda p, a: apgd(p, a.steps, dlr), None, classes=3),
    "apgd-t": Family(lambda p, a: apgd_targeted(p, a.steps, 1), None, classes=4),
    "sa-pgd": Family(lambda p, a: sa_pgd(p, a.steps, cross_entropy), None),
    "sa-pgd-dlr": Family(lambda p, a: sa_pgd(p, a.steps, dlr), None, classes=3),
    "sa-pgd-t": Family(lambda p, a: sa_pgd_targeted(p, a.steps, 1), None, classes=4),
    "square": Family(lambda p, a: square(p, a.steps), 5000, gradients=False),
    "fab": Family(lambda p, a: fab(p, a.steps), 100),
    "fab-t": Family(lambda p, a: fab(p, a.steps, 1), 100),
    "pgd-frames": Family(lambda p, a: pgd_frames(p, a.steps), None),
    "sda": Family(lambda p, a: sda(p, a.steps), 100),
    "retime": Family(lambda p, a: retime(p, a.steps), 100),
    "snn-auto": Family(lambda p, a: battery.snn_auto(p), 0, eot=False, gradients=False),
    "aa": Family(lambda p, a: autoattack.standard(p), 0, eot=False, classes=4),
    "aa-rand": Family(lambda p, a: autoattack.rand(p), 0, eot=False, classes=3),
}
WORDS = {"square": "Square", "aa": "AutoAttack", "aa-rand": "AutoAttack rand", "snn-auto": "snn-auto"}
"""Families that are not written in capitals."""
# the longest name first: fgsmx20 is fgsm with draws, and apgd-t10 not apgd
FAMILY = "|".join(sorted(FAMILIES, key=len, reverse=True))
FORM = (
    r"(?P<family>%s)(?P<steps>%s)?(?:x(?P<draws>%s))?(?:r(?P<restarts>\d+))?"
    r"(?:-d(?P<decay>\d+(?:\.\d+)?))?(?:\+(?P<surrogate>%s))?(?P<mean>@mean)?"
)
PATTERN = re.compile(FORM % (FAMILY, r"\d+", r"\d+", SURROGATE))
TEMPLATE = re.compile(FORM % (FAMILY, r"\d+|{\w+}", r"\d+|{\w+}", SURROGATE))
"""The same with {n} or {m} where a number may be, as in sweeps."""


def parse(name: str) -> Attack:
    """The attack of this name, RandhetError where there is none."""
    match = PATTERN.fullmatch(name)
    if match is None:
        raise RandhetError(f"attack {name!r} is {_unknown(name)}")
    part = match.groupdict()
    known = FAMILIES[part["family"]]
    _check(name, known, part)
    numbers = {word: int(part[word] or 1) for word in ("draws", "restarts")}
    surrogate = None if part["surrogate"] is None else chosen(part["surrogate"])
    steps, decay = int(part["steps"] or known.steps or 0), float(part["decay"] or 1)
    return Attack(
        name, part["family"], steps, decay=decay, mean=part["mean"] is not None, surrogate=surrogate, **numbers
    )


def _unknown(name: str) -> str:
    """What is wrong with a name that fits no pattern: its surrogate, or all of it."""
    before, plus, after = name.partition("+")
    if plus and PATTERN.fullmatch(before):
        return f"followed by {after!r}, which is no surrogate; there are {', '.join(NAMES)}"
    return f"not one of {', '.join(FAMILIES)}, with steps as in pgd10 or pgd10x20"


def _check(name: str, known: Family, part: dict[str, str | None]) -> None:
    """RandhetError where a part of a name does not go with its family."""
    for word, allowed in (
        ("steps", known.steps != 0),
        ("draws", known.eot),
        ("decay", known.decay),
        ("surrogate", known.gradients),
    ):
        if part[word] is not None and not allowed:
            raise RandhetError(f"attack {name!r}: {part['family']} takes no {word}")
    if part["steps"] is None and known.steps is None:
        raise RandhetError(f"attack {name!r} needs its number of steps, such as {part['family']}10")
    if any(part[word] is not None and int(part[word] or 0) < 1 for word in ("steps", "draws", "restarts")):
        raise RandhetError(f"attack {name!r}: steps, draws and restarts start at 1")


def spelled(name: str) -> str:
    """As one writes an attack: pgd10x{m} is PGD-10, m EOT samples. What is no attack's name stays as it is."""
    match = TEMPLATE.fullmatch(name)
    if match is None:
        return name
    part = match.groupdict()
    steps, draws = (part[word] and part[word].strip("{}") for word in ("steps", "draws"))
    parts = [WORDS.get(part["family"], part["family"].upper()) + (f"-{steps}" if steps else "")]
    parts += [f"{draws} EOT sample{'s' * (draws != '1')}"] if draws else []
    parts += [f"{part['restarts']} restarts"] if part["restarts"] else []
    parts += [f"decay {part['decay']}"] if part["decay"] else []
    parts += [f"surrogate {part['surrogate']}"] if part["surrogate"] else []
    return ", ".join(parts + ["at mean decay factors"] * (part["mean"] is not None))


def parse_list(text: str) -> tuple[Attack, ...]:
    """Attacks from names with commas, each once."""
    names = dict.fromkeys(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise RandhetError("no attack was named, give some such as fgsm,pgd10")
    return tuple(parse(name) for name in names)


def run(
    attack: Attack,
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    eps: float,
    redraws: int = REDRAWS,
    stochastic: bool | None = None,
    precision: str = "float32",
) -> Examples:
    """Adversarial examples for images (N, C, Y, X) in 0..1, |x' - x| <= eps; randomness from torch's global generator.

    stochastic: whether two answers can differ; None takes what the modules of the model declare. precision: of the
    passes behind gradients.
    """
    redrawn = is_random(model) if stochastic is None else stochastic
    draws, redraws = (1, 1) if attack.mean else (attack.draws, redraws if redrawn else 1)
    if attack.mean and redrawn and not can_act_at_mean(model):
        raise RandhetError(f"attack {attack.name!r} needs modules that can act at their mean, this model has none")
    with mean_taus(model) if attack.mean else nullcontext():
        problem = Problem(model, images, labels, eps, draws, redraws, redrawn and not attack.mean, precision=precision)
        attack.check(problem.logits(images[:1]).shape[1])
        once = lambda given: FAMILIES[attack.family].run(given, attack)
        return attacked(problem, attack.surrogate, lambda given: restarted(given, attack.restarts, once))
