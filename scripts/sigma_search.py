"""Search sigma of each neuron layer of a checkpoint by evolution, and at random with as many evaluations.

    python -m scripts.sigma_search CKPT [--images N] [--attack NAME] [--eps E] [--generations N] [--seed N] --out FOLDER

The fitness is robust accuracy on the last N training images, at the weights of the checkpoint. FOLDER gets search.json
with every candidate, and checkpoints with the sigmas of the evolution and of the random search, for `randhet attack`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from randhet.base.files import replacing
from randhet.cli.console import bars
from randhet.train.attacks.names import parse
from randhet.train.checkpoint import Checkpoint, build, load, save
from randhet.train.data.sources import load as load_data
from randhet.train.evaluation import tensors
from randhet.train.layout import layout
from randhet.train.sigma_search import Candidate, Plan, RobustAccuracy, at_random, best, evolve, random_layers

METHODS = {"evolution": evolve, "random": at_random}


def fitness(checkpoint: Checkpoint, count: int, attack: str, eps: float, seed: int) -> RobustAccuracy:
    """Robust accuracy on the last `count` training images of the data that the checkpoint was trained on."""
    images, labels = tensors(load_data(checkpoint.data, "train").split(count)[1])
    model = build(checkpoint)
    order = layout(model)
    model = model.to(memory_format=order)  # type: ignore[call-overload]
    return RobustAccuracy(model, images.contiguous(memory_format=order), labels, parse(attack), eps, seed=seed)


def searched(method: str, measure: RobustAccuracy, start: tuple[float, ...], plan: Plan) -> list[Candidate]:
    """Every candidate of a method, with progress on standard error."""
    with bars() as progress:
        task = progress.add_task(method, total=plan.evaluations)

        def report(done: int, total: int, high: float) -> None:
            progress.update(task, completed=done, description=f"{method}, best {100 * high:.1f} %")

        return METHODS[method](measure, start, plan, report)


def with_sigmas(checkpoint: Checkpoint, sigmas: Sequence[float]) -> Checkpoint:
    """The checkpoint with other sigmas."""
    return replace(checkpoint, settings=replace(checkpoint.settings, sigmas=tuple(sigmas)))


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--attack", default="sa-pgd10x2+assg")
    parser.add_argument("--eps", type=float, default=32 / 255)
    parser.add_argument("--generations", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args()


def main() -> None:
    given = options()
    torch.set_num_threads(given.threads)
    checkpoint, plan = load(given.checkpoint), Plan(generations=given.generations, seed=given.seed)
    measure = fitness(checkpoint, given.images, given.attack, given.eps, given.seed)
    start = tuple(layer.sigma for layer in random_layers(measure.model))
    given.out.mkdir(parents=True, exist_ok=True)
    content: dict[str, Any] = {name: getattr(given, name) for name in ("checkpoint", "images", "attack", "eps")}
    content |= {"plan": asdict(plan), "torch": torch.__version__}
    for method in METHODS:
        candidates = searched(method, measure, start, plan)
        content[method] = [asdict(candidate) for candidate in candidates]
        save(given.out / f"{method}.pt", with_sigmas(checkpoint, best(candidates).sigmas))
    with replacing(given.out / "search.json") as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
