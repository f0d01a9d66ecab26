"""Channels last where torch computes it right; narrow networks are trained on large frames."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from randhet.train.checkpoint import build, random_init
from randhet.train.layout import layout
from randhet.train.models import NAMED, ModelSettings


def made(*widths: int) -> nn.Module:
    settings = ModelSettings(2, 3, (16, 16), widths, (1,) * len(widths), steps=2)
    return build(random_init(settings, images=np.zeros((1, 2, 16, 16), np.uint8)))


def test_only_narrow_strided_projections_are_left_in_the_usual_order() -> None:
    assert layout(made(16, 32)) == layout(made(4)) == torch.channels_last
    assert layout(made(8, 16)) == layout(made(2, 2)) == torch.contiguous_format
    assert all(min(settings.widths) >= 16 for settings in NAMED.values())


def test_norms_of_each_channel_are_left_in_the_usual_order() -> None:
    assert layout(nn.Sequential(nn.Conv2d(3, 32, 3), nn.GroupNorm(32, 32))) == torch.contiguous_format
    assert layout(nn.Sequential(nn.Conv2d(3, 32, 3), nn.GroupNorm(8, 32))) == torch.channels_last


STEP = """
import torch
from torch import nn
from randhet.train.layout import layout
net = nn.Sequential(nn.Conv2d(2, 2, 3, padding=1), nn.Conv2d(2, 4, 1, stride=2))
net = net.to(memory_format=layout(net))
net(torch.rand(24, 2, 128, 128).contiguous(memory_format=layout(net))).sum().backward()
print(float(net[1].bias.grad[0]))
"""


@pytest.mark.timeout(60)
def test_the_gradient_of_a_narrow_network_on_large_frames() -> None:
    done = subprocess.run([sys.executable, "-c", STEP], capture_output=True, text=True, check=True)
    assert float(done.stdout) == 24 * 64 * 64
