"""How low the gradients of snn-auto bring a network, against iterations and EOT samples: what its defaults follow from.

python -m scripts.auto_curve run CHECKPOINT --eps 8/255 --samples 100 [--data PATH]    measure the next missing cell
python -m scripts.auto_page docs/how-to/attack.md docs/auto.png    the table and plot from docs/results/auto

A cell is one number of iterations and of EOT samples. Of a deterministic network it is every attack of the battery but
Square, which takes neither; of a stochastic one its first attack, and in some cells all, which cost ten times as much.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import randhet
from randhet.base.files import replacing
from randhet.train.attacks.autoattack import in_turn
from randhet.train.attacks.battery import SQUARE, correct, members
from randhet.train.attacks.names import REDRAWS
from randhet.train.attacks.problem import Problem, same_draws
from randhet.train.checkpoint import build, load

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "results" / "auto"
ITERATIONS, EOT = (10, 20, 50, 100, 200), (1, 5, 10, 20)
WHOLE = ((10, 1), (20, 1), (50, 1), (100, 1), (200, 1), (50, 5), (100, 5))
"""Iterations and EOT samples of the cells in which a stochastic network meets every attack."""
JUDGES = 50
"""Monte-Carlo repetitions behind each share of a stochastic network, which no attack has seen."""
SEED = 0


def cells(stochastic: bool) -> list[tuple[int, int, bool]]:
    """(iterations, EOT samples, whether the attacks after the first run too), roughly from cheap to expensive."""
    grid = [(steps, draws, not stochastic) for steps in ITERATIONS for draws in (EOT if stochastic else (1,))]
    chosen = [(*cell, True) for cell in WHOLE] if stochastic else []
    return sorted(grid + chosen, key=lambda cell: (cell[0] * cell[1] * (1 + 2 * cell[2]), cell))


def measured(problem: Problem, steps: int, draws: int, whole: bool) -> dict[str, Any]:
    """The share of right repetitions that each attack left, image by image, of the strongest example so far."""
    plan = {name: attack for name, attack in members(problem, steps, 1, draws).items() if name != SQUARE}
    attacks = list(plan.values()) if whole else list(plan.values())[:1]
    names, left, started = iter(plan), dict[str, list[float]](), time.process_time()

    def done(strongest: torch.Tensor) -> None:
        with same_draws(SEED + 1):
            left[next(names)] = correct(judge, strongest).tolist()

    judge = Problem(problem.model, problem.images, problem.labels, problem.eps, redraws=judges(problem.stochastic))
    with same_draws(SEED):
        in_turn(problem, attacks, done)
    seconds = round(time.process_time() - started, 1)
    return {"steps": steps, "draws": draws, "whole": whole, "left": left, "processor_seconds": seconds}


def judges(stochastic: bool) -> int:
    return JUDGES if stochastic else 1


def problem_of(model: nn.Module, given: argparse.Namespace, stochastic: bool) -> Problem:
    images = randhet.load_data(given.data, "test").take(given.samples)
    pixels = torch.from_numpy(images.pixels).float() / 255
    redraws = REDRAWS if stochastic else 1
    return Problem(model, pixels, torch.from_numpy(images.labels), given.eps, 1, redraws, stochastic)


def run(given: argparse.Namespace) -> bool:
    """Measure the next cell that the results lack and keep it; False where none is missing."""
    model = build(load(given.checkpoint)).eval()
    stochastic = any(getattr(module, "stochastic", False) for module in model.modules())
    path = RESULTS / f"{given.checkpoint.stem}.json"
    whole = json.loads(path.read_text()) if path.exists() else fresh(given, stochastic)
    have = {(cell["steps"], cell["draws"], cell["whole"]) for cell in whole["cells"]}
    missing = [cell for cell in given.cells or cells(stochastic) if cell not in have]
    if not missing:
        return False
    problem = problem_of(model, given, stochastic)
    if "clean" not in whole:
        judge = Problem(model, problem.images, problem.labels, 0.0, redraws=judges(stochastic))
        with same_draws(SEED + 1):
            whole["clean"] = correct(judge, problem.images).tolist()
    whole["cells"].append(measured(problem, *missing[0]))
    keep(path, whole)
    return True


def fresh(given: argparse.Namespace, stochastic: bool) -> dict[str, Any]:
    what = {"checkpoint": given.checkpoint.name, "eps": given.eps, "samples": given.samples}
    versions = {"torch": torch.__version__, "numpy": np.__version__}
    return what | {"repetitions": judges(stochastic), "stochastic": stochastic, "versions": versions, "cells": []}


def keep(path: Path, whole: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(whole) + "\n")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("run")
    one.add_argument("checkpoint", type=Path)
    one.add_argument("--data", default="digits")
    one.add_argument("--samples", type=int, default=100)
    one.add_argument("--eps", type=fraction, default=8 / 255)
    one.add_argument("--cells", type=first_attack, help="50x1,100x5: these alone, of the first attack")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    return 0 if run(given) else 3


def first_attack(text: str) -> list[tuple[int, int, bool]]:
    pairs = (cell.split("x") for cell in text.split(","))
    return [(int(steps), int(draws), False) for steps, draws in pairs]


def fraction(text: str) -> float:
    above, _, below = text.partition("/")
    return float(above) / float(below or 1)


if __name__ == "__main__":
    raise SystemExit(main())
