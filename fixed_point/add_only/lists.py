"""Lists of active inputs copied without branches that depend on how long they are, as long as they are short."""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from randhet.fixed_point.kernels.blocks import NEURONS, loop
from randhet.fixed_point.kernels.lanes import INT32, INT64, broadcast, build

AHEAD = 2 * NEURONS
"""Entries copied whatever the length: a list of 128 channels at 10 % is longer than 16 now and then, seldom than 32; a
processor that guesses wrong which it is loses more time than it takes to copy both.
"""
SLACK = AHEAD + NEURONS
"""Entries that lists and rows must have beyond their end."""


@intrinsic
def append(typing, rows, row_at, lists, start, stop, base):
    """rows[row_at : row_at + stop - start] = base + lists[start:stop] (uint32); touches up to 32 entries more."""

    def write(builder, rows, row_at, lists, start, stop, base):
        shift, ahead = broadcast(builder, builder.trunc(base, INT32), NEURONS), builder.sub(row_at, start)

        def copy(position: ir.Value) -> None:
            rows.store(builder.add(position, ahead), lists.load(position, NEURONS) + shift)

        for first in range(0, AHEAD, NEURONS):
            copy(builder.add(start, INT64(first)))
        with loop(builder, builder.add(start, INT64(AHEAD)), stop, NEURONS) as (position, _):
            copy(position)

    return build(types.void, (rows, row_at, lists, start, stop, base), write)
