"""One figure of the report as SVG text inside a page, whose style sheet gives it its colours, light or dark."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from io import StringIO
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Plot

PALETTE = {
    "ink": "#1b2430",
    "muted": "#566373",
    "line": "#d5dbe2",
    "float": "#1d6fb8",
    "fixed": "#b34a12",
    "good": "#2a7a4b",
    "bad": "#b02a22",
}
"""Light colours; in the page each becomes the variable of its name."""
STYLE: Any = {
    "svg.fonttype": "none",
    "font.size": 9.5,
    "axes.edgecolor": PALETTE["muted"],
    "axes.labelcolor": PALETTE["ink"],
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.linewidth": 0.8,
    "text.color": PALETTE["ink"],
    "xtick.color": PALETTE["muted"],
    "ytick.color": PALETTE["muted"],
    "xtick.labelcolor": PALETTE["ink"],
    "ytick.labelcolor": PALETTE["ink"],
    "grid.color": PALETTE["line"],
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "legend.fontsize": 9,
}
WIDTH = 4.7
"""Inches: at the width of a phone the letters are as large as the text's small print."""


@dataclass(frozen=True)
class Picture:
    """A figure of the page: svg is markup; alt says in words what is to be seen, caption how to read it."""

    name: str
    title: str
    alt: str
    caption: str
    svg: str


@contextmanager
def canvas(height: float, rows: int = 1, **options: Any) -> Iterator[tuple[Plot, Any]]:
    """A figure of the page's width and its axes, without any state left behind."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        plot = Figure(figsize=(WIDTH, height), layout="constrained")
        FigureCanvasSVG(plot)
        yield plot, plot.subplots(rows, **options)


def picture(name: str, title: str, plot: Plot, alt: str, caption: str) -> Picture:
    """The figure as markup: names made its own, colours made variables, nothing in it that points outside."""
    import matplotlib

    text = StringIO()
    with matplotlib.rc_context(STYLE):
        plot.savefig(
            text, format="svg", transparent=True, metadata={"Date": None, "Creator": None, "Type": None, "Format": None}
        )
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<(metadata|style).*?</\1>", "", svg, flags=re.DOTALL).replace("xlink:href", "href")
    svg = re.sub(r'\sid="([^"]+)"', rf' id="{name}-\1"', svg)
    svg = re.sub(r'(url\(#|href="#)', rf"\g<1>{name}-", svg)
    for variable, colour in PALETTE.items():
        svg = svg.replace(colour, f"var(--{variable})")
    head = re.search(r'viewBox="[^"]+"', svg)
    assert head is not None
    label = f'<svg {head[0]} role="img" aria-label="{escape(alt)}" style="stroke-linejoin: round">'
    return Picture(name, title, alt, caption, re.sub(r"<svg[^>]*>", lambda match: label, svg, count=1))


def rows_of(axes: Axes, labels: Sequence[str], grid: Literal["both", "x", "y"] = "x", **options: Any) -> None:
    """Named rows from the top down, a grid behind what is drawn on them."""
    axes.set(yticks=range(len(labels)), yticklabels=labels, **options)
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    axes.grid(axis=grid)
    axes.set_axisbelow(True)
