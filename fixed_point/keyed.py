"""The keyed generator: a layer's draws of a round are a keystream of ChaCha20 (RFC 8439), keyed by the master seed.

    key:    eight words, word i the start state that a register of layer 0, core i would have
    nonce:  three words, (layer, low, high), low and high the words of the round modulo 2^64
    draw of neuron n: byte n of the keystream, whose blocks of 64 bytes are counted from 0

A round is image*T + step, or image where decays are drawn once per image. Nothing is carried from draw to draw, so any
draw is found from its numbers alone, and no number of draws tells another one without the key.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from randhet.fixed_point.generator import Word, core_seed

BLOCK = 64
"""Bytes, and draws, of a block."""
DOUBLE_ROUNDS = 10
CONSTANTS = (0x61707865, 0x3320646E, 0x79622D32, 0x6B206574)
"""The text "expand 32-byte k"."""
ROUNDS_END = 2**64
"""Rounds are counted modulo this."""
COLUMNS = ((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15))
DIAGONALS = ((0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14))


def key_of(master: int) -> Word:
    """Return the key of a master seed, (8,) uint32."""
    return np.array([core_seed(master, 0, word) for word in range(8)], np.uint32)


def words_of(number: int) -> tuple[int, int]:
    """Return the two words of a round's number modulo 2^64, the lower first."""
    return number % 2**32, number % ROUNDS_END >> 32


def quarter_round(state: Word, a: int, b: int, c: int, d: int) -> None:
    """Do the quarter round of RFC 8439 on four words of every block, state (16, blocks), in place."""
    for left, right, moved, bits in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
        state[left] += state[right]
        mixed = state[moved] ^ state[left]
        state[moved] = mixed << np.uint32(bits) | mixed >> np.uint32(32 - bits)


def keystream(key: Word, nonce: tuple[int, int, int], first: int, blocks: int) -> NDArray[np.uint8]:
    """Return so many blocks of ChaCha20 from block number `first` on, (blocks * 64,) uint8.

    key (8,) uint32; nonce: three words.
    """
    start = np.empty((16, blocks), np.uint32)
    start[:4], start[4:12] = np.array(CONSTANTS, np.uint32)[:, None], key[:, None]
    start[12], start[13:] = np.arange(first, first + blocks), np.array(nonce, np.uint32)[:, None]
    state = start.copy()
    for _ in range(DOUBLE_ROUNDS):
        for words in (*COLUMNS, *DIAGONALS):
            quarter_round(state, *words)
    # a block is its words one after another, the low byte of each first
    return np.ascontiguousarray((state + start).T).astype("<u4").view(np.uint8).reshape(-1)


class KeyedGenerator:
    """The draws of one layer by the cipher, as `LayerGenerator` gives those of its registers."""

    def __init__(self, master: int, layer: int, neurons: int) -> None:
        self.key, self.layer, self.neurons = key_of(master), layer, neurons

    def round(self, number: int) -> NDArray[np.uint8]:
        """Draw for every neuron in round `number`, (neurons,)."""
        return keystream(self.key, (self.layer, *words_of(number)), 0, -(-self.neurons // BLOCK))[: self.neurons]

    def rounds(self, first: int, count: int) -> NDArray[np.uint8]:
        """Draw rounds number first..first+count-1, (count, neurons)."""
        return np.array([self.round(first + i) for i in range(count)], np.uint8).reshape(count, self.neurons)
