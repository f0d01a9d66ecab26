"""Every kernel of the table of limits runs as the engine runs it, with a positive time and limit."""

from __future__ import annotations

from collections.abc import Callable
from math import isnan

import pytest

from randhet.fixed_point.kernels import dense
from scripts import limits


def test_every_kernel_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[Callable[[], object]] = []

    def once(call: Callable[[], object]) -> float:
        ran.append(call)
        call()
        return 1e-3

    monkeypatch.setattr(limits, "best", once)
    limit = limits.Machine(1.0, 1.0, 1.0, 1.0, 1.0, 1.0)
    found = [kernel for kernels in limits.KERNELS for kernel in kernels(limit)]
    names = {kernel.name for kernel in found}
    assert len(names) == len(found) == len(ran)
    assert {"fire_drawn", "gather", "pooling 4x4", "stem, by bit planes"} <= names
    assert ("products, 128 to 128 channels" in names) == dense.AVAILABLE
    assert all(kernel.took > 0 and kernel.limit > 0 and not isnan(kernel.limit) for kernel in found)
