"""Energy of one image beside an ANN of 8 bits: counts times published figures of a 45 nm process, memory included.

The ANN has the same layers and weights, ReLU in place of the neurons, and one dense pass. Both read their weights and
keep their values in the same memory. Of the spiking network two orders of work are calculated, because which one a chip
has decides most of the result:

- by output: a neuron goes through all it reads, one word of spikes after another, and adds up in a register;
- by event: a spike goes through the neurons that read it, and every sum is read from memory and written back.

This is an estimate: what it takes for granted stands in `TAKEN_FOR_GRANTED`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from randhet.fixed_point.chips.chip import Quantity
from randhet.fixed_point.synaptic import Counted, Reading

HOROWITZ = "Horowitz, Computing's energy problem, ISSCC 2014, figure 1.1.9, 45 nm at 0.9 V"
ADD = Quantity(0.1e-12, "J", f"{HOROWITZ}: integer addition, 32 bits")
MULTIPLY_BYTE = Quantity(0.2e-12, "J", f"{HOROWITZ}: integer multiplication, 8 bits")
MULTIPLY = Quantity(3.1e-12, "J", f"{HOROWITZ}: integer multiplication, 32 bits")
MEMORY = Quantity(
    20e-12 / 8, "J per byte", f"{HOROWITZ}: 64 bits from 32 KB of SRAM, 20 pJ, of which every byte is used"
)
WORD = 4
"""Bytes of a sum, a current or a membrane potential."""
PUBLISHED = (0.054, 0.075)
"""Spike rates below which a spiking network takes less in arXiv:2409.08290, over its settings.

Its abstracts name 5.7 % (version 4, T = 5) and 6.4 % (versions 2 and 3, T from 5 to 10); the range is carried from its
body and was not checked there.
"""

Order = Literal["by output", "by event"]
ORDERS: tuple[Order, ...] = ("by output", "by event")

TAKEN_FOR_GRANTED = (
    "the ANN multiplies every synapse, zeros included, and reads a weight and an input for each, both bytes",
    "sums of a layer stay in a register, except by event, where each is read and written for every spike",
    "weights, spikes and states lie in memories of 32 KB; nothing is kept nearer, and every byte of a word is used",
    "a neuron update multiplies once (32 bits), adds three times, reads current and state and writes the state",
    "an ANN's unit multiplies once (32 bits) for its scale, adds its bias and writes a byte",
    "the addresses of events, their way over the chip, random draws, clocks and leakage cost nothing",
    "of a recording the ANN reads one frame, and recurrent weights are the spiking network's alone",
    "at another spike rate all layers change in proportion",
)


@dataclass(frozen=True)
class Energies:
    """J per image: of the ANN, of the spiking network's events (in proportion to its spikes), and of the rest of it."""

    order: Order
    ann: float
    events: float
    rest: float
    rate: float

    @property
    def snn(self) -> float:
        """The spiking network's, J per image."""
        return self.events + self.rest

    @property
    def wins(self) -> bool:
        """Whether the spiking network takes less than the ANN."""
        return self.snn < self.ann

    @property
    def break_even(self) -> float | None:
        """Spikes per neuron and step below which it does; None where it does at none, or nothing depends on spikes.

        rest + events * break_even / rate = ann.
        """
        if self.ann <= self.rest or not self.events:
            return None
        return self.rate * (self.ann - self.rest) / self.events


def beside(found: Counted, order: Order) -> Energies:
    """Compare a run's counts with one dense pass."""
    events = sum(_events(one, order) for one in found.readings if not one.still)
    rest = sum(_events(one, order) for one in found.readings if one.still)
    rest += sum(_scanning(one) for one in found.readings) if order == "by output" else 0.0
    rest += found.neurons * found.steps * NEURON
    ann = sum(_dense(one) for one in found.readings if not one.own)
    return Energies(order, ann, events, rest, found.rate)


NEURON = MULTIPLY.value + 3 * ADD.value + 3 * WORD * MEMORY.value
"""J of a neuron update: current and state are read, the state is written."""
UNIT = MULTIPLY.value + ADD.value + MEMORY.value
"""J of an ANN's unit."""


def _events(reading: Reading, order: Order) -> float:
    """J of the synapses that values other than zero drive."""
    each = ADD.value + MEMORY.value + (0.0 if reading.binary else MULTIPLY_BYTE.value)
    # a still image is read output by output whatever the order: nothing of it is an event
    if order == "by event" and not reading.still:
        each += 2 * WORD * MEMORY.value
    return reading.driven * each


def _scanning(reading: Reading) -> float:
    """J of reading what may be zero, as many bits of a word as the largest value has, for every synapse and call."""
    return reading.dense * reading.peak.bit_length() / 8 * MEMORY.value


def _dense(reading: Reading) -> float:
    return reading.synapses * (MULTIPLY_BYTE.value + ADD.value + 2 * MEMORY.value) + reading.neurons * UNIT


def as_json(found: Counted) -> dict[str, Any]:
    """Return the comparison in both orders, with the figures and what is taken for granted."""
    each = [beside(found, order) for order in ORDERS]
    figures = {"addition": ADD, "multiplication of bytes": MULTIPLY_BYTE, "multiplication": MULTIPLY, "memory": MEMORY}
    return {
        "spike_rate": found.rate,
        "samples": found.images,
        "orders": {
            one.order: {
                "snn_joule": one.snn, "ann_joule": one.ann, "break_even_spike_rate": one.break_even,
                "snn_takes_less": one.wins,
            }
            for one in each
        },
        "figures": {name: str(figure) for name, figure in figures.items()},
        "assumptions": list(TAKEN_FOR_GRANTED),
    }  # fmt: skip
