"""Can bias correction have added what a file says it added? The claim is held against the rounding it makes up for.

Correction adds the mean over images of v[n] = mean over steps and places of sum (w - s*q)*x[n], in units (see
`export.passes.correct`). The calibration images are not at hand; those compared are, and a mean of v over images like
them lies well within mean(v) +- 4 sd(v). With fewer than `MANY` images only sum (w - s*q)*(largest x) bounds it, where
w - s*q is positive from above, where negative from below.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from randhet.fixed_point.diagnosis.fit import patches
from randhet.fixed_point.network import Range, Weighted

MANY = 8
"""So few images say nothing of the spread of v."""
MOST = 32
"""Images looked at."""
DEVIATIONS = 4.0
ROUNDED = 0.5


@dataclass(frozen=True)
class Claim:
    """shift: what the file says was added to a channel's bias; low, high: what rounding its weights explains; units."""

    shift: int
    low: float
    high: float

    @property
    def credible(self) -> bool:
        """No correction needs no explanation."""
        return self.shift == 0 or self.low - ROUNDED <= self.shift <= self.high + ROUNDED

    def __str__(self) -> str:
        return f"corrected by {self.shift} as the file tells, rounding explains {self.low:.1f} to {self.high:.1f}"


NOTHING = Claim(0, 0.0, 0.0)


def claim(
    shift: int, lost: NDArray[np.float64], operation: Weighted, channel: int, read: NDArray[np.int64], span: Range
) -> Claim:
    """lost (taps,): w - s*q of the channel in units of its bias; read (images, T, ...): what it reads, in span."""
    sample = read[:MOST]
    low = np.minimum(lost * span.low, lost * span.high).sum()
    high = np.maximum(lost * span.low, lost * span.high).sum()
    if len(sample) >= MANY:
        means = sample.mean(axis=1, keepdims=True)
        v = patches(operation, means, channel).reshape(len(sample), -1, len(lost)).mean(axis=1) @ lost
        reach = DEVIATIONS * v.std(ddof=1)
        low, high = max(low, v.mean() - reach), min(high, v.mean() + reach)
    return Claim(shift, float(low), float(high))
