"""What a comparison found, in words that need no knowledge of the field, and as the JSON object others rely on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from math import isfinite
from typing import Any

from compare.accuracy import Draws
from compare.equivalence import Difference
from compare.study import AGREEMENT, Comparison
from compare.tracing import BackendFinding
from fixed_point.divergence import Divergence


def percent(share: float) -> str:
    """0.964 as 96.4 %."""
    return f"{100 * share:.1f} %"


def points(share: float) -> str:
    """A difference of shares in percentage points: 0.012 as 1.2."""
    return f"{100 * share:.2f}"


def decibels(snr: float | None) -> str:
    """A signal-to-noise ratio; no error at all is no noise."""
    return "no error" if snr is None else f"{snr:.1f}"


def headline(found: Comparison) -> str:
    """One sentence: does the integer network stand for the float model?"""
    if found.failures:
        return f"Do not deploy yet: {'; '.join(found.failures)}."
    if found.difference.finding == "not enough data":
        return f"No check failed, but there is {not_enough(found.difference)} to call the accuracy equivalent."
    if not found.tracing.backends:
        return "Float and fixed point agree; no second backend could be run here to check the integers."
    return "The integer network stands for the float model, and every backend gave the same integers."


def paragraphs(found: Comparison) -> Iterator[str]:
    """The findings, one sentence or two each, the most important first."""
    yield accuracy(found)
    if found.chance:
        yield noise(found)
    yield elsewhere(found)
    for name, finding in found.tracing.backends.items():
        yield backend(name, finding)
    for name, reason in found.absent.items():
        yield f"Not run: {name} ({reason})."
    yield same_tau(found)
    if found.tracing.saturations:
        yield f"{found.tracing.saturations} states left the 24 bit range and were cut off: calibrate on more data."


def accuracy(found: Comparison) -> str:
    """Both means and the difference."""
    d = found.difference
    if not found.chance:
        return (
            f"On {found.images} images the float model is right on {percent(found.floats.mean)}, the integer network "
            f"on {percent(found.fixed.mean)}: float minus fixed is {points(d.value)} points. Nothing here is random."
        )
    return (
        f"On {found.images} images, with the taus drawn anew {len(found.floats.accuracies)} times, the float model is "
        f"right on {spread(found.floats)} and the integer network on {spread(found.fixed)}. Float minus fixed is "
        f"{points(d.value)} points, with a 90 % interval of {points(d.low)} to {points(d.high)}: {equivalence(d)}."
    )


def equivalence(d: Difference) -> str:
    """The verdict of the test, in a clause."""
    if d.finding == "not enough data":
        return f"too wide for a margin of {points(d.margin)}, {not_enough(d)}"
    side = "inside" if d.finding == "equivalent" else "outside"
    return f"all of it {side} the margin of {points(d.margin)}, so the two are {d.finding}"


def not_enough(d: Difference) -> str:
    """How many draws a clear answer takes."""
    if d.needed is None:
        return "not enough data: the difference is so near the margin that no number of draws would decide"
    return f"not enough data: it needs {d.needed} draws (--draws {d.needed})"


def noise(found: Comparison) -> str:
    """How often runs agree, against how often two float runs do."""
    runs = found.runs
    if runs.floats is None or runs.fixed is None or runs.gap is None or runs.gap_interval is None:
        return f"Float and integers predict the same class on {percent(runs.between)} of the images."
    low, high = runs.gap_interval
    sign = "which is within the noise" if low <= 0 else "more than noise explains"
    return (
        f"Two float runs with different draws agree on {percent(runs.floats)} of the images: that is the noise floor. "
        f"Two integer runs agree on {percent(runs.fixed)}, a float and an integer run on {percent(runs.between)}. "
        f"Deployment costs {points(runs.gap)} points of agreement (90 % interval {points(low)} to {points(high)}), "
        f"{sign}."
    )


def elsewhere(found: Comparison) -> str:
    """The same question asked of images not seen."""
    d = found.elsewhere
    start = f"On other images like these the interval would be {points(d.low)} to {points(d.high)} points"
    if d.finding == "not enough data":
        images = "more than a million" if d.needed is None else f"{d.needed:,}"
        return f"{start}: {found.images} images are not enough data for such a claim, it needs {images}."
    return f"{start}: {d.finding} there too."


def spread(draws: Draws) -> str:
    """Mean and deviation."""
    return f"{percent(draws.mean)} (standard deviation {points(draws.deviation)})"


def backend(name: str, finding: BackendFinding) -> str:
    """Identical, or where not."""
    looked = f"{finding.membranes:,} membranes and {finding.outputs:,} spikes and sums"
    if finding.divergence is None:
        return f"{name} gave exactly the reference's integers: {looked} compared, all equal."
    return f"{name} does not equal the reference ({looked} compared). First difference: {place(finding.divergence)}."


def place(at: Divergence, expected: str = "the reference has", found: str = "it has") -> str:
    """Where, both values, and why."""
    return at.sentence(expected, found)


def same_tau(found: Comparison) -> str:
    """What is left when both use the same taus."""
    both = "Given the same taus, f" if found.chance else "F"
    start = f"{both}loat and integers predict the same class on {percent(found.agreement)} of the images"
    start += f" (at least {percent(AGREEMENT)} is asked for)."
    odd = found.tracing.float_divergence
    if odd is None:
        return f"{start} Not one spike differs."
    threshold = next(layer.threshold for layer in found.layers if layer.layer == odd.at.layer)
    membranes = f"Membranes {odd.float_membrane:.5f} and {odd.fixed_membrane:.5f}, threshold {threshold:g}"
    return f"{start} The first spike to differ: {place(odd.at, 'float has', 'the integers have')}. {membranes}."


def as_dict(found: Comparison) -> dict[str, Any]:
    """The JSON object of `randhet compare`."""
    tracing, d = found.tracing, found.difference
    return {
        "float_accuracy": found.floats.mean,
        "float_accuracy_std": found.floats.deviation,
        "fixed_accuracy": found.fixed.mean,
        "fixed_accuracy_std": found.fixed.deviation,
        "difference": d.value,
        "float_interval": interval(*found.floats.interval),
        "fixed_interval": interval(*found.fixed.interval),
        "difference_interval": interval(d.low, d.high),
        "equivalent": d.finding == "equivalent",
        "finding": d.finding,
        "p_value": d.p,
        "needed_draws": d.needed,
        "margin": d.margin,
        "elsewhere": equivalence_dict(found.elsewhere),
        "noise_floor": found.runs.floats,
        "fixed_agreement": found.runs.fixed,
        "float_fixed_agreement": found.runs.between,
        "agreement_gap": found.runs.gap,
        "agreement_gap_interval": found.runs.gap_interval,
        "backends": {name: _backend(finding) for name, finding in tracing.backends.items()},
        "not_run": found.absent,
        "same_tau_agreement": found.agreement,
        "same_tau_first_divergence": None if tracing.float_divergence is None else asdict(tracing.float_divergence),
        "layers": [layer.as_dict() for layer in found.layers],
        "saturations": tracing.saturations,
        "data": found.data,
        "samples": found.images,
        "draws": len(found.floats.accuracies),
        "seed": found.seed,
        "failures": found.failures,
        "verdict": headline(found),
    }


def interval(low: float, high: float) -> list[float] | None:
    """A pair for JSON; None where it is infinite."""
    return [low, high] if isfinite(low) and isfinite(high) else None


def equivalence_dict(d: Difference) -> dict[str, Any]:
    """An equivalence test for JSON."""
    return {
        "finding": d.finding,
        "difference": d.value,
        "interval": interval(d.low, d.high),
        "p": d.p,
        "needed": d.needed,
    }


def _backend(finding: BackendFinding) -> dict[str, Any]:
    return {
        "identical": finding.identical,
        "first_divergence": _divergence(finding.divergence),
        "membranes_compared": finding.membranes,
        "outputs_compared": finding.outputs,
        "seconds": finding.seconds,
    }


def _divergence(at: Divergence | None) -> dict[str, Any] | None:
    return None if at is None else at.as_dict()
