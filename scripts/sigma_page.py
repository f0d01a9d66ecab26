"""The page of sigma per layer, trained between bounds or searched by evolution, made from docs/results/sigma.

python -m scripts.sigma_page                   writes docs/sigma.md
python -m scripts.sigma_page --sigmas CKPT...  adds the sigmas of checkpoints to docs/results/sigma/sigmas.json first

search.json is what `scripts.sigma_search` writes; every other NAME.json is the `--json` of `randhet attack` of NAME.pt:
start, evolution and random of the search, and RECIPE-sN of a training recipe with seed N.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from randhet.base.files import replacing
from randhet.compare.equivalence import mean_interval
from randhet.train.attacks.names import spelled
from randhet.train.checkpoint import build, load
from randhet.train.neurons import RandomTauLIF, neurons
from scripts.baselines_page import Shares, lowest, mean_shares, points
from scripts.robust_page import Result, percent, table

ROOT = Path(__file__).parents[1]
RESULTS, PAGE = ROOT / "docs" / "results" / "sigma", ROOT / "docs" / "sigma.md"
SEARCH, SIGMAS = "search.json", "sigmas.json"
RECIPES = {"fixed": "sigma = 1", "narrow": "trained, bounds 0.5 to 1.5", "wide": "trained, bounds 0.01 to 1.99"}
METHODS = {"start": "sigma = 1, as trained", "evolution": "evolution", "random": "random search"}

HEAD = """\
# Sigma of each layer

<!-- made by scripts/sigma_page.py from docs/results/sigma/*.json; edit those or the script -->

The paper reports that a sigma trained by backpropagation collapses to 0, and proposes bounds or evolution instead. Both
are tried here on `digits` with the network `sew-digits`. Robust accuracy is on the {images} test images at a radius of
{eps:.3g}/255, under {attack}, the lower of the [two evaluations](robustness.md#the-two-evaluations), over ten
repetitions; one attack with one EOT sample per iteration, which is weaker than a battery. Differences are in points and
paired by image, with a 95 % interval over images.
"""
TRAINED = """\
## Trained between bounds

    randhet train --data digits --eps 0.1 --epochs 20 --seed N [--train-sigma layer --sigma-bounds LOW,HIGH]

sigma = low + (high - low) * sigmoid(w), w trained by backpropagation, one per layer, from sigma = 1. Networks are those
of the seeds that every recipe was trained with; where there are several, values are means over them, and of sigma the
range stands in parentheses. Intervals are of these networks: they say nothing of another training run.
"""
SEARCHED = """\
## Searched by evolution

A (mu + lambda) evolution strategy with self-adapted log-normal steps ({parents} + {children}, {generations}
generations, every sigma within {low:g} to {high:g}) changes the sigmas of the shipped `{checkpoint}` at fixed
weights, which were trained with sigma = 1. The fitness is robust accuracy under {attack} on
{images} training images, with the same random numbers for every candidate. The weights have seen these images in
training, which raises the accuracy of every candidate. The random search has log-uniform sigmas within the bounds and
the same number of evaluations, {evaluations}, the first of which is sigma = 1 in both. `randhet.train.sigma_search` has
the strategy.

    python -m scripts.sigma_search {checkpoint} --generations {generations} --out FOLDER
"""


def seeds(results: Mapping[str, Result], recipe: str) -> list[str]:
    """Names of the networks of a recipe."""
    return sorted(name for name in results if name.startswith(f"{recipe}-s"))


def seed_of(name: str) -> str:
    """The seed at the end of a network's name."""
    return name.rpartition("-s")[2]


def spread(values: Sequence[float]) -> str:
    """Mean, and the range where there are several."""
    mean = f"{np.mean(values):.2f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.2f} to {max(values):.2f})"


def robust(results: Sequence[Result]) -> Shares:
    """(images,): the shares of right answers under the attack and evaluation that leaves least."""
    return lowest(results, [name for name in results[0]["readings"] if name != "clean"])[1]


def trained(results: Mapping[str, Result], sigmas: Mapping[str, Mapping[str, float]]) -> Iterator[str]:
    """A row for each recipe that was run, on the seeds that they share; differences are to sigma = 1 throughout."""
    names = {title: seeds(results, recipe) for recipe, title in RECIPES.items()}
    names = {title: found for title, found in names.items() if found}
    shared = set.intersection(*({seed_of(name) for name in found} for found in names.values()))
    names = {title: [name for name in found if seed_of(name) in shared] for title, found in names.items()}
    layers = list(sigmas[next(iter(names.values()))[0]])
    yield from table(("sigma of the layer", *names), [
        (f"`{layer}`", *(spread([sigmas[name][layer] for name in found]) for found in names.values()))
        for layer in layers
    ])  # fmt: skip
    yield ""
    group = {title: [results[name] for name in found] for title, found in names.items()}
    count = f"{len(shared)} seed{'s' * (len(shared) > 1)}"
    rows = [row(title, found, group.get(RECIPES["fixed"], found)) for title, found in group.items()]
    yield from table((count, "clean", "robust", "clean, difference", "robust, difference"), rows)
    if RECIPES["fixed"] in group:
        yield from ("", decided(group, RECIPES["fixed"]))
    if missing := [title for title in RECIPES.values() if title not in group]:
        yield from ("", f"Not measured yet: {'; '.join(missing)}.")


def row(title: str, results: Sequence[Result], base: Sequence[Result]) -> tuple[str, ...]:
    """Accuracies of networks, and their differences to others."""
    clean, left = mean_shares(results, "clean", "stock"), robust(results)
    accuracies = percent(clean.mean()), percent(left.mean())
    if results is base:
        return (title, *accuracies, "–", "–")
    return (title, *accuracies, points(clean, mean_shares(base, "clean", "stock")), points(left, robust(base)))


def decided(group: Mapping[str, Sequence[Result]], base: str) -> str:
    """Which of the others are more robust than the base, and which less, by intervals that exclude zero."""
    ends = {
        title: mean_interval(robust(results) - robust(group[base]), 0.025)
        for title, results in group.items()
        if title != base
    }
    more = [title for title, (low, _) in ends.items() if low > 0]
    less = [title for title, (_, high) in ends.items() if high < 0]
    return f"Clearly more robust than {base}: {'; '.join(more) or 'none'}. Clearly less: {'; '.join(less) or 'none'}."


def searched(results: Mapping[str, Result], search: Mapping[str, Any]) -> Iterator[str]:
    """A row for the start and for each method: sigmas, fitness, accuracies on the test images."""
    best = {"start": search["evolution"][0]}
    best |= {method: max(search[method], key=lambda one: one["fitness"]) for method in ("evolution", "random")}
    group, rows = {title: [results[method]] for method, title in METHODS.items()}, []
    for method, title in METHODS.items():
        found = ", ".join(f"{sigma:.2f}" for sigma in best[method]["sigmas"])
        accuracies = row(title, group[title], group[METHODS["start"]])[1:]
        rows.append((title, found, percent(best[method]["fitness"]), *accuracies))
    heads = ("sigmas", "sigma by layer", "fitness", "clean", "robust", "clean, difference", "robust, difference")
    yield from table(heads, rows)
    yield from ("", decided(group, METHODS["start"]))


def render(results: Mapping[str, Result], sigmas: Mapping[str, Mapping[str, float]], search: Mapping[str, Any]) -> str:
    """The page in Markdown."""
    one, plan = results["start"], search["plan"]
    attack = spelled(next(name for name in one["readings"] if name != "clean"))
    low, high = plan["bounds"]
    facts = {name: plan[name] for name in ("parents", "children", "generations")} | {"low": low, "high": high}
    facts |= {"attack": spelled(search["attack"]), "images": search["images"], "evaluations": len(search["random"])}
    lines = [
        HEAD.format(images=one["samples"], eps=255 * one["eps"], attack=attack),
        TRAINED,
        *trained(results, sigmas),
        "",
        SEARCHED.format(checkpoint=Path(search["checkpoint"]).stem, **facts),
        *searched(results, search),
    ]
    return "\n".join(lines) + "\n"


def read(folder: Path) -> tuple[dict[str, Result], dict[str, dict[str, float]], dict[str, Any]]:
    """Results of attacks by name, sigmas by name and layer, and the search."""
    contents = {path.stem: json.loads(path.read_text("utf-8")) for path in sorted(folder.glob("*.json"))}
    search, sigmas = (contents.pop(name.removesuffix(".json")) for name in (SEARCH, SIGMAS))
    return contents, sigmas, search


def sigmas_of(paths: Sequence[Path]) -> dict[str, dict[str, float]]:
    """Sigma by layer of each checkpoint."""
    return {
        path.stem: {
            name: neuron.sigma
            for name, neuron in neurons(build(load(path))).items()
            if isinstance(neuron, RandomTauLIF)
        }
        for path in paths
    }


def written(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sigmas", type=Path, nargs="+", default=())
    given = parser.parse_args()
    if given.sigmas:
        known = json.loads((RESULTS / SIGMAS).read_text("utf-8"))
        written(RESULTS / SIGMAS, json.dumps(known | sigmas_of(given.sigmas), indent=1) + "\n")
    written(PAGE, render(*read(RESULTS)))


if __name__ == "__main__":
    main()
