"""An event camera that looks at still pictures: it moves in three saccades, and pixels report changes of brightness.

The manner of N-MNIST (Orchard et al. 2015): three straight movements that form a triangle. A pixel keeps the logarithm
of the brightness at its last event; once the present one is higher or lower by a contrast, it sends an ON or OFF event
and moves its level by as much. Deterministic: the same picture gives the same events.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Frames = NDArray[np.uint8]

LEGS = ((2.0, 1.0), (-2.0, 1.0), (0.0, -2.0))
"""Movement (y, x) of the camera in pixels during each saccade; together a closed triangle."""
CONTRAST = 0.35
"""Change of log brightness for one event."""
DARK = 0.08
"""Brightness, of 0..1, that is added before the logarithm: no picture is quite black."""
SUBSTEPS = 4
"""Looks at the picture within one frame."""
MOST_EVENTS = 255


def record(pictures: NDArray[np.floating], steps: int, margin: int = 2) -> Frames:
    """Events of pictures (N, Y, X), brightness 0..1, as frames (N, T, 2, Y + 2*margin, X + 2*margin) of counts.

    Channel 0 counts ON events, channel 1 OFF events, of each of T frames of equal duration. T is a multiple of 3.
    """
    if steps % len(LEGS):
        raise ValueError(f"steps are {steps}, they must be a multiple of {len(LEGS)}, one part for each saccade")
    padded = np.pad(pictures, ((0, 0), (margin, margin), (margin, margin)))
    level = np.log(padded + DARK)
    frames = np.zeros((len(padded), steps, 2, *padded.shape[1:]), np.int64)
    for t, places in enumerate(path(steps)):
        for place in places:
            change = np.log(shifted(padded, *place) + DARK) - level
            count = np.trunc(change / CONTRAST)
            level += count * CONTRAST
            frames[:, t, 0] += np.maximum(count, 0).astype(np.int64)
            frames[:, t, 1] += np.maximum(-count, 0).astype(np.int64)
    return np.minimum(frames, MOST_EVENTS).astype(np.uint8)


def path(steps: int) -> list[list[tuple[float, float]]]:
    """Where the camera is at each look, in pixels from the start: T lists of (y, x)."""
    looks = steps * SUBSTEPS
    per_leg = looks // len(LEGS)
    starts = np.concatenate([np.zeros((1, 2)), np.cumsum(LEGS, axis=0)])
    places = [
        tuple(float(value) for value in starts[leg] + np.array(LEGS[leg]) * (look + 1) / per_leg)
        for leg in range(len(LEGS))
        for look in range(per_leg)
    ]
    return [[(y, x) for y, x in places[t * SUBSTEPS : (t + 1) * SUBSTEPS]] for t in range(steps)]


def shifted(pictures: NDArray[np.floating], y: float, x: float) -> NDArray[np.floating]:
    """Pictures (N, Y, X) seen from (y, x) pixels further down and right, between pixels by linear interpolation."""
    return _along(_along(pictures, y, 1), x, 2)


def _along(pictures: NDArray[np.floating], distance: float, axis: int) -> NDArray[np.floating]:
    whole = int(np.floor(distance))
    part = distance - whole
    return (1 - part) * _rolled(pictures, whole, axis) + part * _rolled(pictures, whole + 1, axis)


def _rolled(pictures: NDArray[np.floating], by: int, axis: int) -> NDArray[np.floating]:
    """Moved by whole pixels over black."""
    pad = [(0, 0)] * 3
    pad[axis] = (abs(by), abs(by))
    wide = np.pad(pictures, pad)
    return np.take(wide, np.arange(pictures.shape[axis]) + abs(by) + by, axis)
