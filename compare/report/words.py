"""What a comparison found, in sentences and as the JSON object that others rely on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from math import isfinite
from typing import TYPE_CHECKING, Any

from randhet.compare.accuracy import Draws
from randhet.compare.equality.tracing import BackendFinding
from randhet.compare.equivalence import Difference
from randhet.compare.study import Comparison
from randhet.fixed_point.chips import chip
from randhet.fixed_point.chips.energy import Estimate
from randhet.fixed_point.diagnosis.divergence import Divergence

if TYPE_CHECKING:
    from randhet.compare.quantisation.budget import Budget, Cost
    from randhet.compare.report.evidence import LayerOperations
    from randhet.compare.robustness.deployed import Deployment, Standing


def percent(share: float) -> str:
    """0.964 as 96.4 %."""
    return f"{100 * share:.1f} %"


def points(share: float) -> str:
    """A difference of shares in percentage points: 0.012 as 1.2."""
    return f"{100 * share:.2f}"


def decibels(snr: float | None) -> str:
    """A signal-to-noise ratio; no error at all is no noise."""
    return "no error" if snr is None else f"{snr:.1f}"


def between(interval: tuple[float, float]) -> str:
    """An interval of shares; one value says nothing about its spread."""
    low, high = interval
    return f"{percent(low)} to {percent(high)}" if isfinite(low) else "unknown"


def about_mean(draws: Draws, chance: bool) -> str:
    """How sure a mean is, in a few words."""
    low, high = draws.interval
    if not chance:
        return "deterministic"
    return f"± {points((high - low) / 2)} points" if isfinite(low) else "one repetition"


def over_draws(draws: Draws, chance: bool) -> tuple[str, str, str]:
    """Interval over the repetitions, deviation and number of repetitions; dashes for a deterministic network."""
    if not chance:
        return "–", "–", "deterministic"
    return between(draws.interval), points(draws.deviation), str(len(draws.accuracies))


def seeds(found: Comparison) -> str:
    """Number of Monte-Carlo repetitions, and their seeds."""
    if not found.chance:
        return "none, the network is deterministic"
    return f"{len(found.floats.accuracies)}, seeds from {found.seed} on"


def amount(value: float) -> str:
    """A count in three digits: 1234567 as 1.23 M."""
    for factor, letter in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= factor:
            return f"{value / factor:.3g}{letter}"
    return f"{value:.3g}"


def headline(found: Comparison) -> str:
    """One sentence: does the integer network stand for the float model?"""
    if found.failures:
        return f"Do not deploy yet: {'; '.join(found.failures)}."
    if found.difference.finding == "not enough data":
        return f"No check failed, but whether the accuracy is equivalent is open: {not_enough(found.difference)}."
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
            f"on {percent(found.fixed.mean)}: float minus fixed is {points(d.value)} points. It is deterministic."
        )
    return (
        f"On {found.images} images, in {len(found.floats.accuracies)} Monte-Carlo repetitions, the float model is "
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
    """Number of repetitions that a clear answer needs."""
    if d.needed is None:
        return "not enough data: the difference is so near the margin that no number of repetitions would decide"
    return f"not enough data: it needs {d.needed} repetitions (--draws {d.needed})"


def noise(found: Comparison) -> str:
    """Agreement of runs, against the agreement of two float runs."""
    runs = found.runs
    if runs.floats is None or runs.fixed is None or runs.gap is None or runs.gap_interval is None:
        return f"Float and integers predict the same class on {percent(runs.between)} of the images."
    low, high = runs.gap_interval
    sign = "which is within the noise" if low <= 0 else "more than noise explains"
    return (
        f"Two float runs with different decay factors agree on {percent(runs.floats)} of the images, the noise floor. "
        f"Two integer runs agree on {percent(runs.fixed)}, a float and an integer run on {percent(runs.between)}. "
        f"Deployment costs {points(runs.gap)} points of agreement (90 % interval {points(low)} to {points(high)}), "
        f"{sign}."
    )


def elsewhere(found: Comparison) -> str:
    """The verdict for other images like these."""
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
    """State that a backend is identical, or where it differs."""
    looked = f"{finding.membranes:,} membrane potentials and {finding.outputs:,} spikes and sums"
    if finding.divergence is None:
        return f"{name} gave exactly the reference's integers: {looked} compared, all equal."
    return f"{name} does not equal the reference ({looked} compared). First difference: {place(finding.divergence)}."


def place(at: Divergence, expected: str = "the reference has", found: str = "it has") -> str:
    """Where, both values, and why."""
    return at.sentence(expected, found)


def same_tau(found: Comparison) -> str:
    """What differs when both use the same decay factors."""
    odd = found.tracing.float_divergence
    if odd is None:
        return f"{agreeing(found)} Not one spike differs."
    threshold = next(layer.threshold for layer in found.layers if layer.layer == odd.at.layer)
    membranes = f"Membrane potentials {odd.float_membrane:.5f} and {odd.fixed_membrane:.5f}, threshold {threshold:g}"
    return (
        f"{agreeing(found)} The first spike to differ: {place(odd.at, 'float has', 'the integers have')}. {membranes}."
    )


def agreeing(found: Comparison) -> str:
    """Share of images with the same prediction under the same decay factors."""
    both = "With the same decay factors, f" if found.chance else "F"
    start = f"{both}loat and integers predict the same class on {percent(found.agreement)} of the images"
    return f"{start} (at least {percent(found.agreement_asked)} is required)."


def divergences(found: Comparison) -> Iterator[tuple[str, Divergence | None, str]]:
    """What was compared, where it first differs, and both values there."""
    for name, finding in found.tracing.backends.items():
        at = finding.divergence
        yield f"{name}, reference", at, "" if at is None else f"{at.quantity} {at.found:g}, reference {at.expected:g}"
    odd = found.tracing.float_divergence
    if odd is None:
        yield "float, fixed point", None, ""
        return
    spikes = (
        f"float {'fires' if odd.at.expected else 'is silent'}, fixed point {'fires' if odd.at.found else 'is silent'}"
    )
    yield (
        "float, fixed point",
        odd.at,
        f"{spikes}: membrane potentials {odd.float_membrane:.5f} and {odd.fixed_membrane:.5f}",
    )


def costs(found: Budget) -> Iterator[tuple[str, Cost]]:
    """Every variant of an error budget with its name."""
    yield from found.alone.items()
    for part, cost in found.without.items():
        yield f"all but {part}", cost
    yield "everything", found.together


def operations(rows: tuple[LayerOperations, ...]) -> str:
    """The sums, against a dense network's."""
    done, dense = (sum(getattr(row, kind) for row in rows) for kind in ("additions", "dense_macs"))
    drawn = sum(row.draws for row in rows)
    return (
        f"One image takes {amount(done)} additions and {amount(drawn)} random draws, no multiplication; a dense "
        f"network would take {amount(dense)} multiply-accumulates."
    )


def energy(name: str, found: Estimate | str) -> str:
    """Energy and time on a chip, or why there is no estimate."""
    if isinstance(found, str):
        return f"{name}: no estimate ({found})."
    return (
        f"{found.chip}: {1e6 * found.energy:.3g} µJ and {1e3 * found.latency:.3g} ms per image, "
        f"{found.images_per_second:.3g} images per second back to back; {found.slowest} is the slowest layer."
    )


def unknown(name: str, chance: bool) -> str:
    """What stands between an estimate and the chip."""
    it = chip.load(name)
    start = "" if it.programmable or not chance else "its neurons cannot draw random decay factors; "
    return f"{it.name}: {start}not public: {'; '.join(it.unknown)}."


def robustness(found: Deployment) -> Iterator[str]:
    """What each attacker achieves against the deployed network."""
    clean = ", ".join(f"{percent(one.accuracy)} on {judge}" for judge, one in found.clean.items())
    yield f"Clean accuracy on these {found.images} images: {clean}."
    for attacker, judge in found.pairs:
        yield robust(found.weakest(attacker, judge))


def secrets(found: Deployment) -> str:
    """What must be kept secret, and what knowing it was worth."""
    if not found.chance:
        return "The network is deterministic, so there is no seed to keep secret."
    gap = next(gap for name, gap in found.gaps.items() if "seed known" in name)
    return (
        f"Knowing the seed is worth {points(gap.value)} points to an attacker here (90 % interval {points(gap.low)} to "
        f"{points(gap.high)}). Keep secret: the master seed, the number of earlier images, and every draw, membrane "
        "potential and spike inside the network; 32 bits of draws at known positions determine a register for ever."
    )


def robust(one: Standing) -> str:
    """The strongest attack of an attacker on a judge."""
    return (
        f"An attacker who {ATTACKER[one.attacker]} leaves {percent(one.accuracy)} right on {one.judge} "
        f"(95 % interval {between(one.interval)}; strongest: {one.attack})."
    )


ATTACKER = {
    "float model": "has only the float model",
    "deployed network": "has the deployed network but not its seed",
    "seed and position": "replays the draws from the seed",
}


def robustness_dict(found: Deployment) -> dict[str, Any]:
    """Robustness after deployment for JSON: every standing, the least of each pair, and the gaps."""
    line = lambda one: {
        "attacker": one.attacker,
        "judge": one.judge,
        "attack": one.attack,
        "accuracy": one.accuracy,
        "interval": list(one.interval),
    }
    return {
        "eps": found.settings.eps,
        "samples": found.images,
        "draws": found.settings.draws,
        "clean": [line(one) for one in found.clean.values()],
        "mra": [line(found.weakest(*pair)) for pair in found.pairs],
        "attacks": [line(one) for one in found.standings],
        "gaps": {name: equivalence_dict(gap) for name, gap in found.gaps.items()},
    }


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
