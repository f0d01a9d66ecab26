"""Options that mean the same in every command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

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

PUBLISHED = "For a state dict of the paper's released script: "
TimeSteps = Annotated[
    int | None,
    typer.Option("--time-steps", metavar="T", min=1, help=f"{PUBLISHED}T.", show_default="8"),
]
Sampling = Annotated[
    str | None,
    typer.Option(
        "--sampling",
        metavar="KIND",
        help=f"{PUBLISHED}taus drawn at every step, or once a forward.",
        show_default="step",
    ),
]
Mean = Annotated[
    str | None,
    typer.Option("--mean", metavar="M,M,M", help=f"{PUBLISHED}mean per channel.", show_default="0.4914,0.4822,0.4465"),
]
Std = Annotated[
    str | None,
    typer.Option(
        "--std", metavar="S,S,S", help=f"{PUBLISHED}deviation per channel.", show_default="0.2023,0.1994,0.2010"
    ),
]


def published(time_steps: int | None, sampling: str | None, mean: str | None, std: str | None) -> Any:
    """The options above as `randhet.train.published.Published`."""
    from randhet.train.configuration import typed
    from randhet.train.published import Published

    numbers: dict[str, Any] = {
        name: typed(f"--{name}", text, tuple[float, ...]) for name, text in (("mean", mean), ("std", std)) if text
    }
    rest: dict[str, Any] = {
        name: value for name, value in (("steps", time_steps), ("sampling", sampling)) if value is not None
    }
    return Published(**rest, **numbers)


def use_threads(count: int | None) -> None:
    """Let torch use this many threads; None leaves its choice. `backends.runner` passes it to backends."""
    if count is None:
        return
    import torch

    torch.set_num_threads(count)
