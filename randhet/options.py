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
        help="digits, or a folder of images by class.",
        show_default="what it was trained on",
    ),
]
Samples = Annotated[
    int | None, typer.Option("--samples", metavar="N", min=1, help="How many test images.", show_default="all")
]
Seed = Annotated[
    int | None,
    typer.Option("--seed", metavar="N", min=0, max=2**64 - 1, help="Makes the draws of the taus repeatable."),
]
Draws = Annotated[
    int, typer.Option("--draws", metavar="N", min=1, help="How often the taus are drawn anew for a mean.")
]
Threads = Annotated[
    int | None, typer.Option("--threads", metavar="N", min=1, help="CPU threads.", show_default="all cores")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output, nothing else.")]
Checkpoint = Annotated[Path, typer.Argument(metavar="CKPT", help="Checkpoint (.pt) of randhet train.")]
NetworkFile = Annotated[Path, typer.Argument(metavar="NET", help="Network (.net) of randhet export.")]


def use_threads(count: int | None) -> None:
    """Let torch use this many threads; None leaves what it chooses. Backends are told by `compare.backends.runner`."""
    if count is None:
        return
    import torch

    torch.set_num_threads(count)
