"""Where images meet a network: options for what a file of lava-dl leaves out, and images as the network takes them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from randhet.fixed_point.ensemble import NetworkEnsemble
    from randhet.fixed_point.network import Network
    from randhet.train.data.images import Images

LAVA_DL = "For a network of lava-dl: "
Steps = Annotated[
    int | None, typer.Option("--steps", metavar="T", min=1, help=f"{LAVA_DL}number of time steps per image.")
]
Bits = Annotated[int, typer.Option("--input-bits", metavar="N", min=1, max=16, help=f"{LAVA_DL}bits of the input.")]
Levels = Annotated[
    str | None,
    typer.Option(
        "--input",
        metavar="LOW,HIGH|currents",
        help=f"{LAVA_DL}values of black and white, to which the input layer's weight and bias apply, or currents where "
        "the grey levels already are the input currents.",
    ),
]

Sequence = Annotated[
    bool,
    typer.Option(
        "--sequence",
        help=f"{LAVA_DL}the input is recordings, one frame a time step, instead of still images.",
        is_flag=True,
    ),
]


def opened(file: Path, steps: int | None, bits: int, levels: str | None, sequence: bool) -> Network:
    """The network in a file, of this project or of lava-dl."""
    from randhet.base.errors import RandhetError
    from randhet.netx.lava_dl import Shown, load_network
    from randhet.train.configuration import typed

    if levels is None or levels == "currents":
        said: Any = levels
    else:
        said = typed("--input", levels, tuple[float, ...])
        if len(said) != 2:
            raise RandhetError(f"--input is {levels!r}, it must be two numbers such as 0,1, or currents")
    return load_network(file, Shown(steps, bits, levels=said, sequence=sequence) if steps else None)


def ensemble_in(file: Path) -> NetworkEnsemble | None:
    """The ensemble in a file; None where the file is no ensemble."""
    from randhet.netx.ensemble import holds_ensemble, read

    return read(file) if holds_ensemble(file) else None


def member_in(file: Path, member: int | None) -> Network | None:
    """One member of the ensemble in a file; None where the file is one network."""
    from randhet.base.errors import RandhetError

    ensemble = ensemble_in(file)
    if ensemble is None:
        if member is not None:
            raise RandhetError(f"--member is for an ensemble, {file} is one network: leave it out")
        return None
    count = len(ensemble.members)
    if member is None or member >= count:
        raise RandhetError(f"{file} holds an ensemble of {count} members: choose one by --member, 0 to {count - 1}")
    return ensemble.members[member]


def images_for(network: Network, data: str | None, samples: int | None) -> Images:
    """Test images of the data that was asked for, of the network's training data, or the digits, as its input."""
    from randhet.train.data.recordings import like
    from randhet.train.data.sources import load

    recorded = network.metadata.get("data") or "digits"
    images = load(like(data, recorded) if data else recorded).as_classes(network.classes, "the network")
    return as_input(images.take(samples), network)


def as_input(images: Images, network: Network) -> Images:
    """The images as the network takes them; that they are flattened is said on standard error."""
    from dataclasses import replace

    from randhet.cli.console import err
    from randhet.netx.lava_dl import currents

    fitted = images.as_input(network.image_shape)
    if fitted is not images:
        shape = images.pixels.shape[1:]
        err.print(
            f"images of {shape} are given to the network's input of {network.input.shape[0]} values in the order "
            "(channel, y, x)",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
    return replace(fitted, pixels=currents(network, fitted.pixels))
