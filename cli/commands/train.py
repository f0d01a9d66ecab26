"""randhet train: train a model on images, write a checkpoint."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Annotated, Any

import typer

from randhet.cli.commands.train_options import CHOICES
from randhet.cli.console import bars, emit, out
from randhet.cli.options import Json, Threads, use_threads
from randhet.cli.tensorboard import logging


def command(
    file: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="Checkpoint to write.")] = Path("model.pt"),
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Experiment in TOML; options of the command line take precedence."),
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="Named model: {models}.", show_default="chosen for the data")
    ] = None,
    begin: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="CKPT",
            help="Fine-tune this checkpoint with its model, its settings and a tenth of its learning rate.",
        ),
    ] = None,
    samples: Annotated[
        int | None, typer.Option("--samples", metavar="N", min=1, help="Number of training images.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue from the checkpoint at --out, if there is one.")
    ] = False,
    log: Annotated[Path | None, typer.Option(metavar="DIR", help="Directory for a TensorBoard log.")] = None,
    device: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Torch device, such as cpu or cuda.", show_default="cuda if available"),
    ] = None,
    threads: Threads = None,
    as_json: Json = False,
    **chosen: Any,
) -> None:
    """Train a spiking network and write a checkpoint after every epoch; --resume continues a run that was stopped.

    Example: `randhet train --data digits --neuron randhet --epochs 10 --out model.pt`

    An experiment of the paper: `randhet train --config configs/table1/cifar10-randhet-at.toml --out model.pt`. The same
    on four GPUs: `torchrun --nproc-per-node 4 -m randhet train --config configs/table1/cifar10-randhet-at.toml`

    Fine-tuning for weights of 4 bits: `randhet train --from model.pt --qat-bits 4 --out model4.pt`
    """
    use_threads(threads)
    start = begin and load_start(begin, config, model)
    model_settings, settings = tuned(start, given(chosen)) if start else both(config, model, given(chosen))
    summary = run_training(
        file, model_settings, settings, start=start, resume=resume, samples=samples, log=log, device=device
    )
    if as_json:
        emit(summary)
    elif summary:
        out.print(
            f"{file}: accuracy on held-out images {100 * summary['accuracy']:.1f} % after "
            f"{summary['epochs']} epoch{'s' if summary['epochs'] != 1 else ''}"
        )


def _signature() -> inspect.Signature:
    """The parameters above with one option per setting in place of **chosen."""
    fixed = [
        parameter
        for parameter in inspect.signature(command, eval_str=True).parameters.values()
        if parameter.name != "chosen"
    ]
    return inspect.Signature([*fixed, *(choice.parameter() for choice in CHOICES)])


command.__signature__ = _signature()  # type: ignore[attr-defined]


def given(options: dict[str, Any]) -> dict[str, Any]:
    """The options that were given."""
    return {name: value for name, value in options.items() if value is not None}


MODELS = {"digits": "sew-digits", "digits-events": "sew-events"}
"""The model for data, where the command line names none."""


def both(config: Path | None, model: str | None, chosen: dict[str, Any]) -> tuple[Any, Any]:
    """Model and training settings: defaults, then the file, then the command line."""
    from randhet.train import configuration
    from randhet.train.configuration import TABLES, options, typed

    tables: dict[str, dict[str, Any]] = configuration.read(config) if config else {"model": {}, "training": {}}
    for table, kind in TABLES.items():
        hints = options(kind)
        tables[table] |= {name: typed(name, value, hints[name]) for name, value in chosen.items() if name in hints}
    if model:
        tables["model"]["name"] = model
    default = MODELS.get(tables["training"].get("data", "digits"), "sew-small")
    if default == "sew-events":
        tables["training"] = {"objective": "at-events"} | tables["training"]
    if "eps" in chosen and "attack_step" not in chosen:
        tables["training"].pop("attack_step", None)
    return configuration.settings(default, tables["model"], tables["training"])


def load_start(file: Path, config: Path | None, model: str | None) -> Any:
    """The checkpoint of --from."""
    from randhet.base.errors import RandhetError
    from randhet.export.model_files import WORDS, kind_of
    from randhet.train import checkpoint

    if config or model:
        raise RandhetError("--from takes model and settings from its checkpoint: leave out --config and --model")
    if (kind := kind_of(file)) != "checkpoint":
        raise RandhetError(
            f"--from takes a checkpoint, {file} is {WORDS[kind]}: train it in a loop of your own, as "
            "examples/own_model.py does, and give its weights to the other commands with --weights"
        )
    return checkpoint.load(file)


def tuned(start: Any, chosen: dict[str, Any]) -> tuple[Any, Any]:
    """Model and training settings of a checkpoint, the latter with what the command line changes."""
    from randhet.base.errors import RandhetError
    from randhet.train.configuration import TABLES, options, settings, typed
    from randhet.train.qat import fine_tuning

    hints = options(TABLES["training"])
    if foreign := [name for name in chosen if name not in hints]:
        raise RandhetError(f"--from keeps the model of its checkpoint, {', '.join(foreign)} cannot change")
    given = {name: typed(name, value, hints[name]) for name, value in chosen.items()}
    return start.settings, settings("sew-small", {}, fine_tuning(start.record) | given)[1]


def named_model(name: str) -> Any:
    """Settings of a named model; one sentence where there is none of that name."""
    from randhet.train.configuration import named

    return named(name)


def run_training(
    file: Path,
    model_settings: Any,
    settings: Any,
    *,
    start: Any = None,
    resume: bool = False,
    samples: int | None = None,
    log: Path | None = None,
    device: str | None = None,
) -> dict[str, Any]:
    """Train with a progress bar; the summary of the finished checkpoint, on the first process of several."""
    from dataclasses import asdict

    from randhet.train.loop import train
    from randhet.train.world import joined

    with joined() as world, bars() as progress, logging(log if world.rank == 0 else None) as write:
        task = progress.add_task("training", total=None)

        def report(news: dict[str, Any]) -> None:
            write(news)
            if "step" in news:
                done = (news["epoch"] - 1) * news["steps"] + news["step"]
                text = f"training, epoch {news['epoch']} of {settings.epochs}, loss {news['loss']:.3f}"
                progress.update(task, total=settings.epochs * news["steps"], completed=done, description=text)
            else:
                progress.console.print(words(news))

        quiet = (lambda news: None) if world.rank else report
        done = train(
            model_settings,
            settings,
            file,
            start=start,
            resume=resume and file.exists(),
            report=quiet,
            samples=samples,
            device=device,
        )
        rank = world.rank
    summary = {"checkpoint": str(file), "accuracy": done.record["accuracy"], "epochs": done.record["epoch"]}
    return {} if rank else asdict(settings) | summary


def words(news: dict[str, Any]) -> str:
    """What is said of an epoch."""
    robust = f", under attack {100 * news['robust']:.1f} %" if "robust" in news else ""
    return (
        f"epoch {news['epoch']}: loss {news['loss']:.3f}, held-out accuracy {100 * news['accuracy']:.1f} %{robust}, "
        f"{news['seconds']:.0f} s"
    )
