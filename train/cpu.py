"""The fused neuron on the CPU: tensors of any dense layout in, compiled kernels over blocks, as many threads as torch.

Backward keeps the currents alone: taus and membranes are made again, so a random neuron needs no more memory than a
constant one. Taus come from a counter-based hash and are one of 2^12 equally likely values of their distribution; an
element's draws depend on the seed, the step and its place in memory, never on threads.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from randhet.train import kernels
from randhet.train.kernels import BITS, BLOCK, CONSTANT, FORWARD, STEP
from randhet.train.world import world

MODES = {"step": STEP, "forward": FORWARD}
SMALL = 1 << 15
"""Below so many elements another thread costs more than it gives."""


@lru_cache(256)
def tau_table(sigma: float) -> NDArray[np.float32]:
    """sigmoid(sigma*n) at the middle of 2^BITS equally likely parts of n ~ N(0, 1)."""
    middles = (torch.arange(1 << BITS, dtype=torch.float64) + 0.5) / (1 << BITS)
    table: NDArray[np.float32] = torch.sigmoid(sigma * torch.special.ndtri(middles)).float().numpy()
    return table


def keys(seed: int, steps: int) -> NDArray[np.uint32]:
    """Two keys of the hash per step, (T, 2)."""
    return np.random.default_rng(seed).integers(0, 1 << 32, (steps, 2), dtype=np.uint32)


@dataclass(frozen=True)
class Taus:
    """Where the kernels get taus from: mode, keys (T, 2), and a table of the distribution or of the neurons.

    image: the place of the first image in the batch that several processes share.
    """

    mode: int
    keys: NDArray[np.uint32]
    table: NDArray[np.float32]
    image: int = 0


def random_taus(seed: int, steps: int, sigma: float, sampling: str) -> Taus:
    """Taus drawn at every step, or per forward pass."""
    return Taus(MODES[sampling], keys(seed, steps), tau_table(sigma), world().first)


def constant_taus(tau: Tensor, order: tuple[int, ...] = ()) -> Taus:
    """One tau, or one per neuron (...) in the memory order of the currents."""
    arranged = tau.detach().float().permute(order).reshape(-1) if order else tau.detach().float().reshape(-1)
    return Taus(CONSTANT, np.zeros((1, 2), np.uint32), arranged.contiguous().numpy())


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


@cache
def pool(threads: int) -> ThreadPoolExecutor:
    """Threads that last as long as the program, one pool per number of them."""
    return ThreadPoolExecutor(threads)


def share(count: int, elements: int, work: Callable[[int, int], None]) -> None:
    """Call work(first, last) over 0..count in whole blocks, on as many threads as torch uses."""
    threads = torch.get_num_threads() if elements >= SMALL else 1
    part = -(-count // (threads * BLOCK)) * BLOCK
    parts = [(first, min(first + part, count)) for first in range(0, count, part)]
    if len(parts) == 1:
        work(*parts[0])
    else:
        list(pool(threads).map(lambda ends: work(*ends), parts))


class CpuLif(torch.autograd.Function):
    """All T steps, forward and backward, for currents (T, N, ...) that `supported` takes; strict threshold."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, tau: Tensor | None, taus: Taus, theta: float, alpha: float) -> Tensor:
        order = memory_order(x)
        x = arranged(x, order)
        if tau is not None:
            taus = constant_taus(tau.expand(tau_shape(x, order)), tuple(axis - 2 for axis in order[1:]))
        steps, period, offset = len(x), period_of(x, taus), offset_of(x, taus)
        spikes = torch.empty_like(x, memory_format=torch.contiguous_format)
        (currents, stride), (out, _) = flat(x), flat(spikes)
        share(period, x.numel(), lambda first, last: kernels.forward(
            currents, stride, out, steps, period, first, last, taus.mode, taus.keys, taus.table, offset, theta
        ))  # fmt: skip
        ctx.order, ctx.taus, ctx.theta, ctx.alpha = order, taus, theta, alpha
        ctx.save_for_backward(x, tau)
        return restored(spikes, order)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        x, tau = ctx.saved_tensors
        taus, steps, period = ctx.taus, len(x), period_of(x, ctx.taus)
        offset = offset_of(x, taus)
        grad = grads[0].permute(0, *ctx.order).contiguous()
        grad_x = torch.empty_like(grad)
        grad_tau = torch.zeros(0 if tau is None else period)
        (currents, stride), (given, _), (out, _) = flat(x), flat(grad), flat(grad_x)
        share(period, x.numel(), lambda first, last: kernels.backward(
            currents, stride, given, out, grad_tau.numpy(), steps, period, first, last,
            taus.mode, taus.keys, taus.table, offset, ctx.theta, ctx.alpha,
        ))  # fmt: skip
        if tau is not None:
            shaped = restored(grad_tau.reshape(1, 1, *x.shape[2:]), ctx.order)[0, 0]
            grad_tau = shaped.sum_to_size(tau.shape)
        return restored(grad_x, ctx.order), None if tau is None else grad_tau, None, None, None


def period_of(x: Tensor, taus: Taus) -> int:
    """How many elements of a step have taus of their own: those of an image, or all."""
    return x[0, 0].numel() if taus.mode == CONSTANT and len(taus.table) > 1 else x[0].numel()


def offset_of(x: Tensor, taus: Taus) -> int:
    """What the places of the elements start from when their draws are made."""
    return 0 if taus.mode == CONSTANT else taus.image * x[0, 0].numel()


def tau_shape(x: Tensor, order: tuple[int, ...]) -> torch.Size:
    """The shape of one image's neurons before arranging."""
    return restored(x, order).shape[2:]


def drawn(taus: Taus, t: int, like: Tensor) -> Tensor:
    """The taus (N, ...) float32 that the kernels use at step t for currents (T, N, ...)."""
    order = memory_order(like)
    shape = like.permute(0, *order).shape[1:]
    values = np.empty(shape.numel(), np.float32)
    step = t if taus.mode == STEP else 0
    kernels.fill(
        values, step, offset_of(like, taus), taus.mode, taus.keys, taus.table, np.empty(values.size, np.uint32)
    )
    return restored(torch.from_numpy(values).reshape(1, *shape), order)[0]
