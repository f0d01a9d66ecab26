"""The keystream of ChaCha20, 16 blocks side by side, and the decays that its bytes draw. See `fixed_point.keyed`."""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from randhet.fixed_point.kernels.blocks import loop
from randhet.fixed_point.kernels.compiled import inner
from randhet.fixed_point.kernels.lanes import INT32, INT64, Lanes, broadcast, build
from randhet.fixed_point.keyed import COLUMNS, DIAGONALS, DOUBLE_ROUNDS

LANES = 16
"""Blocks that are made together: one word of each fills a vector of 512 bits."""
WORDS = 16
"""Words of a block."""
NUMBER = 12
"""The word that counts blocks."""


def quarter(x: list[Lanes], a: int, b: int, c: int, d: int) -> None:
    """Write code for the quarter round of RFC 8439 on four words of 16 blocks."""
    for left, right, moved, bits in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
        x[left] = x[left] + x[right]
        mixed = x[moved] ^ x[left]
        # LLVM knows this for a rotation, one instruction where the processor has it
        x[moved] = mixed << bits | mixed.unsigned_shift(32 - bits)


@intrinsic
def sixteen_blocks(typing, start, first, x):
    """x (256,) uint32 <- blocks number first..first + 15: word w of the j-th at 16*w + j.

    start (16,) uint32: constants, key, 0, nonce.
    """

    def write(builder, start, first, x):
        # sixteen vectors are a block's words of 16 blocks: they stay in the processor's registers for a double round
        def begin(word: int) -> Lanes:
            same = broadcast(builder, start.item(INT64(word)), LANES)
            if word != NUMBER:
                return same
            counted = broadcast(builder, builder.trunc(first, INT32), LANES)
            return counted + Lanes(builder, ir.Constant(ir.VectorType(INT32, LANES), list(range(LANES))))

        state = [begin(word) for word in range(WORDS)]
        places = [INT64(LANES * word) for word in range(WORDS)]
        for place, lanes in zip(places, state):
            x.store(place, lanes)
        with loop(builder, INT64(0), INT64(DOUBLE_ROUNDS)):
            mixed = [x.load(place, LANES) for place in places]
            for words in (*COLUMNS, *DIAGONALS):
                quarter(mixed, *words)
            for place, lanes in zip(places, mixed):
                x.store(place, lanes)
        for word, place in enumerate(places):
            x.store(place, x.load(place, LANES) + begin(word))

    return build(types.void, (start, first, x), write)


@inner
def blocks(start, first, x, out):
    """out (blocks * 16,) uint32 <- the words of blocks from number `first` on, a multiple of 16 of them.

    start as in `sixteen_blocks`; x (256,) uint32 of any content.
    """
    at = 0
    while at < len(out):
        sixteen_blocks(start, first, x)
        for i in range(WORDS):
            for j in range(LANES):
                out[at + (j << 4) + i] = x[(i << 4) + j]
        at += WORDS << 4
        first += LANES


@inner
def drawn_decays(start, rounds, table, first, pixels, channels, padded, words, x, out):
    """out (rounds * pixels * padded,) int32 <- the decays of a tile: neuron first + c*pixels + p at p*padded + c.

    start (16,) uint32: as in `sixteen_blocks`, words 14 and 15 of any content; rounds (2 * rounds,) uint32: low and
    high word of each; table (256,) int32; words: uint32, for whole groups of 16 blocks of those neurons; x (256,)
    uint32 of any content. What fills a chunk up is left alone.
    """
    skip, draws, at = first & 63, words.view(np.uint8), 0
    for t in range(0, len(rounds), 2):
        start[14], start[15] = rounds[t], rounds[t + 1]
        blocks(start, first >> 6, x, words)
        for pixel in range(pixels):
            n = skip + pixel
            for c in range(channels):
                out[at + c] = table[draws[n]]
                n += pixels
            at += padded
