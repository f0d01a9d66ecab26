"""Whether a difference between two ways of training holds over training seeds: a section of the robustness page."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from randhet.compare.equivalence import Sample
from scripts.baselines_page import Shares, points
from scripts.robust_adaptive import adaptive
from scripts.robust_page import Result, name_of, percent, shares, table

SEED = re.compile(r"(?P<name>.+)-s(?P<seed>\d+)")
TEXT = """\
## Over training seeds

`{first}` and `{second}` were trained again with other seeds, by the same recipe (`--seed N`; their
checkpoints are not shipped). *Robust* is the lowest accuracy under {attacks}, in both evaluations.
Gradients against {rough} of these networks were computed in bfloat16. The last row is the mean of the differences with
Student's 95 % interval of that mean over {count} training runs; a single further run may differ by more.
"""


def split(name: str) -> tuple[str, int]:
    """Name and seed of a network; what ends in no seed was trained with seed 0."""
    found = SEED.fullmatch(name)
    return (found["name"], int(found["seed"])) if found else (name, 0)


def by_seed(results: Sequence[Result], name: str) -> dict[int, Result]:
    """The networks of one recipe."""
    names = [(split(name_of(result)), result) for result in results]
    return {seed: result for (found, seed), result in sorted(names, key=lambda one: one[0]) if found == name}


def over_seeds(results: Sequence[Result], first: str, second: str) -> Iterator[str]:
    """The section in lines; none unless both recipes were trained with two seeds or more."""
    pair = by_seed(results, first), by_seed(results, second)
    seeds = sorted(set(pair[0]) & set(pair[1]))
    if len(seeds) < 2:
        return
    attacks = [shared([one[seed] for seed in seeds]) for one in pair]
    said = " or ".join(f"`{'`, `'.join(found)}` for `{name}`" for found, name in zip(attacks, (first, second)))
    said = f"`{'`, `'.join(attacks[0])}`" if attacks[0] == attacks[1] else said
    rough = sum(one[seed].get("gradients") == "bfloat16" for one in pair for seed in seeds)
    yield TEXT.format(first=first, second=second, attacks=said, rough=rough, count=len(seeds))
    rows, clean, robust = [], [], []
    for seed in seeds:
        a, b = pair[0][seed], pair[1][seed]
        left = [lowest(one, found) for one, found in zip((a, b), attacks)]
        straight = [one["readings"]["clean"]["stock"] for one in (a, b)]
        rows.append((str(seed), *columns(straight), *columns(left)))
        clean.append(gap(straight).mean())
        robust.append(gap(left).mean())
    rows.append(("**mean**", "", "", over(clean), "", "", over(robust)))
    short = [name.split("-")[1] for name in (first, second)]
    heads = ("seed", f"clean: {short[0]}", short[1], "difference", f"robust: {short[0]}", short[1], "difference")
    yield from table(heads, rows)
    yield ""


def shared(results: Sequence[Result]) -> list[str]:
    """The adaptive attacks that all of these networks were attacked with."""
    each = [[name.rsplit(" ", 1)[0] for name in adaptive(result)] for result in results]
    return [name for name in dict.fromkeys(each[0]) if all(name in names for names in each)]


def lowest(result: Result, attacks: Sequence[str]) -> Mapping[str, Any]:
    """The evaluation that leaves least."""
    found: Iterator[Mapping[str, Any]] = (reading for name in attacks for reading in result["readings"][name].values())
    return min(found, key=lambda reading: reading["accuracy"])


def gap(pair: Sequence[Mapping[str, Any]]) -> Shares:
    """(images,): by how much the first is right more often, on the images that both have."""
    a, b = map(shares, pair)
    count = min(len(a), len(b))
    return a[:count] - b[:count]


def columns(pair: Sequence[Mapping[str, Any]]) -> tuple[str, str, str]:
    """Both accuracies, and their difference with its interval over images."""
    return percent(pair[0]["accuracy"]), percent(pair[1]["accuracy"]), points(*map(shares, pair))


def over(differences: Sequence[float]) -> str:
    """Their mean, with its interval over training runs."""
    sample = Sample.of(np.array(differences))
    low, high = sample.interval()
    return f"**{100 * sample.mean:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})**"
