"""Table and plot of what `scripts.auto_curve` measured.

python -m scripts.auto_page docs/how-to/attack.md docs/auto.png

Everything between the two marks of the page is replaced. Differences are paired by image.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from randhet.base.errors import RandhetError
from randhet.base.files import replacing
from randhet.compare.equivalence import mean_interval
from randhet.train.attacks.battery import EOT, STEPS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "results" / "auto"
BEGIN, END = "<!-- curve: begin -->", "<!-- curve: end -->"
Result = Mapping[str, Any]
LEVEL = 0.025
"""Of each limit of a 95 % interval."""
Shares = NDArray[np.float64]


def left(result: Result, steps: int, draws: int, whole: bool) -> Shares | None:
    """Shares (images,) that the last attack of a cell left, image by image; None where it was not measured."""
    for cell in result["cells"]:
        if (cell["steps"], cell["draws"]) == (steps, draws) and (cell["whole"] or not whole):
            name = list(cell["left"])[-1] if whole else next(iter(cell["left"]))
            return np.array(cell["left"][name])
    return None


def numbers(result: Result, key: str, whole: bool) -> list[int]:
    """Iterations or EOT samples that were measured, of whole batteries alone or of any cell."""
    return sorted({cell[key] for cell in result["cells"] if cell["whole"] or not whole})


def table(result: Result, whole: bool) -> Iterator[str]:
    """A row for each number of iterations, a column for each of EOT samples; percent, a dash where unmeasured."""
    draws = numbers(result, "draws", whole)
    heads = [f"{count} EOT sample{'s' * (count > 1)}" for count in draws] if result["stochastic"] else ["accuracy"]
    yield f"| iterations | {' | '.join(heads)} |"
    yield "| ---: |" + " ---: |" * len(draws)
    for steps in numbers(result, "steps", whole):
        found = [left(result, steps, count, whole) for count in draws]
        yield f"| {steps} | " + " | ".join("–" if each is None else f"{100 * each.mean():.1f}" for each in found) + " |"


def difference(result: Result, one: tuple[int, int], two: tuple[int, int], whole: bool) -> str | None:
    """What the first cell leaves less what the second leaves, in points, with a 95 % interval over such images."""
    first, second = (left(result, *cell, whole) for cell in (one, two))
    if first is None or second is None:
        return None
    low, high = (100 * bound for bound in mean_interval(first - second, LEVEL))
    return f"{100 * (first - second).mean():+.1f} points ({low:+.1f} to {high:+.1f})"


def section(result: Result) -> Iterator[str]:
    """Tables and differences of one network."""
    clean, name = np.mean(result["clean"]), result["checkpoint"].removesuffix(".pt")
    eps = f"{round(result['eps'] * 255)}/255"
    for whole in kinds(result):
        what = "the whole battery but Square" if whole else "its first attack, on cross entropy"
        which = f"`{name}`, {result['samples']} images, eps {eps}, clean {100 * clean:.1f} %"
        yield f"{which}, accuracy in percent after {what}:"
        yield from ("", *table(result, whole), "")
        if found := list(differences(result, whole)):
            yield from (*found, "")


def kinds(result: Result) -> list[bool]:
    """Whether the first attack alone (False) or the whole battery (True) was measured."""
    return sorted({cell["whole"] for cell in result["cells"]})


def differences(result: Result, whole: bool) -> Iterator[str]:
    """The default against fewer and more iterations and EOT samples, as far as they were measured."""
    steps, draws = STEPS, EOT if result["stochastic"] else 1
    others = [(steps // 2, draws), (steps // 4, draws), (2 * steps, draws)]
    others += [(steps, more) for more in (1, 5, 10, 20)] + [(steps // 2, more) for more in (5, 10, 20)]
    for other in dict.fromkeys(others):
        random = other[1] > 1 and not result["stochastic"]
        text = None if random or other == (steps, draws) else difference(result, (steps, draws), other, whole)
        if text:
            yield f"- {named(steps, draws, result)} against {named(*other, result)}: {text}"


def named(steps: int, draws: int, result: Result) -> str:
    """A cell in words."""
    samples = f" with {draws} EOT sample{'s' * (draws > 1)}" if result["stochastic"] else ""
    return f"{steps} iterations{samples}"


def page(results: Sequence[Result]) -> str:
    """What stands between the marks."""
    return "\n".join([BEGIN, "", *(line for result in results for line in section(result)), END])


def replaced(text: str, new: str) -> str:
    """The page with what stands between the marks replaced; RandhetError without marks."""
    if BEGIN not in text or END not in text:
        raise RandhetError(f"the page has no marks {BEGIN} and {END}")
    return text[: text.index(BEGIN)] + new + text[text.index(END) + len(END) :]


def plot(path: Path, results: Sequence[Result]) -> None:
    """One panel for each network: accuracy over iterations, a line for each number of EOT samples."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2 * len(results), 4.2), layout="constrained")
    for ax, result in zip(figure.subplots(1, len(results), squeeze=False)[0], results):
        panel(ax, result)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100)


def panel(ax: Axes, result: Result) -> None:
    """Lines of one network; the whole battery dashed where the first attack is there too."""
    for whole in kinds(result):
        for draws in numbers(result, "draws", whole):
            found = [(steps, left(result, steps, draws, whole)) for steps in numbers(result, "steps", whole)]
            points = [(steps, 100 * each.mean()) for steps, each in found if each is not None]
            kind = "battery" if whole else "cross entropy"
            label = f"{kind}, {draws} EOT sample{'s' * (draws > 1)}" if result["stochastic"] else kind
            ax.plot(*zip(*points), "s--" if whole and result["stochastic"] else "o-", label=label)
    ax.set(xscale="log", xlabel="iterations", ylabel="accuracy, %", ylim=(0, None))
    ax.set_xticks(numbers(result, "steps", False), [str(steps) for steps in numbers(result, "steps", False)])
    ax.minorticks_off()
    ax.set_title(f"{result['checkpoint'].removesuffix('.pt')}, {result['samples']} images", fontsize=10)
    ax.legend(fontsize=8)


def main(arguments: Sequence[str]) -> int:
    where, picture = map(Path, arguments)
    results = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))]
    text = replaced(where.read_text(), page(results))
    with replacing(where) as temporary:
        temporary.write_text(text)
    plot(picture, results)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
