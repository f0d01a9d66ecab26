"""One process or several: which part of a batch is this one's, and sums over all (gloo on CPUs, nccl on GPUs)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class World:
    """Process `rank` of `size`. A batch of n images is split into runs of neighbours, so that all draws are those of
    a single process with the whole batch. `images` is n while a batch is being worked on."""

    rank: int = 0
    size: int = 1
    images: int | None = None

    def part(self, n: int) -> slice:
        """This process's share of n images."""
        return slice(n * self.rank // self.size, n * (self.rank + 1) // self.size)

    @property
    def first(self) -> int:
        """Place of this process's first image in the batch."""
        return 0 if self.images is None else self.part(self.images).start

    def uniform_like(self, images: Tensor, radius: float) -> Tensor:
        """U(-radius, radius) for this process's images out of noise drawn for the whole batch."""
        whole = self.images if self.images is not None else len(images)
        noise = torch.empty(whole, *images.shape[1:], dtype=images.dtype).uniform_(-radius, radius)
        mine = noise if self.images is None else noise[self.part(whole)]
        return mine.to(images.device)

    def mean(self, value: Tensor) -> float:
        """The mean of a number over the processes."""
        if self.size == 1:
            return float(value)
        total = value.clone()
        dist.all_reduce(total)
        return float(total) / self.size


ALONE = World()
_current: ContextVar[World] = ContextVar("world")


def world() -> World:
    """The world in force."""
    return _current.get(ALONE)


@contextmanager
def inside(current: World) -> Iterator[World]:
    """Make `current` the world in force within the block."""
    token = _current.set(current)
    try:
        yield current
    finally:
        _current.reset(token)


@contextmanager
def joined() -> Iterator[World]:
    """The world that `torchrun` started this process in; a world of one without it."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1 or dist.is_initialized():
        yield world()
        return
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        with inside(World(dist.get_rank(), size)) as current:
            yield current
    finally:
        dist.destroy_process_group()


class SumOverAll(torch.autograd.Function):
    """The sum of a tensor over all processes; so is its gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = x.clone()
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        total = grads[0].contiguous().clone()
        dist.all_reduce(total)
        return total
