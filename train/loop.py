"""The training loop: SGD with cosine decay, a file per epoch, resumable to the same weights, one process or many.

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
from randhet.train.activity import Spikes, counted, penalty
from randhet.train.average import Average, entries
from randhet.train.checkpoint import Checkpoint
from randhet.train.data.pictures import augment
from randhet.train.data.sources import Images, load
from randhet.train.evaluation import accuracy_under_rfgsm, evaluate, predict, tensors
from randhet.train.layout import layout
from randhet.train.models import ModelSettings
from randhet.train.neurons import RandomTauLIF, neurons
from randhet.train.objectives import OBJECTIVES, Objective
from randhet.train.precision import mixed
from randhet.train.qat import Rounding
from randhet.train.settings import TrainSettings
from randhet.train.subject import Saved, SewNet, Subject, fit
from randhet.train.world import World, inside, joined

__all__ = ["TrainSettings", "augment", "evaluate", "fit", "predict", "tensors", "train", "train_subject"]

Report = Callable[[dict[str, Any]], None]
SEED_STRIDE = 100_003


@dataclass(eq=False)
class Run:
    """A training run under way; epoch is the next one, seconds those spent, best the highest robust accuracy so far.

    rounding: of the weights in this epoch, if any. average: of the weights over the steps, if any.
    """

    settings: TrainSettings
    subject: Subject
    optimiser: torch.optim.Optimizer
    data: Images
    world: World
    trained: nn.Module
    report: Report
    epoch: int = 0
    seconds: float = 0.0
    best: float = -1.0
    rounding: Rounding | None = None
    average: Average | None = None

    @property
    def model(self) -> nn.Module:
        """The module that is trained."""
        return self.subject.module


def train(
    model_settings: ModelSettings,
    settings: TrainSettings,
    out: str | Path,
    *,
    start: Checkpoint | None = None,
    **how: Any,
) -> Checkpoint:
    """Train a SEW-ResNet, writing the checkpoint `out` after every epoch.

    start: begin with its weights, model and normalisation. With settings.qat_bits the checkpoint holds weights that are
    integers times their scales. how: as in `train_subject`.
    """
    begin = lambda data: SewNet.begin(model_settings, data, settings.data, start)
    classes = () if start is None else start.classes
    done = train_subject(begin, settings, out, classes=classes, **how)
    assert isinstance(done, Checkpoint)
    return done


def train_subject(
    begin: Callable[[Images], Subject],
    settings: TrainSettings,
    out: str | Path,
    *,
    classes: tuple[str, ...] = (),
    resume: bool = False,
    report: Report | None = None,
    samples: int | None = None,
    device: str | None = None,
) -> Saved:
    """Train, writing `out` after every epoch; with `resume`, continue from `out` to what an unbroken run would give.

    begin: makes what is trained, for the training images. classes: those it has, where it has some.

    Under `torchrun` the batches are shared among the processes, and the first one writes. With settings.validate, the
    state that was most accurate under attack is kept beside `out` as best_path(out). report gets {"epoch", "step",
    "steps", "loss"} after each batch, {"epoch", "accuracy", "loss"} and "robust" where measured after each epoch,
    "spike_rate" and "rates" by neuron of the held-out images, and "sigmas" by neuron where sigma is trained.
    """
    with joined() as processes:
        whole, held_out = (
            part.as_classes(classes, "the checkpoint to start from")
            for part in (load(settings.data, "train").take(samples), load(settings.data, "test"))
        )
        data, chosen = whole.split(settings.validate)
        run = _begin(begin, whole, settings, data, processes, device, report)
        started = _resumed(run, out) if resume else None
        if started is not None:
            _go_on(run, started)
        done = started
        while run.epoch < settings.epochs:
            done = _one_epoch(run, chosen, held_out, Path(out))
        assert done is not None
        finished = replace(done, resume=None)
        if processes.rank == 0:
            run.subject.write(out, finished)
    return finished


def best_path(out: str | Path) -> Path:
    """Where the checkpoint with the best robust accuracy goes: model.pt, model-best.pt."""
    return Path(out).with_stem(f"{Path(out).stem}-best")


def _begin(
    begin: Callable[[Images], Subject],
    whole: Images,
    settings: TrainSettings,
    data: Images,
    processes: World,
    device: str | None,
    report: Report | None,
) -> Run:
    if settings.batch < processes.size:
        raise RandhetError(f"batch {settings.batch} is smaller than the {processes.size} processes that share it")
    target = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    torch.manual_seed(settings.seed)
    subject = begin(whole)
    subject.prepare(settings, processes.size)
    if settings.rate_weight and not neurons(subject.module):
        raise RandhetError(f"rate_weight is {settings.rate_weight}, the model has no neurons that spike: leave it out")
    model = subject.module.to(target, memory_format=layout(subject.module))  # type: ignore[call-overload]
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.SGD(
        learned, settings.lr, settings.momentum, weight_decay=settings.decay, nesterov=settings.nesterov
    )
    trained = DistributedDataParallel(model, broadcast_buffers=False) if processes.size > 1 else model
    average = Average(model, settings.ema) if settings.ema else None
    news = report or (lambda news: None)
    return Run(settings, subject, optimiser, data, processes, trained, news, average=average)


def _resumed(run: Run, out: str | Path) -> Saved:
    saved, same_model = run.subject.read(out)
    before = {name: saved.record.get(name, value) for name, value in asdict(TrainSettings()).items()}
    differing = [name for name, value in asdict(run.settings).items() if before[name] != value]
    if not same_model:
        differing.append("model")
    if saved.record.get("began_with") != run.subject.source:
        differing.append("starting weights")
    if differing:
        raise RandhetError(f"cannot resume {out}: {', '.join(differing)} differ from the run that wrote it")
    return saved


def _go_on(run: Run, started: Saved) -> None:
    """Take up a run where its file left it; a finished one stays finished."""
    resume = started.resume or {}
    if run.average is not None:
        # through the model: a file has the names of the module that was given, the average those of what is trained
        run.subject.restore(started.state)
        run.average.restore(entries(run.model), resume.get("averaged", 0))
    run.subject.restore(resume.get("floats", started.state))
    run.seconds, run.epoch = started.record["seconds"], started.record["epoch"]
    if started.resume is not None:
        run.optimiser.load_state_dict(dict(started.resume["optimiser"]))
        run.best = started.resume.get("best", -1.0)


def _one_epoch(run: Run, chosen: Images, held_out: Images, out: Path) -> Saved:
    """Train for an epoch, measure, write."""
    settings, subject = run.settings, run.subject
    bits = settings.qat_bits
    run.rounding = Rounding.nearest(subject.rounded(), bits, settings.qat_scales) if bits else None
    begin = time.perf_counter()
    loss = _pass(run)
    seconds = time.perf_counter() - begin
    run.seconds, run.epoch = run.seconds + seconds, run.epoch + 1
    with _written(run):
        measured, spikes = _measured(run, chosen, held_out)
        state, sigmas = subject.state(), _sigmas(run)
    better = measured.get("robust", -1.0) > run.best
    run.best = max(run.best, measured.get("robust", -1.0))
    record = {"epoch": run.epoch, "loss": loss, **measured, "seconds": run.seconds, **asdict(run.settings)}
    resume = {"epoch": run.epoch, "optimiser": run.optimiser.state_dict(), "best": run.best}
    record |= {} if subject.source is None else {"began_with": subject.source}
    resume |= {"averaged": run.average.steps} if run.average else {}
    done = subject.saved(state, record, resume | ({"floats": subject.state()} if bits or run.average else {}))
    if run.world.rank == 0:
        if better:
            subject.write(best_path(out), replace(done, resume=None))
        subject.write(out, done)
    run.report({"epoch": run.epoch, "loss": loss, "seconds": seconds, **measured, **_rates(spikes), **sigmas})
    return done


def _sigmas(run: Run) -> dict[str, dict[str, float]]:
    """The sigma of every random neuron that the file of an epoch has, where it is trained."""
    random = {name: neuron for name, neuron in neurons(run.model).items() if isinstance(neuron, RandomTauLIF)}
    if all(neuron.w is None for neuron in random.values()):
        return {}
    return {"sigmas": {name: neuron.sigma for name, neuron in random.items()}}


def _rates(spikes: Spikes) -> dict[str, dict[str, float]]:
    """The spike rate of every layer, where there are neurons."""
    return {"rates": spikes.by_layer()} if spikes.counts else {}


def _measured(run: Run, chosen: Images, held_out: Images) -> tuple[dict[str, float], Spikes]:
    """Accuracies and the spike rate after an epoch, and the spikes of the held-out images."""
    with counted(run.model, training=False) as spikes:
        measured = {"accuracy": float(np.mean(evaluate(run.model, held_out, draws=1, seed=run.epoch - 1)))}
    if spikes.counts:
        measured["spike_rate"] = spikes.rate()
    if len(chosen):
        measured["robust"] = accuracy_under_rfgsm(run.model, chosen, run.settings.robust_eps, seed=run.epoch)
    return measured, spikes


def _deployed(run: Run) -> AbstractContextManager[None]:
    """Inside, the model has the weights that it will have as an integer network, where it is trained for that."""
    return run.rounding.applied() if run.rounding else nullcontext()


def _written(run: Run) -> AbstractContextManager[None]:
    """Inside, the model has the weights that the file of an epoch has."""
    return run.average.applied(run.model) if run.average else _deployed(run)


def _pass(run: Run) -> float:
    """One pass over the data; the mean loss of the batches."""
    settings, data, epoch = run.settings, run.data, run.epoch
    torch.manual_seed(settings.seed * SEED_STRIDE + epoch + 1)
    order = torch.randperm(len(data)).numpy()
    batches = [order[i : i + settings.batch] for i in range(0, len(order), settings.batch)]
    run.subject.shorten(epoch < settings.short_epochs)
    run.trained.train()
    total = 0.0
    for i, batch in enumerate(batches):
        for group in run.optimiser.param_groups:
            group["lr"] = rate_at(settings, (epoch + i / len(batches)) / settings.epochs)
        loss = _step(run, data.pick(batch), settings.objective_at(epoch))
        total += loss * len(batch)
        run.report({"epoch": epoch + 1, "step": i + 1, "steps": len(batches), "loss": loss})
    run.subject.shorten(False)
    return total / len(data)


def _step(run: Run, batch: Images, name: str) -> float:
    """One step of the optimiser on this process's part of a batch; the loss over the whole batch."""
    objective, whole = OBJECTIVES[name], replace(run.world, images=len(batch))
    device = next(run.model.parameters()).device
    images, labels = tensors(batch)
    images = augment(images, run.settings.crop, run.settings.flip)
    mine = whole.part(len(batch))
    order = layout(run.model) if images.dim() == 4 else torch.contiguous_format
    images = images[mine].to(device).contiguous(memory_format=order)
    run.optimiser.zero_grad(set_to_none=True)
    with _deployed(run):
        share = len(images) * whole.size / len(batch)
        loss = _gradients(run, images, labels[mine].to(device), objective, whole, share)
    run.optimiser.step()
    OBJECTIVES[run.settings.objective].after_step(run.model, run.settings)
    if run.average is not None:
        run.average.follow(run.model)
    return run.world.mean(loss)


def _gradients(run: Run, images: Tensor, labels: Tensor, objective: Objective, whole: World, share: float) -> Tensor:
    """Forward and backward; the loss on this process's part of the batch times its share."""
    weight, target = run.settings.rate_weight, run.settings.rate_target
    watched = counted(run.model, training=True) if weight else nullcontext(Spikes())
    with inside(whole), mixed(images.device.type, run.settings.precision), watched as spikes:
        # the processes' gradients are averaged, whatever the sizes of their parts: weigh the loss by the size
        loss = objective.loss(run.trained, images, labels, run.settings) * share
        if weight:  # of the rates over all processes, so that it has no part that could be weighed
            loss = loss + penalty(spikes.rates(), weight, target)
    with inside(whole):
        loss.backward()
    return loss.detach()


def rate_at(settings: TrainSettings, progress: float) -> float:
    """Linear from 0 during the warm-up, then half a cosine down to 0; progress 0..1."""
    if progress < settings.warmup:
        return settings.lr * progress / settings.warmup
    return settings.lr * (1 + cos(pi * (progress - settings.warmup) / (1 - settings.warmup))) / 2
