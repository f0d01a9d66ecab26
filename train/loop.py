"""The training loop: SGD with cosine decay, a checkpoint per epoch, resumable to the same weights, one process or many.

All randomness of an epoch follows from (seed, epoch), so a run goes on from its last checkpoint as if never stopped.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from math import cos, pi
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from randhet.base.errors import RandhetError
from randhet.train import checkpoint as checkpoints
from randhet.train.checkpoint import Checkpoint
from randhet.train.data.pictures import augment
from randhet.train.data.sources import Images, channel_statistics, load
from randhet.train.evaluation import accuracy_under_rfgsm, evaluate, predict, tensors
from randhet.train.models import ModelSettings, SEWResNet
from randhet.train.neurons import RandomTauLIF, neurons
from randhet.train.objectives import OBJECTIVES, Objective
from randhet.train.qat import Rounding
from randhet.train.settings import TrainSettings
from randhet.train.world import World, inside, joined

__all__ = ["TrainSettings", "augment", "evaluate", "fit", "predict", "tensors", "train"]

Report = Callable[[dict[str, Any]], None]
SEED_STRIDE = 100_003


@dataclass(eq=False)
class Run:
    """A training run under way; epoch is the next one, seconds those spent, best the highest robust accuracy so far.

    source: hash of the weights it began with, None for random ones. rounding: of the weights in this epoch, if any.
    """

    settings: TrainSettings
    model: SEWResNet
    optimiser: torch.optim.Optimizer
    data: Images
    world: World
    trained: nn.Module
    report: Report
    epoch: int = 0
    seconds: float = 0.0
    best: float = -1.0
    source: str | None = None
    rounding: Rounding | None = None


def train(
    model_settings: ModelSettings,
    settings: TrainSettings,
    out: str | Path,
    *,
    start: Checkpoint | None = None,
    resume: bool = False,
    report: Report | None = None,
    samples: int | None = None,
    device: str | None = None,
) -> Checkpoint:
    """Train, writing `out` after every epoch; with `resume`, go on from `out` to what an unbroken run would give.

    start: begin with its weights, model and normalisation. With settings.qat_bits the checkpoint holds weights that are
    integers times their scales.

    Under `torchrun` the batches are shared among the processes, and the first one writes. With settings.validate, the
    checkpoint that was most accurate under attack is kept beside `out` as best_path(out). report gets {"epoch", "step",
    "steps", "loss"} after each batch, {"epoch", "accuracy", "loss"} and "robust" where measured after each epoch, and
    "sigmas" by neuron where sigma is trained.
    """
    with joined() as processes:
        data, held_out = load(settings.data, "train").take(samples), load(settings.data, "test")
        if start is not None:
            data, held_out = (
                part.as_classes(start.classes, "the checkpoint to start from") for part in (data, held_out)
            )
        model_settings = fit(model_settings, data)
        _in_half_the_steps(model_settings, settings)
        started = _resumed(out, model_settings, settings, start) if resume else None
        mean, std = channel_statistics(data) if start is None else (start.mean, start.std)
        data, chosen = data.split(settings.validate)
        run = _begin(model_settings, settings, data, mean, std, processes, device, report)
        if start is not None:
            _start_from(run, start)
        if started is not None:
            _go_on(run, started)
        done = started
        while run.epoch < settings.epochs:
            done = _one_epoch(run, chosen, held_out, Path(out), (mean, std))
        assert done is not None
        finished = replace(done, resume=None)
        if processes.rank == 0:
            checkpoints.save(out, finished)
    return finished


def _in_half_the_steps(model_settings: ModelSettings, settings: TrainSettings) -> None:
    """RandhetError where some epochs should show recordings in half their steps."""
    if model_settings.sequence and settings.short_epochs:
        raise RandhetError(
            f"short_epochs is {settings.short_epochs}, a recording of {model_settings.steps} frames cannot be shown in "
            "half the time steps: leave it out"
        )


def best_path(out: str | Path) -> Path:
    """Where the checkpoint with the best robust accuracy goes: model.pt, model-best.pt."""
    return Path(out).with_stem(f"{Path(out).stem}-best")


def fit(settings: ModelSettings, data: Images) -> ModelSettings:
    """The model settings with the data's channels, size and number of classes, and its steps where they are frames."""
    channels, y, x = data.frame
    steps = data.pixels.shape[1] if data.sequence else settings.steps
    return replace(
        settings,
        in_channels=channels,
        image_size=(y, x),
        classes=len(data.classes),
        steps=steps,
        sequence=data.sequence,
    )


def _begin(
    model_settings: ModelSettings,
    settings: TrainSettings,
    data: Images,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    processes: World,
    device: str | None,
    report: Report | None,
) -> Run:
    if settings.batch < processes.size:
        raise RandhetError(f"batch {settings.batch} is smaller than the {processes.size} processes that share it")
    target = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    torch.manual_seed(settings.seed)
    model = SEWResNet(model_settings, mean, std).to(target, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.SGD(
        model.parameters(), settings.lr, settings.momentum, weight_decay=settings.decay, nesterov=settings.nesterov
    )
    trained = DistributedDataParallel(model, broadcast_buffers=False) if processes.size > 1 else model
    return Run(settings, model, optimiser, data, processes, trained, report or (lambda news: None))


def _start_from(run: Run, start: Checkpoint) -> None:
    """Begin with the weights of a checkpoint of the same model."""
    if start.settings != run.model.settings:
        raise RandhetError(
            f"the checkpoint to start from has {len(start.classes)} classes and images of {start.settings.image_size}, "
            f"data {run.settings.data} has {len(run.data.classes)} and {run.model.settings.image_size}"
        )
    run.model.load_state_dict(dict(start.state))
    run.source = checkpoints.weights_hash(start.state)


def _resumed(
    out: str | Path, model_settings: ModelSettings, settings: TrainSettings, start: Checkpoint | None
) -> Checkpoint:
    checkpoint = checkpoints.load(out)
    before = {name: checkpoint.record.get(name, value) for name, value in asdict(TrainSettings()).items()}
    differing = [name for name, value in asdict(settings).items() if before[name] != value]
    if checkpoint.settings != model_settings:
        differing.append("model")
    if checkpoint.record.get("began_with") != (start and checkpoints.weights_hash(start.state)):
        differing.append("starting weights")
    if differing:
        raise RandhetError(f"cannot resume {out}: {', '.join(differing)} differ from the run that wrote it")
    return checkpoint


def _go_on(run: Run, started: Checkpoint) -> None:
    """Take up a run where its checkpoint left it; a finished one stays finished."""
    resume = started.resume or {}
    run.model.load_state_dict(dict(resume.get("floats", started.state)))
    run.seconds, run.epoch = started.record["seconds"], started.record["epoch"]
    if started.resume is not None:
        run.optimiser.load_state_dict(dict(started.resume["optimiser"]))
        run.best = started.resume.get("best", -1.0)


def _one_epoch(
    run: Run, chosen: Images, held_out: Images, out: Path, statistics: tuple[tuple[float, ...], tuple[float, ...]]
) -> Checkpoint:
    """Train for an epoch, measure, write."""
    settings = run.settings
    run.rounding = Rounding.of(run.model, settings.qat_bits, settings.qat_scales) if settings.qat_bits else None
    begin = time.perf_counter()
    loss = _pass(run)
    seconds = time.perf_counter() - begin
    run.seconds, run.epoch = run.seconds + seconds, run.epoch + 1
    with _deployed(run):
        measured = _measured(run, chosen, held_out)
        state = _state(run)
    better = measured.get("robust", -1.0) > run.best
    run.best = max(run.best, measured.get("robust", -1.0))
    record = {"epoch": run.epoch, "loss": loss, **measured, "seconds": run.seconds, **asdict(run.settings)}
    resume = {"epoch": run.epoch, "optimiser": run.optimiser.state_dict(), "best": run.best}
    done = Checkpoint(
        run.model.settings,
        state,
        *statistics,
        run.settings.data,
        run.data.classes,
        record | ({} if run.source is None else {"began_with": run.source}),
        resume=resume | ({"floats": _state(run)} if run.settings.qat_bits else {}),
    )
    if run.world.rank == 0:
        if better:
            checkpoints.save(best_path(out), replace(done, resume=None))
        checkpoints.save(out, done)
    run.report({"epoch": run.epoch, "loss": loss, "seconds": seconds, **measured, **_sigmas(run)})
    return done


def _sigmas(run: Run) -> dict[str, dict[str, float]]:
    """The sigma of every random neuron after an epoch, where it is trained."""
    if run.model.settings.train_sigma == "no":
        return {}
    random = {name: neuron for name, neuron in neurons(run.model).items() if isinstance(neuron, RandomTauLIF)}
    return {"sigmas": {name: neuron.sigma for name, neuron in random.items()}}


def _measured(run: Run, chosen: Images, held_out: Images) -> dict[str, float]:
    """Accuracies after an epoch."""
    accuracies = {"accuracy": float(np.mean(evaluate(run.model, held_out, draws=1, seed=run.epoch - 1)))}
    if len(chosen):
        accuracies["robust"] = accuracy_under_rfgsm(run.model, chosen, run.settings.robust_eps, seed=run.epoch)
    return accuracies


def _state(run: Run) -> dict[str, Tensor]:
    """Copies of the weights as they are now."""
    state = run.model.state_dict().items()
    return {name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in state}


def _deployed(run: Run) -> AbstractContextManager[None]:
    """Inside, the model has the weights that it will have as an integer network, where it is trained for that."""
    return run.rounding.applied() if run.rounding else nullcontext()


def _pass(run: Run) -> float:
    """One pass over the data; the mean loss of the batches."""
    settings, data, epoch = run.settings, run.data, run.epoch
    torch.manual_seed(settings.seed * SEED_STRIDE + epoch + 1)
    order = torch.randperm(len(data)).numpy()
    batches = [order[i : i + settings.batch] for i in range(0, len(order), settings.batch)]
    run.model.encode.steps = steps_at(run.model.settings.steps, settings, epoch)
    run.trained.train()
    total = 0.0
    for i, batch in enumerate(batches):
        for group in run.optimiser.param_groups:
            group["lr"] = rate_at(settings, (epoch + i / len(batches)) / settings.epochs)
        loss = _step(run, data.pick(batch), settings.objective_at(epoch))
        total += loss * len(batch)
        run.report({"epoch": epoch + 1, "step": i + 1, "steps": len(batches), "loss": loss})
    run.model.encode.steps = run.model.settings.steps
    return total / len(data)


def _step(run: Run, batch: Images, name: str) -> float:
    """One step of the optimiser on this process's part of a batch; the loss over the whole batch."""
    objective, whole = OBJECTIVES[name], replace(run.world, images=len(batch))
    device = next(run.model.parameters()).device
    images, labels = tensors(batch)
    images = augment(images, run.settings.crop, run.settings.flip)
    mine = whole.part(len(batch))
    layout = torch.channels_last if images.dim() == 4 else torch.contiguous_format
    images = images[mine].to(device).contiguous(memory_format=layout)
    run.optimiser.zero_grad(set_to_none=True)
    with _deployed(run):
        share = len(images) * whole.size / len(batch)
        loss = _gradients(run, images, labels[mine].to(device), objective, whole, share)
    run.optimiser.step()
    OBJECTIVES[run.settings.objective].after_step(run.model, run.settings)
    return run.world.mean(loss)


def _gradients(run: Run, images: Tensor, labels: Tensor, objective: Objective, whole: World, share: float) -> Tensor:
    """Forward and backward; the loss on this process's part of the batch times its share."""
    with inside(whole), precision(images.device.type, run.settings.precision):
        # the processes' gradients are averaged, whatever the sizes of their parts: weigh the loss by the size
        loss = objective.loss(run.trained, images, labels, run.settings) * share
    with inside(whole):
        loss.backward()
    return loss.detach()


def precision(device: str, name: str) -> AbstractContextManager[Any]:
    """Mixed precision: convolutions and linear layers in bfloat16, weights and sums in float32."""
    return torch.autocast(device, torch.bfloat16, enabled=name == "bfloat16")


def rate_at(settings: TrainSettings, progress: float) -> float:
    """Linear from 0 during the warm-up, then half a cosine down to 0; progress 0..1."""
    if progress < settings.warmup:
        return settings.lr * progress / settings.warmup
    return settings.lr * (1 + cos(pi * (progress - settings.warmup) / (1 - settings.warmup))) / 2


def steps_at(steps: int, settings: TrainSettings, epoch: int) -> int:
    """Time steps of an epoch."""
    return max(1, steps // 2) if epoch < settings.short_epochs else steps
