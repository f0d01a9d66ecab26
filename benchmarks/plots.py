"""Plots of a benchmark: bars of the table, curves of the scaling."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from randhet.base.files import replacing

COLOURS = {"engine": "#0072b2", "add-only": "#009e73", "torch-eager": "#d55e00"}
OTHERS = "#999999"
Rows = Sequence[dict[str, Any]]


def table_plot(rows: Rows, path: Path) -> None:
    """Milliseconds per image of every contender, one panel per spike rate; bars are medians, lines the whole range."""
    from matplotlib.figure import Figure

    rates = sorted({row["spike_rate"] for row in rows})
    figure = Figure(figsize=(5.5 * len(rates), 4.2), layout="constrained")
    for rate, axes in zip(rates, figure.subplots(1, len(rates), sharex=True, squeeze=False)[0]):
        measured = [row for row in rows if row["spike_rate"] == rate and row["ms_per_image"]][::-1]
        names = [row["name"] for row in measured]
        middle = [row["ms_per_image"] for row in measured]
        low = [row["ms_per_image"] - row["ms_min"] for row in measured]
        high = [row["ms_max"] - row["ms_per_image"] for row in measured]
        axes.barh(names, middle, xerr=(low, high), color=[COLOURS.get(name, OTHERS) for name in names], capsize=2)
        for height, row in enumerate(measured):
            axes.annotate(f" {shortened(row['ms_per_image'])}", (row["ms_max"], height), va="center", fontsize=8)
        axes.set(xscale="log", xlabel="ms per image", title=f"{100 * rate:g} % of the neurons fire per step")
        axes.margins(x=0.3)
    _save(figure, path)


def shortened(value: float) -> str:
    """Three digits, or all before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def scaling_plot(rows: Rows, path: Path) -> None:
    """Milliseconds per image over each axis, both logarithmic: a slope of 1 is cost in proportion."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, NullFormatter

    axis_names = list(dict.fromkeys(row["axis"] for row in rows))
    figure = Figure(figsize=(3.2 * len(axis_names), 3.6), layout="constrained")
    for axis, axes in zip(axis_names, figure.subplots(1, len(axis_names), sharey=True, squeeze=False)[0]):
        for name in dict.fromkeys(row["name"] for row in rows):
            measured = [row for row in rows if (row["axis"], row["name"]) == (axis, name) and row["ms_per_image"]]
            values = [row["value"] for row in measured]
            error = [[row["ms_per_image"] - row["ms_min"] for row in measured]]
            error.append([row["ms_max"] - row["ms_per_image"] for row in measured])
            middle = [row["ms_per_image"] for row in measured]
            axes.errorbar(values, middle, error, marker="o", ms=3, lw=1.2, color=COLOURS.get(name, OTHERS), label=name)
        axes.set(
            xscale="log", yscale="log", xlabel=axis, xticks=sorted({r["value"] for r in rows if r["axis"] == axis})
        )
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("ms per image")
    figure.axes[0].legend(fontsize=8)
    _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=130, format=path.suffix[1:])
