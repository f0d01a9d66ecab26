"""How a network's numbers lie in memory: channels last is half again as fast on a CPU."""

from __future__ import annotations

import torch
from torch import nn

NARROW = 16
"""Channels from which on torch computes the gradient of a strided 1x1 convolution with channels last."""


def layout(model: nn.Module) -> torch.memory_format:
    """Return channels last, or torch's usual order for a narrow strided 1x1 convolution or a norm of each channel.

    The gradient of such a convolution with channels last ends the process in torch 2.13 on a CPU: seen with 1 to 8
    channels on 64 x 64 pixels, not with 16. A group norm of one channel a group, as in RNA, makes a training step twice
    as slow with channels last.
    """
    narrow = (
        isinstance(layer, nn.Conv2d)
        and tuple(layer.kernel_size) == (1, 1)
        and tuple(layer.stride) != (1, 1)
        and min(layer.in_channels, layer.out_channels) < NARROW
        for layer in model.modules()
    )
    alone = (isinstance(layer, nn.GroupNorm) and layer.num_groups == layer.num_channels for layer in model.modules())
    return torch.contiguous_format if any(narrow) or any(alone) else torch.channels_last
