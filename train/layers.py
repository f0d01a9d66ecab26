"""Layers over time. Spikes are (T, N, ...); before `Encode` there is no time axis, so the stem runs once per image.

Each is a leaf for `torch.fx`, so that a model built of them can be traced and exported. Parameter names are torch's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from randhet.train.world import SumOverAll, world


def over_steps(layer: Callable[[Tensor], Tensor], x: Tensor, axes: int) -> Tensor:
    """Apply a layer for (N, ...) of `axes` axes to (T, N, ...) as well, T and N as one batch."""
    if x.dim() == axes:
        return layer(x)
    return layer(x.flatten(0, 1)).unflatten(0, x.shape[:2])


class Conv2d(nn.Conv2d):
    """torch's Conv2d, at every step."""

    def forward(self, x: Tensor) -> Tensor:
        return over_steps(super().forward, x, 4)


class Conv1d(nn.Conv1d):
    """torch's Conv1d, at every step."""

    def forward(self, x: Tensor) -> Tensor:
        return over_steps(super().forward, x, 3)


class ConvTranspose2d(nn.ConvTranspose2d):
    """torch's ConvTranspose2d, at every step, with the output size that follows from its arguments."""

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return over_steps(super().forward, x, 4)


class BatchNorm2d(nn.BatchNorm2d):
    """torch's BatchNorm2d with statistics over steps and images alike, and over all processes of a training run."""

    def forward(self, x: Tensor) -> Tensor:
        shared = self.training and world().size > 1
        return over_steps(self._over_processes if shared else super().forward, x, 4)

    def _over_processes(self, x: Tensor) -> Tensor:
        """The same on a batch that several processes share; torch's own SyncBatchNorm wants GPUs."""
        wide = x.float()
        ones = wide.new_full((1,), wide.numel() / wide.shape[1])
        sums = SumOverAll.apply(torch.cat([wide.sum((0, 2, 3)), wide.square().sum((0, 2, 3)), ones]))
        count, channels = sums[-1].detach(), wide.shape[1]
        mean, square = sums[:channels] / count, sums[channels:-1] / count
        variance = (square - mean.square()).clamp_min(0)
        self._track(mean.detach(), variance.detach() * count / (count - 1))
        gain = self.weight * torch.rsqrt(variance + self.eps)
        shift = self.bias - mean * gain
        return (wide * gain.view(-1, 1, 1) + shift.view(-1, 1, 1)).to(x.dtype)

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor) -> None:
        assert self.running_mean is not None and self.running_var is not None and self.momentum is not None
        assert self.num_batches_tracked is not None
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance, self.momentum)
        self.num_batches_tracked.add_(1)


class BatchNorm1d(nn.BatchNorm1d):
    """torch's BatchNorm1d of (N, features), with statistics over steps and images alike."""

    def forward(self, x: Tensor) -> Tensor:
        return over_steps(super().forward, x, 2)


def spread(x: Tensor, stride: tuple[int, int], extra: tuple[int, int] = (0, 0)) -> Tensor:
    """Put zeros between the values of (..., Y, X): value y at y*stride, extra zeros at the end."""
    sizes = [(size - 1) * gap + 1 + more for size, gap, more in zip(x.shape[-2:], stride, extra)]
    wide = x.new_zeros((*x.shape[:-2], *sizes))
    wide[..., : sizes[0] - extra[0] : stride[0], : sizes[1] - extra[1] : stride[1]] = x
    return wide


class Linear(nn.Linear):
    """torch's Linear, at every step."""


class AvgPool1d(nn.AvgPool1d):
    """torch's AvgPool1d, at every step."""

    def forward(self, x: Tensor) -> Tensor:
        return over_steps(super().forward, x, 3)


class MaxPool1d(nn.MaxPool1d):
    """torch's MaxPool1d, at every step."""

    def forward(self, x: Tensor) -> Tensor:
        return over_steps(super().forward, x, 3)


class AvgPool2d(nn.AvgPool2d):
    """torch's AvgPool2d, at every step; no padding, so that it exports as a sum."""

    def __init__(self, kernel_size: int | tuple[int, int], stride: int | tuple[int, int] | None = None) -> None:
        super().__init__(kernel_size, stride)

    def forward(self, x: Tensor) -> Tensor:
        return over_steps(super().forward, x, 4)


class MaxPool2d(nn.MaxPool2d):
    """torch's MaxPool2d, at every step."""

    def forward(self, x: Tensor) -> Tensor:
        return over_steps(super().forward, x, 4)


class GlobalAveragePool(nn.Module):
    """(..., C, Y, X) to (..., C, 1, 1), the mean over the image."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((-2, -1), keepdim=True)


class Flatten(nn.Module):
    """(..., C, Y, X) to (..., C*Y*X)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(-3)


class Normalise(nn.Module):
    """(x - mean) / std per channel for images in 0..1, (N, C, Y, X)."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        for name, value in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.tensor(value).reshape(-1, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std


class Encode(nn.Module):
    """Direct encoding: the same current at each of T steps, (N, ...) to (T, N, ...)."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps

    def forward(self, x: Tensor) -> Tensor:
        return x.unsqueeze(0).expand(self.steps, *x.shape)

    def extra_repr(self) -> str:
        return f"steps={self.steps}"


class Frames(nn.Module):
    """Recordings (N, T, ...) to (T, N, ...), a frame for each of T steps."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps

    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(0, 1)


class MeanOverTime(nn.Module):
    """(T, N, classes) to (N, classes)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(0)
