"""The backend `cuda` in Triton's interpreter, whatever this machine has."""

from __future__ import annotations

import sys

import pytest

from randhet.base import triton
from randhet.fixed_point.backends import Runner, runner


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Runner:
    """Kernels decide between interpreter and GPU when they are defined: those defined for a GPU are loaded anew."""
    if reason := triton.missing():
        pytest.skip(reason)
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    launch = sys.modules.get("randhet.export.gpu.launch")
    if launch and not launch.INTERPRETED:
        for name in [name for name in sys.modules if name.startswith("randhet.export.gpu.")]:
            monkeypatch.delitem(sys.modules, name)
    return runner("cuda")
