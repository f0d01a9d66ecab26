"""The page of robustness results, made from the JSON objects of `randhet attack` that are kept in a folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from randhet.base.errors import FileError
from randhet.base.files import replacing
from randhet.compare.equivalence import mean_interval, share_interval
from randhet.compare.robustness.evaluation import chosen_apart

Result = dict[str, Any]
NEURONS = ("vanilla", "het", "randhet", "randhet-forward")
EXPECTED = tuple(f"cifar10-{neuron}-{objective}" for objective in ("at", "rat") for neuron in NEURONS)
COSTLY = "pgd50"
"""An attack of the expensive set, by which a file that has the set is recognised."""
ENOUGH = 200
"""Images below which a file adds nothing to a minimum over several files: all must have the same images."""
NEEDED = {"checkpoint", "samples", "eps", "clean", "attacks", "mra", "mra_attack", "readings", "training", "model"}


def read(folder: Path) -> list[Result]:
    """Every NAME.json of the folder by name, then number of images; FileError where one is something else."""
    results = []
    for path in sorted(folder.glob("*.json")):
        try:
            content = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise FileError(f"results {path} cannot be read: {error}") from None
        if not isinstance(content, dict) or not set(content) >= NEEDED:
            raise FileError(f"{path} is not the --json output of randhet attack")
        results.append(content)
    return sorted(results, key=lambda result: (order(name_of(result)), result["samples"]))


def order(name: str) -> tuple[int, str]:
    """The expected checkpoints first, in their order."""
    return (EXPECTED.index(name) if name in EXPECTED else len(EXPECTED), name)


def name_of(result: Result) -> str:
    return Path(result["checkpoint"]).stem


@dataclass(frozen=True)
class Claim:
    """text: the paper's claim, with its numbers. ask: results by name to evaluations (a, b); a > b reproduces it."""

    text: str
    ask: Callable[[dict[str, Result]], tuple[Any, Any]]


def kept(name: str, attack: str, kind: str) -> Callable[[dict[str, Result]], Any]:
    """Return one evaluation of one checkpoint; KeyError where there is none."""
    return lambda results: results[name]["readings"][attack][kind]


def lowest(name: str) -> Callable[[dict[str, Result]], Any]:
    """Return the evaluation that attains the minimum robust accuracy."""

    def ask(results: dict[str, Result]) -> Any:
        attack, kind = results[name]["mra_attack"].rsplit(" ", 1)
        return results[name]["readings"][attack][kind]

    return ask


def weakest(name: str) -> Callable[[dict[str, Result]], Any]:
    """Return the evaluation with the lowest accuracy over all files of a checkpoint, on the images that all share.

    KeyError where the expensive set is not among them.
    """

    def ask(results: dict[str, Result]) -> Any:
        files = [result for result in results[name]["files"] if result["samples"] >= ENOUGH]
        if not any(COSTLY in result["readings"] for result in files):
            raise KeyError(COSTLY)
        readings = [
            kind
            for result in files
            for attack, kinds in result["readings"].items()
            if attack != "clean"
            for kind in kinds.values()
        ]
        count = min(len(shares(reading)) for reading in readings)
        first = [reading | {"correct": " ".join(reading["correct"].split()[:count])} for reading in readings]
        return min(first, key=lambda reading: shares(reading).mean())

    return ask


def pair(a: Callable[..., Any], b: Callable[..., Any]) -> Callable[[dict[str, Result]], tuple[Any, Any]]:
    return lambda results: (a(results), b(results))


AT, RAT, VANILLA, FORWARD = (
    f"cifar10-{name}" for name in ("randhet-at", "randhet-rat", "vanilla-at", "randhet-forward-at")
)
CLAIMS = (
    Claim(
        "RandHet is no worse than vanilla on clean images (87.4 against 86.4).",
        pair(kept(AT, "clean", "stock"), kept(VANILLA, "clean", "stock")),
    ),
    Claim(
        "RandHet withstands APGD-10 far better than vanilla (47.6 against 33.3), as published (stock).",
        pair(kept(AT, "apgd10", "stock"), kept(VANILLA, "apgd10", "stock")),
    ),
    Claim(
        "The same in the noise-aware evaluation, which the paper does not have.",
        pair(kept(AT, "apgd10", "aware"), kept(VANILLA, "apgd10", "aware")),
    ),
    Claim(
        "RandHet's minimum robust accuracy is higher than vanilla's (41.8 against 29.3).",
        pair(lowest(AT), lowest(VANILLA)),
    ),
    Claim(
        "The same with the expensive set (EOT, 50 steps, another loss, Square, transfer), without AutoAttack.",
        pair(weakest(AT), weakest(VANILLA)),
    ),
    Claim(
        "RandHet withstands AutoAttack far better than vanilla (48.6 against 29.3), stock; on RandHet its version for "
        "stochastic networks.",
        pair(kept(AT, "aa-rand", "stock"), kept(VANILLA, "aa", "stock")),
    ),
    Claim(
        "The same in the noise-aware evaluation.",
        pair(kept(AT, "aa-rand", "aware"), kept(VANILLA, "aa", "aware")),
    ),
    Claim(
        "Against RandHet, APGD-10 is a weaker attack than PGD-10 (47.6 against 41.8), as published (stock).",
        pair(kept(AT, "apgd10", "stock"), kept(AT, "pgd10", "stock")),
    ),
    Claim(
        "Averaging each gradient over ten EOT samples makes PGD stronger on RandHet (40.2 against 43.5), stock.",
        pair(kept(AT, "pgd10", "stock"), kept(AT, "pgd10x10", "stock")),
    ),
    Claim(
        "RandHet* has a higher minimum robust accuracy than RandHet (44.3 against 41.8).",
        pair(lowest(FORWARD), lowest(AT)),
    ),
    Claim(
        "The same with the expensive set.",
        pair(weakest(FORWARD), weakest(AT)),
    ),
    Claim(
        "RandHet with RAT has a higher minimum robust accuracy than with AT (44.9 against 41.8).",
        pair(lowest(RAT), lowest(AT)),
    ),
    Claim(
        "With RAT too, RandHet's minimum robust accuracy is higher than vanilla's (44.9 against 30.4).",
        pair(lowest(RAT), lowest("cifar10-vanilla-rat")),
    ),
    Claim(
        "The same with the expensive set.",
        pair(weakest(RAT), weakest("cifar10-vanilla-rat")),
    ),
    Claim(
        "The same with AutoAttack (47.8 against 30.4), noise-aware, on RandHet its version for stochastic networks.",
        pair(kept(RAT, "aa-rand", "aware"), kept("cifar10-vanilla-rat", "aa", "aware")),
    ),
    Claim(
        "Vanilla is as robust as Het-SNN, which is heterogeneous but deterministic (26.4 against 26.5).",
        pair(lowest(VANILLA), lowest("cifar10-het-at")),
    ),
)


def verdict(a: Any, b: Any) -> str:
    """reproduced, the opposite, or no clear answer, from the 95 % interval of the mean difference per image.

    d_i = p_i(a) - p_i(b), p_i the share of draws that were right on image i, over the first n images, which both have;
    the interval is `equivalence.mean_interval`, which holds where few images differ.
    """
    count = min(len(shares(a)), len(shares(b)))
    first, second = shares(a)[:count], shares(b)[:count]
    low, high = mean_interval(first - second, 0.025)
    gap = float(first.mean() - second.mean())
    answer = "reproduced" if low > 0 else "the opposite" if high < 0 else "no clear answer"
    both = f"{percent(first.mean())} against {percent(second.mean())}"
    return f"{answer}: {both}, {100 * gap:+.1f} ({100 * low:+.1f} to {100 * high:+.1f}), n = {count}"


def shares(reading: Any) -> NDArray[np.float64]:
    """(images,) in 0..1: the share of draws that were right."""
    return np.array(reading["correct"].split(), dtype=np.float64) / float(reading["draws"])


def percent(value: float) -> str:
    return f"{100 * value:.1f}"


def span(interval: Sequence[float] | None) -> str:
    """Percent from - to; a dash for a deterministic network."""
    if interval is None or not all(map(isfinite, interval)):
        return "–"
    return f"{percent(interval[0])} – {percent(interval[1])}"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """A Markdown table."""
    yield "| " + " | ".join(heads) + " |"
    yield "| " + " | ".join(["---"] * len(heads)) + " |"
    for row in rows:
        yield "| " + " | ".join(row) + " |"


def overview(results: Sequence[Result]) -> Iterator[str]:
    """One row per file of results."""
    rows = []
    for result in results:
        trained = result["training"].get("seconds")
        minutes = f"{trained / 60:.0f} min, {result['training'].get('epoch', '?')} epochs" if trained else "–"
        stock = min(kinds["stock"]["accuracy"] for name, kinds in result["readings"].items() if name != "clean")
        each = [
            shares(reading)
            for name, kinds in result["readings"].items()
            if name != "clean"
            for reading in kinds.values()
        ]
        lowest = percent(result["mra"]), percent(chosen_apart(np.stack(each)))
        row = (name_of(result), str(result["samples"]), percent(result["clean"]), percent(stock), *lowest)
        rows.append((*row, result["mra_attack"], minutes))
    heads = ("checkpoint", "images", "clean", "MRA, stock alone", "MRA", "MRA, chosen apart", "by", "training")
    yield from table(heads, rows)


def details(result: Result) -> Iterator[str]:
    """Every attack and evaluation of one file of results."""
    draws = f"{result['draws']} repetitions" if result["draws"] > 1 else "deterministic"
    yield f"#### {name_of(result)}, {result['samples']} images"
    yield ""
    yield f"eps {255 * result['eps']:.3g}/255, T = {result['model']['T']}, {result['model']['neuron']}, {draws}."
    yield ""
    rows = [
        (
            attack,
            "" if attack == "clean" else kind,
            percent(reading["accuracy"]),
            span(reading["interval"]),
            span(share_interval(float(shares(reading).mean()), len(shares(reading)))),
            percent(reading["majority"]),
        )
        for attack, kinds in result["readings"].items()
        for kind, reading in kinds.items()
    ]
    yield from table(("attack", "evaluation", "accuracy", "95 %, repetitions", "95 %, images", "majority vote"), rows)
    if "cosines" in result:
        yield ""
        both = {name: result["cosines"][name] for name in ("gradient", "perturbation")}
        said = ", ".join(f"of two {name}s {cosine['mean']:.2f} ({span_of(cosine)})" for name, cosine in both.items())
        yield f"Mean cosine {said}; attack {result['cosines']['attack']}. The paper: about 0.3, and 0.4 to 0.5."
    yield ""


def span_of(cosine: Any) -> str:
    return f"{cosine['interval'][0]:.2f} – {cosine['interval'][1]:.2f}"


def by_name(results: Sequence[Result]) -> dict[str, Result]:
    """All files of a checkpoint as one: the largest number of images, last, has the word, others add their attacks."""
    merged: dict[str, Result] = {}
    for result in results:
        before = merged.get(name_of(result), {"readings": {}, "files": []})
        files = [*before["files"], result]
        merged[name_of(result)] = {**result, "readings": before["readings"] | result["readings"], "files": files}
    return merged


def claims(results: Sequence[Result]) -> Iterator[str]:
    """The claims of the paper, and the verdict of these results."""
    by_checkpoint, rows = by_name(results), []
    for claim in CLAIMS:
        try:
            rows.append((claim.text, verdict(*claim.ask(by_checkpoint))))
        except KeyError:
            rows.append((claim.text, "not measured"))
    yield from table(("the paper's claim (CIFAR-10, its full-size network)", "here"), rows)


def missing(results: Sequence[Result]) -> str:
    """Which of the checkpoints there are no results for."""
    names = {name_of(result) for result in results}
    absent = [name for name in EXPECTED if name not in names]
    if not absent:
        return "All eight checkpoints are evaluated."
    return f"**No results yet for:** {', '.join(absent)}."


INTRODUCTION = """\
# Robustness of the small CIFAR-10 networks

<!-- made by scripts/robustness from docs/results/*.json; edit those or scripts/robust_page.py -->

The networks are SEW-ResNets of one block per stage with 32, 64 and 128 channels (*-wide*: 48, 96 and 192), stem
stride 2 and T = 4. They were trained by `configs/cifar10-small` and attacked on CIFAR-10 test images, which were read
from a copy stored as JPEG. Small networks, trained for minutes (the wide ones for one to two hours), do not have the
numbers of the paper; they show which of two networks, or of two attacks, is stronger.
"""

APPENDIX = """\
## Appendix: attacks with the surrogate of training

What follows is of attacks that follow the surrogate gradient of training, and of AutoAttack. Its minima are upper
limits.
"""

EVALUATIONS = """\
### The two evaluations

A published attack assumes a deterministic network. On a stochastic network it may keep an example that was
misclassified once, although most forward passes classify it correctly; its success is then luck. Every iterated attack
is therefore evaluated twice:

- The **stock** evaluation takes the example that the published attack returns.
- The **noise-aware** evaluation (*aware* in the tables) takes the most promising examples that the same attack visited
  and the stock example. It measures the mean margin of each in ten new repetitions. Where the best one leads the stock
  example clearly, it is taken, and otherwise the stock example. A clear lead is one that Student's test finds at 5 %
  over all candidates. The results of this page are of an earlier rule, 1.645 standard errors for each candidate: what
  it chose cannot be chosen again from what was kept. That concerns the noise-aware evaluation of the stochastic
  networks alone. Stock evaluations and deterministic networks are the same under both rules.

In both, *accuracy* is in percent and is a mean over further Monte-Carlo repetitions that no attack has seen.
*MRA*, the minimum robust accuracy, is the lowest accuracy over all attacks of a row in both evaluations. A minimum over
the same images is biased low, since randomness takes part in the choice. *Chosen apart* therefore takes the attack that
is lowest on one half of the images and counts it on the other half. The interval *repetitions* is for these images,
over the repetitions; the interval *images* includes their choice.

On 500 images each gradient is of one forward pass. The expensive set of attacks is run on fewer images and is stronger:
gradients averaged over ten EOT samples, 50 steps, another loss, Square, and transfer from the mean decay factors
(*@mean*). The claims below say what remains of RandHet's advantage.
"""

AUTOATTACK = """\
RFGSM and FAB were run on 100 images, AutoAttack and its parts on 50. AutoAttack (*aa*) consists of APGD with 100
steps, APGD towards nine other classes, FAB, and Square with 5,000 queries; the strongest counts, image by image. **It
leaves {vanilla} % of the vanilla network, and {het} % of Het.** On vanilla, its Square alone, which uses answers and
no gradient, leaves {square} %, and its APGD {apgd} %. The surrogate gradients of a spiking network therefore mislead
attacks that follow them, and a minimum without AutoAttack is an upper limit for every network.

On RandHet, Square leaves {asked} % of {clean} %, even where each proposal is compared under the same draws. AutoAttack
made at the mean decay factors (*aa@mean*) leaves {mean} % of RandHet and {forward} % of RandHet*. The strongest attack
on RandHet is AutoAttack for stochastic networks (*aa-rand*: APGD with two losses, 100 steps, each gradient over 20 EOT
samples). It leaves {aware} % in the noise-aware evaluation and {stock} % in the stock evaluation. This is the lowest
value among the attacks of the tables below; the top of the page has a lower one.
"""
QUOTED = {
    "vanilla": kept(VANILLA, "aa", "stock"),
    "het": kept("cifar10-het-at", "aa", "stock"),
    "square": kept(VANILLA, "square5000", "stock"),
    "apgd": kept(VANILLA, "apgd100", "stock"),
    "asked": kept(AT, "square5000", "aware"),
    "mean": kept(AT, "aa@mean", "aware"),
    "forward": kept(FORWARD, "aa@mean", "aware"),
    "aware": kept(AT, "aa-rand", "aware"),
    "stock": kept(AT, "aa-rand", "stock"),
}
"""What that paragraph quotes; `clean` is of the images of these attacks."""


def autoattack(results: Sequence[Result]) -> Iterator[str]:
    """The paragraph on AutoAttack, with its numbers; nothing where one of them was not measured."""
    by_checkpoint = by_name(results)
    try:
        read = {word: ask(by_checkpoint) for word, ask in QUOTED.items()}
        clean = next(
            result["readings"]["clean"]["stock"]
            for result in by_checkpoint[AT]["files"]
            if "aa-rand" in result["readings"]
        )
    except KeyError:
        return
    numbers = {word: f"{100 * reading['accuracy']:.0f}" for word, reading in (read | {"clean": clean}).items()}
    yield AUTOATTACK.format(**numbers)


def render(results: Sequence[Result], front: str = "") -> str:
    """The page in Markdown; front: what comes before the appendix."""
    versions = sorted({f"torch {result.get('versions', {}).get('torch', '?')}" for result in results})
    parts = [
        INTRODUCTION,
        *([front] if front else []),
        APPENDIX,
        EVALUATIONS,
        *autoattack(results),
        missing(results),
        "",
        *overview(results),
        "",
        "Rows with different numbers of images cannot be compared with each other.",
        f"Trained with {', '.join(versions)}." if versions else "",
        "",
        "### Which claims of the paper are reproduced at this scale",
        "",
        "A difference is in points. Its 95 % interval over images like these stands in parentheses and decides the",
        "verdict. Both results are of the same n images, so the difference is taken image by image, and an image that",
        "is easy or hard for both has no part in it. A minimum robust accuracy enters with the attack that attains it.",
        "",
        *claims(results),
        "",
        "### Every attack",
        "",
        *(line for result in results for line in details(result)),
        "### Reproducing this page",
        "",
        "    randhet train --config configs/cifar10-small/randhet-at.toml --out checkpoints/cifar10-randhet-at.pt",
        "    scripts/evaluate checkpoints/cifar10-randhet-at.pt",
        "    scripts/evaluate checkpoints/cifar10-randhet-at.pt --strong",
        "    scripts/robustness",
    ]
    return "\n".join(parts) + "\n"


def write(folder: Path, page: Path, front: str = "") -> None:
    """Write the page from a folder of results, whole or not at all."""
    text = render(read(folder), front)
    with replacing(page) as temporary:
        temporary.write_text(text, "utf-8")
