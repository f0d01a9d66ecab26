"""Sweeps over one setting, described in TOML: an attack's steps n, draws m or eps, a network's sigma, T or segment.

title = "Accuracy over the steps of the attack"
axis = "n"
values = [10, 30, 50]
attacks = ["pgd{n}", "apgd{n}"]
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from randhet.base.errors import FileError, RandhetError
from randhet.compare.robustness.evaluation import CLEAN, Execution, Setup, Trial, evaluate
from randhet.compare.robustness.similarity import similarity
from randhet.compare.robustness.summary import cosines, readings
from randhet.train.configuration import PARSE, WORDS, toml

Value = int | float | str


@dataclass(frozen=True)
class Axis:
    """type: of its values. changes: what a value sets in the model, nothing where the attack takes it."""

    label: str
    type: type
    changes: Callable[[Any], dict[str, Any]] = lambda value: {}


def segment(value: str) -> dict[str, Any]:
    """Random taus in one segment, in all, or in none, where every neuron has tau = 1/2."""
    return {"neuron": "vanilla"} if value == "none" else {"random": value}


AXES = {
    "n": Axis("steps of the attack", int),
    "m": Axis("EOT samples per gradient", int),
    "eps": Axis("eps", float),
    "sigma": Axis("sigma", float, lambda value: {"sigma": value}),
    "T": Axis("time steps T", int, lambda value: {"steps": value}),
    "segment": Axis("random segment", str, segment),
}


@dataclass(frozen=True)
class Sweep:
    """attacks: names, with {n} or {m} where the value goes. similarity: the attack to take cosines of, if any."""

    title: str
    axis: str
    values: tuple[Value, ...]
    attacks: tuple[str, ...] = ()
    eps: float = 8 / 255
    clean: bool = True
    similarity: str = ""

    def __post_init__(self) -> None:
        if not self.values or not (self.attacks or self.similarity):
            raise RandhetError("a sweep needs values, and attacks or similarity")

    def trial(self, attack: str, value: Value) -> Trial:
        """The attack, or CLEAN, at one value."""
        name = attack.replace(f"{{{self.axis}}}", str(value))
        eps = float(value) if self.axis == "eps" else self.eps
        return Trial(name, 0.0 if name == CLEAN else eps, tuple(AXES[self.axis].changes(value).items()))


def read(path: Path) -> Sweep:
    """A sweep from its file; FileError with what is wrong."""
    content = toml(path, "sweep")
    try:
        return _sweep(content)
    except RandhetError as error:
        raise FileError(f"sweep {path}: {error}") from None


def _sweep(content: Mapping[str, Any]) -> Sweep:
    names = [field.name for field in fields(Sweep)]
    for name in content:
        if name not in names:
            raise RandhetError(f"there is no setting {name!r}, there are {', '.join(names)}")
    if missing := {"title", "axis", "values"} - set(content):
        raise RandhetError(f"{sorted(missing)[0]} is missing")
    axis = AXES.get(content["axis"]) if isinstance(content["axis"], str) else None
    if axis is None:
        raise RandhetError(f"axis {content['axis']!r} is not one of {', '.join(AXES)}")
    types = {"eps": float, "clean": bool, "title": str, "axis": str, "similarity": str}
    typed = {name: _typed(name, value, types[name]) for name, value in content.items() if name in types}
    lists = {"values": axis.type, "attacks": str}
    typed |= {name: _list(name, content[name], kind) for name, kind in lists.items() if name in content}
    return Sweep(**typed)


def _list(name: str, values: Any, kind: type) -> tuple[Any, ...]:
    if not isinstance(values, list):
        raise RandhetError(f"{name} is {values!r}, it must be a list")
    return tuple(_typed(name, value, kind) for value in values)


def _typed(name: str, value: Any, kind: type) -> Any:
    try:
        return PARSE[kind](value)
    except (TypeError, ValueError, ZeroDivisionError):
        raise RandhetError(f"{name} holds {value!r}, it must be {WORDS[kind]}") from None


def run(sweep: Sweep, setup: Setup, execution: Execution) -> dict[str, Any]:
    """{"curves": {attack: [readings per value]}, "cosines": [...], "values": [...]}; clean is a curve of its own."""
    attacks = ([CLEAN] if sweep.clean else []) + list(sweep.attacks)
    trials = {(attack, value): sweep.trial(attack, value) for attack in attacks for value in sweep.values}
    # the clean accuracy at every step of an attack is one trial
    outcomes = evaluate(setup, list(dict.fromkeys(trials.values())), execution)
    curves = {attack: [readings(outcomes[trials[attack, value]]) for value in sweep.values] for attack in attacks}
    alike = _alike(sweep, setup, execution) if sweep.similarity else []
    return {"values": list(sweep.values), "samples": len(setup.images), "curves": curves, "cosines": alike}


def _alike(sweep: Sweep, setup: Setup, execution: Execution) -> list[dict[str, Any]]:
    trials = [sweep.trial(sweep.similarity, value) for value in sweep.values]
    similarities = similarity(setup, list(dict.fromkeys(trials)), execution)
    of_each = lambda alike: {"gradient": alike.gradient.tolist(), "perturbation": alike.perturbation.tolist()}
    return [cosines(similarities[trial]) | {"of_each": of_each(similarities[trial])} for trial in trials]
