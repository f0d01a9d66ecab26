"""Mixed precision: convolutions and linear layers in bfloat16, everything else in float32."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch

PRECISIONS = ("float32", "bfloat16")


def mixed(device: str, name: str) -> AbstractContextManager[Any]:
    """Within the block convolutions and linear layers are of the named precision; weights stay float32."""
    return torch.autocast(device, torch.bfloat16, enabled=name == "bfloat16")
