"""What drawing decay factors costs on the engine: `python -m randhet.benchmarks.decay_cost`.

SEW-ResNet19 with one decay factor for all neurons, set to a spike rate as in `randhet bench`, against the same network
that draws every decay factor from a table of 256 entries with this one value. Both compute the same integers, which is
checked, so that they differ in the draws and in nothing else. Within one process they run a batch each in turn, first
the one, then the other. For every rate one line of JSON is printed: the median over rounds of the ratio of processor
time, drawn to constant, less 1, with an interval that contains the true median in at least 95 % of cases if rounds are
independent.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from math import comb
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from randhet.benchmarks.networks import Case, prepare
from randhet.fixed_point import network as ir
from randhet.fixed_point.engine.run import Engine
from randhet.netx.read import read

LIMIT = 0.05
"""What drawing may cost."""
CONFIDENCE = 0.95


def drawing(network: ir.Network) -> ir.Network:
    """Return the network whose constant decays are drawn, always with the same outcome."""
    return replace(network, layers=tuple(map(_drawing, network.layers)))


def _drawing(layer: ir.Layer) -> ir.Layer:
    fixed = layer.lif.given if layer.lif else None
    if layer.lif is None or fixed is None or np.ndim(fixed):
        return layer
    return replace(layer, neuron=replace(layer.lif, decay=ir.Drawn(np.full(256, fixed, np.uint16))))


def interval(values: list[float]) -> tuple[float, float]:
    """Return the two order statistics between which the median lies with `CONFIDENCE`; the ends where n is small."""
    n, ordered = len(values), sorted(values)
    below, left_out = 0.0, 0
    while (more := below + comb(n, left_out) / 2**n) <= (1 - CONFIDENCE) / 2:
        below, left_out = more, left_out + 1
    first = max(left_out - 1, 0)
    return ordered[first], ordered[n - 1 - first]


def times(engines: list[Engine], images: np.ndarray, rounds: int, threads: int) -> list[list[float]]:
    """Return processor seconds of a batch, of every round and engine; those before the first round do not count."""
    taken: list[list[float]] = []
    for number in range(-1, rounds):
        turn, seconds = (1, -1)[number % 2], [0.0] * len(engines)
        for place in range(len(engines))[::turn]:
            begin = time.process_time()
            engines[place].run(images, 0, len(images), threads, None, False)
            seconds[place] = time.process_time() - begin
        taken += [seconds] if number >= 0 else []
    return taken


def measured(constant: ir.Network, images: np.ndarray, rounds: int, threads: int) -> dict[str, Any]:
    """Compare the two; ValueError where their integers differ."""
    engines = [Engine(network, 0, frozenset()) for network in (constant, drawing(constant))]
    first, second = (engine.run(images, 0, len(images), threads, None, False) for engine in engines)
    if first.spikes != second.spikes or not np.array_equal(first.sums, second.sums):
        raise ValueError("the two networks do not compute the same integers")
    taken = times(engines, images, rounds, threads)
    cost = [drawn / given - 1 for given, drawn in taken]
    low, high = interval(cost)
    milliseconds = [1000 * median(own) / len(images) for own in zip(*taken)]
    return {
        "cost": median(cost), "low": low, "high": high, "rounds": rounds, "holds": median(cost) <= LIMIT,
        "cpu_ms_constant": milliseconds[0], "cpu_ms_drawn": milliseconds[1],
    }  # fmt: skip


def main() -> None:
    """Print a line for every rate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", default="0.1,0.2", help="spike rates, separated by commas")
    parser.add_argument("--rounds", type=int, default=60, help="pairs of batches")
    parser.add_argument("--batch", type=int, default=8, help="images at a time")
    parser.add_argument("--threads", type=int, default=2, help="threads of the engine")
    parser.add_argument("--size", default="full", help="full, small or tiny, as in randhet bench")
    asked = parser.parse_args()
    for rate in map(float, asked.rates.split(",")):
        case = Case(asked.size, rate, asked.batch, asked.threads)
        with TemporaryDirectory(prefix="randhet-bench-") as name:
            activity = prepare(case, Path(name), ("constant",))["constant"]
            network, images = read(Path(name) / "constant.net"), np.load(Path(name) / "pixels.npy")
        found = {"rate": rate, "measured_rate": activity.mean, "threads": asked.threads, "batch": asked.batch}
        print(json.dumps(found | measured(network, images, asked.rounds, asked.threads)), flush=True)


if __name__ == "__main__":
    main()
