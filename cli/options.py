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
Checkpoint = Annotated[
    Path, typer.Argument(metavar="CKPT", help="Checkpoint (.pt) of randhet train, or the name of a shipped one.")
]
NetworkFile = Annotated[Path, typer.Argument(metavar="NET", help="Network (.net) of randhet export.")]

PUBLISHED = "For a state dict of the paper's released script: "
TimeSteps = Annotated[
    int | None,
    typer.Option("--time-steps", metavar="T", min=1, help=f"{PUBLISHED}number of time steps.", show_default="8"),
]
Sampling = Annotated[
    str | None,
    typer.Option(
        "--sampling",
        metavar="KIND",
        help=f"{PUBLISHED}when decay factors are drawn, step or forward.",
        show_default="step",
    ),
]
Mean = Annotated[
    str | None,
    typer.Option(
        "--mean", metavar="M,M,M", help=f"{PUBLISHED}mean of each channel.", show_default="0.4914,0.4822,0.4465"
    ),
]
Std = Annotated[
    str | None,
    typer.Option(
        "--std",
        metavar="S,S,S",
        help=f"{PUBLISHED}standard deviation of each channel.",
        show_default="0.2471,0.2435,0.2616",
    ),
]


Connect = Annotated[
    str | None,
    typer.Option(
        "--connect",
        metavar="KIND",
        help=f"{PUBLISHED}connect function of a block, {{connections}}.",
        show_default="add",
    ),
]


def published(
    time_steps: int | None, sampling: str | None, mean: str | None, std: str | None, connect: str | None = None
) -> dict[str, Any]:
    """The options above that were given, by their names in `randhet.train.published.Published`."""
    from randhet.train.configuration import typed

    numbers: dict[str, Any] = {
        name: typed(f"--{name}", text, tuple[float, ...]) for name, text in (("mean", mean), ("std", std)) if text
    }
    words = {"steps": time_steps, "sampling": sampling, "connect": connect}
    return {name: value for name, value in words.items() if value is not None} | numbers


def sized(checkpoint: Any, images: Any) -> Any:
    """The checkpoint, where it is a published state dict with the size of these images, which it cannot say."""
    from dataclasses import replace

    if not checkpoint.record.get("published"):
        return checkpoint
    _, y, x = images.frame
    return replace(checkpoint, settings=replace(checkpoint.settings, image_size=(y, x)))


def load_model(path: Path, given: dict[str, Any] | None = None, network: Any = None) -> Any:
    """The checkpoint of a command; a published state dict is read as the network was exported, or as asked for.

    What such a file cannot say is told on standard error. RandhetError where the options contradict the network's.
    """
    from randhet.base.errors import RandhetError
    from randhet.cli.console import err
    from randhet.train.checkpoint import load
    from randhet.train.published import Published

    given, recorded = given or {}, recorded_options(network)
    for name, value in given.items():
        if recorded and recorded[name] != value:
            raise RandhetError(
                f"{name} is {value}, the network was exported with {recorded[name]}: leave the option out"
            )
    chosen = Published(**recorded | given) if recorded or given else None
    checkpoint = load(path, chosen)
    if options := checkpoint.record.get("published"):
        err.print(Published.of(options).sentence(), highlight=False, markup=False)
    elif given:
        raise RandhetError(f"{path} is a checkpoint of randhet train, which says its own {', '.join(given)}")
    return checkpoint


def recorded_options(network: Any) -> dict[str, Any]:
    """The options of a published state dict that a network was exported with; none where it was not made from one."""
    import json
    from dataclasses import asdict

    from randhet.base.errors import FileError
    from randhet.train.published import Published

    text = network.metadata.get("published") if network is not None else None
    if text is None:
        return {}
    try:
        return asdict(Published.of(json.loads(text)))
    except (ValueError, TypeError, AttributeError) as error:
        raise FileError(f"the network's metadata entry published is damaged: {error}") from None


def use_threads(count: int | None) -> None:
    """Let torch use this many threads; None leaves its choice. `backends.runner` passes it to backends."""
    if count is None:
        return
    import torch

    torch.set_num_threads(count)
