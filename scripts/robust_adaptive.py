"""What the attacks with the adaptive surrogate left, among the results of `randhet attack`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from scripts.robust_page import Result, shares

BATTERY = "snn-auto"


def adaptive(result: Result) -> dict[str, Any]:
    """The evaluations by attacks with the adaptive surrogate, by "ATTACK KIND"."""
    return {
        f"{attack} {kind}": reading
        for attack, kinds in result["readings"].items()
        if "+assg" in attack or attack == BATTERY
        for kind, reading in kinds.items()
    }


def left_by_all(result: Result) -> NDArray[np.float64]:
    """(images,) in 0..1: the lowest share of right draws over the adaptive attacks, image by image."""
    lowest: NDArray[np.float64] = np.stack([shares(reading) for reading in adaptive(result).values()]).min(axis=0)
    return lowest


def lowest(result: Result) -> Any:
    """The evaluation of the adaptive attack that leaves least."""
    return min(adaptive(result).values(), key=lambda reading: reading["accuracy"])
