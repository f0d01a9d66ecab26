"""Processor time of a gradient where freed memory goes back at once, as glibc likes, and where it is kept.

python -m scripts.kept_memory CHECKPOINT [--pairs N] [--batch N]    a line for each setting in turn, then their ratios

A ratio is the median over the pairs; in parentheses stand the least and the most.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from resource import RUSAGE_SELF, getrusage

import torch
from torch.nn import functional as F

from randhet.base.memory import VARIABLES
from randhet.train import checkpoint
from randhet.train.layout import layout

SETTINGS = {"worker of Dask": {"MALLOC_TRIM_THRESHOLD_": "65536"}, "as it is": {}, "kept": VARIABLES}
GRADIENTS = 8


def spent(file: str, batch: int) -> float:
    """Milliseconds of processor time for the gradient of an image, in bfloat16 and laid out as attacks do it."""
    torch.set_num_threads(1)
    model = checkpoint.build(checkpoint.load(file)).eval().requires_grad_(False)
    order = layout(model)
    model = model.to(memory_format=order)
    images = torch.rand(batch, 3, 32, 32).contiguous(memory_format=order).requires_grad_()
    labels = torch.randint(10, (batch,))

    def gradient() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(images)
        torch.autograd.grad(F.cross_entropy(logits.float(), labels), images)

    for _ in range(3):
        gradient()
    before = getrusage(RUSAGE_SELF)
    for _ in range(GRADIENTS):
        gradient()
    after = getrusage(RUSAGE_SELF)
    return 1e3 * (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / (GRADIENTS * batch)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(spent(given.checkpoint, given.batch))
        return
    command = [sys.executable, "-m", "scripts.kept_memory", given.checkpoint, "--batch", str(given.batch), "--one"]
    clean = {name: text for name, text in os.environ.items() if name not in ("GLIBC_TUNABLES", *VARIABLES)}
    found: dict[str, list[float]] = {name: [] for name in SETTINGS}
    for _ in range(given.pairs):
        for name, variables in SETTINGS.items():
            done = subprocess.run(command, env=clean | variables, capture_output=True, text=True, check=True)
            found[name].append(float(done.stdout))
            print(f"{name}: {found[name][-1]:.2f} ms", flush=True)
    for name in list(SETTINGS)[:-1]:
        ratios = [kept / other for kept, other in zip(found["kept"], found[name])]
        print(f"kept : {name}, {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
