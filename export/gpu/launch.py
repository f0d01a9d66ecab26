"""How kernels are launched: the device that tensors live on, and programs of a fixed number of elements."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from randhet.export.gpu.available import interpreted

INTERPRETED = interpreted()
"""As it was when this module was loaded, which is when its kernels were defined."""
DEVICE = "cpu" if INTERPRETED else "cuda"
BLOCK = 1024
"""Elements of a program that works on single values."""
KINDS = {np.dtype(np.uint16): np.int32, np.dtype(np.uint32): np.int32}
"""What torch cannot compute with, and the type that its bits or values are kept in."""


def blocks(elements: int) -> tuple[int]:
    """Return the grid of programs that cover so many elements."""
    return (-(-elements // BLOCK),)


def placed(values: np.ndarray) -> Tensor:
    """Copy an array to the device; uint16 becomes int32, uint32 keeps its bits."""
    kind = KINDS.get(values.dtype, values.dtype)
    moved = values.view(kind) if values.dtype == np.uint32 else values.astype(kind)
    return torch.from_numpy(np.array(moved, order="C")).to(DEVICE)  # a copy: values may be read-only, or change later


def empty(*shape: int, kind: Any = torch.int32) -> Tensor:
    """Return a tensor on the device, its values undefined."""
    return torch.empty(shape, dtype=kind, device=DEVICE)


def zeros(*shape: int) -> Tensor:
    """Return int32 zeros on the device."""
    return torch.zeros(shape, dtype=torch.int32, device=DEVICE)
