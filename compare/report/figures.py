"""The report's figures, each with a caption and a description in words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import logit

from randhet.compare.accuracy import Draws
from randhet.compare.equality.layers import LayerFinding, StepFinding
from randhet.compare.report.evidence import LayerOperations, Taus, Trials
from randhet.compare.report.picture import PALETTE, Picture, canvas, picture, rows_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from randhet.compare.quantisation.budget import Budget
    from randhet.compare.robustness.deployed import Deployment
    from randhet.compare.study import Comparison
    from randhet.fixed_point.chips.energy import Estimate

ROWS, SHOWN = 24, 10
"""Neurons and trials in the raster."""


# --- accuracy -------------------------------------------------------------------------------------------------------


ACCURACY = {
    True: (
        "Accuracy of every repetition",
        "A small dot is a Monte-Carlo repetition, the large dot is their mean, and its line is the 95 % interval. "
        "Below is float minus fixed with its 90 % interval: wholly inside the shaded margin means equivalent.",
    ),
    False: (
        "Accuracy",
        "The network is deterministic: one number each. Below is float minus fixed: inside the shaded margin means "
        "equivalent.",
    ),
}
"""Title and caption, by whether the network is stochastic."""


def accuracy(comparison: Comparison) -> Picture:
    """Every repetition, both means with their intervals, and the difference against the margin."""
    with canvas(3.0, 2, height_ratios=(3, 2)) as (plot, (top, bottom)):
        for row, (kind, draws) in enumerate((("fixed", comparison.fixed), ("float", comparison.floats))):
            _draws(top, row, draws, PALETTE[kind])
        top.set(yticks=[0, 1], yticklabels=["fixed point", "float"], ylim=(-0.6, 1.6), xlabel="accuracy, %")
        top.grid(axis="x")
        _difference(bottom, comparison)
    d = comparison.difference
    drawn = "of each repetition" if comparison.chance else "of the deterministic network"
    alt = (
        f"Accuracy {drawn}: float mean {100 * comparison.floats.mean:.2f} %, fixed "
        f"{100 * comparison.fixed.mean:.2f} %. Their difference is {100 * d.value:.2f} points against a "
        f"margin of {100 * d.margin:.2f}: {d.finding}."
    )
    title, caption = ACCURACY[comparison.chance]
    return picture("accuracy", title, plot, alt, caption)


def _draws(axes: Axes, row: int, draws: Draws, colour: str) -> None:
    values = 100 * np.array(draws.accuracies)
    jitter = np.linspace(-0.28, 0.28, len(values)) if len(values) > 1 else np.zeros(1)
    axes.plot(values, row + jitter, "o", color=colour, markersize=3.2, alpha=0.55, markeredgewidth=0)
    low, high = (100 * side for side in draws.interval)
    if np.isfinite(low):
        axes.plot([low, high], [row, row], color=colour, linewidth=2.2)
    axes.plot([values.mean()], [row], "o", color=colour, markersize=8)


def _difference(axes: Axes, comparison: Comparison) -> None:
    d, colour = comparison.difference, PALETTE["bad" if comparison.difference.finding == "different" else "good"]
    axes.axvspan(-100 * d.margin, 100 * d.margin, color=PALETTE["good"], alpha=0.16, linewidth=0)
    axes.axvline(0, color=PALETTE["muted"], linewidth=0.8)
    if np.isfinite(d.low):
        axes.plot([100 * d.low, 100 * d.high], [0, 0], color=colour, linewidth=2.2)
    axes.plot([100 * d.value], [0], "D", color=colour, markersize=6)
    reach = 1.25 * 100 * max(d.margin, *(abs(side) for side in (d.low, d.high, d.value) if np.isfinite(side)))
    axes.set(yticks=[], ylim=(-1, 1), xlim=(-reach, reach), xlabel="float minus fixed, points")
    axes.spines["left"].set_visible(False)


# --- layers ---------------------------------------------------------------------------------------------------------

HEATS: tuple[tuple[str, str, str, Callable[[StepFinding], float], str], ...] = (
    (
        "odd-spikes",
        "Spikes that differ",
        "Share of neurons, in percent, whose spike at this step is not the same in float and in fixed point under "
        "the same decay factors. A differing spike changes the input of later neurons, so the share grows with depth.",
        lambda step: 100 * step.mismatch,
        "%",
    ),
    (
        "membrane-error",
        "Membrane potentials that differ",
        "Mean distance of the two membrane potentials before the reset, in hundredths of the threshold.",
        lambda step: 100 * step.error,
        "% of the threshold",
    ),
)


def heat_maps(layers: Sequence[LayerFinding]) -> list[Picture]:
    """Layer by step, one for spikes and one for membranes."""
    return [_heat(layers, *heat) for heat in HEATS]


def _heat(
    layers: Sequence[LayerFinding], name: str, title: str, caption: str, of: Callable[[StepFinding], float], unit: str
) -> Picture:
    values, starts = columns(np.array([[of(step) for step in layer.steps] for layer in layers]))
    with canvas(0.9 + 0.3 * len(layers)) as (plot, axes):
        axes.pcolormesh(values, cmap="cividis", vmin=0, vmax=max(values.max(), 1e-9), edgecolors="none")
        top = max(values.max(), 1e-9)
        for (row, step), value in np.ndenumerate(values):
            ink = "#ffffff" if value < 0.55 * top else "#000000"
            axes.text(step + 0.5, row + 0.5, brief(value), ha="center", va="center", color=ink, fontsize=8.5)
        axes.set(xticks=np.arange(values.shape[1]) + 0.5, xticklabels=starts, xlabel="time step")
        axes.set(yticks=np.arange(len(layers)) + 0.5, yticklabels=[layer.layer for layer in layers])
        axes.invert_yaxis()
        axes.tick_params(length=0)
        for spine in axes.spines.values():
            spine.set_visible(False)
    row, column = divmod(int(values.argmax()), values.shape[1])
    most = f"at most {brief(values.max())} {unit}, in {layers[row].layer} at step {starts[column]}"
    alt = f"{title} by layer and time step: {most}."
    return picture(name, title, plot, alt, caption)


COLUMNS = 8
"""Time steps that have room side by side, with a number in each."""


def columns(values: np.ndarray) -> tuple[np.ndarray, list[int]]:
    """Values by step (rows, T), and the step of each column; of long runs the means of equal stretches of steps."""
    steps = values.shape[1]
    starts = np.unique(np.linspace(0, steps, min(steps, COLUMNS), endpoint=False).astype(int))
    return np.add.reduceat(values, starts, axis=1) / np.diff([*starts, steps]), starts.tolist()


def brief(value: float) -> str:
    """Two or three digits."""
    return "0" if value == 0 else f"{value:.2g}" if value < 10 else f"{value:.0f}"


# --- taus and trials ------------------------------------------------------------------------------------------------


def taus(decays: Taus) -> Picture:
    """The decay factors drawn, beside p(tau) = phi(logit(tau)/sigma) / (sigma*tau*(1 - tau))."""
    bins = min(32, len(decays.counts))
    share = decays.counts.reshape(bins, -1).sum(axis=1) / decays.drawn * bins
    half = 0.5 / len(decays.counts)
    with canvas(2.6) as (plot, axes):
        edges = np.arange(bins) / bins - half
        axes.bar(edges, share, 1 / bins, align="edge", color=PALETTE["fixed"], alpha=0.55, label="drawn")
        if decays.sigma > 0:
            axes.plot(*density(decays.sigma), color=PALETTE["float"], linewidth=1.8, label="logit-normal density")
        axes.set(xlabel="τ", ylabel="density", xlim=(0, 1), yticks=[])
        axes.legend(loc="upper left", bbox_to_anchor=(0, 1.18), ncols=2)
    alt = f"Histogram of {decays.drawn:,} decay factors of {decays.layer}, mean {decays.mean:.3f}, and their density."
    caption = (
        f"{decays.drawn:,} draws of {decays.layer}, through its table of {2**decays.k} steps, against "
        f"τ = sigmoid({decays.sigma:g}·n), n normal: the distribution that the float model draws from."
    )
    return picture("taus", "The random decay factors", plot, alt, caption)


def density(sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """(tau, p(tau)) on a grid inside (0, 1)."""
    tau = np.linspace(0.002, 0.998, 400)
    z = logit(tau) / sigma
    return tau, np.exp(-z * z / 2) / (np.sqrt(2 * np.pi) * sigma * tau * (1 - tau))


def recording(frames: np.ndarray) -> Picture:
    """Where and when a recording (T, C, values) is not zero, a colour for each of its first channels."""
    channels, colours = frames.shape[1], (PALETTE["float"], PALETTE["fixed"])
    with canvas(2.9) as (plot, axes):
        for channel, colour in zip(range(channels), colours):
            step, place = np.nonzero(frames[:, channel])
            axes.plot(
                step + 0.5, place, "|", color=colour, markersize=2.5, label=f"channel {channel}"
            )  # fmt: skip
        axes.set(xlim=(0, len(frames)), ylim=(-1, frames.shape[2]), yticks=[], xlabel="time step", ylabel="pixel")
        axes.legend(loc="upper left", bbox_to_anchor=(0, 1.18), ncols=2)
    nonzero = np.count_nonzero(frames, axis=(1, 2)) / frames[0].size
    busiest = int(nonzero.argmax())
    alt = f"Raster of the first recording: at most {100 * nonzero.max():.2g} % of its values, at step {busiest}."
    caption = (
        f"The first recording, {len(frames)} frames of {frames[0].size:,} values; a mark is a value that is not zero, "
        f"which are {100 * nonzero.mean():.2g} % of all."
    )
    return picture("recording", "Input over time", plot, alt, caption)


def raster(trials: Trials) -> Picture:
    """Spikes of some neurons of a few layers, trial after trial."""
    chosen = _spread(trials)
    with canvas(0.8 + 1.15 * len(chosen), len(chosen), sharex=True, squeeze=False) as (plot, rows):
        for axes, name in zip(rows[:, 0], chosen):
            _raster(axes, name, trials.spikes[name][:SHOWN])
        steps = trials.spikes[chosen[0]].shape[1]
        axes.set(xlabel="trial", xticks=np.arange(SHOWN) * steps + steps / 2, xticklabels=range(1, SHOWN + 1))
        axes.tick_params(axis="x", length=0)
    right = int((trials.predictions == trials.label).sum())
    alt = f"Raster of the spikes of {', '.join(chosen)} while image {trials.image} is shown {SHOWN} times."
    caption = (
        f"The same image, {SHOWN} times in a row, {steps} steps each; a mark is a spike of one of {ROWS} neurons. "
        f"Of {len(trials.predictions)} such trials {right} were classified right."
    )
    return picture("raster", "One image, trial after trial", plot, alt, caption)


def _spread(trials: Trials) -> list[str]:
    """The first layer, one half way and the last."""
    names = list(trials.spikes)
    return [names[i] for i in sorted({0, len(names) // 2, len(names) - 1})]


def _raster(axes: Axes, name: str, spikes: np.ndarray) -> None:
    trials, steps, _ = spikes.shape
    flat = spikes.reshape(trials * steps, -1)
    active = np.flatnonzero(flat.any(axis=0))
    picked = active[np.linspace(0, len(active) - 1, min(ROWS, len(active))).astype(int)] if len(active) else active
    time, neuron = np.nonzero(flat[:, picked])
    gap = np.full(len(time), np.nan)
    x = np.stack([time + 0.5, time + 0.5, gap], 1).ravel()
    y = np.stack([neuron - 0.42, neuron + 0.42, gap], 1).ravel()
    axes.plot(x, y, color=PALETTE["fixed"], linewidth=1.6, solid_capstyle="butt")
    for trial in range(1, trials):
        axes.axvline(trial * steps, color=PALETTE["line"], linewidth=0.8)
    axes.set(xlim=(0, trials * steps), ylim=(-1, max(len(picked), 1)), yticks=[])
    axes.set_title(name, loc="left", fontsize=9, color=PALETTE["ink"], pad=3)


def variability(trials: Trials) -> Picture:
    """Mean and variance of every neuron's spikes per trial, against independent steps."""
    colours = [PALETTE["float"], PALETTE["fixed"], PALETTE["good"]]
    steps = next(iter(trials.spikes.values())).shape[1]
    with canvas(2.9) as (plot, axes):
        mean = np.linspace(0, steps, 200)
        axes.plot(mean, mean * (1 - mean / steps), color=PALETTE["muted"], linewidth=1.2, linestyle="--")
        for i, name in enumerate(_spread(trials)):
            counts = trials.counts[name]
            pairs = np.unique(np.stack([counts.mean(axis=0), counts.var(axis=0, ddof=1)], 1).round(3), axis=0)
            pairs = pairs[np.linspace(0, len(pairs) - 1, min(120, len(pairs))).astype(int)]
            options = {"markersize": 3.4, "alpha": 0.6, "markeredgewidth": 0}
            axes.plot(*pairs.T, "o", color=colours[i % 3], label=name, **options)
        axes.set(xlabel="spikes per trial, mean", ylabel="variance", xlim=(0, steps), ylim=(0, None))
        axes.grid()
        axes.legend(
            loc="lower left", bbox_to_anchor=(-0.14, 1.0), ncols=3, handletextpad=0, columnspacing=0.7, fontsize=8.5
        )
    fanos = [f"{name} {value:.2f}" for name in trials.spikes if (value := trials.fano(name)) is not None]
    alt = f"Variance against mean of spikes per trial. Variance over mean by layer: {', '.join(fanos)}."
    caption = (
        f"Each dot is a neuron over {len(trials.predictions)} trials of one image. Dashed: what {steps} independent "
        "steps of one firing probability would give; neurons on the floor always do the same."
    )
    return picture("variability", "Variability from trial to trial", plot, alt, caption)


# --- costs ----------------------------------------------------------------------------------------------------------


def operations(rows: Sequence[LayerOperations]) -> Picture:
    """Additions of the add-only engine beside a dense network's multiply-accumulates, layer by layer."""
    with canvas(0.9 + 0.34 * len(rows)) as (plot, axes):
        positions = np.arange(len(rows))
        for shift, kind, colour, label in (
            (-0.2, "additions", PALETTE["fixed"], "additions done"),
            (0.2, "dense_macs", PALETTE["float"], "dense multiply-accumulates"),
        ):
            axes.barh(positions + shift, [getattr(row, kind) for row in rows], 0.36, color=colour, label=label)
        rows_of(axes, [row.layer for row in rows], xscale="log", xlabel="per image")
        axes.legend(loc="lower left", bbox_to_anchor=(-0.35, 1.0), ncols=2)
    done, dense = (sum(getattr(row, kind) for row in rows) for kind in ("additions", "dense_macs"))
    alt = f"Operations per image by layer: {done:,.0f} additions; dense, {dense:,.0f} multiply-accumulates."
    caption = (
        "Operations of the multiplication-free engine, neurons included, beside those of a network that multiplies "
        "every weight at every step. The scale is logarithmic."
    )
    return picture("operations", "Operations per image", plot, alt, caption)


def energy(estimates: dict[str, Estimate]) -> Picture:
    """Energy of an image by kind of event, one row per chip."""
    kinds = sorted({kind for estimate in estimates.values() for kind in estimate.by_kind()})
    totals = {kind: max(estimate.by_kind().get(kind, 0.0) for estimate in estimates.values()) for kind in kinds}
    kinds.sort(key=lambda kind: -totals[kind])
    with canvas(1.0 + 0.3 * len(kinds)) as (plot, axes):
        positions, colours = np.arange(len(kinds)), (PALETTE["fixed"], PALETTE["float"])
        for i, (name, estimate) in enumerate(estimates.items()):
            size = 0.76 / len(estimates)
            values = [1e6 * estimate.by_kind().get(kind, 0.0) for kind in kinds]
            axes.barh(
                positions - 0.38 + (i + 0.5) * size, values, size, color=colours[i % 2], label=estimate.chip or name
            )
        rows_of(axes, kinds, xlabel="µJ per image")
        axes.legend(loc="lower right")
    sums = ", ".join(f"{estimate.chip}: {1e6 * estimate.energy:.2f} µJ" for estimate in estimates.values())
    alt = f"Estimated energy per image by kind of event. In all {sums}."
    caption = "Counts of this run times published energies per event: an estimate, not a measurement."
    return picture("energy", "Energy per image, estimated", plot, alt, caption)


def budget(error_budget: Budget) -> Picture:
    """Change of the class scores by each part alone and by all but it, over that of another draw."""
    parts = list(error_budget.alone)
    with canvas(1.0 + 0.36 * len(parts)) as (plot, axes):
        positions = np.arange(len(parts))
        for shift, costs, colour, label in (
            (-0.2, error_budget.alone, PALETTE["fixed"], "this part alone"),
            (0.2, error_budget.without, PALETTE["float"], "all but this part"),
        ):
            axes.barh(positions + shift, [costs[name].scores for name in parts], 0.36, color=colour, label=label)
        axes.axvline(error_budget.together.scores, color=PALETTE["muted"], linestyle="--", linewidth=1.2)
        rows_of(axes, parts, xlabel="change of class scores (1: that of another repetition)")
        axes.legend(loc="lower left", bbox_to_anchor=(-0.35, 1.0), ncols=2)
    worst = max(parts, key=lambda name: error_budget.alone[name].scores)
    together = f"all together {error_budget.together.scores:.3f}"
    alt = f"What each part of the quantisation changes: most of it {worst}; {together}."
    caption = (
        "Mean squared change of the class scores against float under the same random numbers, relative to the change "
        "between two repetitions. Dashed: everything quantised."
    )
    return picture("budget", "What each part changes", plot, alt, caption)


def robustness(deployment: Deployment) -> Picture:
    """Minimum robust accuracy with its interval, by attacker and judge, under the clean accuracy."""
    rows = [(f"clean, {judge}", standing) for judge, standing in deployment.clean.items()]
    rows += [(f"{attacker}\n→ {judge}", deployment.weakest(attacker, judge)) for attacker, judge in deployment.pairs]
    with canvas(0.9 + 0.42 * len(rows)) as (plot, axes):
        for row, (_, standing) in enumerate(rows):
            colour = PALETTE["float" if standing.judge == "float" else "fixed"]
            axes.plot([100 * side for side in standing.interval], [row, row], color=colour, linewidth=2.2)
            axes.plot([100 * standing.accuracy], [row], "o", color=colour, markersize=7)
        rows_of(axes, [label for label, _ in rows], grid="both", xlabel="accuracy, %", xlim=(0, 101))
    told = "; ".join(f"{label} {100 * standing.accuracy:.1f} %".replace("\n", " ") for label, standing in rows)
    alt = f"Accuracy under the strongest attack of each attacker: {told}."
    caption = (
        "The lowest accuracy over all attacks and both evaluations, with its 95 % interval over images like these. "
        "Left: the attacker, and the model that classifies the examples."
    )
    return picture("robustness", "Accuracy under the strongest attack", plot, alt, caption)
