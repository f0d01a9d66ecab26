"""The front of the robustness page: what the strongest attacks leave, from docs/results/assg, and what they correct."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from randhet.compare.equivalence import mean_interval, share_interval
from scripts import robust_page as page
from scripts.robust_adaptive import BATTERY, adaptive, left_by_all, lowest
from scripts.robust_seeds import over_seeds, split

PAIRS = (("cifar10-randhet-at-wide", "cifar10-vanilla-at-wide"), (page.AT, page.VANILLA))
"""Networks that differ in their decay factors alone: random, and one constant."""

HEAD = """\
## What the strongest attacks leave

All attacks here have radius 8/255. The strongest follow the adaptive surrogate gradient ASSG ([how
to](how-to/attack.md)): SA-PGD with the number of iterations in its name, on cross entropy or the DLR loss (*-dlr*);
*x5* averages each gradient over five EOT samples. `snn-auto` is the
[battery](how-to/attack.md#a-battery-without-parameters) of several such attacks and Square, which uses no gradients.
Stochastic networks answer in ten repetitions. Accuracies are in percent, in the lower of the
[two evaluations](#the-two-evaluations), with a 95 % interval over images; a dash is an attack that was not run.
*Left by all*: the mean, over images, of the lowest share of right repetitions under any of these attacks; too low on a
stochastic network, since randomness takes part in that choice. `apgd50` and `pgd10`, with the surrogate of training,
have no part in it.
"""
CLAIMS = """\
## Is random decay a defence?

Differences are paired by image and in points; the interval is 95 % over images, which says nothing of another
training run. In each pair the two networks have the same architecture, objective and number of epochs. The answers are
those of these attacks: stronger ones may leave less of either network. Networks with ReLUs in place of the neurons are
on a [page of their own](baselines.md).
"""
CORRECTIONS = """\
## What earlier numbers were wrong

The minimum robust accuracies on {images} images that this page used to give, now in the appendix, are too high for
every network that was attacked again. The attacks that gave them followed the surrogate gradient of training in ten
iterations, with one EOT sample. On the same images:
"""
REST = """\
What is left now is an upper limit too: with 200 iterations instead of 50 these attacks
[leave less](how-to/attack.md#a-battery-without-parameters), measured on fewer images, and `snn-auto` does. No other
network of the appendix has been attacked in this way, so that differences between its minima may not survive.
"""


LEFT = "**left by all**"


def measured(value: float, images: int) -> str:
    """Percent, and its 95 % interval over images."""
    return f"{page.percent(value)} ({page.span(share_interval(value, images))})"


def column(result: page.Result) -> dict[str, str]:
    """What each attack left in its lower evaluation, and all adaptive ones together where there are several."""
    count = result["samples"]
    lower = {attack: min(one["accuracy"] for one in kinds.values()) for attack, kinds in result["readings"].items()}
    found = {attack: measured(value, count) for attack, value in lower.items()}
    if len({name.rsplit(" ", 1)[0] for name in adaptive(result)}) > 1:
        found[LEFT] = measured(float(left_by_all(result).mean()), count)
    return found


def by_attack(results: Sequence[page.Result]) -> Iterator[str]:
    """A row for every attack, a column for every network: adaptive attacks, what all of them left, the others."""
    columns = [column(result) for result in results]
    met = list(dict.fromkeys(name for one in columns for name in one))
    strong = sorted({name.rsplit(" ", 1)[0] for result in results for name in adaptive(result)}, key=met.index)
    first = [name for name in ("clean", *strong, LEFT) if name in met]
    rest = [name for name in met if name not in first]
    rows = [(name, *(one.get(name, "–") for one in columns)) for name in (*first, *rest)]
    heads = (f"{page.name_of(result).removeprefix('cifar10-')} ({result['samples']})" for result in results)
    yield from page.table(("attack (images)", *heads), rows)


def parts(results: Sequence[page.Result]) -> Iterator[str]:
    """What the attacks of the battery left one after another."""
    for result in results:
        if left := result.get("parts", {}).get(BATTERY):
            said = ", ".join(f"{name} {page.percent(value)}" for name, value in left.items())
            yield f"- `{BATTERY}` on `{page.name_of(result)}`, attack after attack, right in percent: {said}."


def rough(results: Sequence[page.Result]) -> Iterator[str]:
    """Name the networks whose attacks computed their gradients in bfloat16."""
    names = [f"`{page.name_of(result)}`" for result in results if result.get("gradients") == "bfloat16"]
    if names:
        yield f"Gradients against {' and '.join(names)} were computed in bfloat16; accuracies are of float32."
        yield ""


ANSWERS = {"reproduced": "Yes", "the opposite": "No, less", "no clear answer": "No clear answer"}


def answer(a: Any, b: Any) -> str:
    """Whether a is right more often than b, in the words of a question, with `robust_page.verdict`'s numbers."""
    verdict, numbers = page.verdict(a, b).split(": ", 1)
    return f"{ANSWERS[verdict]}: {numbers}"


def met_by_one(pair: Sequence[page.Result]) -> bool:
    """Whether the battery was run on some of them but not on all."""
    return len({BATTERY in one["readings"] for one in pair}) > 1


def without_battery(result: page.Result) -> page.Result:
    return result | {"readings": {name: kinds for name, kinds in result["readings"].items() if name != BATTERY}}


def comparison(by_name: Mapping[str, page.Result]) -> Iterator[str]:
    """Each pair with and without random decay factors: on clean images, and under what leaves least of each."""
    for first, second in PAIRS:
        if first in by_name and second in by_name:
            pair = by_name[first], by_name[second]
            alike = [without_battery(one) for one in pair] if met_by_one(pair) else pair
            yield f"- `{first}` against `{second}`, each under the adaptive attack that leaves least of it."
            if met_by_one(pair):
                yield f"  `{BATTERY}` was run on one of them only and is left out, since the other may not stand it."
            yield f"  More robust? **{answer(*map(lowest, alike))}**. More accurate on clean images?"
            yield f"  {answer(*(one['readings']['clean']['stock'] for one in pair))}."


def corrections(by_name: Mapping[str, page.Result], before: Sequence[page.Result]) -> Iterator[str]:
    """The old minimum on as many images beside the new one, and the difference on these images."""
    found = []
    for old in before:
        name = page.name_of(old)
        if name not in by_name or by_name[name]["samples"] != old["samples"]:
            continue
        attack, kind = old["mra_attack"].rsplit(" ", 1)
        new, gone = lowest(by_name[name]), page.shares(old["readings"][attack][kind])
        low, high = mean_interval(gone - page.shares(new), 0.025)
        gap = f"{100 * (gone - page.shares(new)).mean():.1f} ({100 * low:.1f} to {100 * high:.1f})"
        both = f"{page.percent(gone.mean())}, {old['mra_attack']}", page.percent(new["accuracy"])
        found.append((name, str(old["samples"]), *both, gap))
    if found:
        yield CORRECTIONS.format(images=" or ".join(dict.fromkeys(row[1] for row in found)))
        yield from page.table(("checkpoint", "images", "minimum then", "now", "too high by, points"), found)
        yield ""


def front(results: Sequence[page.Result], before: Sequence[page.Result] = ()) -> str:
    """The sections before the appendix, in Markdown; before: the results of the appendix."""
    by_name = {page.name_of(result): result for result in results}
    once = [result for result in results if split(page.name_of(result))[1] == 0]
    pairs = list(comparison(by_name))
    return "\n".join(
        [
            HEAD,
            *by_attack(once),
            "",
            *rough(once),
            *(said := list(parts(once))),
            *([""] if said else []),
            *([CLAIMS, *pairs, ""] if pairs else []),
            *over_seeds(results, page.AT, page.VANILLA),
            *corrections(by_name, before),
            REST,
        ]
    )
