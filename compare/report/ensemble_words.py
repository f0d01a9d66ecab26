"""What a comparison of an ensemble found, in sentences and as a JSON object."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from randhet.compare.ensemble import EnsembleComparison
from randhet.compare.report import words


def sentences(found: EnsembleComparison, combine: str) -> Iterator[str]:
    """One sentence for what the ensemble decides, and one for the checks."""
    count, images, difference = len(found.members), found.members[0].images, found.difference
    right = f"{words.percent(found.floats.mean)}, and that of integers on {words.percent(found.fixed.mean)}"
    repetitions = f"in {len(found.floats.accuracies)} Monte-Carlo repetitions " if found.chance else ""
    yield (
        f"The {count} members decide by {combine}: on {images} images {repetitions}the float ensemble is right on "
        f"{right}. Float minus fixed is {words.points(difference.value)} points{_interval(found)}."
    )
    yield f"Do not deploy yet: {'; '.join(found.failures)}." if found.failures else "No check failed."


def _interval(found: EnsembleComparison) -> str:
    if not found.chance:
        return ""
    d = found.difference
    return f", with a 90 % interval of {words.points(d.low)} to {words.points(d.high)}: {words.equivalence(d)}"


def as_dict(found: EnsembleComparison, combine: str) -> dict[str, Any]:
    """The JSON object of the ensemble, beside those of its members."""
    d = found.difference
    return {
        "combine": combine,
        "float_accuracy": found.floats.mean,
        "fixed_accuracy": found.fixed.mean,
        "difference": d.value,
        "interval": [d.low, d.high],
        "margin": d.margin,
        "equivalent": d.finding == "equivalent",
        "finding": d.finding,
        "agreement": found.runs.between,
        "failures": found.failures,
    }
