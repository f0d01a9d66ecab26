"""What a training step minimises, by name: plain, AT, RAT, SR."""

from __future__ import annotations

from randhet.train.objectives.at import AT
from randhet.train.objectives.base import Objective, Recipe
from randhet.train.objectives.plain import PLAIN
from randhet.train.objectives.rat import RAT
from randhet.train.objectives.sr import SR

OBJECTIVES: dict[str, Objective] = {"plain": PLAIN, "at": AT, "rat": RAT, "sr": SR}

__all__ = ["OBJECTIVES", "Objective", "Recipe"]
