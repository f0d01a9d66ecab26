"""How cost grows with T, width, spike rate, threads and batch: one of them changed at a time around a base case."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from randhet.benchmarks.networks import Case

NAMES = ("engine", "add-only", "torch-eager")
FIELDS = {"T": "steps", "width": "narrower", "spike rate": "rate", "threads": "threads", "batch": "batch"}
STEPS, NARROWER, RATES, BATCHES = (1, 2, 4, 8, 16), (8, 4, 2, 1), (0.02, 0.05, 0.1, 0.2, 0.4), (1, 2, 4, 8, 16)


@dataclass(frozen=True)
class Point:
    """A case on an axis, and its place there."""

    axis: str
    value: float
    case: Case


def values(base: Case) -> dict[str, tuple[float, ...]]:
    """The values of each axis; widths as divisors."""
    cores = os.cpu_count() or 1
    threads = tuple(sorted({2**i for i in range(cores.bit_length())} | {base.threads}))
    return {
        "T": STEPS,
        "width": NARROWER,
        "spike rate": tuple(sorted({*RATES, base.rate})),
        "threads": tuple(n for n in threads if n <= max(cores, base.threads)),
        "batch": tuple(sorted({*BATCHES, base.batch})),
    }


def points(base: Case) -> Iterator[Point]:
    """Every value of every axis, the other settings as in the base."""
    for axis, along in values(base).items():
        for value in along:
            changed: dict[str, Any] = {FIELDS[axis]: value}
            case = replace(base, **changed)
            yield Point(axis, case.settings.widths[-1] if axis == "width" else value, case)


def slopes(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Least-squares exponent p of cost ~ value^p on each axis, per contender; cost is milliseconds per image."""
    import numpy as np

    exponents = []
    for axis in FIELDS:
        for name in NAMES:
            measured = [
                (row["value"], row["ms_per_image"]) for row in rows if (row["axis"], row["name"]) == (axis, name)
            ]
            measured = [pair for pair in measured if pair[1]]
            if len(measured) > 1:
                value, cost = np.log(np.array(measured).T)
                exponents.append({"axis": axis, "name": name, "exponent": float(np.polyfit(value, cost, 1)[0])})
    return exponents
