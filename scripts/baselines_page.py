"""The page of randomised networks without spikes, made from docs/results/baselines: `--json` of `randhet attack`.

python -m scripts.baselines_page    writes docs/baselines.md

A file is named DATA-KIND-OBJECTIVE.json, -sN before its end where a network was trained with several seeds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from randhet.base.files import replacing
from randhet.compare.equivalence import mean_interval
from scripts.robust_page import Result, name_of, percent, read, shares, table

ROOT = Path(__file__).parents[1]
RESULTS, PAGE = ROOT / "docs" / "results" / "baselines", ROOT / "docs" / "baselines.md"
WITHOUT, WITH = "pgd10", "pgd10x10"
PAPER = {"ctrw": (84.37, 65.53, 27.31), "rna": (89.45, 42.72, 26.38), "rpf": (90.01, 40.19, 34.62),
         "randhet": (90.12, 43.50, 40.15)}  # fmt: skip
"""Percent on CIFAR-10, clean, PGD without and with EOT (Wang et al. 2025)."""
KINDS = ("relu", "ctrw", "rna", "rpf", "vanilla", "randhet")
TITLES = {"relu": "ReLU, nothing random", "ctrw": "CTRW", "rna": "RNA", "rpf": "RPF", "vanilla": "vanilla SNN",
          "randhet": "RandHet"}  # fmt: skip
Shares = NDArray[np.float64]
HEAD = """\
# Randomised networks without spikes

<!-- made by scripts/baselines_page.py from docs/results/baselines/*.json; edit those or the script -->

The paper compares RandHet with three randomised networks without spikes. Its measure is the *drop*: by how many points
PGD leaves less where every gradient is an average over EOT samples. Here the
[networks](how-to/train.md#randomised-networks-without-spikes) have the same layers and widths, were trained by the same
loop with AT and are attacked in the same way: `pgd10`, and `pgd10x10`, whose gradients are averages over ten EOT
samples. Both have the [stock and the noise-aware evaluation](robustness.md#the-two-evaluations) (*aware*); the drop is
of the stock one, as in the paper. Stochastic networks answer in ten repetitions; *wavering* is the percentage of clean
images that only some of them classify correctly. Differences are in points and paired by image, with a 95 % interval
over images. Where a network was trained with several seeds, values and differences are means over the seeds, and the
intervals are of these networks.

The authors' evaluations hold one draw through all iterations of PGD; here every forward pass draws, so that `pgd10`
averages over randomness already, from iteration to iteration. That alone can make a drop smaller than theirs.
The strongest attacks here are SA-PGD with 50 iterations, for spiking networks with the surrogate ASSG; *x5* has five
EOT samples. No attack without gradients was run. The spiking networks are the shipped checkpoints. The others are made
by the lines below, KIND being `relu`, `ctrw`, `rna` or `rpf`; for `ctrw` on `digits` with `--sigma-bounds 0.667,100`.

    randhet train --data digits --baseline KIND --seed N
    randhet train --config configs/cifar10-small/KIND-at.toml --data FOLDER --seed N

On `digits` all networks have the default recipe of 30 epochs, on `cifar10` 4 plain epochs and 8 on adversarial examples
of radius 4/255; of these 12 the spiking networks have 10 at half of their time steps. Those were attacked once more for
this page, so that they differ from the [robustness page](robustness.md) by their draws.
"""
SEEN = {
    ("cifar10", "rpf"): """\
Training takes most of RPF's randomness away: with seeds 0, 1 and 2 the scales of the batch norm behind the first
convolution are 0.01, 0.05 and 0.04 for the 24 random filters and 0.72, 0.81 and 0.77 for the 8 trained ones (absolute
values, means), so that what the network reads of a random filter is small."""
}
"""What was seen in the networks of a kind, beside what was measured of them: by data and kind."""


def kind_of(result: Result) -> tuple[str, str]:
    """Data and kind, as the name of the checkpoint has them."""
    data, kind, *_ = re.split("-", name_of(result))
    return data, kind


def grouped(results: Sequence[Result]) -> dict[str, dict[str, list[Result]]]:
    """Results of every seed by data, then by kind in the order of KINDS."""
    groups: dict[str, dict[str, list[Result]]] = {}
    for data in sorted({kind_of(result)[0] for result in results}):
        found = {kind: [one for one in results if kind_of(one) == (data, kind)] for kind in KINDS}
        groups[data] = {kind: ones for kind, ones in found.items() if ones}
    return groups


def mean_shares(results: Sequence[Result], attack: str, evaluation: str) -> Shares:
    """(images,): the share of right answers 0..1, mean over the seeds, on the images that all have."""
    each = [shares(one["readings"][attack].get(evaluation, one["readings"][attack]["stock"])) for one in results]
    count = min(map(len, each))
    return np.stack([one[:count] for one in each]).mean(0)


def lowest(results: Sequence[Result], attacks: Sequence[str]) -> tuple[str, Shares]:
    """The attack and evaluation that leaves least, mean over the seeds, and its shares."""
    found = {
        f"{attack} {kind}": mean_shares(results, attack, kind)
        for attack in attacks
        for kind in results[0]["readings"][attack]
    }
    name = min(found, key=lambda one: found[one].mean())
    return name, found[name]


def points(first: Shares, second: Shares) -> str:
    """The mean difference with its interval."""
    count = min(len(first), len(second))
    low, high = mean_interval(first[:count] - second[:count], 0.025)
    return f"{100 * (first[:count] - second[:count]).mean():+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"


def drops(group: Mapping[str, Sequence[Result]]) -> Iterator[str]:
    """The table like the paper's: PGD without and with EOT."""
    rows = []
    for kind, results in group.items():
        clean = percent(mean_shares(results, "clean", "stock").mean())
        rows.append((TITLES[kind], clean, wavering(results), both(results, WITHOUT), *lost(results), published(kind)))
    heads = ("network", "clean", "wavering", "PGD-10: stock, aware", "10 EOT samples: stock, aware", "drop",
             "drop by seed", "paper: clean, PGD, EOT, drop")  # fmt: skip
    yield from table(heads, rows)


def wavering(results: Sequence[Result]) -> str:
    """Percent of clean images on which the repetitions differ in whether they are right, mean over the seeds."""
    each = [shares(result["readings"]["clean"]["stock"]) for result in results]
    return percent(float(np.mean([((one > 0) & (one < 1)).mean() for one in each])))


def both(results: Sequence[Result], attack: str) -> str:
    """Accuracy in the stock and in the noise-aware evaluation."""
    return ", ".join(percent(mean_shares(results, attack, kind).mean()) for kind in ("stock", "aware"))


def lost(results: Sequence[Result]) -> tuple[str, str, str]:
    """Accuracies with EOT, the drop, and the drop of every seed; dashes for a network that EOT tells nothing."""
    if not all(WITH in result["readings"] for result in results):
        return ("–",) * 3
    drop = points(*(mean_shares(results, attack, "stock") for attack in (WITHOUT, WITH)))
    each = [mean_shares([one], WITHOUT, "stock").mean() - mean_shares([one], WITH, "stock").mean() for one in results]
    return both(results, WITH), drop, ", ".join(f"{100 * one:+.1f}" for one in each) if len(each) > 1 else "–"


def published(kind: str) -> str:
    """The paper's row."""
    if kind not in PAPER:
        return "–"
    clean, without, with_eot = PAPER[kind]
    return f"{clean}, {without}, {with_eot}, {without - with_eot:.2f}"


def strongest(group: Mapping[str, Sequence[Result]]) -> Iterator[str]:
    """What the strongest attack of each network leaves, and how far RandHet is ahead of it."""
    found = {}
    for kind, results in group.items():
        attacks = [name for name in results[0]["readings"] if name != "clean"]
        found[kind] = lowest(results, [name for name in attacks if all(name in one["readings"] for one in results)])
    rows = [
        (TITLES[kind], name, percent(left.mean()), points(found["randhet"][1], left) if ahead(kind, found) else "–")
        for kind, (name, left) in found.items()
    ]
    yield from table(("network", "attack that leaves least", "accuracy", "RandHet leaves more by"), rows)


def ahead(kind: str, found: Mapping[str, object]) -> bool:
    """Whether there is a RandHet network beside one of this kind."""
    return kind != "randhet" and "randhet" in found


def section(data: str, group: Mapping[str, Sequence[Result]]) -> Iterator[str]:
    """The tables of one set of data."""
    every = [result for results in group.values() for result in results]
    counts = sorted({result["samples"] for result in every})
    seeds = ", ".join(f"{TITLES[kind]} {len(results)}" for kind, results in group.items())
    yield f"## {data}"
    yield ""
    yield (
        f"{' and '.join(map(str, counts))} test images, radius {255 * every[0]['eps']:.3g}/255. "
        f"Networks trained, each with a seed of its own: {seeds}."
    )
    if absent := [TITLES[kind] for kind in KINDS if kind not in group]:
        yield ""
        yield f"Not measured: {', '.join(absent)}."
    yield ""
    yield from drops(group)
    yield ""
    for kind in group:
        if seen := SEEN.get((data, kind)):
            yield seen
            yield ""
    yield "The strongest of all attacks that every network of a kind was attacked with:"
    yield ""
    yield from strongest(group)
    yield ""


def render(results: Sequence[Result]) -> str:
    """The page in Markdown."""
    groups = grouped(results)
    lines = [line for data, group in groups.items() for line in section(data, group)]
    return "\n".join([HEAD, *lines]).rstrip("\n") + "\n"


def main() -> None:
    text = render(read(RESULTS))
    with replacing(PAGE) as temporary:
        temporary.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
