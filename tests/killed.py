"""Training that ends in the middle, as if its process had been killed."""

from __future__ import annotations

from collections.abc import Callable


class Killed(Exception):
    """What ends it."""


def kill_at(epoch: int, step: int) -> Callable[[dict[str, float]], None]:
    """Make a `report` that raises `Killed` at a step of an epoch."""

    def kill(report: dict[str, float]) -> None:
        if report["epoch"] == epoch and report.get("step") == step:
            raise Killed

    return kill
