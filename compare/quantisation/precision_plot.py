"""Plot of a sweep over number formats: accuracy over memory and over energy, what nothing beats joined by a line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from randhet.base.files import replacing
from randhet.compare.quantisation.precision import WIDTHLESS, WORDS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARKERS = {"channel": "o", "layer": "s", "power-of-two": "^"}
AXES = {"bytes": ("memory, kB", 1e-3), "energy": ("estimated energy, µJ per image", 1e6)}
TITLES = {"bytes": "", "energy": f"energy: {WIDTHLESS}"}


def plot(path: Path, report: dict[str, Any]) -> None:
    """A PNG of `randhet.compare.quantisation.precision.report`."""
    with replacing(path) as temporary:
        figure(report).savefig(temporary, format="png", dpi=150)


def figure(report: dict[str, Any]) -> Figure:
    """One panel per cost."""
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(12, 5), layout="constrained")
    rows = [row for row in report["points"] if "accuracy" in row]
    for ax, (cost, (label, unit)) in zip(drawing.subplots(1, 2, sharey=True), AXES.items()):
        _panel(ax, rows, cost, unit)
        _float(ax, report["float"])
        ax.set_xlabel(label + (f", {report['chip']}" if cost == "energy" else ""))
        ax.set_title(TITLES[cost], fontsize=8)
        ax.grid(alpha=0.3)
    drawing.axes[0].set_ylabel("accuracy, %")
    drawing.legend(handles=_legend(rows), fontsize=8, loc="outside right upper")
    drawing.suptitle(
        f"{report['data']}: {report['samples']} images, {report['draws']} draws; bars: 95 % intervals over the draws",
        fontsize=10,
    )
    return drawing


def _panel(ax: Axes, rows: list[dict[str, Any]], cost: str, unit: float) -> None:
    """Every point, coloured by weight bits; the best ones joined."""
    colours = _colours(rows)
    for row in rows:
        low, high = row["interval"] or (row["accuracy"], row["accuracy"])
        error = [[100 * (row["accuracy"] - low)], [100 * (high - row["accuracy"])]]
        colour, filled = colours[row["weight_bits"]], bool(row["passes"])
        style: dict[str, Any] = {"marker": MARKERS[row["scales"]], "mfc": colour if filled else "white"}
        where = row[cost] * unit, 100 * row["accuracy"]
        ax.errorbar(*where, error, color=colour, markersize=5, elinewidth=0.7, linestyle="none", alpha=0.8, **style)
    best = sorted((row[cost] * unit, 100 * row["accuracy"]) for row in rows if row[f"best_for_{cost}"])
    ax.plot(*np.array(best).T, color="black", linewidth=1, zorder=0, drawstyle="steps-post")


def _float(ax: Axes, float_row: dict[str, Any]) -> None:
    ax.axhline(100 * float_row["accuracy"], color="grey", linestyle="--", linewidth=1)
    if float_row["interval"]:
        low, high = float_row["interval"]
        ax.axhspan(100 * low, 100 * high, color="grey", alpha=0.15, linewidth=0)


def _colours(rows: list[dict[str, Any]]) -> dict[int, str]:
    return {bits: f"C{i}" for i, bits in enumerate(sorted({row["weight_bits"] for row in rows}, reverse=True))}


def _legend(rows: list[dict[str, Any]]) -> list[Any]:
    """What colours, shapes and lines mean."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [Patch(color=colour, label=f"{bits} bit weights") for bits, colour in _colours(rows).items()]
    shapes = [kind for kind in MARKERS if any(row["scales"] == kind for row in rows)]
    handles += [Line2D([], [], marker=MARKERS[k], color="grey", linestyle="none", label=WORDS[k]) for k in shapes]
    if any(not row["passes"] for row in rows):
        plain = "no clipping, no bias correction"
        handles.append(Line2D([], [], marker="o", mfc="white", color="grey", linestyle="none", label=plain))
    handles += [
        Line2D([], [], color="black", linewidth=1, label="nothing beats these"),
        Line2D([], [], color="grey", linestyle="--", linewidth=1, label="float"),
    ]
    return handles
