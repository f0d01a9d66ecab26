"""Options that mean the same in every command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Data = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="NAME|PATH",
        help="Named data or a folder of images by class. Names: {data}.",
        show_default="the training data",
    ),
]
Samples = Annotated[
    int | None, typer.Option("--samples", metavar="N", min=1, help="Number of test images.", show_default="all")
]
Seed = Annotated[
    int | None,
    typer.Option(
        "--seed", metavar="N", min=0, max=2**64 - 1, help="Seed of all random decay factors; makes the run repeatable."
    ),
]
Draws = Annotated[
    int,
    typer.Option("--draws", metavar="N", min=1, help="Number of Monte-Carlo repetitions, each with new decay factors."),
]
Threads = Annotated[
    int | None, typer.Option("--threads", metavar="N", min=1, help="Number of CPU threads.", show_default="all cores")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output and nothing else.")]
Scheduler = Annotated[
    str | None,
    typer.Option(
        "--scheduler",
        metavar="ADDRESS",
        help="Address of a Dask scheduler, whose workers run ranges of images.",
        show_default="none",
    ),
]
PROCESSES = "Number of processes of this machine that run ranges of images; 0: none beside this program."
Workers = Annotated[
    int | None, typer.Option("--workers", metavar="N", min=0, help=PROCESSES, show_default="none beside this program")
]
AlwaysWorkers = Annotated[
    int | None,
    typer.Option("--workers", metavar="N", min=0, help=PROCESSES, show_default="as --threads says, else one per core"),
]
"""Of commands whose work is split unless it must run here."""
PerTask = Annotated[
    int, typer.Option("--images-per-task", metavar="N", min=1, help="Number of images that a worker takes at a time.")
]
NetworkFile = Annotated[Path, typer.Argument(metavar="NET", help="Network (.net) of randhet export.")]


def one_place(scheduler: str | None, workers: int | None) -> None:
    """RandhetError where both options say who runs the pieces."""
    from randhet.base.errors import RandhetError

    if scheduler is not None and workers is not None:
        raise RandhetError(
            "--scheduler and --workers are both given: give the cluster, or the processes of this machine"
        )


def processes(scheduler: str | None, workers: int | None, threads: int | None) -> int | None:
    """Number of worker processes of a command that always splits its work: as many as --threads says, or given."""
    one_place(scheduler, workers)
    return workers if workers is not None else 0 if threads == 1 else threads


def threads_of_piece(scheduler: str | None, workers: int | None, threads: int | None) -> int | None:
    """Return the threads of a piece beside `processes`: those given, unless they said the number of processes."""
    return threads if threads == 1 or scheduler is not None or workers is not None else None


def use_threads(count: int | None) -> None:
    """Let torch use this many threads; None leaves its choice. `backends.runner` passes it to backends."""
    if count is None:
        return
    import torch

    torch.set_num_threads(count)
