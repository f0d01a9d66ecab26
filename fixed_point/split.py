"""Run a network over ranges of images on worker processes: the integers of one run, whatever the ranges are.

Image n of a run draws the numbers of image n, wherever it runs: a piece begins at `first_image`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from randhet.base.split import Split
from randhet.fixed_point import ensemble as ensembles
from randhet.fixed_point.backends import runner
from randhet.fixed_point.check import check_images
from randhet.fixed_point.ensemble import EnsembleResult, NetworkEnsemble, member_seed
from randhet.fixed_point.network import Network
from randhet.fixed_point.result import Result


@dataclass(frozen=True, eq=False)
class Job:
    """What all pieces of a run share. threads, batch: of the backend, None for its own choice."""

    network: Network | NetworkEnsemble
    pixels: np.ndarray
    backend: str
    threads: int | None = None
    batch: int | None = None

    @property
    def members(self) -> tuple[Network, ...]:
        """The networks of an ensemble, or the network."""
        return self.network.members if isinstance(self.network, NetworkEnsemble) else (self.network,)

    def seed_of(self, seed: int, member: int) -> int:
        """The master seed of a member."""
        return member_seed(seed, member) if isinstance(self.network, NetworkEnsemble) else seed


def run(
    job: Job, seeds: Sequence[int], split: Split, progress: Callable[[int], None] = lambda count: None
) -> list[Result] | list[EnsembleResult]:
    """Run all images under each master seed, and return a result without traces for each seed.

    The results equal those of `runner(job.backend)` on all images. progress is called with the number of pieces done,
    of `pieces_of(job, len(seeds), split)`. RandhetError where the images do not fit the network, or a piece fails.
    """
    for network in job.members:
        check_images(network.input, network.steps, job.pixels)
    ranges, members = split.ranges(len(job.pixels)), range(len(job.members))
    name = lambda number, member, first, end: f"repetition {number}, member {member}, images {first}:{end}"
    pieces = {
        name(number, member, *part): (member, job.seed_of(seed, member), *part)
        for number, seed in enumerate(seeds)
        for member in members
        for part in ranges
    }
    found = split.run(piece, pieces, job, progress)
    results = [
        [joined([found[name(number, member, *part)] for part in ranges]) for member in members]
        for number in range(len(seeds))
    ]
    if isinstance(job.network, NetworkEnsemble):
        return [ensembles.joined(job.network, of_members) for of_members in results]
    return [result for (result,) in results]


def pieces_of(job: Job, repetitions: int, split: Split) -> int:
    """Return the number of pieces of a run."""
    return repetitions * len(job.members) * len(split.ranges(len(job.pixels)))


def piece(job: Job, member: int, seed: int, first: int, end: int) -> dict[str, Any]:
    """Run images first..end and return what the result holds, as JSON takes it."""
    run_images = runner(job.backend, threads=job.threads, batch=job.batch)
    result = run_images(job.members[member], job.pixels[first:end], seed=seed, first_image=first, probes=())
    return {
        "predictions": result.predictions.tolist(),
        "sums": result.sums.tolist(),
        "spikes": _whole(result.spikes),
        "saturations": int(result.saturations),
        "operations": None if result.operations is None else _whole(result.operations),
    }


def joined(parts: Sequence[Mapping[str, Any]]) -> Result:
    """Put the results of consecutive pieces together."""
    counted = [part["operations"] for part in parts]
    return Result(
        predictions=np.concatenate([np.array(part["predictions"], np.int64) for part in parts]),
        sums=np.concatenate([np.array(part["sums"], np.int64) for part in parts]),
        spikes=added(part["spikes"] for part in parts),
        saturations=sum(part["saturations"] for part in parts),
        operations=None if None in counted else added(counted),
    )


def _whole(counts: Mapping[str, int]) -> dict[str, int]:
    return {name: int(count) for name, count in counts.items()}


def added(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Add counts by name."""
    total: dict[str, int] = {}
    for count in counts:
        for name, value in count.items():
            total[name] = total.get(name, 0) + value
    return total
