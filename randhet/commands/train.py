"""randhet train: train a model on images, write a checkpoint."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from randhet.console import bars, emit, out
from randhet.options import Json, Threads, use_threads
from randhet.tensorboard import logging


def command(
    file: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="Checkpoint to write.")] = Path("model.pt"),
    data: Annotated[str, typer.Option("--data", metavar="NAME|PATH", help="digits, or a folder of images.")] = "digits",
    model: Annotated[str | None, typer.Option(metavar="NAME", help="Named model.", show_default="by the data")] = None,
    neuron: Annotated[
        str | None,
        typer.Option(metavar="KIND", help="randhet, randhet-forward, het or vanilla.", show_default="randhet"),
    ] = None,
    sigma: Annotated[float | None, typer.Option(min=0, help="Spread of the taus.", show_default="1.0")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Time steps T.", show_default="the model's")] = None,
    objective: Annotated[str, typer.Option(metavar="NAME", help="plain, or at for adversarial training.")] = "at",
    epochs: Annotated[int | None, typer.Option(min=1, show_default="30")] = None,
    batch: Annotated[int | None, typer.Option("--batch", metavar="N", min=1, show_default="32")] = None,
    rate: Annotated[float | None, typer.Option(min=0, help="Learning rate at the start.", show_default="0.1")] = None,
    eps: Annotated[
        float | None, typer.Option(min=0, help="Radius, pixels in 0..1.", show_default="by the data")
    ] = None,
    samples: Annotated[
        int | None, typer.Option("--samples", metavar="N", min=1, help="How many training images.")
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option("--seed", metavar="N", min=0, max=2**40, help="Of everything random.", show_default="0"),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint at --out.")] = False,
    log: Annotated[Path | None, typer.Option(metavar="DIR", help="Write a TensorBoard log there.")] = None,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Train a spiking network and write a checkpoint after every epoch; stop and go on with --resume.

    Example: `randhet train --data digits --neuron randhet --epochs 10 --out model.pt`
    """
    use_threads(threads)
    asked = {"neuron": neuron, "sigma": sigma, "steps": steps}
    model_settings = replace(named_model(model or default_model(data)), **given(asked))
    settings = {"epochs": epochs, "batch": batch, "rate": rate, "eps": eps, "step": eps, "seed": seed}
    summary = run_training(
        file, model_settings, data, {"objective": objective, **given(settings)}, resume, samples, log
    )
    if as_json:
        emit(summary)
    else:
        out.print(
            f"{file}: accuracy on held-out images {100 * summary['accuracy']:.1f} % after {summary['epochs']} epochs"
        )


def given(options: dict[str, Any]) -> dict[str, Any]:
    """The options that were given."""
    return {name: value for name, value in options.items() if value is not None}


def default_model(data: str) -> str:
    """The model that suits named data; the small one for folders."""
    return {"digits": "sew-digits"}.get(data, "sew-small")


def named_model(name: str) -> Any:
    """Settings of a named model; one sentence where there is none of that name."""
    from fixed_point.errors import RandhetError
    from train.models import NAMED

    if name not in NAMED:
        raise RandhetError(f"model {name!r} is not one of {', '.join(NAMED)}")
    return NAMED[name]


def run_training(
    file: Path,
    model_settings: Any,
    data: str,
    options: dict[str, Any],
    resume: bool = False,
    samples: int | None = None,
    log: Path | None = None,
) -> dict[str, Any]:
    """Train with a progress bar; the summary of the finished checkpoint."""
    from train.loop import TrainSettings, train

    settings = TrainSettings(data=data, **options)
    with bars() as progress, logging(log) as write:
        task = progress.add_task("training", total=None)

        def report(news: dict[str, Any]) -> None:
            write(news)
            if "step" in news:
                done = (news["epoch"] - 1) * news["steps"] + news["step"]
                text = f"training, epoch {news['epoch']} of {settings.epochs}, loss {news['loss']:.3f}"
                progress.update(task, total=settings.epochs * news["steps"], completed=done, description=text)
            else:
                progress.console.print(f"epoch {news['epoch']}: held-out accuracy {100 * news['accuracy']:.1f} %")

        done = train(model_settings, settings, file, resume=resume, report=report, samples=samples)
    return {"checkpoint": str(file), "accuracy": done.record["accuracy"], "epochs": done.record["epoch"], **options}
