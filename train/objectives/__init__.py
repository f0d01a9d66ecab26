"""What a training step minimises, by name: plain, AT, AT on events, RAT, SR, TRADES."""

from __future__ import annotations

from randhet.train.objectives.at import AT
from randhet.train.objectives.at_events import AT_EVENTS
from randhet.train.objectives.base import Objective, Recipe
from randhet.train.objectives.plain import PLAIN
from randhet.train.objectives.rat import RAT
from randhet.train.objectives.sr import SR
from randhet.train.objectives.trades import TRADES

OBJECTIVES: dict[str, Objective] = {
    "plain": PLAIN,
    "at": AT,
    "at-events": AT_EVENTS,
    "rat": RAT,
    "sr": SR,
    "trades": TRADES,
}

__all__ = ["OBJECTIVES", "Objective", "Recipe"]
