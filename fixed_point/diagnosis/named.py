"""What an explanation is: a kind of cause, and the numbers that say which."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Cause:
    """kind: shape, saturation, rounding, tie, threshold, bias, weight, tau, reset, recurrence, discretisation,
    read-out, operation or unexplained.
    """

    kind: str
    detail: str
