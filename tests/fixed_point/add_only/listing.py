"""Compile the add-only kernels afresh, run them, and print the name of every function with a forbidden instruction.

A program of its own, because code that comes from numba's cache cannot be listed: NUMBA_CACHE_DIR must be empty.
With the argument `plant`, a kernel and a part that writes vector code are replaced by ones that multiply.
"""

import re
import sys
from itertools import product
from typing import get_args

import numpy as np
from numba import njit

from randhet.fixed_point import network as ir
from randhet.fixed_point.add_only import kernels, layer, neurons, run
from randhet.fixed_point.engine.walk import LONGEST
from randhet.fixed_point.integer import STATE_MAX
from randhet.fixed_point.kernels.lanes import INT16, INT32
from randhet.fixed_point.layers import NO_FLOOR

FORBIDDEN = re.compile(
    r"^(i?mul|mulx|i?div|v?pmul\w*|v?pmadd\w*|vpdp\w*"  # integer products, quotients, dot products
    r"|v?(mul|div|add|sub|sqrt|max|min|round\w*)[sp][sdh]|vf?n?m(add|sub)\w*"  # floating point
    r"|v?cvt\w*|f(ld|mul|add|div)\w*)[bwlq]?$"
)
NUMBAS_OWN = ("_ZN5numba", "_ZN7cpython", "cfunc.", "NRT_", "__excinfo", ".")
"""Wrappers that unpack Python's arguments, and messages of exceptions: they run before and after, never on data."""
SIZE = 4
DECAYS = {
    ir.Constant: [ir.Constant(200)],
    ir.PerNeuron: [ir.PerNeuron(np.full((SIZE, SIZE, SIZE), 1000, np.uint16))],
    ir.Drawn: [ir.Drawn(), ir.Drawn(sampling="forward", neurons_per_core=7)],
}
"""Of every kind of decay, drawn in both ways, what it may be."""
BITS = {ir.Constant: 8, ir.PerNeuron: 12, ir.Drawn: 8}


def functions(assembly: str) -> dict[str, list[str]]:
    """Instructions of each function in a listing."""
    found: dict[str, list[str]] = {}
    for line in assembly.splitlines():
        label = re.match(r"^([A-Za-z_.$][\w.$]*):", line)
        if label and not label[1].startswith(".L"):
            body = found.setdefault(label[1], [])
        elif found and line.startswith("\t") and not line.startswith("\t."):
            body.append(line.split()[0])
    return found


def ints(value: int, count: int) -> np.ndarray:
    return np.full(count, value, np.int32)


def lifs() -> list[ir.Lif]:
    """Every decay with every reset that there is, at once and late, without and with a floor."""
    floors = (ints(NO_FLOOR, 1).reshape(()), ints(-5, SIZE))
    return [
        ir.Lif(ints(9, SIZE), ints(1, SIZE), decay, BITS[source], reset=reset, reset_delay=late, floor=floor)
        for reset, late, floor in product(get_args(ir.Reset), (0, 1), floors)
        for source in get_args(ir.Decay)
        for decay in DECAYS[source]
    ]


def silent() -> list[ir.Spiking]:
    """What moves the potential of a leaky read-out."""
    never = ints(STATE_MAX, SIZE)
    return [
        ir.Cuba(never, ints(1, SIZE), 5, 9),
        *(ir.Lif(never, ints(1, SIZE), decay[0], 12) for decay in DECAYS.values()),
    ]


NEURONS: dict[type, list[ir.Neuron]] = {
    ir.Lif: [*lifs()],
    ir.Cuba: [ir.Cuba(ints(9, SIZE), ints(1, SIZE), 5, 9)],
    ir.Leaky: [ir.Leaky(dynamics, read) for dynamics in silent() for read in get_args(ir.Read)],
    ir.ReadOut: [],  # it stands at the end
}
"""Of every kind of neuron, what it may be."""


def network(signed: bool) -> ir.Network:
    """Every kind of neuron, decay and reset, all of which read the input, two recurrent layers, and a read-out."""
    layers = [ir.Layer("input", ir.Input((1, SIZE, SIZE), signed=signed)), ir.Layer("flat", ir.Flatten(), (0,))]
    for neuron in (neuron for kind in get_args(ir.Neuron) for neuron in NEURONS[kind]):
        conv = ir.Conv(np.ones((SIZE, 1, 3, 3), np.int8), padding=(1, 1))
        layers.append(ir.Layer(f"l{len(layers)}", conv, (0,), neuron))
    dense = ir.Dense(np.ones((SIZE, SIZE * SIZE), np.int8), np.ones((SIZE, SIZE), np.int8))
    for decay in (ir.Constant(200), ir.Drawn()):
        layers.append(ir.Layer(f"l{len(layers)}", dense, (1,), ir.Lif(ints(9, SIZE), ints(1, SIZE), decay)))
    read = ir.Dense(np.ones((3, SIZE * SIZE), np.int8))
    return ir.Network((*layers, ir.Layer("read", read, (1,), ir.ReadOut(ints(0, 3)))), LONGEST + 1)


@njit(nogil=True)
def multiplying(total):
    """What `kernels.double` must not be."""
    for o in range(len(total)):
        total[o] = total[o] * total[o]


def multiplying_spike(builder, row, place, m, honest=neurons._spike):
    """What `neurons._spike` must not be; its product is one of words, to be told from that of the sums."""
    short = m.narrow(INT16)
    return honest(builder, row, place, (short * short).widen(INT32))


def main() -> None:
    planted = "plant" in sys.argv
    if planted:
        kernels.double, neurons._spike = multiplying, multiplying_spike
    # values are bytes in the first, words in the second: kernels are compiled for both
    for signed in (False,) if planted else (False, True):
        checked = network(signed)
        run(checked, np.ones((1, 1, SIZE, SIZE), np.uint8), seed=1, probes=[part.name for part in checked.layers])
    seen = 0
    for kernel in (layer.sum_layer, layer.drawn_layer, layer.given_layer, layer.cuba_layer):
        # resets that are late or have a floor have code of their own
        resets = 2 if kernel in (layer.drawn_layer, layer.given_layer) else 1
        assert len(kernel.signatures) == resets * (2 - planted), kernel.signatures
        for signature in kernel.signatures:
            for name, body in functions(kernel.inspect_asm(signature)).items():
                if name.startswith(NUMBAS_OWN) or not body:
                    continue
                seen += 1
                for instruction in sorted({word for word in body if FORBIDDEN.match(word)}):
                    print("forbidden", instruction, "in", name)
    print("checked", seen, "functions")


main()
