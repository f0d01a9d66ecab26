"""The fused neuron on the CPU: tensors of any dense layout in, compiled kernels over blocks, as many threads as torch.

Backward keeps the currents alone: decays and membranes are made again, so a random neuron needs no more memory than a
constant one. Decays come from a counter-based hash and are one of 2^12 equally likely values of their distribution; an
element's draws depend on the seed, the step and its place in memory, never on threads.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from randhet.train import kernels
from randhet.train.attacks.spiking import Site
from randhet.train.kernels import BITS, CONSTANT, FORWARD, STEP, Cell, Decays, Part
from randhet.train.threads import share
from randhet.train.world import world

MODES = {"step": STEP, "forward": FORWARD}


@lru_cache(256)
def tau_table(sigma: float) -> NDArray[np.float32]:
    """sigmoid(sigma*n) at the middle of 2^BITS equally likely parts of n ~ N(0, 1)."""
    middles = (torch.arange(1 << BITS, dtype=torch.float64) + 0.5) / (1 << BITS)
    table: NDArray[np.float32] = torch.sigmoid(sigma * torch.special.ndtri(middles)).float().numpy()
    return table


def keys(seed: int, steps: int) -> NDArray[np.uint32]:
    """Two keys of the hash per step, (T, 2)."""
    return np.random.default_rng(seed).integers(0, 1 << 32, (steps, 2), dtype=np.uint32)


def random_decays(seed: int, steps: int, sigma: float, sampling: str) -> Decays:
    """Decays drawn at every step, or per forward pass. `first`: the batch's first image among all processes."""
    return Decays(MODES[sampling], keys(seed, steps), tau_table(sigma), world().first)


def constant_decays(decay: Tensor, order: tuple[int, ...] = ()) -> Decays:
    """One decay, or one per neuron (...) in the memory order of the currents."""
    arranged = decay.detach().float().permute(order).reshape(-1) if order else decay.detach().float().reshape(-1)
    return Decays(CONSTANT, np.zeros((1, 2), np.uint32), arranged.contiguous().numpy())


def supported(x: Tensor) -> bool:
    """Whether the kernels take these currents."""
    return x.device.type == "cpu" and x.dtype in (torch.float32, torch.bfloat16)


def memory_order(x: Tensor) -> tuple[int, ...]:
    """Axes 1.. of (T, N, ...) from the slowest to the fastest in memory, images first; as written if not dense."""
    axes = sorted(range(2, x.dim()), key=lambda axis: (x.shape[axis] > 1, x.stride(axis)), reverse=True)
    order = (1, *axes)
    return order if x[0].permute([a - 1 for a in order]).is_contiguous() else tuple(range(1, x.dim()))


def arranged(x: Tensor, order: tuple[int, ...]) -> Tensor:
    """x with its axes in memory order, each step dense."""
    x = x.permute(0, *order)
    return x if x[0].is_contiguous() and x.stride(0) in (0, x[0].numel()) else x.contiguous()


def restored(x: Tensor, order: tuple[int, ...]) -> Tensor:
    """The inverse of the permutation of `arranged`."""
    return x.permute(0, *(order.index(axis) + 1 for axis in range(1, x.dim())))


def flat(x: Tensor) -> tuple[NDArray[Any], int]:
    """An arranged tensor as one row of numbers, and how far one step is from the next; bfloat16 as uint16."""
    stride = 0 if x.shape[0] == 1 else x.stride(0)
    line = (x[0] if stride == 0 else x).reshape(-1)
    if line.dtype == torch.bfloat16:
        return line.view(torch.int16).numpy().view(np.uint16), stride
    return line.numpy(), stride


class CpuLif(torch.autograd.Function):
    """All T steps, forward and backward, for currents (T, N, ...) that `supported` takes; strict threshold.

    site: gives the slopes of the spikes instead of `cell.alpha`. Learned decays then are constants, without gradient.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, learned: Tensor | None, decays: Decays, cell: Cell, site: Site | None = None
    ) -> Tensor:
        order = memory_order(x)
        x = arranged(x, order)
        if learned is not None:
            decays = constant_decays(learned.expand(neuron_shape(x, order)), tuple(axis - 2 for axis in order[1:]))
        decays = numbered(decays, x)
        period = period_of(x, decays)
        spikes = torch.empty_like(x, memory_format=torch.contiguous_format)
        distance = torch.empty(0 if site is None else x.shape)
        (currents, stride), (out, _), u = flat(x), flat(spikes), distance.reshape(-1).numpy()
        block = lambda first, last: Part(len(x), stride, period, first, last)
        share(period, x.numel(), lambda *ends: kernels.forward(currents, out, u, block(*ends), decays, cell))
        ctx.order, ctx.decays, ctx.cell, ctx.period = order, decays, cell, period
        slopes = None if site is None else arranged(site(restored(distance, order)), order).contiguous()
        ctx.save_for_backward(*((x, learned) if slopes is None else (spikes, slopes)))
        ctx.sited = site is not None
        return restored(spikes, order)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        grad = grads[0].permute(0, *ctx.order).contiguous()
        if ctx.sited:
            return restored(_sited(ctx, grad), ctx.order), None, None, None, None
        x, learned = ctx.saved_tensors
        decays, cell, period = ctx.decays, ctx.cell, ctx.period
        grad_x = torch.empty_like(grad)
        gradient = torch.zeros(0 if learned is None else period)
        (currents, stride), (given, _), (out, _), own = flat(x), flat(grad), flat(grad_x), gradient.numpy()
        block = lambda first, last: Part(len(x), stride, period, first, last)
        share(period, x.numel(), lambda *ends: kernels.backward(currents, given, out, own, block(*ends), decays, cell))
        if learned is not None:
            shaped = restored(gradient.reshape(1, 1, *x.shape[2:]), ctx.order)[0, 0]
            gradient = shaped.sum_to_size(learned.shape)
        return restored(grad_x, ctx.order), None if learned is None else gradient, None, None, None


def _sited(ctx: Any, grad: Tensor) -> Tensor:
    """The gradient by the currents, in memory order, under slopes that were given."""
    spikes, slopes = ctx.saved_tensors
    grad_x = torch.empty_like(grad)
    (fired, _), (slope, _), (given, _), (out, _) = flat(spikes), flat(slopes), flat(grad), flat(grad_x)
    part = lambda first, last: Part(len(grad), 0, ctx.period, first, last)
    subtract = ctx.cell.subtract
    share(
        ctx.period,
        grad.numel(),
        lambda *ends: kernels.backward_given(slope, fired, given, out, part(*ends), ctx.decays, subtract),
    )
    return grad_x


def period_of(x: Tensor, decays: Decays) -> int:
    """How many elements of a step have decays of their own: those of an image, or all."""
    return x[0, 0].numel() if decays.mode == CONSTANT and len(decays.table) > 1 else x[0].numel()


def numbered(decays: Decays, x: Tensor) -> Decays:
    """With the first image's number turned into that of its first element."""
    return decays._replace(first=decays.first * x[0, 0].numel())


def neuron_shape(x: Tensor, order: tuple[int, ...]) -> torch.Size:
    """The shape of one image's neurons before arranging."""
    return restored(x, order).shape[2:]


def drawn(decays: Decays, t: int, like: Tensor) -> Tensor:
    """The decays (N, ...) float32 that the kernels use at step t for currents (T, N, ...)."""
    order = memory_order(like)
    shape = like.permute(0, *order).shape[1:]
    values, index = np.empty(shape.numel(), np.float32), np.empty(shape.numel(), np.uint32)
    kernels.fill(values, t if decays.mode == STEP else 0, 0, numbered(decays, like), index)
    return restored(torch.from_numpy(values).reshape(1, *shape), order)[0]
