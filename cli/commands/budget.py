"""randhet budget: what each part of the fixed-point arithmetic costs, and how few bits would do."""

from __future__ import annotations

from typing import Annotated

import typer

from randhet.cli.console import emit, out, stages
from randhet.cli.options import Checkpoint, Data, Json, NetworkFile, Threads, use_threads


def command(
    checkpoint: Checkpoint,
    network: NetworkFile,
    data: Data = None,
    samples: Annotated[int, typer.Option("--samples", metavar="N", min=2, help="How many test images.")] = 128,
    calibration: Annotated[
        int, typer.Option(metavar="N", min=1, help="How many training images to calibrate on.")
    ] = 64,
    draws: Annotated[int, typer.Option("--draws", metavar="N", min=1, help="Draws of the taus for each mean.")] = 3,
    margin: Annotated[float, typer.Option(help="Accuracy that fewer bits may lose, 0..1.", min=0, max=1)] = 0.005,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Error budget: weights, bias, threshold, tau table, random bits and membrane quantised alone, and all but one.

    Then the fewest bits for each layer, as options of `randhet export`.

    Example: `randhet budget model.pt model.net --samples 256`
    """
    from randhet.compare.quantisation.budget_report import as_dict, find, sentences, tables
    from randhet.netx.write import read
    from randhet.train.checkpoint import load as load_checkpoint
    from randhet.train.data.sources import load

    use_threads(threads)
    pair = load_checkpoint(checkpoint), read(network)
    source = data or pair[0].data or "digits"
    images, seen = load(source), load(source, "train")
    some, calibrating = images.take(min(samples, len(images))), seen.take(min(calibration, len(seen)))
    with stages() as stage:
        found = find(*pair, some, calibrating.pixels, draws, margin, stage)
    if as_json:
        emit(as_dict(found))
        return
    for table, sentence in zip(tables(found), sentences(found)):
        out.print(table)
        out.print(f"{sentence}\n", highlight=False, markup=False)
    out.print(f"randhet export CKPT {found.recommendation.options}", highlight=False, markup=False, soft_wrap=True)
