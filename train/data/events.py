"""Events of a camera, or of any sensor that sends spikes, and how they become frames of counts.

An event says when (microseconds), where (y, x) and of which polarity. Frame k of T counts those whose time lies in the
k-th of T equal parts of the recording, or the k-th of T equal shares of all events.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from randhet.train.data.images import DataError

By = Literal["time", "count"]
MAX_EVENTS = 2**26
"""Of one recording, 67 million."""
MAX_FRAME_VALUES = 2**28
"""Of the frames of one recording."""
MAX_SET_VALUES = 2**32
"""Values of all frames of a set, 4 GiB."""
MOST = 255
"""Events that one value of a frame can count."""
LATEST = 2**62
"""Times lie below, in microseconds."""


class Events(NamedTuple):
    """Arrays of one length: t in microseconds, not falling; x and y from 0; polarity p 0 or 1. size (y, x)."""

    t: NDArray[np.integer]
    x: NDArray[np.integer]
    y: NDArray[np.integer]
    p: NDArray[np.integer]
    size: tuple[int, int]


@dataclass(frozen=True)
class Binning:
    """T frames by equal times or equal counts; polarities: 2 channels, OFF first, or 1 for both together."""

    frames: int = 16
    by: By = "time"
    polarities: int = 2

    def __post_init__(self) -> None:
        if not 1 <= self.frames <= 2**16:
            raise DataError(f"frames are {self.frames}, the limits are 1 to {2**16}")
        if self.by not in get_args(By):
            raise DataError(f"events are binned by {self.by!r}, it must be {' or '.join(get_args(By))}")
        if self.polarities not in (1, 2):
            raise DataError(f"polarities are {self.polarities}, they must be 1 or 2")


def check(events: Events, name: str) -> None:
    """DataError, one sentence, for what is no recording: order, signs, places and sizes are looked at."""
    t, x, y, p, (rows, columns) = events
    if not len(t) == len(x) == len(y) == len(p):
        raise DataError(f"{name} has {len(t)} times, {len(x)} x, {len(y)} y and {len(p)} polarities")
    if len(t) > MAX_EVENTS:
        raise DataError(f"{name} has {len(t)} events, the limit is {MAX_EVENTS}")
    if not len(t):
        raise DataError(f"{name} has no events")
    for what, values, high in (("x", x, columns - 1), ("y", y, rows - 1), ("polarity", p, 1), ("time", t, LATEST)):
        low, largest = int(values.min()), int(values.max())
        if low < 0 or largest > high:
            raise DataError(f"{name}: {what} lies in {low}..{largest}, the limits are 0 to {high}")
    if (t[1:] < t[:-1]).any():
        later = int((t[1:] < t[:-1]).argmax()) + 1
        raise DataError(f"{name}: event {later} is earlier than the one before it: sort the events by time")


def binned(events: Events, binning: Binning, name: str) -> NDArray[np.uint8]:
    """Frames (T, polarities, Y, X) of counts; DataError where a count passes 255."""
    check(events, name)
    shape = (binning.frames, binning.polarities, *events.size)
    if prod(shape) > MAX_FRAME_VALUES:
        raise DataError(f"{name}: its frames have {prod(shape)} values, the limit is {MAX_FRAME_VALUES}")
    polarity = np.zeros(len(events.t), np.int64) if binning.polarities == 1 else events.p.astype(np.int64)
    place = np.ravel_multi_index((frame_of(events, binning), polarity, events.y, events.x), shape)
    counts = np.bincount(place, minlength=prod(shape))
    if (most := int(counts.max())) > MOST:
        raise DataError(f"{name}: {most} events fall on one value of a frame, the limit is {MOST}: use more frames")
    return counts.astype(np.uint8).reshape(shape)


def frame_of(events: Events, binning: Binning) -> NDArray[np.int64]:
    """The frame of each event, 0..T-1."""
    if binning.by == "count":
        return np.arange(len(events.t), dtype=np.int64) * binning.frames // len(events.t)
    since = events.t.astype(np.int64) - int(events.t[0])
    duration = int(since[-1]) + 1
    if duration * binning.frames < 2**63:
        return since * binning.frames // duration
    # the product would pass 64 bits: parts of a duration as long as that are found by their ends
    ends = [duration * k // binning.frames for k in range(1, binning.frames)]
    return np.searchsorted(np.array(ends, np.int64), since, side="right").astype(np.int64)
