"""Random crops and mirror images."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def augment(images: Tensor, crop: int, flip: bool) -> Tensor:
    """Random shift by up to `crop` pixels over zeros, and random mirror, per image (N, C, Y, X).

    All frames of a recording (N, T, C, Y, X) move alike.
    """
    if images.dim() == 5:
        return augment(images.flatten(1, 2), crop, flip).unflatten(1, images.shape[1:3])
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
