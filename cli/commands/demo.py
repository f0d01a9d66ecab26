"""randhet demo: the whole way on real data, in a few minutes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from randhet.cli.console import emit, out, stages
from randhet.cli.options import Draws, Json, Samples, Threads, use_threads


def command(
    directory: Annotated[Path, typer.Option("--out", metavar="DIR", help="Directory for all files.")] = Path("demo"),
    samples: Samples = None,
    draws: Draws = 10,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Number of training epochs.", show_default="chosen for the data")
    ] = None,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Train on handwritten digits, export to integers, run on Lava, compare, and write a report.

    The files are checkpoint.pt, network.net, compare.json and report.html in DIR.

    Example: `randhet demo --out demo`
    """
    from randhet.cli.commands.compare import FAILED, examined, leave, show
    from randhet.cli.commands.train import both, given, train_network
    from randhet.compare.study import StudySettings, compare
    from randhet.export.pipeline import export_checkpoint
    from randhet.netx.write import read, write
    from randhet.train import checkpoint as checkpoints
    from randhet.train.data.sources import load

    begin = time.perf_counter()
    use_threads(threads)
    images = load("digits").take(samples)
    say = (lambda text: None) if as_json else (lambda text: out.print(text, style="bold", highlight=False))
    weights, network = directory / "checkpoint.pt", directory / "network.net"
    say("1 of 3: train a spiking network with random decay factors on adversarial examples")
    train_network(weights, *both(None, "sew-digits", given({"data": "digits", "objective": "at", "epochs": epochs})))
    say("2 of 3: export it to 8 bit weights and 24 bit membrane potentials")
    trained = checkpoints.load(weights)
    write(network, export_checkpoint(trained, load("digits", "train").take(256).pixels).network)
    say("3 of 3: run it in float, as the integer reference and as Lava processes, and compare every number")
    with stages() as stage:
        deployed = read(network)
        comparison = compare(trained, deployed, images, StudySettings(draws=draws, threads=threads), stage)
        report = examined(comparison, trained, deployed, images, stage)
    leave(report, directory)
    if as_json:
        emit(report.as_dict())
    else:
        show(report)
        out.print(f"\nDone in {time.perf_counter() - begin:.0f} s. Read {directory / 'report.html'}", highlight=False)
    if comparison.failures:
        raise typer.Exit(FAILED)
