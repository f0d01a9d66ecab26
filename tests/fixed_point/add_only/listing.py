"""Compile the add-only kernels afresh, run them, and print the name of every function with a forbidden instruction.

A program of its own, because code that comes from numba's cache cannot be listed: NUMBA_CACHE_DIR must be empty.
With the argument `plant`, one kernel is replaced by one that multiplies.
"""

import re
import sys

import numpy as np
from numba import njit

from randhet.fixed_point import network as ir
from randhet.fixed_point.add_only import kernels, layer, run

FORBIDDEN = re.compile(
    r"^(i?mul|mulx|i?div|v?pmul\w*|v?pmadd\w*|vpdp\w*"  # integer products, quotients, dot products
    r"|v?(mul|div|add|sub|sqrt|max|min|round\w*)[sp][sdh]|vf?n?m(add|sub)\w*"  # floating point
    r"|v?cvt\w*|f(ld|mul|add|div)\w*)[bwlq]?$"
)
NUMBAS_OWN = ("_ZN5numba", "_ZN7cpython", "cfunc.", "NRT_", "__excinfo", ".")
"""Wrappers that unpack Python's arguments, and messages of exceptions: they run before and after, never on data."""


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


def network() -> ir.Network:
    """Every kind of neuron and both ways to draw."""

    def ints(value: int, count: int) -> np.ndarray:
        return np.full(count, value, np.int32)

    def conv(out: int, into: int) -> ir.Conv:
        return ir.Conv(np.ones((out, into, 3, 3), np.int8), padding=(1, 1))

    neurons = [
        ir.Lif(ints(9, 4), ints(1, 4), ir.Drawn()),
        ir.Lif(ints(9, 4), ints(1, 4), ir.Drawn(sampling="forward", neurons_per_core=7)),
        ir.Lif(ints(9, 4), ints(1, 4)),
        ir.Lif(ints(9, 4), ints(1, 4), ir.PerNeuron(np.ones((4, 4, 4), np.uint16))),
        ir.Cuba(ints(9, 4), ints(1, 4), 5, 9),
    ]
    layers = [ir.Layer("input", ir.Input((1, 4, 4)))]
    for i, neuron in enumerate(neurons):
        layers.append(ir.Layer(f"l{i}", conv(4, 4 if i else 1), (i,), neuron))
    layers.append(ir.Layer("sum", ir.Add(), (4, 5)))
    layers.append(ir.Layer("flat", ir.Flatten(), (6,)))
    layers.append(ir.Layer("read", ir.Dense(np.ones((3, 64), np.int8)), (7,), ir.ReadOut(ints(0, 3))))
    return ir.Network(tuple(layers), 2)


@njit(nogil=True)
def multiplying(total):
    """What `kernels.double` must not be."""
    for o in range(len(total)):
        total[o] = total[o] * total[o]


def main() -> None:
    if "plant" in sys.argv:
        kernels.double = multiplying
    run(network(), np.ones((1, 1, 4, 4), np.uint8), seed=1, probes=["l4"])
    checked = 0
    for kernel in (layer.sum_layer, layer.drawn_layer, layer.given_layer, layer.cuba_layer):
        assert kernel.signatures
        for signature in kernel.signatures:
            for name, body in functions(kernel.inspect_asm(signature)).items():
                if name.startswith(NUMBAS_OWN) or not body:
                    continue
                checked += 1
                for instruction in sorted({word for word in body if FORBIDDEN.match(word)}):
                    print("forbidden", instruction, "in", name)
    print("checked", checked, "functions")


main()
