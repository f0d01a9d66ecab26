"""The keyed generator on the device: blocks of ChaCha20 side by side, one lane for each block of a round."""

# mypy: disable-error-code="no-untyped-def"
# ruff: noqa: N803 (what is fixed when a kernel is compiled is written in capitals)

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np
import torch
import triton
import triton.language as tl
from torch import Tensor

from randhet.export.gpu.launch import BLOCK, blocks, empty, placed
from randhet.fixed_point.keyed import BLOCK as BYTES
from randhet.fixed_point.keyed import CONSTANTS, key_of, words_of

WORDS = BYTES // 4


@triton.jit
def rotated(word, BITS: tl.constexpr):
    """Return words (uint32) rotated to the left."""
    return (word << BITS) | (word >> (32 - BITS))


@triton.jit
def quarter_round(a, b, c, d):
    """Return four words after the quarter round of RFC 8439."""
    a += b
    d = rotated(d ^ a, 16)
    c += d
    b = rotated(b ^ c, 12)
    a += b
    d = rotated(d ^ a, 8)
    c += d
    b = rotated(b ^ c, 7)
    return a, b, c, d


@triton.jit
def word_at(pointer, like):
    """Return the word that a pointer holds, for every lane."""
    return tl.load(pointer).to(tl.uint32, bitcast=True) + (like ^ like)


@triton.jit
def put(out, word, before, live):
    """Store the sum of a word and what it was before the rounds."""
    tl.store(out, (word + before).to(tl.int32, bitcast=True), mask=live)


@triton.jit
def keystream(start, nonces, out, rounds, per_round, B: tl.constexpr):
    """out (rounds, per_round, 16) becomes the keystream; start (16,): constants, key, layer; nonces (rounds, 2)."""
    lane = tl.program_id(0).to(tl.int64) * B + tl.arange(0, B)
    live = lane < tl.cast(rounds, tl.int64) * per_round
    s12 = (lane % per_round).to(tl.uint32)
    at = nonces + lane // per_round * 2
    s14 = tl.load(at, mask=live, other=0).to(tl.uint32, bitcast=True)
    s15 = tl.load(at + 1, mask=live, other=0).to(tl.uint32, bitcast=True)
    s0, s1, s2, s3 = word_at(start, s12), word_at(start + 1, s12), word_at(start + 2, s12), word_at(start + 3, s12)
    s4, s5, s6, s7 = word_at(start + 4, s12), word_at(start + 5, s12), word_at(start + 6, s12), word_at(start + 7, s12)
    s8, s9, s10, s11 = (
        word_at(start + 8, s12), word_at(start + 9, s12), word_at(start + 10, s12), word_at(start + 11, s12)
    )  # fmt: skip
    s13 = word_at(start + 13, s12)
    x0, x1, x2, x3, x4, x5, x6, x7 = s0, s1, s2, s3, s4, s5, s6, s7
    x8, x9, x10, x11, x12, x13, x14, x15 = s8, s9, s10, s11, s12, s13, s14, s15
    for _ in range(10):
        x0, x4, x8, x12 = quarter_round(x0, x4, x8, x12)
        x1, x5, x9, x13 = quarter_round(x1, x5, x9, x13)
        x2, x6, x10, x14 = quarter_round(x2, x6, x10, x14)
        x3, x7, x11, x15 = quarter_round(x3, x7, x11, x15)
        x0, x5, x10, x15 = quarter_round(x0, x5, x10, x15)
        x1, x6, x11, x12 = quarter_round(x1, x6, x11, x12)
        x2, x7, x8, x13 = quarter_round(x2, x7, x8, x13)
        x3, x4, x9, x14 = quarter_round(x3, x4, x9, x14)
    to = out + lane * 16
    put(to, x0, s0, live)
    put(to + 1, x1, s1, live)
    put(to + 2, x2, s2, live)
    put(to + 3, x3, s3, live)
    put(to + 4, x4, s4, live)
    put(to + 5, x5, s5, live)
    put(to + 6, x6, s6, live)
    put(to + 7, x7, s7, live)
    put(to + 8, x8, s8, live)
    put(to + 9, x9, s9, live)
    put(to + 10, x10, s10, live)
    put(to + 11, x11, s11, live)
    put(to + 12, x12, s12, live)
    put(to + 13, x13, s13, live)
    put(to + 14, x14, s14, live)
    put(to + 15, x15, s15, live)


@dataclass(frozen=True, eq=False)
class Cipher:
    """A layer that draws by the cipher: its first block's words (16,), and how many neurons it has."""

    start: Tensor
    neurons: int

    def draws(self, rounds: list[int]) -> Tensor:
        """Return the draws of some rounds, (rounds, neurons in whole blocks) uint8, in the order of draws."""
        per_round = -(-self.neurons // BYTES)
        nonces = placed(np.array([words_of(number) for number in rounds], np.uint32))
        out = empty(len(rounds), per_round * WORDS)
        keystream[blocks(len(rounds) * per_round)](self.start, nonces, out, len(rounds), per_round, BLOCK)
        return out.view(torch.uint8)  # the low byte of a word comes first, on every GPU and processor that torch has


def make_cipher(shape: tuple[int, ...], layer: int, master: int) -> Cipher:
    """Key the cipher of a layer."""
    return Cipher(placed(np.array([*CONSTANTS, *key_of(master), 0, layer, 0, 0], np.uint32)), prod(shape))
