"""The runs of a comparison as pieces of work: ranges of images on worker processes, equal to those of one program."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from randhet.base.split import Split
from randhet.compare.accuracy import Draws
from randhet.compare.equality import tracing_json
from randhet.compare.equality.replay import BATCH, float_predictions
from randhet.compare.equality.tracing import Study, Tracing, chunk_size, quiet
from randhet.export.graph import FloatGraph
from randhet.export.model import Model
from randhet.export.passes import fold
from randhet.fixed_point.backends import runner
from randhet.fixed_point.network import Network
from randhet.train.data.images import Images


@dataclass(frozen=True, eq=False)
class Pair:
    """A model that fits a network: as a module, as a module of this project's neurons, and as a folded graph."""

    module: nn.Module
    twin: nn.Module
    graph: FloatGraph


@dataclass(frozen=True, eq=False)
class Work:
    """What all pieces share. quick: the backend of the accuracy draws; backends: those checked against the reference.

    seed: of the traces. threads: of a piece.
    """

    model: Model
    network: Network
    images: Images
    seed: int
    quick: str
    backends: tuple[str, ...]
    threads: int

    @cached_property
    def pair(self) -> Pair:
        """The modules of the model, made where the pieces run."""
        shape = self.network.image_shape
        return Pair(self.model.make(shape), self.model.twin(shape), fold(self.model.traced(shape)))

    def range(self, first: int, end: int) -> Images:
        """Images first..end."""
        return self.images.pick(np.arange(first, end))


class Runs(NamedTuple):
    """What the runs of a comparison give."""

    floats: Draws
    fixed: Draws
    tracing: Tracing


def runs(work: Work, seeds: range, split: Split, begin: Callable[[str, int], Callable[[int], None]]) -> Runs:
    """Run the float model and the integers under each seed, and all backends with traces under the first."""
    count, labels = len(work.images), work.images.labels
    ranges = {
        "float": split.ranges(count, BATCH),
        "fixed": split.ranges(count),
        "traces": Split(images=chunk_size(work.network, split.images)).ranges(count),
    }
    repeated = {"float": seeds, "fixed": seeds, "traces": range(work.seed, work.seed + 1)}
    tasks = [(kind, seed, *part) for kind, parts in ranges.items() for seed in repeated[kind] for part in parts]
    # traces of other backends are other results
    called = {"float": "float", "fixed": "fixed", "traces": f"traces of {','.join(work.backends)}"}
    name = lambda kind, seed, first, end: f"{called[kind]} seed={seed} images={first}:{end}"
    done = begin("pieces of work", len(tasks))
    found = split.run(piece, {name(*task): task for task in tasks}, work, done)
    of = lambda kind, seed: [found[name(kind, seed, *part)] for part in ranges[kind]]
    draws = lambda kind: Draws(np.stack([np.concatenate(of(kind, seed)) for seed in seeds]), labels)
    traces = [tracing_json.of_json(part) for part in of("traces", work.seed)]
    return Runs(draws("float"), draws("fixed"), tracing_json.joined(traces))


def piece(work: Work, kind: str, seed: int, first: int, end: int) -> Any:
    """Run one range of images and return what it gives, as JSON takes it."""
    torch.set_num_threads(work.threads)
    return KINDS[kind](work, seed, first, end)


def _floats(work: Work, seed: int, first: int, end: int) -> list[int]:
    predictions: list[int] = float_predictions(work.pair.module, work.range(first, end), seed, first).tolist()
    return predictions


def _fixed(work: Work, seed: int, first: int, end: int) -> list[int]:
    run, pixels = runner(work.quick, threads=work.threads), work.images.pixels[first:end]
    predictions: list[int] = run(work.network, pixels, seed=seed, first_image=first, probes=()).predictions.tolist()
    return predictions


def _traces(work: Work, seed: int, first: int, end: int) -> dict[str, Any]:
    backends = {name: runner(name, threads=work.threads) for name in work.backends}
    study = Study(work.network, work.pair.twin, work.pair.graph, seed, backends)
    pixels = work.images.pixels[first:end]
    return tracing_json.as_json(study.chunk(pixels, first, study.nothing, quiet))


KINDS: dict[str, Callable[[Work, int, int, int], Any]] = {"float": _floats, "fixed": _fixed, "traces": _traces}
