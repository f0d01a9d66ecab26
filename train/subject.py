"""What a training run trains and writes: a SEW-ResNet as a checkpoint, or another module as its state dict.

The loop asks a `Subject` for its module, the layers that quantisation-aware training rounds, and the file of an epoch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from randhet.base.errors import RandhetError
from randhet.train import checkpoint as checkpoints
from randhet.train.baselines.resnet import network
from randhet.train.checkpoint import Checkpoint
from randhet.train.data.images import Images, channel_statistics
from randhet.train.models import ModelSettings, SEWResNet
from randhet.train.qat import Rounded, weighted
from randhet.train.settings import TrainSettings
from randhet.train.weights import Weights

Saved = Checkpoint | Weights
"""What an epoch leaves: a state dict with its data, classes and record, and what only a resumed run needs."""


class Subject(Protocol):
    """What the training loop asks of what it trains."""

    @property
    def module(self) -> nn.Module:
        """Images (N, C, Y, X) in 0..1, or recordings (N, T, C, Y, X), to logits (N, classes)."""

    @property
    def source(self) -> str | None:
        """Hash of the weights that training began with; None for random ones."""

    def prepare(self, settings: TrainSettings, processes: int) -> None:
        """Raise RandhetError for settings that it cannot be trained with."""

    def rounded(self) -> Sequence[Rounded]:
        """Return the layers whose weights quantisation-aware training rounds; RandhetError where that has no sense."""

    def shorten(self, half: bool) -> None:
        """Run half of the time steps from now on, or all."""

    def state(self) -> dict[str, Tensor]:
        """Return copies of the weights as they are now."""

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take the weights that `state` gave."""

    def saved(self, state: Mapping[str, Tensor], record: Mapping[str, Any], resume: Mapping[str, Any]) -> Saved:
        """Return what the file of an epoch holds."""

    def write(self, path: str | Path, saved: Saved) -> None:
        """Write a file, whole or not at all."""

    def read(self, path: str | Path) -> tuple[Saved, bool]:
        """Read a file that `write` wrote, and tell whether it is of the same model."""


def copied(module: nn.Module) -> dict[str, Tensor]:
    """Return copies of a module's weights, in the usual memory layout."""
    state = module.state_dict().items()
    return {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in state
        if isinstance(tensor, Tensor)
    }


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


@dataclass(eq=False)
class SewNet:
    """A SEW-ResNet with random weights, or with those of a checkpoint `start`; data: name of what it is trained on."""

    module: SEWResNet
    mean: tuple[float, ...]
    std: tuple[float, ...]
    data: str
    classes: tuple[str, ...]
    source: str | None = None

    @classmethod
    def begin(cls, settings: ModelSettings, data: Images, name: str, start: Checkpoint | None) -> SewNet:
        """Build the model for these images; RandhetError where a checkpoint to start from is one of others."""
        settings = fit(settings, data)
        if start is not None and start.settings != settings:
            raise RandhetError(
                f"the checkpoint to start from has {len(start.classes)} classes and images of "
                f"{start.settings.image_size}, data {name} has {len(data.classes)} and {settings.image_size}"
            )
        mean, std = channel_statistics(data) if start is None else (start.mean, start.std)
        made = cls(network(settings, mean, std), mean, std, name, data.classes)
        if start is not None:
            made.module.load_state_dict(dict(start.state))
            made.source = checkpoints.weights_hash(start.state)
        return made

    def prepare(self, settings: TrainSettings, processes: int) -> None:
        """Raise RandhetError where some epochs should show recordings in half their steps."""
        if self.module.settings.sequence and settings.short_epochs:
            raise RandhetError(
                f"short_epochs is {settings.short_epochs}, a recording of {self.module.settings.steps} frames cannot "
                "be shown in half the time steps: leave it out"
            )

    def rounded(self) -> Sequence[Rounded]:
        """Return every layer with weights; RandhetError for a baseline, which has no use for rounded ones."""
        if (baseline := self.module.settings.baseline) != "none":
            raise RandhetError(
                f"qat_bits rounds weights for export, baseline {baseline!r} cannot be exported: leave it out"
            )
        return weighted(self.module)

    def shorten(self, half: bool) -> None:
        """Run half of the time steps, at least one, or all."""
        steps = self.module.settings.steps
        self.module.encode.steps = max(1, steps // 2) if half else steps

    def state(self) -> dict[str, Tensor]:
        """Return copies of the weights as they are now."""
        return copied(self.module)

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take weights."""
        self.module.load_state_dict(dict(state))

    def saved(self, state: Mapping[str, Tensor], record: Mapping[str, Any], resume: Mapping[str, Any]) -> Checkpoint:
        """Return a checkpoint."""
        settings = self.module.settings
        return Checkpoint(settings, state, self.mean, self.std, self.data, self.classes, record, resume=resume)

    def write(self, path: str | Path, saved: Saved) -> None:
        """Write a checkpoint."""
        assert isinstance(saved, Checkpoint)
        checkpoints.save(path, saved)

    def read(self, path: str | Path) -> tuple[Checkpoint, bool]:
        """Read a checkpoint, and tell whether it has the settings of this model."""
        found = checkpoints.load(path)
        return found, found.settings == self.module.settings
