"""How a data set is split: into ranges of images, which run as pieces on worker processes and are put together again.

Draws follow image numbers, so that a piece that knows the number of its first image gives the integers that one run
over all images gives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from randhet.base.errors import RandhetError
from randhet.base.parallel import Progress, run_all

IMAGES = 500
"""Images of a piece."""


@dataclass(frozen=True)
class Split:
    """Where pieces run and how large they are.

    scheduler: address of a running Dask scheduler. workers: processes on this machine instead, None for one per core,
    0 to run in this program. images: number of images of a piece. threads: of a piece, None for one on a worker and all
    cores in this program. out: a file that keeps the results of finished pieces. identity: what decides them, see
    `parallel.run_all`.
    """

    scheduler: str | None = None
    workers: int | None = 0
    images: int = IMAGES
    threads: int | None = None
    out: Path | None = None
    identity: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.images < 1:
            raise RandhetError(f"images is {self.images}, a piece has at least 1")

    @property
    def here(self) -> bool:
        """Whether nothing is split: all runs are in this program."""
        return self.workers == 0 and self.scheduler is None

    def ranges(self, count: int, multiple: int = 1) -> list[tuple[int, int]]:
        """Return (first, end) of consecutive pieces of `count` images, each but the last a multiple of `multiple`."""
        size = -(-self.images // multiple) * multiple
        return [(start, min(start + size, count)) for start in range(0, count, size)]

    def run(
        self,
        function: Callable[..., Any],
        pieces: Mapping[str, tuple[Any, ...]],
        shared: Any,
        progress: Progress = lambda count: None,
    ) -> dict[str, Any]:
        """Return function(shared, *arguments) of every piece, by name, as `parallel.run_all`."""
        where = self.out, self.scheduler, self.workers
        return run_all(function, pieces, *where, progress, shared=shared, identity=self.identity)
