"""Plots of sweeps: accuracy over the setting for each attack and checkpoint, cosines beside it or as histograms."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from randhet.base.files import replacing
from randhet.compare.robustness.sweep import AXES, Sweep
from randhet.train.attacks.names import spelled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STYLE: dict[str, dict[str, Any]] = {
    "stock": {"linestyle": "--", "marker": "o", "mfc": "white"},
    "aware": {"linestyle": "-", "marker": "o"},
}
MARKERS = "os^Dv"
KINDS = ("gradient", "perturbation")


def plot(path: Path, sweep: Sweep, results: Mapping[str, Mapping[str, Any]]) -> None:
    """A PNG from the results of `randhet.compare.robustness.sweep.run` of each checkpoint, by its name."""
    from matplotlib.figure import Figure

    histograms = bool(sweep.similarity) and len(sweep.values) == 1
    panels = int(bool(sweep.attacks)) + (len(KINDS) if histograms else int(bool(sweep.similarity)))
    figure = Figure(figsize=(5.6 * panels, 4.8), layout="constrained")
    axes = list(figure.subplots(1, panels, squeeze=False)[0])
    figure.suptitle(f"{sweep.title}\n{_below(sweep, results)}", fontsize=10)
    if sweep.attacks:
        accuracy(axes.pop(0), sweep, results)
    if histograms:
        for kind, ax in zip(KINDS, axes):
            histogram(ax, kind, results)
    elif sweep.similarity:
        similarity(axes[0], sweep, results)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100)


def _below(sweep: Sweep, results: Mapping[str, Mapping[str, Any]]) -> str:
    samples = {result["samples"] for result in results.values()}
    count = f"{', '.join(results)}, {' and '.join(map(str, sorted(samples)))} images"
    return f"{count}\nbars: 95 % intervals over the repetitions on these images" if sweep.attacks else count


def accuracy(ax: Axes, sweep: Sweep, results: Mapping[str, Mapping[str, Any]]) -> None:
    """One line per checkpoint (marker), attack (colour) and evaluation; stock dashed, noise-aware solid."""
    for marker, (name, result) in zip(cycle(MARKERS), results.items()):
        for colour, (attack, points) in zip(_colours(), result["curves"].items()):
            for kind in points[0]:
                written = f"{_named(name, results)} {spelled(attack)}".strip()
                label = f"{written}, {kind}" if len(points[0]) > 1 else written
                style = _style(sweep, kind) | {"marker": marker}
                _line(ax, sweep, [point[kind] for point in points], label, color=colour, **style)
    ax.set_ylabel("accuracy, %")
    ax.set_ylim(bottom=0)
    _finish(ax, sweep)


def _line(ax: Axes, sweep: Sweep, points: list[dict[str, Any]], label: str, **style: Any) -> None:
    values = np.array([100 * point["accuracy"] for point in points])
    ends = [point["interval"] or [point["accuracy"]] * 2 for point in points]
    error = np.abs(100 * np.array(ends).T - values)
    ax.errorbar(_places(sweep), values, error, label=label, markersize=4, capsize=2, linewidth=1.2, **style)


def similarity(ax: Axes, sweep: Sweep, results: Mapping[str, Mapping[str, Any]]) -> None:
    """Mean cosines over the setting."""
    for colour, (name, result) in zip(_colours(), results.items()):
        for kind, reading in zip(KINDS, STYLE):
            points = [point[kind]["mean"] for point in result["cosines"]]
            of = f"two runs of {spelled(sweep.similarity)}" if kind == "perturbation" else "two gradients"
            label = f"{_named(name, results)} {of}".strip()
            ax.plot(_places(sweep), points, label=label, color=colour, markersize=4, **_style(sweep, reading))
    ax.set_ylabel("mean cosine")
    _finish(ax, sweep)


def _named(name: str, results: Mapping[str, Any]) -> str:
    """The checkpoint's name where there are several; one alone stands above the plot."""
    return name if len(results) > 1 else ""


def _style(sweep: Sweep, kind: str) -> dict[str, Any]:
    """Style of an evaluation's line; without a line where values are names."""
    return STYLE[kind] | ({"linestyle": ""} if AXES[sweep.axis].type is str else {})


def histogram(ax: Axes, kind: str, results: Mapping[str, Mapping[str, Any]]) -> None:
    """How the cosines of one kind spread over the images."""
    for name, result in results.items():
        values = np.array(result["cosines"][0]["of_each"][kind])
        ax.hist(values, bins=np.linspace(-1, 1, 51).tolist(), alpha=0.6, label=f"{name}, mean {values.mean():.2f}")
    ax.set_xlabel(f"cosine of two {kind}s of one image")
    ax.set_ylabel("images")
    ax.legend(fontsize=8)


def _finish(ax: Axes, sweep: Sweep) -> None:
    ax.set_xlabel(AXES[sweep.axis].label + (", /255" if sweep.axis == "eps" else ""))
    if AXES[sweep.axis].type is str:
        ax.set_xticks(range(len(sweep.values)), list(map(str, sweep.values)))
    else:
        ax.set_xticks(_places(sweep))
    ax.grid(alpha=0.3)
    # below the axes, where no line can run under it
    ax.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2)


def _places(sweep: Sweep) -> list[float]:
    """Where the values stand on the axis."""
    if AXES[sweep.axis].type is str:
        return list(range(len(sweep.values)))
    return [float(value) * (255 if sweep.axis == "eps" else 1) for value in sweep.values]


def _colours() -> list[str]:
    return [f"C{i % 10}" for i in range(100)]
