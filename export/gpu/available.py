"""Whether Triton can run kernels here: on a CUDA device, or in its interpreter."""

from __future__ import annotations

import os

from randhet.base import triton

INTERPRETER = "TRITON_INTERPRET"
"""Triton reads this variable when a kernel is defined: 1 for its interpreter, which needs no GPU."""


def interpreted() -> bool:
    """Return whether kernels that are defined now run in Triton's interpreter."""
    return os.environ.get(INTERPRETER, "").lower() in ("1", "true", "yes", "on", "y")


def missing() -> str | None:
    """Say why the kernels cannot run here, None where they can."""
    if reason := triton.missing():
        return reason
    if interpreted():
        return None
    import torch

    if torch.cuda.is_available():
        return None
    return f"torch sees no CUDA device; {INTERPRETER}=1 runs the same kernels slowly without one"
