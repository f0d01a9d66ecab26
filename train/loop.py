"""The training loop: SGD with cosine decay, one checkpoint per epoch, resumable to the same weights."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from math import cos, pi
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fixed_point.errors import RandhetError
from train import checkpoint as checkpoints
from train.checkpoint import Checkpoint
from train.data import Images, channel_statistics, load
from train.models import ModelSettings, SEWResNet
from train.objectives import OBJECTIVES

Report = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class TrainSettings:
    """eps and step in pixel units of 0..1; crop: padding of the random crop in pixels, 0 for none.

    The defaults suit `digits`: 16/255 is one of its 17 grey levels, and digits must not be mirrored.
    """

    data: str = "digits"
    objective: str = "at"
    epochs: int = 30
    batch: int = 32
    rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 1e-4
    eps: float = 16 / 255
    step: float = 16 / 255
    crop: int = 1
    flip: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.objective not in OBJECTIVES:
            raise RandhetError(f"objective {self.objective!r} is not one of {', '.join(OBJECTIVES)}")
        for name in ("epochs", "batch", "rate"):
            if getattr(self, name) <= 0:
                raise RandhetError(f"{name} is {getattr(self, name)}, it must be above 0")
        if not (0 <= self.eps <= 1 and 0 <= self.step <= 1):
            raise RandhetError(f"eps {self.eps} and step {self.step} must lie in 0..1")


def train(
    model_settings: ModelSettings,
    settings: TrainSettings,
    out: str | Path,
    *,
    resume: bool = False,
    report: Report | None = None,
    samples: int | None = None,
) -> Checkpoint:
    """Train, writing `out` after every epoch; with `resume`, go on from `out` to what an unbroken run would give.

    report gets {"epoch", "step", "steps", "loss"} after each batch and {"epoch", "accuracy", "loss"} after each epoch.
    """
    data, held_out = load(settings.data, "train").take(samples), load(settings.data, "test")
    model_settings = fit(model_settings, data)
    started = _resumed(out, model_settings, settings) if resume else None
    mean, std = channel_statistics(data)
    torch.manual_seed(settings.seed)
    model = SEWResNet(model_settings, mean, std)
    optimiser = torch.optim.SGD(
        model.parameters(), settings.rate, settings.momentum, weight_decay=settings.weight_decay
    )
    first, seconds = 0, 0.0
    if started is not None and started.resume is not None:
        model.load_state_dict(dict(started.state))
        optimiser.load_state_dict(dict(started.resume["optimiser"]))
        first, seconds = started.resume["epoch"], started.record["seconds"]
    done = started
    for epoch in range(first, settings.epochs):
        begin = time.perf_counter()
        loss = _epoch(model, optimiser, data, settings, epoch, report)
        accuracy = float(np.mean(evaluate(model, held_out, draws=1, seed=epoch)))
        seconds += time.perf_counter() - begin
        record = {"epoch": epoch + 1, "loss": loss, "accuracy": accuracy, "seconds": seconds, **asdict(settings)}
        done = Checkpoint(
            model_settings,
            {name: tensor.detach().clone() for name, tensor in model.state_dict().items()},
            mean,
            std,
            settings.data,
            data.classes,
            record,
            resume={"epoch": epoch + 1, "optimiser": optimiser.state_dict()},
        )
        checkpoints.save(out, done)
        if report:
            report({"epoch": epoch + 1, "accuracy": accuracy, "loss": loss})
    assert done is not None
    finished = replace(done, resume=None)
    checkpoints.save(out, finished)
    return finished


def fit(settings: ModelSettings, data: Images) -> ModelSettings:
    """The model settings with the data's channels, size and number of classes."""
    channels, *size = data.pixels.shape[1:]
    return replace(settings, in_channels=channels, image_size=(size[0], size[1]), classes=len(data.classes))


def _resumed(out: str | Path, model_settings: ModelSettings, settings: TrainSettings) -> Checkpoint:
    found = checkpoints.load(out)
    before = {name: found.record.get(name) for name in asdict(settings)}
    differing = [name for name, value in asdict(settings).items() if before[name] != value]
    if found.settings != model_settings:
        differing.append("model")
    if differing:
        raise RandhetError(f"cannot resume {out}: {', '.join(differing)} differ from the run that wrote it")
    return found


def _epoch(
    model: SEWResNet,
    optimiser: torch.optim.Optimizer,
    data: Images,
    settings: TrainSettings,
    epoch: int,
    report: Report | None,
) -> float:
    """One pass over the data. All randomness follows from (seed, epoch), which is what makes resuming exact."""
    torch.manual_seed(settings.seed * 100_003 + epoch + 1)
    order = torch.randperm(len(data)).numpy()
    batches = [order[i : i + settings.batch] for i in range(0, len(order), settings.batch)]
    objective, total = OBJECTIVES[settings.objective], 0.0
    model.train()
    for i, batch in enumerate(batches):
        progress = (epoch + i / len(batches)) / settings.epochs
        for group in optimiser.param_groups:
            group["lr"] = settings.rate * (1 + cos(pi * progress)) / 2
        images, labels = tensors(data.pick(batch))
        loss = objective(model, augment(images, settings.crop, settings.flip), labels, settings)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        total += float(loss.detach()) * len(batch)
        if report:
            report({"epoch": epoch + 1, "step": i + 1, "steps": len(batches), "loss": float(loss.detach())})
    return total / len(data)


def tensors(images: Images) -> tuple[Tensor, Tensor]:
    """(N, C, Y, X) float in 0..1 and labels."""
    return torch.from_numpy(images.pixels).float().div_(255), torch.from_numpy(images.labels)


def augment(images: Tensor, crop: int, flip: bool) -> Tensor:
    """Random shift by up to `crop` pixels over zeros, and random mirror, per image."""
    n, _, height, width = images.shape
    if crop:
        rows = torch.randint(2 * crop + 1, (n, 1)) + torch.arange(height)
        columns = torch.randint(2 * crop + 1, (n, 1)) + torch.arange(width)
        padded = F.pad(images, (crop,) * 4)
        which = torch.arange(n).view(n, 1, 1)
        images = padded.movedim(1, -1)[which, rows[:, :, None], columns[:, None, :]].movedim(-1, 1)
    if flip:
        images = torch.where(torch.rand(n, 1, 1, 1) < 0.5, images, images.flip(-1))
    return images.contiguous()


@torch.no_grad()
def predict(model: nn.Module, images: Images, batch: int = 128) -> np.ndarray:
    """Class of every image, (N,) int64, in evaluation mode, taus from torch's global generator."""
    model.eval()
    parts = []
    for start in range(0, len(images), batch):
        logits = model(torch.from_numpy(images.pixels[start : start + batch]).float() / 255)
        parts.append(logits.argmax(1).numpy())
    return np.concatenate(parts)


def evaluate(model: nn.Module, images: Images, draws: int = 5, seed: int = 0, batch: int = 128) -> list[float]:
    """Accuracy in 0..1 of each of `draws` independent passes; the caller's random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return [float(np.mean(predict(model, images, batch) == images.labels)) for _ in range(draws)]
