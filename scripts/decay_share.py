"""The cost of random decay factors in float torch: training steps and inference beside the same network without them.

    python -m scripts.decay_share [--model NAME] [--batch N] [--rounds N] [--threads N] --out FILE

Contenders take turns, each round in another order; a ratio is of two processor times of one round. Peak memory is that
of a process of its own, above what it had when the libraries were loaded and one image had been computed.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from math import comb
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from randhet.base.files import replacing
from scripts.training_step import CONTENDERS, high_water, network

PAIRS = (("fused, random", "fused, constant"), ("plain loop, random", "plain loop, constant"))
"""Which two contenders a cost is of."""
TASKS = ("training", "inference")
PAPER = {"training": (8.0, 34.7), "inference": (25.0, 23.6)}
"""Percent of time and of memory on an A100 (Wang et al. 2025)."""


def work(task: str, name: str, model: str, batch: int) -> Callable[[], float]:
    """A function that does one training step, or one inference, of a batch, and returns its processor seconds."""
    torch.manual_seed(0)
    net = network(*CONTENDERS[name], model)
    optimiser = torch.optim.SGD(net.parameters(), 0.1, 0.9)
    shape = batch, net.settings.in_channels, *net.settings.image_size
    images = torch.rand(shape).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(10, (batch,))

    def train() -> None:
        optimiser.zero_grad(set_to_none=True)
        F.cross_entropy(net(images), labels).backward()
        optimiser.step()

    @torch.no_grad()
    def infer() -> None:
        net(images)

    net.train(task == "training")
    do = train if task == "training" else infer

    def timed() -> float:
        start = time.process_time()
        do()
        return time.process_time() - start

    return timed


def times(task: str, model: str, batch: int, rounds: int) -> dict[str, list[float]]:
    """Processor seconds of every contender in every round, after one that does not count."""
    contenders = {name: work(task, name, model, batch) for name in CONTENDERS}
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(rounds + 1):
        for name in random.Random(turn).sample(sorted(contenders), len(contenders)):
            taken = contenders[name]()
            if turn:
                seconds[name].append(taken)
    return seconds


def median_interval(values: Sequence[float], level: float = 0.05) -> tuple[float, float]:
    """Order statistics that hold the median with a probability of at least 1 - level, or the extremes of few values."""
    ordered, count = sorted(values), len(values)
    cut = 0
    while 2 * sum(comb(count, i) for i in range(cut + 2)) / 2**count <= level:
        cut += 1
    return ordered[cut], ordered[-1 - cut]


def peak(task: str, name: str, model: str, batch: int) -> int:
    """Peak memory in kB of a process of its own that does the work three times."""
    code = f"from scripts.decay_share import own_peak; print(own_peak({task!r}, {name!r}, {model!r}, {batch}))"
    return int(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)


def own_peak(task: str, name: str, model: str, batch: int) -> int:
    """What `peak` starts a process for."""
    torch.set_num_threads(1)
    work(task, name, "sew-small", 1)()
    before, do = high_water(), work(task, name, model, batch)
    for _ in range(3):
        do()
    return high_water() - before


def cost(task: str, model: str, batch: int, rounds: int) -> dict[str, Any]:
    """Times, peaks, and of each pair the ratio of processor times with its interval."""
    seconds = times(task, model, batch, rounds)
    peaks = {name: peak(task, name, model, batch) for name in CONTENDERS}
    rows = []
    for drawn, constant in PAIRS:
        ratios = [a / b for a, b in zip(seconds[drawn], seconds[constant])]
        time_ratio = {"median": statistics.median(ratios), "interval": list(median_interval(ratios))}
        rows.append({"pair": [drawn, constant], "time": time_ratio, "memory": peaks[drawn] / peaks[constant]})
    return {"task": task, "seconds": seconds, "peak_kb": peaks, "costs": rows}


def more(ratio: float) -> str:
    """A ratio as percent more."""
    return f"{100 * (ratio - 1):+.1f}"


def table(results: Sequence[dict[str, Any]]) -> str:
    """The rows of a Markdown table, one for each task and pair."""
    lines = []
    for result in results:
        for row in result["costs"]:
            low, high = row["time"]["interval"]
            taken = f"{more(row['time']['median'])} ({more(low)} to {more(high)})"
            paper = " | ".join(f"{value:+.1f}" for value in PAPER[result["task"]])
            neuron = row["pair"][0].partition(",")[0]
            lines.append(f"| {result['task']} | {neuron} | {taken} | {more(row['memory'])} | {paper} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="sew-resnet19")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    results = []
    for task in TASKS:
        results.append(cost(task, given.model, given.batch, given.rounds))
        print(table(results[-1:]), flush=True)
    record = {"model": given.model, "batch": given.batch, "rounds": given.rounds, "threads": given.threads}
    with replacing(given.out) as temporary:
        temporary.write_text(json.dumps(record | {"torch": torch.__version__, "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
