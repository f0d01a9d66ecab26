"""The fused neuron on a GPU: tensors of any dense layout in, Triton kernels over elements.

Decays are drawn by the hash of the kernels for the CPU, so that a seed gives the same decays on both. Backward keeps
the currents alone; its scratch memory of T membrane potentials is freed when it ends.
"""

from __future__ import annotations

from contextlib import nullcontext
from functools import lru_cache
from importlib import import_module
from math import pi
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from randhet.base import triton
from randhet.train import cpu
from randhet.train.cpu import arranged, memory_order, neuron_shape, restored
from randhet.train.kernels import BITS, CONSTANT, STEP, Cell
from randhet.train.world import world

BLOCK = 512
"""Elements of a program."""
DEVICES = ("cuda",)
FUSION = {"enable_fp_fusion": False}
"""A product and a sum round one after another, as on the CPU: the same decays then give the same spikes."""


class Decays(NamedTuple):
    """Mode, keys of the hash (T, 2) int32 with the bits of uint32, table; all on the device. first: as the CPU's."""

    mode: int
    keys: Tensor
    table: Tensor
    first: int = 0


def supported(x: Tensor) -> bool:
    """Whether the kernels take these currents, and Triton is here."""
    return x.device.type in DEVICES and x.dtype in (torch.float32, torch.bfloat16) and usable()


@lru_cache(1)
def usable() -> bool:
    """Whether Triton is here, in a version that the kernels are written for."""
    return triton.missing() is None


@lru_cache(64)
def tau_table(sigma: float, device: torch.device) -> Tensor:
    """Copy `cpu.tau_table` to a device."""
    return torch.from_numpy(cpu.tau_table(sigma)).to(device)


def random_decays(seed: int, steps: int, sigma: float, sampling: str, device: torch.device) -> Decays:
    """Decays drawn at every step, or per forward pass: those of `cpu.random_decays`."""
    keys = torch.from_numpy(cpu.keys(seed, steps).view(np.int32)).to(device)
    return Decays(cpu.MODES[sampling], keys, tau_table(sigma, device), world().first)


def constant_decays(decay: Tensor, order: tuple[int, ...] = ()) -> Decays:
    """One decay, or one per neuron (...) in the memory order of the currents."""
    laid = decay.detach().float().permute(order).reshape(-1) if order else decay.detach().float().reshape(-1)
    return Decays(CONSTANT, torch.zeros(2, dtype=torch.int32, device=decay.device), laid.contiguous())


def drawn(decays: Decays, t: int, like: Tensor) -> Tensor:
    """The decays (N, ...) float32 that the kernels use at step t for currents (T, N, ...), by torch's operations."""
    order = memory_order(like)
    shape = like.permute(0, *order).shape[1:]
    first, second = (decays.keys[t if decays.mode == STEP else 0].to(torch.int64) & 0xFFFFFFFF).unbind()
    start = decays.first * like[0, 0].numel()
    h = (torch.arange(start, start + shape.numel(), device=like.device) & 0xFFFFFFFF) ^ first
    # products modulo 2^64 have the lower 32 bits of products modulo 2^32
    h = ((h ^ (h >> 16)) * 0x7FEB352D & 0xFFFFFFFF) ^ second
    h = (h ^ (h >> 15)) * 0x846CA68B & 0xFFFFFFFF
    index = (h ^ (h >> 16)) >> (32 - BITS)
    return restored(decays.table[index].reshape(1, *shape), order)[0]


class GpuLif(torch.autograd.Function):
    """All T steps, forward and backward, for currents (T, N, ...); strict threshold. As `cpu.CpuLif` without a site."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, learned: Tensor | None, decays: Decays, cell: Cell) -> Tensor:
        order = memory_order(x)
        x = arranged(x, order)
        if learned is not None:
            decays = constant_decays(learned.expand(neuron_shape(x, order)), tuple(axis - 2 for axis in order[1:]))
        spikes = torch.empty_like(x, memory_format=torch.contiguous_format)
        launched("forward", x, decays, cell, spikes)
        ctx.order, ctx.decays, ctx.cell = order, decays, cell
        ctx.save_for_backward(x, learned)
        return restored(spikes, order)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        x, learned = ctx.saved_tensors
        given = grads[0].permute(0, *ctx.order).contiguous()
        by_x, scratch = torch.empty_like(given), torch.empty(given.shape, device=x.device)
        by_tau = torch.empty(x.shape[1:] if learned is not None else (1,), device=x.device)
        tensors = (given, by_x, by_tau, scratch)
        launched("backward", x, ctx.decays, ctx.cell, tensors, learned is not None)
        gradient = None
        if learned is not None:
            shaped = restored(by_tau.sum(0).reshape(1, 1, *x.shape[2:]), ctx.order)[0, 0]
            gradient = shaped.sum_to_size(learned.shape)
        return restored(by_x, ctx.order), gradient, None, None


def launched(name: str, x: Tensor, decays: Decays, cell: Cell, tensors: Any, *options: bool) -> None:
    """Launch a kernel of `gpu_kernels` over the elements of a step."""
    kernels = import_module("randhet.train.gpu_kernels")  # Triton is loaded where it is used
    size, stride = x[0].numel(), 0 if len(x) == 1 else x.stride(0)
    work = kernels.Steps(x, stride, size, len(x))
    draws = kernels.Draws(decays.keys, decays.table, decays.first * x[0, 0].numel(), len(decays.table))
    slopes = kernels.Slopes(float(cell.theta), cell.alpha / 2, pi / 2 * cell.alpha)
    launch = getattr(kernels, name)[(-(-size // BLOCK),)]
    # Triton launches on the current device, which need not be the one that holds the tensors
    with torch.cuda.device(x.device) if x.is_cuda else nullcontext():
        launch(work, draws, slopes, tensors, decays.mode, bool(cell.subtract), *options, BLOCK, **FUSION)
