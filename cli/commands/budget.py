"""randhet budget: what each part of the fixed-point arithmetic costs, and how few bits are enough."""

from __future__ import annotations

from typing import Annotated

import typer

from randhet.cli.console import emit, out, stages
from randhet.cli.model_options import ModelArgument, ModelOptions, data_of, load_model, model_options
from randhet.cli.options import Data, Json, NetworkFile, Threads, use_threads


@model_options
def command(
    path: ModelArgument,
    network: NetworkFile,
    data: Data = None,
    samples: Annotated[int, typer.Option("--samples", metavar="N", min=2, help="Number of test images.")] = 128,
    calibration: Annotated[
        int, typer.Option(metavar="N", min=1, help="Number of training images for calibration.")
    ] = 64,
    draws: Annotated[
        int, typer.Option("--draws", metavar="N", min=1, help="Number of Monte-Carlo repetitions for each mean.")
    ] = 3,
    margin: Annotated[
        float, typer.Option(help="Loss of accuracy that fewer bits may cause, 0..1.", min=0, max=1)
    ] = 0.005,
    threads: Threads = None,
    *,
    said: ModelOptions,
    as_json: Json = False,
) -> None:
    """Measure what the quantisation of each part costs: each part alone, and all parts but one.

    The parts are weights, bias, threshold, table of decay factors, random bits and membrane potential. The fewest bits
    for each layer follow, as options of `randhet export`.

    Example: `randhet budget model.pt model.net --samples 256`
    """
    from randhet.compare.quantisation.budget_report import as_dict, find, sentences, tables
    from randhet.netx.write import read
    from randhet.train.data.sources import load

    use_threads(threads)
    deployed = read(network)
    pair = load_model(path, said, deployed), deployed
    source = data_of(data, *pair)
    images, training = load(source).as_classes(pair[0].classes, "the model"), load(source, "train")
    some, calibrating = images.take(min(samples, len(images))), training.take(min(calibration, len(training)))
    with stages() as stage:
        costs = find(*pair, some, calibrating.pixels, draws, margin, stage)
    if as_json:
        emit(as_dict(costs))
        return
    for table, sentence in zip(tables(costs), sentences(costs)):
        out.print(table)
        out.print(f"{sentence}\n", highlight=False, markup=False)
    out.print(f"randhet export MODEL {costs.recommendation.options}", highlight=False, markup=False, soft_wrap=True)
