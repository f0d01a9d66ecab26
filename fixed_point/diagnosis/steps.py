"""Other discretisations of a neuron's equation, tried in place of the definition's."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from randhet.fixed_point import integer
from randhet.fixed_point.diagnosis.fit import Mask
from randhet.fixed_point.diagnosis.named import Cause
from randhet.fixed_point.diagnosis.seen import SeenCuba, SeenLif, late
from randhet.fixed_point.integer import Int

OTHERS: dict[str, Callable[[SeenLif], Int]] = {
    "m = A*m + x, the input is not multiplied by 1 - A": lambda run: run.current + _kept(run, run.before),
    "m = A*(m + x), the leak acts on the input too": lambda run: _kept(run, run.before + run.current),
    "m = x + A*(m - x) with x of the step before": lambda run: (
        late(run.current) + _kept(run, run.before - late(run.current))
    ),
    "m = m + x, without a leak": lambda run: run.before + run.current,
    "m = (1 - A)*m + A*x, A and 1 - A exchanged": lambda run: run.before - _kept(run, run.before - run.current),
}
"""What else a step of a LIF neuron may be, for m = x + A*(m - x)."""


def _kept(run: SeenLif, value: Int) -> Int:
    """A times a value, rounded as the definition does."""
    return (run.decay * value) >> run.neuron.k


def discretisation(run: SeenLif, odd: Mask) -> Cause | None:
    """Try steps of other discretisations."""
    for step, moved in OTHERS.items():
        if np.array_equal(run.settled(moved(run)), run.membrane):
            return Cause("discretisation", f"a step is {step}; the definition is m = x + A*(m - x)")
    return None


def current_order(run: SeenCuba, odd: Mask) -> Cause | None:
    """Try a voltage that takes the current of the step before."""
    neuron, before, bias = run.neuron, run.before, np.broadcast_to(run.bias, run.shape)
    kept = (1 << integer.DECAY_BITS) - neuron.voltage_decay
    u, voltages = np.zeros_like(run.sums[:, 0]), []
    for t in range(run.network.steps):
        voltages.append(integer.sat24(integer.keep(before[:, t], kept) + u + bias)[0])
        u = integer.cuba(u, before[:, t], run.sums[:, t], bias, neuron.current_decay, neuron.voltage_decay, neuron.f)[0]
    if np.array_equal(np.stack(voltages, 1), run.membrane):
        return Cause(
            "discretisation", "the voltage takes the current of the step before, the definition that of the step"
        )
    return None
