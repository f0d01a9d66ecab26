"""What gradients with the adaptive surrogate leave: first section of the robustness page, from docs/results/assg."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from randhet.compare.equivalence import share_interval
from scripts import robust_page as page

HEAD = """\
## A stronger attack than those of the tables

**The tables below are of weaker attacks, and the minima in them are too high.** The attacks here are SA-PGD with the
adaptive surrogate ASSG, 50 iterations ([how to](how-to/attack.md)), at eps 8/255 on cross entropy and on the DLR loss
(*-dlr*); *x5* averages each gradient over five EOT samples. Stochastic networks answer in ten repetitions. *Left by
all* is the mean, over images, of the lowest share of right repetitions under any of them. On a stochastic network it is
too low, since randomness takes part in that choice. `apgd50`, which uses the surrogate of training, is for comparison
and has no part in it.
"""
TAIL = """\
More iterations leave less on [smaller numbers of images](how-to/attack.md#a-battery-without-parameters). Each network
was trained once, so that this says nothing of another training run. The other networks have not been attacked in this
way yet. Their differences below are differences under weaker attacks, and may not survive the stronger one.
"""


def adaptive(result: page.Result) -> dict[str, Any]:
    """The evaluations by attacks with the adaptive surrogate, by "ATTACK KIND"."""
    return {
        f"{attack} {kind}": reading
        for attack, kinds in result["readings"].items()
        if "+assg" in attack
        for kind, reading in kinds.items()
    }


def left_by_all(result: page.Result) -> NDArray[np.float64]:
    """(images,) in 0..1: the lowest share of right draws over the adaptive attacks, image by image."""
    lowest: NDArray[np.float64] = np.stack([page.shares(reading) for reading in adaptive(result).values()]).min(axis=0)
    return lowest


def measured(value: float, images: int) -> tuple[str, str]:
    """Percent, and its 95 % interval over images."""
    return page.percent(value), page.span(share_interval(value, images))


def rows(result: page.Result) -> Iterator[tuple[str, ...]]:
    """A row for every attack, by its lower evaluation, and one for all of them."""
    name, count = page.name_of(result), result["samples"]
    for attack, kinds in result["readings"].items():
        kind, reading = min(kinds.items(), key=lambda item: item[1]["accuracy"])
        said = attack if attack == "clean" else f"{attack}, {kind}"
        yield (name, str(count), said, *measured(reading["accuracy"], count))
    yield (name, str(count), "**left by all**", *measured(float(left_by_all(result).mean()), count))


def comparison(results: Sequence[page.Result]) -> Iterator[str]:
    """The pair with and without random decay factors, each under the adaptive attack that leaves least of it."""
    by_name = {page.name_of(result): result for result in results}
    pair = [by_name.get(name) for name in (page.AT, page.VANILLA)]
    lowest = [min(adaptive(one).values(), key=lambda reading: reading["accuracy"]) for one in pair if one is not None]
    if len(lowest) == len(pair):
        yield f"`{page.AT}` against `{page.VANILLA}`, each under the attack that leaves least of it; is it more robust?"
        yield f"**{page.verdict(*lowest)}** (points, 95 % interval over images)."
        yield ""


def section(results: Sequence[page.Result]) -> str:
    """The section in Markdown."""
    heads = ("checkpoint", "images", "attack, lower evaluation", "accuracy", "95 %, images")
    table = page.table(heads, [row for result in results for row in rows(result)])
    return "\n".join([HEAD, *table, "", *comparison(results), TAIL])
