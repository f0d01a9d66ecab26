"""Sums by multiplication where so much is active that adding rows would cost more.

With matrices of bytes (`matrix`) where the processor and the system have them, else with vectors of bytes (`vectors`)
where the processor has those; elsewhere `AVAILABLE` is false and rows are added at any activity. Values of more than
`MOST_PLANES` bits are not multiplied here.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import numpy as np

from randhet.fixed_point.kernels import matrix, vectors
from randhet.fixed_point.kernels.blocks import CHUNK, bits_set, marked
from randhet.fixed_point.kernels.compiled import inner

AVAILABLE = matrix.AVAILABLE or vectors.AVAILABLE
BY = matrix if matrix.AVAILABLE else vectors
MOST_PLANES = BY.MOST_PLANES


def pack(weight: np.ndarray, per_tap: int) -> np.ndarray:
    """Weight rows (taps * per_tap, width) int8 as the processor multiplies by them, flat; empty where it does not."""
    return BY.pack(weight, per_tap) if AVAILABLE else np.empty(0, np.int8)


def fits(per_tap: int, rows: int, planes: int) -> bool:
    """Whether a layer that reads so many inputs of a tap, rows and bits of a value may be multiplied."""
    return AVAILABLE and planes <= MOST_PLANES and BY.fits(per_tap, rows)


def takes(values: np.ndarray, per_tap: int, planes: int) -> bool:
    """Whether a layer that reads values (rows, pixels, channels) is multiplied: bytes alone, where it fits."""
    return values.dtype == np.uint8 and fits(per_tap, len(values), planes)


def shares(per_tap: int) -> bool:
    """Whether neighbouring windows of so many inputs of a tap share bytes that are laid out for them."""
    return AVAILABLE and BY.shares(per_tap)


if AVAILABLE:
    products, ahead = BY.products, BY.ahead
else:

    @inner
    def products(source, wide, begins, activity, pixel, count, sums, sums_at):
        """Never with a step here: tiles have no weights to multiply with."""

    @inner
    def ahead(source, wide, full, pixel, stop, sums, sums_at):
        """Likewise."""
        return 1


arranged, together, strip_rows, strip_bytes = BY.arranged, BY.together, BY.strip_rows, BY.strip_bytes


@inner
def crowded(source, limit, chosen):
    """Mark in chosen (T,) the steps of a `bundles.Source` at which more than `limit` bits of its inputs are set."""
    steps, pixels, channels = source.values.shape
    flat = source.values.reshape(-1)
    for t in range(steps):
        count = 0
        for pixel in range(pixels):
            position = (t * pixels + pixel) * channels + source.first
            for plane in range(source.planes):
                c = 0
                while c + CHUNK <= source.per_tap:
                    count += bits_set(marked(flat, position + c, plane))
                    c += CHUNK
                # channels beyond whole words, bit by bit
                while c < source.per_tap:
                    count += (flat[position + c] >> plane) & 1
                    c += 1
            # the rest decides nothing
            if count > limit:
                break
        chosen[t] = count > limit
