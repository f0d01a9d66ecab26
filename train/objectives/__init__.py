"""What a training step minimises, by name: plain, AT, RAT, SR."""

from __future__ import annotations

from train.objectives.at import AT
from train.objectives.base import Objective, Recipe
from train.objectives.plain import PLAIN
from train.objectives.rat import RAT
from train.objectives.sr import SR

OBJECTIVES: dict[str, Objective] = {"plain": PLAIN, "at": AT, "rat": RAT, "sr": SR}

__all__ = ["OBJECTIVES", "Objective", "Recipe"]
