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
from randhet.fixed_point.chips import beside_ann, chip
from randhet.fixed_point.chips.beside_ann import Energies
from randhet.fixed_point.chips.energy import Estimate
from randhet.fixed_point.diagnosis.divergence import Divergence
from randhet.fixed_point.synaptic import Counted

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


def seeds(comparison: Comparison) -> str:
    """Number of Monte-Carlo repetitions, and their seeds."""
    if not comparison.chance:
        return "none, the network is deterministic"
    return f"{len(comparison.floats.accuracies)}, seeds from {comparison.seed} on"


def amount(value: float) -> str:
    """A count in three digits: 1234567 as 1.23 M."""
    for factor, letter in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= factor:
            return f"{value / factor:.3g}{letter}"
    return f"{value:.3g}"


def headline(comparison: Comparison) -> str:
    """One sentence: does the integer network stand for the float model?"""
    if comparison.failures:
        return f"Do not deploy yet: {'; '.join(comparison.failures)}."
    if comparison.difference.finding == "not enough data":
        return f"No check failed, but whether the accuracy is equivalent is open: {not_enough(comparison.difference)}."
    if not comparison.tracing.backends:
        return "Float and fixed point agree; no second backend could be run here to check the integers."
    return "The integer network stands for the float model, and every backend gave the same integers."


def paragraphs(comparison: Comparison) -> Iterator[str]:
    """The findings, one sentence or two each, the most important first."""
    yield accuracy(comparison)
    if comparison.chance:
        yield noise(comparison)
    yield elsewhere(comparison)
    for name, finding in comparison.tracing.backends.items():
        yield backend(name, finding)
    for name, reason in comparison.absent.items():
        yield f"Not run: {name} ({reason})."
    yield same_tau(comparison)
    if comparison.tracing.saturations:
        yield f"{comparison.tracing.saturations} states left the 24 bit range and were cut off: calibrate on more data."


def accuracy(comparison: Comparison) -> str:
    """Both means and the difference."""
    d = comparison.difference
    if not comparison.chance:
        return (
            f"On {comparison.images} images the float model is right on {percent(comparison.floats.mean)}, the integer "
            f"network on {percent(comparison.fixed.mean)}: float minus fixed is {points(d.value)} points. It is "
            "deterministic."
        )
    return (
        f"On {comparison.images} images, in {len(comparison.floats.accuracies)} Monte-Carlo repetitions, the float "
        f"model is right on {spread(comparison.floats)} and the integer network on {spread(comparison.fixed)}. Float "
        f"minus fixed is {points(d.value)} points, with a 90 % interval of {points(d.low)} to {points(d.high)}: "
        f"{equivalence(d)}."
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


def noise(comparison: Comparison) -> str:
    """Agreement of runs, against the agreement of two float runs."""
    runs = comparison.runs
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


def elsewhere(comparison: Comparison) -> str:
    """The verdict for other images like these."""
    d = comparison.elsewhere
    start = f"On other images like these the interval would be {points(d.low)} to {points(d.high)} points"
    if d.finding == "not enough data":
        images = "more than a million" if d.needed is None else f"{d.needed:,}"
        return f"{start}: {comparison.images} images are not enough data for such a claim, it needs {images}."
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


def place(divergence: Divergence, expected: str = "the reference has", actual: str = "it has") -> str:
    """Where, both values, and why."""
    return divergence.sentence(expected, actual)


def same_tau(comparison: Comparison) -> str:
    """What differs when both use the same decay factors."""
    odd = comparison.tracing.float_divergence
    if odd is None:
        return f"{agreeing(comparison)} Not one spike differs."
    threshold = next(layer.threshold for layer in comparison.layers if layer.layer == odd.at.layer)
    membranes = f"Membrane potentials {odd.float_membrane:.5f} and {odd.fixed_membrane:.5f}, threshold {threshold:g}"
    spike = place(odd.at, "float has", "the integers have")
    return f"{agreeing(comparison)} The first spike to differ: {spike}. {membranes}."


def agreeing(comparison: Comparison) -> str:
    """Share of images with the same prediction under the same decay factors."""
    both = "With the same decay factors, f" if comparison.chance else "F"
    start = f"{both}loat and integers predict the same class on {percent(comparison.agreement)} of the images"
    return f"{start} (at least {percent(comparison.agreement_asked)} is required)."


def divergences(comparison: Comparison) -> Iterator[tuple[str, Divergence | None, str]]:
    """What was compared, where it first differs, and both values there."""
    for name, finding in comparison.tracing.backends.items():
        divergence = finding.divergence
        yield (
            f"{name}, reference",
            divergence,
            ""
            if divergence is None
            else f"{divergence.quantity} {divergence.found:g}, reference {divergence.expected:g}",
        )
    odd = comparison.tracing.float_divergence
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


def costs(budget: Budget) -> Iterator[tuple[str, Cost]]:
    """Every variant of an error budget with its name."""
    yield from budget.alone.items()
    for left_out, cost in budget.without.items():
        yield f"all but {left_out}", cost
    yield "everything", budget.together


def operations(rows: tuple[LayerOperations, ...]) -> str:
    """The sums, against a dense network's."""
    done, dense = (sum(getattr(row, kind) for row in rows) for kind in ("additions", "dense_macs"))
    drawn = sum(row.draws for row in rows)
    return (
        f"One image takes {amount(done)} additions and {amount(drawn)} random draws, no multiplication; a dense "
        f"network would take {amount(dense)} multiply-accumulates."
    )


def energy(name: str, estimate: Estimate | str) -> str:
    """Energy and time on a chip, or why there is no estimate."""
    if isinstance(estimate, str):
        return f"{name}: no estimate ({estimate})."
    return (
        f"{estimate.chip}: {1e6 * estimate.energy:.3g} µJ and {1e3 * estimate.latency:.3g} ms per image, "
        f"{estimate.images_per_second:.3g} images per second back to back; {estimate.slowest} is the slowest layer."
    )


def beside(found: Counted) -> list[tuple[str, str, str, str, str]]:
    """Rows beside an 8-bit ANN: order of work, energy of both, break-even spike rate, which takes less."""
    return [_beside(beside_ann.beside(found, order)) for order in beside_ann.ORDERS]


def _beside(energies: Energies) -> tuple[str, str, str, str, str]:
    at = energies.break_even
    rate = ("any" if energies.wins else "none") if at is None or at > 1 else percent(at)
    less = "this network" if energies.wins else "the ANN"
    return energies.order, f"{1e6 * energies.snn:.3g} µJ", f"{1e6 * energies.ann:.3g} µJ", rate, less


def about_ann(found: Counted) -> str:
    """The rate that was counted, and the published ones."""
    low, high = beside_ann.PUBLISHED
    return (
        f"{percent(found.rate)} of the neurons fire per step. The alternative is an ANN of the same layers and 8-bit "
        f"weights, with ReLU and one dense pass; published break-even rates are {percent(low)} to {percent(high)} "
        f"(arXiv:2409.08290). By the figures of a 45 nm process (Horowitz, ISSCC 2014), memory included:"
    )


def unknown(name: str, chance: bool) -> str:
    """What stands between an estimate and the chip."""
    profile = chip.load(name)
    start = "" if profile.programmable or not chance else "its neurons cannot draw random decay factors; "
    return f"{profile.name}: {start}not public: {'; '.join(profile.unknown)}."


def robustness(deployment: Deployment) -> Iterator[str]:
    """What each attacker achieves against the deployed network."""
    clean = ", ".join(f"{percent(standing.accuracy)} on {judge}" for judge, standing in deployment.clean.items())
    yield f"Clean accuracy on these {deployment.images} images: {clean}."
    for attacker, judge in deployment.pairs:
        yield robust(deployment.weakest(attacker, judge))


def secrets(deployment: Deployment) -> str:
    """What must be kept secret, and what knowing it was worth."""
    if not deployment.chance:
        return "The network is deterministic, so there is no seed to keep secret."
    gap = next(gap for name, gap in deployment.gaps.items() if "seed known" in name)
    return (
        f"Knowing the seed is worth {points(gap.value)} points to an attacker here (90 % interval {points(gap.low)} to "
        f"{points(gap.high)}). Keep secret: the master seed, the number of earlier images, and every draw, membrane "
        "potential and spike inside the network; 32 bits of draws at known positions determine a register for ever."
    )


def robust(standing: Standing) -> str:
    """The strongest attack of an attacker on a judge."""
    return (
        f"An attacker who {ATTACKER[standing.attacker]} leaves {percent(standing.accuracy)} right on {standing.judge} "
        f"(95 % interval {between(standing.interval)}; strongest: {standing.attack})."
    )


ATTACKER = {
    "float model": "has only the float model",
    "deployed network": "has the deployed network but not its seed",
    "seed and position": "replays the draws from the seed",
}


def robustness_dict(deployment: Deployment) -> dict[str, Any]:
    """Robustness after deployment for JSON: every standing, the least of each pair, and the gaps."""
    line = lambda standing: {
        "attacker": standing.attacker,
        "judge": standing.judge,
        "attack": standing.attack,
        "accuracy": standing.accuracy,
        "interval": list(standing.interval),
    }
    return {
        "eps": deployment.settings.eps,
        "samples": deployment.images,
        "draws": deployment.settings.draws,
        "clean": [line(standing) for standing in deployment.clean.values()],
        "mra": [line(deployment.weakest(*pair)) for pair in deployment.pairs],
        "attacks": [line(standing) for standing in deployment.standings],
        "gaps": {name: equivalence_dict(gap) for name, gap in deployment.gaps.items()},
    }


def as_dict(comparison: Comparison) -> dict[str, Any]:
    """The JSON object of `randhet compare`."""
    tracing, d = comparison.tracing, comparison.difference
    return {
        "float_accuracy": comparison.floats.mean,
        "float_accuracy_std": comparison.floats.deviation,
        "fixed_accuracy": comparison.fixed.mean,
        "fixed_accuracy_std": comparison.fixed.deviation,
        "difference": d.value,
        "float_interval": interval(*comparison.floats.interval),
        "fixed_interval": interval(*comparison.fixed.interval),
        "difference_interval": interval(d.low, d.high),
        "equivalent": d.finding == "equivalent",
        "finding": d.finding,
        "p_value": d.p,
        "needed_draws": d.needed,
        "margin": d.margin,
        "elsewhere": equivalence_dict(comparison.elsewhere),
        "noise_floor": comparison.runs.floats,
        "fixed_agreement": comparison.runs.fixed,
        "float_fixed_agreement": comparison.runs.between,
        "agreement_gap": comparison.runs.gap,
        "agreement_gap_interval": comparison.runs.gap_interval,
        "backends": {name: _backend(finding) for name, finding in tracing.backends.items()},
        "not_run": comparison.absent,
        "same_tau_agreement": comparison.agreement,
        "same_tau_first_divergence": None if tracing.float_divergence is None else asdict(tracing.float_divergence),
        "layers": [layer.as_dict() for layer in comparison.layers],
        "saturations": tracing.saturations,
        "data": comparison.data,
        "samples": comparison.images,
        "draws": len(comparison.floats.accuracies),
        "seed": comparison.seed,
        "failures": comparison.failures,
        "verdict": headline(comparison),
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


def _divergence(divergence: Divergence | None) -> dict[str, Any] | None:
    return None if divergence is None else divergence.as_dict()
