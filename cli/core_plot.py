"""A picture of a mapping: how full every core is, layer after layer, chip after chip."""

from __future__ import annotations

from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np

from randhet.base.errors import RandhetError
from randhet.base.files import replacing
from randhet.fixed_point.chips.mapping import Mapping

KINDS = (".png", ".svg", ".pdf")
WEIGHTS, STATES, NEURONS, BAND = "#2a6f97", "#89c2d9", "#bc6c25", "#f2f2f2"


def check_name(file: Path) -> None:
    """RandhetError unless the ending says what kind of picture it is to be."""
    if file.suffix not in KINDS:
        raise RandhetError(f"{file}: a plot is {', '.join(KINDS)}, not {file.suffix or 'a name without an ending'}")


def draw(mapping: Mapping, file: Path) -> None:
    """Memory (weights, states) and neurons of each core in percent of the chip's limits, to a PNG, SVG or PDF file."""
    check_name(file)
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 2.2 + 0.22 * len(mapping.layers)), layout="constrained")
    names, memory = figure.subplots(1, 2, width_ratios=(1, 2.6))
    _layers(names, mapping)
    _cores(memory, mapping)
    figure.suptitle(f"{mapping.cores} cores on {mapping.chips} {mapping.chip.name} chip(s)", fontsize=11)
    with replacing(file) as temporary:
        figure.savefig(temporary, dpi=150)


def _layers(axes, mapping: Mapping) -> None:  # type: ignore[no-untyped-def]
    """Cores of each layer as bars."""
    count = [len(layer.cores) for layer in mapping.layers]
    axes.barh(range(len(count)), count, color=WEIGHTS)
    for row, cores in enumerate(count):
        axes.annotate(str(cores), (cores, row), xytext=(3, 0), textcoords="offset points", va="center", fontsize=7)
    axes.set_yticks(range(len(count)), [layer.name for layer in mapping.layers], fontsize=7)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set(xlabel="cores", ylim=(len(count) - 0.4, -0.6), xlim=(0, max(count) * 1.15))


def _cores(axes, mapping: Mapping) -> None:  # type: ignore[no-untyped-def]
    """Percent of the limits along the cores; grey bands tell layers apart, red lines chips."""
    chip, loads = mapping.chip, [load for layer in mapping.layers for load in layer.loads]
    room = chip.need("memory_per_core")
    percent = lambda field, limit: 100 * np.array([getattr(load, field) for load in loads]) / limit
    weights, memory = percent("weight_bits", room), percent("memory_bits", room)
    neurons = percent("neurons", chip.need("neurons_per_core"))
    edges = np.arange(len(loads) + 1)
    axes.stairs(memory, edges, fill=True, color=STATES, label="memory: states, thresholds, biases")
    axes.stairs(weights, edges, fill=True, color=WEIGHTS, label="memory: weights")
    axes.stairs(neurons, edges, color=NEURONS, lw=1.2, label="neurons")
    starts = list(accumulate((len(layer.cores) for layer in mapping.layers), initial=0))
    for left, right in list(pairwise(starts))[::2]:
        axes.axvspan(left, right, color=BAND, zorder=0)
    share = chip.need("cores_per_chip")
    for edge in range(share, len(loads), share):
        axes.axvline(edge, color="crimson", lw=0.8, ls="--", label="next chip" if edge == share else None)
    axes.axhline(100, color="black", lw=0.8)
    axes.set(xlabel="core", ylabel="% of a core's limit", xlim=(0, len(loads)), ylim=(0, None))
    axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(0, 1.12), ncols=4, frameon=False)
