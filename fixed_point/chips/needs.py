"""What a neuron asks of a chip, as data: the one place of the chips that asks for its kind."""

from __future__ import annotations

from dataclasses import dataclass, replace

from randhet.base.kinds import assert_never
from randhet.fixed_point.network import Array, Constant, Cuba, Drawn, Leaky, Lif, Neuron, PerNeuron, Read, ReadOut

STATE_BITS = 24
SUM_BITS = 32


@dataclass(frozen=True, eq=False)
class Needs:
    """One neuron on a chip.

    state, shared: bits per neuron, and bits that a core keeps once. leak: where the decays come from, in words.
    decay_bits: width of the largest; own_decays: one per neuron (C, Y, X), where they differ. reset: what a spike does;
    late: only at the next step. floor: whether a lowest membrane potential is kept per channel. standard: whether a
    chip without microcode has this neuron. None where the neuron has no such thing.
    """

    state: int
    shared: int = 0
    leak: str | None = None
    decay_bits: int | None = None
    own_decays: Array | None = None
    reset: str | None = None
    standard: bool = False
    late: bool = False
    floor: bool = False

    @property
    def words(self) -> str | None:
        """The reset and what belongs to it."""
        if self.reset is None:
            return None
        return self.reset + ", a step late" * self.late + ", floor" * self.floor


READ_BITS: dict[Read, int] = {"sum": SUM_BITS, "last": 0, "max": STATE_BITS}
"""What a leaky read-out keeps beside its membrane potential, by what is read of it."""


def whole_bytes(bits: int) -> int:
    """Round bits up to whole bytes."""
    return -(-bits // 8) * 8


def needs(neuron: Neuron) -> Needs:
    """Describe a neuron to a chip."""
    match neuron:
        case Lif():
            return replace(_lif(neuron), late=bool(neuron.reset_delay), floor=neuron.floored)
        case Cuba():
            width = max(neuron.current_decay, neuron.voltage_decay).bit_length()
            return Needs(2 * STATE_BITS, leak="constant", decay_bits=width, reset="zero", standard=True)
        case ReadOut():
            return Needs(SUM_BITS)
        case Leaky():
            moves = needs(neuron.dynamics)
            return replace(moves, state=moves.state + READ_BITS[neuron.read], reset=None)
        case _:
            assert_never(neuron)


def _lif(neuron: Lif) -> Needs:
    decay, mantissa = neuron.decay, whole_bytes(neuron.k)
    match decay:
        case Constant():
            return Needs(STATE_BITS, 0, "constant", neuron.k, None, neuron.reset)
        case PerNeuron():
            return Needs(STATE_BITS + mantissa, 0, "per neuron", neuron.k, decay.mantissa, neuron.reset)
        case Drawn():
            # A core holds its register and the table; a decay that lasts an image is a state
            shared, held = SUM_BITS + len(decay.table) * mantissa, decay.sampling == "forward"
            leak = "drawn every image" if held else "drawn every step"
            return Needs(STATE_BITS + held * mantissa, shared, leak, neuron.k, None, neuron.reset)
        case _:
            assert_never(decay)
