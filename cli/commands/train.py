"""randhet train: train a model on images, or any MODEL further; write a checkpoint, or the weights of a module."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from randhet.base.memory import keep_freed
from randhet.cli.commands.train_options import CHOICES
from randhet.cli.console import bars, emit, out
from randhet.cli.model_options import OPTIONS, load_model, said, sized
from randhet.cli.options import Json, Threads, use_threads
from randhet.cli.tensorboard import logging

if TYPE_CHECKING:
    from randhet.export.model import Model
    from randhet.train.models import ModelSettings
    from randhet.train.settings import TrainSettings


def command(
    file: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="Checkpoint, or weights, to write.")] = Path(
        "model.pt"
    ),
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
            metavar="MODEL",
            help="Fine-tune a checkpoint, a state dict of the paper's script, FILE.py:NAME or a NIR graph with its "
            "settings and a tenth of its learning rate. Of the last two the weights are written, for --weights.",
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

    The same of a model of your own: `randhet train --from own.py:net --weights own.pt --qat-bits 4 --out own4.pt`
    """
    keep_freed()
    use_threads(threads)
    how: dict[str, Any] = {"resume": resume, "samples": samples, "log": log, "device": device}
    chosen = given(chosen)
    if begin is None:
        _refuse_said(chosen)
        summary = train_network(file, *both(config, model, chosen), **how)
    else:
        summary = train_model(file, begin, config, model, chosen, **how)
    if as_json:
        emit(summary)
    elif summary:
        out.print(
            f"{file}: accuracy on held-out images {100 * summary['accuracy']:.1f} % after "
            f"{summary['epochs']} epoch{'s' if summary['epochs'] != 1 else ''}"
        )


def _signature() -> inspect.Signature:
    """The parameters above with one option per setting, and those of a MODEL, in place of **chosen."""
    fixed = [
        parameter
        for parameter in inspect.signature(command, eval_str=True).parameters.values()
        if parameter.name != "chosen"
    ]
    settings = [choice.parameter() for choice in CHOICES]
    own = {parameter.name for parameter in (*fixed, *settings)}
    keyword = inspect.Parameter.KEYWORD_ONLY
    of_model = [
        inspect.Parameter(name, keyword, default=None, annotation=kind)
        for name, kind in OPTIONS.items()
        if name not in own
    ]
    return inspect.Signature([*fixed, *settings, *of_model])


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


SETTINGS = {choice.name for choice in CHOICES}
"""Options of a training run and of a model to be trained; some are of a MODEL too."""


def _refuse_said(chosen: dict[str, Any]) -> None:
    """RandhetError where an option of a MODEL is given and there is none."""
    from randhet.base.errors import RandhetError
    from randhet.export.model_files import option

    for name in chosen:
        if name not in SETTINGS:
            raise RandhetError(f"{option('steps' if name == 'time_steps' else name)} belongs to --from: leave it out")


def load_start(file: Path, config: Path | None, model: str | None, chosen: dict[str, Any]) -> Model:
    """The MODEL of --from, read as the options of `chosen` say that are a MODEL's; they are taken out."""
    from randhet.base.errors import RandhetError

    if config or model:
        raise RandhetError("--from takes model and settings from its checkpoint: leave out --config and --model")
    options = {name: chosen.pop(name, None) for name in OPTIONS}
    return load_model(file, said(**options))


def train_model(
    file: Path, begin: Path, config: Path | None, name: str | None, chosen: dict[str, Any], **how: Any
) -> dict[str, Any]:
    """Train a MODEL further: a checkpoint to a checkpoint, another to its weights."""
    from randhet.train.data.sources import load
    from randhet.train.loop import train, train_subject

    model = load_start(begin, config, name, chosen)
    settings = tuned(model, chosen)
    if model.checkpoint:
        start = sized(model, load(settings.data, "train")).checkpoint
        assert start is not None
        return run_training(file, settings, partial(train, start.settings, start=start), **how)
    from randhet.export.tuning import Tuned

    begun = lambda data: Tuned.begin(model, data, settings.data)
    trainer = lambda settings, out, **more: train_subject(begun, settings, out, classes=model.classes, **more)
    return run_training(file, settings, trainer, **how)


def tuned(model: Model, chosen: dict[str, Any]) -> TrainSettings:
    """Training settings of a MODEL, with what the command line changes."""
    from randhet.base.errors import RandhetError
    from randhet.train.configuration import TABLES, options, settings, typed
    from randhet.train.qat import fine_tuning

    hints = options(TABLES["training"])
    if foreign := [name for name in chosen if name not in hints]:
        raise RandhetError(f"--from keeps the model of its checkpoint, {', '.join(foreign)} cannot change")
    given = {name: typed(name, value, hints[name]) for name, value in chosen.items()}
    data = {"data": model.data} if model.data else {}
    return settings("sew-small", {}, data | fine_tuning(model.trained) | given)[1]


def named_model(name: str) -> Any:
    """Settings of a named model; one sentence where there is none of that name."""
    from randhet.train.configuration import named

    return named(name)


def train_network(file: Path, model_settings: ModelSettings, settings: TrainSettings, **how: Any) -> dict[str, Any]:
    """Train a network of these settings from random weights."""
    from randhet.train.loop import train

    return run_training(file, settings, partial(train, model_settings), **how)


def run_training(
    file: Path,
    settings: TrainSettings,
    trainer: Callable[..., Any],
    *,
    resume: bool = False,
    samples: int | None = None,
    log: Path | None = None,
    device: str | None = None,
) -> dict[str, Any]:
    """Train with a progress bar; the summary of the finished run, on the first process of several.

    trainer: called with settings and file, and how to train.
    """
    from dataclasses import asdict

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
        done = trainer(
            settings,
            file,
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
    rate = f", spike rate {100 * news['spike_rate']:.1f} %" if "spike_rate" in news else ""
    return (
        f"epoch {news['epoch']}: loss {news['loss']:.3f}, held-out accuracy {100 * news['accuracy']:.1f} %{robust}"
        f"{rate}, {news['seconds']:.0f} s"
    )
