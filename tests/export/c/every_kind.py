"""One network of sequences that has every kind of layer and neuron beyond the plain ones, and recordings for it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from randhet.fixed_point import network as ir

STEPS = 5


def levels(channels: int, threshold: int) -> tuple[np.ndarray, np.ndarray]:
    return np.full(channels, threshold, np.int32), np.arange(channels, dtype=np.int32) - 1


def never(channels: int) -> tuple[np.ndarray, np.ndarray]:
    return levels(channels, 2**23 - 1)


def network(read: ir.Read = "max", dynamics: ir.Spiking | None = None) -> ir.Network:
    """Every kind in one network of signed sequences; gates of layers that spike at equal and at different steps."""
    rng = np.random.default_rng(7)
    weights = lambda *shape: rng.integers(-60, 61, shape).astype(np.int8)
    late = lambda reset: ir.Lif(*levels(3, 4000), ir.Constant(200), reset=reset, reset_delay=1)
    floored = replace(late("subtract"), reset_delay=0, floor=np.array([-900, 0, -8_388_607], np.int32))
    layers = (
        ir.Layer("input", ir.Input((2, 4, 5), 8, signed=True, sequence=True)),
        ir.Layer("pool", ir.MaxPool((2, 3), (1, 1), (1, 1)), (0,)),
        ir.Layer("late", ir.Conv(weights(3, 2, 3, 3), padding=(1, 1)), (0,), late("subtract")),
        ir.Layer("zero", ir.Conv(weights(3, 2, 3, 3), padding=(1, 1)), (0,), late("zero")),
        ir.Layer("floor", ir.Conv(weights(3, 2, 2, 3), padding=(0, 1)), (1,), floored),
        ir.Layer("and", ir.And(), (2, 3)),
        ir.Layer("iand", ir.Iand(), (2, 4)),
        ir.Layer("both", ir.Concat(), (5, 6, 0)),
        ir.Layer("wide", ir.Spread((2, 3), (1, 0)), (7,)),
        ir.Layer("conv", ir.Conv(weights(2, 8, 3, 2), (2, 2)), (8,), ir.Lif(*levels(2, 9000))),
        ir.Layer("own", ir.Dense(weights(6, 2 * 3 * 6), weights(6, 6)), (9,), ir.Lif(*levels(6, 2000))),
        ir.Layer("weights", ir.Dense(weights(4, 6) // 30), (10,)),
        ir.Layer("read", ir.Dense(weights(4, 4)), (11,), ir.Leaky(dynamics or ir.Lif(*never(4)), read)),
    )  # fmt: skip
    return ir.Network(layers, STEPS)


RECORDINGS = np.random.default_rng(1).integers(-128, 128, (3, STEPS, 2, 4, 5)).astype(np.int8)
READS: dict[str, ir.Network] = {
    "last of Lif": network("last"),
    "largest of Lif": network("max"),
    "sum of Lif": network("sum"),
    "sum of Cuba": network("sum", ir.Cuba(*never(4), 300, 200)),
    "largest of drawn Lif with a floor": network(
        "max", ir.Lif(*never(4), ir.Drawn(), floor=np.array([-5, -50, 0, -99], np.int32))
    ),
}
