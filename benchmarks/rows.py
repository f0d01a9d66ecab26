"""From times to the rows that are reported: medians, ratios of the same round, the cost of random taus."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from randhet.benchmarks.contenders import CONTENDERS
from randhet.benchmarks.networks import Activity, Case
from randhet.benchmarks.race import Times

BASELINE = "torch-eager"
PAIRS = {"engine": ("engine", "engine-constant"), "torch-eager": ("torch-eager", "torch-eager-constant")}
"""Contenders that differ in nothing but their taus: random, constant."""


def rows(case: Case, activities: Mapping[str, Activity], times_of: Mapping[str, Times]) -> list[dict[str, Any]]:
    """One row per contender, in their order."""
    base = times_of.get(BASELINE, Times())
    return [row(name, case, activities[CONTENDERS[name].taus], times, base) for name, times in times_of.items()]


def row(name: str, case: Case, activity: Activity, times: Times, base: Times) -> dict[str, Any]:
    """What is known of a contender; numbers that were not measured are None and `note` says why.

    ratio_to_torch_eager: how many times faster than torch eager, the median over rounds; cpu_ratio_to_torch_eager: how
    many times less processor time, which says more where other work runs on the machine.
    """
    per_image = [1000 * seconds / case.batch for seconds in times.seconds]
    middle = median(per_image) if per_image else None
    return {
        "name": name,
        "about": CONTENDERS[name].about,
        "taus": CONTENDERS[name].taus,
        "size": case.size,
        "widths": list(case.settings.widths),
        "steps": case.settings.steps,
        "spike_rate": case.rate,
        "measured_stem_rate": activity.stem,
        "measured_mean_rate": activity.mean,
        "threads": case.threads,
        "batch": case.batch,
        "ms_per_image": middle,
        "ms_min": min(per_image, default=None),
        "ms_max": max(per_image, default=None),
        "cpu_ms_per_image": middle_of([1000 * seconds / case.batch for seconds in times.cpu]),
        "repeats": len(per_image),
        "images_per_second": 1000 / middle if middle else None,
        "ratio_to_torch_eager": middle_of(ratios(base.seconds, times.seconds)),
        "cpu_ratio_to_torch_eager": middle_of(ratios(base.cpu, times.cpu)),
        "peak_mb": times.peak_mb,
        "interpreter_mb": times.interpreter_mb,
        "first_seconds": times.first,
        "note": times.missing,
        "failed": times.failed,
    }


def ratios(over: Sequence[float], under: Sequence[float]) -> list[float]:
    """over / under by round; where one ran once only, against the median of the other."""
    if not over or not under:
        return []
    if len(over) == len(under):
        return [a / b for a, b in zip(over, under)]
    return [median(over) / median(under)]


def middle_of(values: Sequence[float]) -> float | None:
    """Median, None of nothing."""
    return median(values) if values else None


def over(random: Sequence[float], constant: Sequence[float], unit: str) -> dict[str, float | None]:
    """Median and range of random / constant - 1 by round."""
    more = [ratio - 1 for ratio in ratios(random, constant)]
    return {unit: middle_of(more), f"{unit}_min": min(more, default=None), f"{unit}_max": max(more, default=None)}


def tau_cost(case: Case, times_of: Mapping[str, Times]) -> list[dict[str, Any]]:
    """How much longer the same network takes with random taus than with constant ones, at equal spike rates."""
    return [
        {"name": name, "spike_rate": case.rate}
        | over(times_of[random].seconds, times_of[constant].seconds, "cost")
        | over(times_of[random].cpu, times_of[constant].cpu, "cpu_cost")
        for name, (random, constant) in PAIRS.items()
        if random in times_of and constant in times_of and times_of[random].seconds and times_of[constant].seconds
    ]
