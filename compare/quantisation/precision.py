"""Sweep over number formats: weight bits x tau bits x fraction bits x kind of scales, each run on the engine.

What a point costs: memory (weights packed at their bits, thresholds and biases at 24) and an estimate of energy, which
takes a synaptic operation to cost the same at every weight width: what narrow weights save there, nobody publishes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from hashlib import sha256
from itertools import product
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from randhet.base.errors import RandhetError
from randhet.base.split import Split
from randhet.compare.accuracy import is_random
from randhet.compare.equality.replay import BATCH, float_predictions
from randhet.compare.equivalence import Sample
from randhet.compare.study import Stage
from randhet.export.graph import ExportError, FloatGraph
from randhet.export.model import Model, as_model
from randhet.export.passes import fold, refine
from randhet.export.passes.activity import Activity, watch
from randhet.export.passes.calibrate import calibrate
from randhet.export.passes.quantise import PASSES, Plan, QuantSettings
from randhet.export.pipeline import steps_of, teacher
from randhet.fixed_point import engine
from randhet.fixed_point.chips import chip, energy
from randhet.fixed_point.chips.mapping import map_network
from randhet.fixed_point.network import Network
from randhet.train.checkpoint import Checkpoint
from randhet.train.data.sources import Images
from randhet.train.scales import SCALES

FLOAT = "float"
LOCAL = Split(workers=None)
"""A process per core."""
WORDS = {"channel": "scale per channel", "layer": "scale per layer", "power-of-two": "powers of two"}
STATE_BITS = 24
WIDTHLESS = "no figures by weight width are published, points differ by their spikes alone"
"""What must be said beside the estimate of energy; memory does depend on the width."""


@dataclass(frozen=True)
class Point:
    """One combination of number formats."""

    weight_bits: int
    tau_bits: int
    f: int
    scales: str
    passes: tuple[str, ...] = PASSES

    @property
    def name(self) -> str:
        """As tables and result files say it."""
        plain = "" if self.passes else ", plain"
        return f"{self.weight_bits} bit weights, {self.tau_bits} bit draws, f = {self.f}, {WORDS[self.scales]}{plain}"

    @property
    def settings(self) -> QuantSettings:
        """As export takes it; ExportError where a value is out of range."""
        return QuantSettings(
            self.weight_bits,
            self.f,
            tau_bits=self.tau_bits,
            scales=self.scales,  # type: ignore[arg-type]
            passes=self.passes,
        )


@dataclass(frozen=True)
class Grid:
    """The values of each axis; plain: every point also without clipping and bias correction."""

    weight_bits: tuple[int, ...] = (8, 6, 4, 3)
    tau_bits: tuple[int, ...] = (8, 3)
    fractions: tuple[int, ...] = (6, 2)
    scales: tuple[str, ...] = SCALES
    plain: bool = False

    def points(self) -> list[Point]:
        """Every combination, checked."""
        passes = (PASSES, ()) if self.plain else (PASSES,)
        points = [
            Point(*values) for values in product(self.weight_bits, self.tau_bits, self.fractions, self.scales, passes)
        ]
        if not points:
            raise RandhetError("a sweep needs at least one value on each axis")
        for point in points:
            assert point.settings
        return list(dict.fromkeys(points))


@dataclass(frozen=True)
class Terms:
    """draws of the taus for each mean, from `seed` on; the chip of the energy estimate."""

    draws: int = 5
    seed: int = 0
    chip: str = "loihi2"


@dataclass(frozen=True, eq=False)
class Work:
    """What all points share, sent to every worker."""

    model: Model
    graph: FloatGraph
    steps: int
    activity: Activity
    calibration: np.ndarray
    images: Images
    seeds: tuple[int, ...]
    chip: str
    threads: int | None


def sweep(
    model: Model | Checkpoint,
    images: Images,
    calibration: np.ndarray,
    grid: Grid,
    terms: Terms,
    stage: Stage,
    split: Split = LOCAL,
) -> dict[str, Any]:
    """Every point and the float model on every range of images; the JSON object."""
    points = grid.points()
    chip.load(terms.chip)
    model = as_model(model)
    traced = model.traced(images.pixels.shape[1:])
    graph, steps = fold(traced), steps_of(traced)
    looked = stage("activity on calibration data", len(calibration))
    finest = teacher(graph, QuantSettings(), steps)
    activity = watch(finest, calibration, looked)
    seeds = tuple(range(terms.seed, terms.seed + (terms.draws if is_random(finest) else 1)))
    threads = split.threads or (None if split.here else 1)
    work = Work(model, graph, steps, activity, calibration, images, seeds, terms.chip, threads)
    ranges = split.ranges(len(images), BATCH)
    named: dict[str, Point | None] = {FLOAT: None} | {point.name: point for point in points}
    name = lambda point, first, end: f"{point}, images {first}:{end}"
    pieces = {name(known, *part): (point, *part) for known, point in named.items() for part in ranges}
    split = replace(split, identity=_identity(work, images, terms))
    results = split.run(measure, pieces, work, stage("number formats", len(pieces)))
    whole = {known: joined([results[name(known, *part)] for part in ranges], len(images)) for known in named}
    return report(work, points, whole)


def _identity(work: Work, images: Images, terms: Terms) -> dict[str, Any]:
    """What decides a point's result besides its own formats."""
    digest = lambda *arrays: sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)).hexdigest()[
        :16
    ]
    return asdict(terms) | {
        "kind": "number formats",
        "checkpoint": work.model.source,
        "images": digest(images.pixels, images.labels),
        "calibration": digest(work.calibration),
    }


def measure(work: Work, point: Point | None, first: int, end: int) -> dict[str, Any]:
    """One piece of work, images first..end: right answers of each draw, bytes, spikes, and energy (J) per image.

    Or why there is no network.
    """
    images = work.images.pick(np.arange(first, end))
    if point is None:
        right = [int(np.count_nonzero(_floats(work, images, seed, first) == images.labels)) for seed in work.seeds]
        return {"images": len(images), "right": right}
    try:
        network = _network(work, point)
    except ExportError as error:
        return {"error": str(error)}
    return _run(work, point, network, images, first)


def _floats(work: Work, images: Images, seed: int, first: int) -> NDArray[np.int64]:
    return float_predictions(work.model.make(images.pixels.shape[1:]), images, seed, first)


@lru_cache(maxsize=1)
def _network(work: Work, point: Point) -> Network:
    """The network of a point; ranges of images follow each other, so that the last one is enough to keep."""
    plan = refine(work.graph, Plan(replace(point.settings, **work.model.settings)), work.activity)
    return calibrate(work.graph, plan, work.steps, work.calibration)[0]


def _run(work: Work, point: Point, network: Network, images: Images, first: int) -> dict[str, Any]:
    pixels = images.pixels
    runs = [engine.run(network, pixels, seed=seed, first_image=first, threads=work.threads) for seed in work.seeds]
    energy_estimate = energy.estimate(network, map_network(network, chip.load(work.chip)), pixels, runs[0])
    return {
        "images": len(images),
        "right": [int(np.count_nonzero(run.predictions == images.labels)) for run in runs],
        "bytes": memory(network, point.weight_bits),
        "energy": energy_estimate.energy,
        "spikes": sum(map(int, runs[0].spikes.values())),
        "saturations": sum(run.saturations for run in runs),
    }


def joined(parts: Sequence[Mapping[str, Any]], count: int) -> dict[str, Any]:
    """Results of all `count` images from those of consecutive ranges; energy (J) and spikes are means per image."""
    for part in parts:
        if "error" in part:
            return dict(part)
    accuracies = [sum(right) / count for right in zip(*(part["right"] for part in parts))]
    if "bytes" not in parts[0]:
        return {"accuracies": accuracies}
    return {
        "accuracies": accuracies,
        "bytes": parts[0]["bytes"],
        "energy": sum(part["images"] / count * part["energy"] for part in parts),
        "spikes": sum(part["spikes"] for part in parts) / count,
        "saturations": sum(part["saturations"] for part in parts),
    }


def memory(network: Network, weight_bits: int) -> int:
    """Bytes of weights, packed, and of thresholds and biases at 24 bits."""
    bits = 0
    for layer in network.layers:
        if layer.weighted and layer.neuron:
            states = layer.neuron.bias.size + (layer.spiking.threshold.size if layer.spiking else 0)
            bits += layer.weighted.weight.size * weight_bits + states * STATE_BITS
    return ceil(bits / 8)


# --- the result -------------------------------------------------------------------------------------------------------


def report(work: Work, points: Sequence[Point], results: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON object: float, points with what they cost and whether nothing is better on either plot."""
    rows = [asdict(point) | {"name": point.name} | _summary(results[point.name]) for point in points]
    fitting = [row for row in rows if "accuracy" in row]
    for cost in COSTS:
        best = pareto([(row[cost], row["accuracy"]) for row in fitting])
        for row, is_best in zip(fitting, best):
            row[f"best_for_{cost}"] = is_best
    return {
        "data": work.images.name,
        "samples": len(work.images),
        "draws": len(work.seeds),
        "seed": work.seeds[0],
        "chip": work.chip,
        "float": _summary(results[FLOAT]),
        "points": rows,
    }


COSTS = ("bytes", "energy")


def _summary(result: Mapping[str, Any]) -> dict[str, Any]:
    if "error" in result:
        return dict(result)
    sample = Sample.of(np.array(result["accuracies"]))
    interval = list(sample.interval()) if sample.size > 1 else None
    return {"accuracy": sample.mean, "interval": interval, **result}


def pareto(pairs: Sequence[tuple[float, float]]) -> list[bool]:
    """Of (cost, accuracy): whether no other is at most as dear and at least as accurate, and better in one of both."""
    beats = lambda a, b: a[0] <= b[0] and a[1] >= b[1] and a != b
    return [not any(beats(other, pair) for other in pairs) for pair in pairs]
