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
NetworkFile = Annotated[Path, typer.Argument(metavar="NET", help="Network (.net) of randhet export.")]


def use_threads(count: int | None) -> None:
    """Let torch use this many threads; None leaves its choice. `backends.runner` passes it to backends."""
    if count is None:
        return
    import torch

    torch.set_num_threads(count)
