"""What spikes do to the neuron that sends them, tried otherwise: resets, their delay, floors, recurrent weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from randhet.fixed_point.diagnosis.fit import Mask
from randhet.fixed_point.diagnosis.named import Cause
from randhet.fixed_point.diagnosis.seen import SeenCuba, SeenLif, Way, late

RESETS: dict[str | None, str] = {
    "zero": "with a reset to zero",
    "subtract": "with a reset by subtraction",
    None: "without a reset",
}


def said(way: Way, floored: bool) -> str:
    """Describe what a spike does; a floor where it matters."""
    late = " one step late" if way.late and way.kind is not None else ""
    floor = f", {'with' if way.floored else 'without'} the floor" if floored else ""
    return RESETS[way.kind] + late + floor


def ways(layer_run: SeenLif | SeenCuba) -> Iterator[Way]:
    """List what spikes may do: every reset at once, of a LIF neuron late too, without and with a floor."""
    several = (False, True) if isinstance(layer_run, SeenLif) else (False,)
    own = layer_run.way
    # the fewest changes first: the reset alone, its delay, the floor
    for floored in sorted(several, key=lambda value: value != own.floored):
        for delayed in sorted(several, key=lambda value: value != own.late):
            yield from (Way(kind, delayed, floored) for kind in RESETS)


def reset(layer_run: SeenLif | SeenCuba, odd: Mask) -> Cause | None:
    """Try the resets and floors that the network does not ask for."""
    own = layer_run.way
    for way in ways(layer_run):
        if way != own and np.array_equal(layer_run.given(way), layer_run.membrane):
            floored = way.floored != own.floored
            is_so, due = said(way, floored), said(own, floored)
            where = " at minus the threshold" if way.floored and not own.floored else ""
            return Cause("reset", f"the membrane potential continues as {is_so}{where}, not {due}")
    return None


def recurrence(layer_run: SeenLif | SeenCuba, odd: Mask) -> Cause | None:
    """Try other uses of a layer's own spikes than the weights of the step before."""
    own = layer_run.layer.recurrent
    if own is None:
        return None
    sent, weight = layer_run.found.output, own.T.astype(np.int64)
    uses = {
        "are left out": 0 * layer_run.fed,
        "are read two steps late": late(sent, 2) @ weight,
        "are read as if transposed": late(sent) @ weight.T,
        "are subtracted": -(late(sent) @ weight),
    }
    for words, added in uses.items():
        other = replace(layer_run)
        other.__dict__["sums"] = layer_run.fed + added
        if np.array_equal(other.due, layer_run.membrane):
            return Cause("recurrence", f"the recurrent weights {words}")
    return None
