"""Why a run departs from the definition: hypotheses tried against every value of the layer where it first does.

Each step of a neuron follows from what it reads and its own last membrane. Both are taken from the run in question, so
that a fault shows where it is made and not where it spreads to. A hypothesis is believed only if it gives every value
of the layer, those that are right included, integer by integer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import permutations

import numpy as np

from randhet.fixed_point.diagnosis.fit import Mask, Window, bias_shift, tau_window, weight_changes
from randhet.fixed_point.diagnosis.seen import Seen
from randhet.fixed_point.integer import STATE_MAX, Int, cuba
from randhet.fixed_point.network import Conv, Cuba, Dense, Het, Lif, Network, RandomTau, ReadOut
from randhet.fixed_point.result import Trace


@dataclass(frozen=True)
class Cause:
    """kind: shape, saturation, rounding, tie, threshold, bias, weight, tau, reset, operation or unexplained."""

    kind: str
    detail: str


# --- the definition's own step, without and with its limits ---------------------------------------------------------


def unlimited(seen: Seen) -> tuple[Int, Int]:
    """(x, numerator of m over 2^k): the step before any saturation or rounding of the shift."""
    neuron = seen.layer.neuron
    assert isinstance(neuron, (RandomTau, Lif, Het))
    x = (seen.sums << neuron.f) + seen.bias
    clipped = np.clip(x, -STATE_MAX, STATE_MAX)
    return x, (clipped << neuron.k) + seen.decay * (seen.before - clipped)


def lif(seen: Seen) -> Cause:
    """Hypotheses for the LIF family, the most specific first."""
    neuron = seen.layer.neuron
    assert isinstance(neuron, (RandomTau, Lif, Het))
    x, exact = unlimited(seen)
    due = np.clip(exact >> neuron.k, -STATE_MAX, STATE_MAX)
    odd = seen.membrane != due
    if not odd.any():
        return spikes(seen)
    tries: tuple[Callable[[], Cause | None], ...] = (
        lambda: saturation(seen, odd, (np.abs(x) > STATE_MAX) | (np.abs(exact >> neuron.k) > STATE_MAX)),
        lambda: rounding(seen, exact, neuron.k),
        lambda: reset(seen, x, neuron.k),
        lambda: bias(seen, odd),
        lambda: weight(seen, odd),
        lambda: tau(seen, odd, x, neuron.k),
    )
    return next((cause for attempt in tries if (cause := attempt())), near(seen, odd, exact, neuron.k))


def spikes(seen: Seen) -> Cause:
    """All membranes are right, so it is the comparison: a tie, or another threshold."""
    odd = (seen.found.output != 0) != (seen.membrane > seen.threshold)
    if not odd.any():
        return Cause("operation", "the spikes sent are not 0 and 1")
    if np.array_equal(odd, odd & (seen.membrane == np.broadcast_to(seen.threshold, odd.shape))):
        return Cause("tie", f"{odd.sum()} membranes equal to the threshold, where the definition asks for more than it")
    channels = np.flatnonzero(odd.any(axis=tuple(i for i in range(odd.ndim) if i != 2)))
    channel = int(channels[0])
    fired, membrane = seen.found.output[:, :, channel] != 0, seen.membrane[:, :, channel]
    low = membrane[~fired].max(initial=-STATE_MAX)
    high = membrane[fired].min(initial=STATE_MAX)
    own = int(seen.threshold.ravel()[channel])
    if low < high:
        return Cause("threshold", f"channel {channel} fires as with a threshold of {low}..{high - 1}, not {own}")
    return Cause("unexplained", f"channel {channel}: no threshold gives these spikes from these membranes")


def wrapped(value: Int) -> Int:
    """Two's complement of 24 bits."""
    return (value + 2**23) % 2**24 - 2**23


def cut(bits: int, value: Int) -> Int:
    """Saturated at +-(2^bits - 1)."""
    return np.clip(value, 1 - 2**bits, 2**bits - 1)


LIMITS: dict[str, Callable[[Int], Int]] = {
    "left as they are": lambda value: value,
    "wrapped": wrapped,
    **{f"cut off at {2**bits - 1}": partial(cut, bits) for bits in range(7, 32)},
}


def saturation(seen: Seen, odd: Mask, beyond: Mask) -> Cause | None:
    """Another limit than 24 bits for x and m, or residuals only where the definition has to cut something off."""
    neuron = seen.layer.neuron
    assert isinstance(neuron, (RandomTau, Lif, Het))
    for name, limited in LIMITS.items():
        x = limited((seen.sums << neuron.f) + seen.bias)
        if np.array_equal(limited(x + ((seen.decay * (seen.before - x)) >> neuron.k)), seen.membrane):
            return Cause("saturation", f"states are {name}, the definition cuts them off at {STATE_MAX}")
    if not (odd & ~beyond).any():
        return Cause("saturation", f"{odd.sum()} values differ, all where a state beyond {STATE_MAX} must be cut off")
    return None


ROUNDINGS: dict[str, Callable[[Int, int], Int]] = {
    "to nearest, halves up": lambda value, k: (value + (1 << k >> 1)) >> k,
    "to nearest, halves even": lambda value, k: np.rint(value / 2.0**k).astype(np.int64),
    "up": lambda value, k: -(-value >> k),
    "toward zero": lambda value, k: np.sign(value) * (np.abs(value) >> k),
}


def rounding(seen: Seen, exact: Int, k: int) -> Cause | None:
    """Another rounding than the floor, of the whole step or of the leak alone."""
    whole = seen.before - np.clip((seen.sums << seen.window.f) + seen.bias, -STATE_MAX, STATE_MAX)
    x = seen.before - whole
    for name, rounded in ROUNDINGS.items():
        for value in (rounded(exact, k), x + rounded(seen.decay * whole, k)):
            if np.array_equal(np.clip(value, -STATE_MAX, STATE_MAX), seen.membrane):
                return Cause("rounding", f"the leak is rounded {name}, the definition takes the floor")
    return None


def near(seen: Seen, odd: Mask, exact: Int, k: int) -> Cause:
    """What is left: unsystematic, within a unit of the exact value or not."""
    distance = np.abs(seen.membrane - exact / 2.0**k)[odd].max()
    if distance < 1:
        return Cause("rounding", f"{odd.sum()} membranes within {distance:.2f} units of the exact value")
    return Cause("unexplained", f"{odd.sum()} of {odd.size} membranes do not follow from what the layer reads")


def reset(seen: Seen, x: Int, k: int) -> Cause | None:
    """No reset, or one by subtraction."""
    whole = np.concatenate([np.zeros_like(seen.membrane[:, :1]), seen.membrane[:, :-1]], axis=1)
    fired = np.concatenate([np.zeros_like(whole[:, :1]), seen.found.output[:, :-1]], axis=1) != 0
    x = np.clip(x, -STATE_MAX, STATE_MAX)
    for name, before in (
        ("is not reset", whole),
        ("loses the threshold", np.where(fired, whole - seen.threshold, whole)),
    ):
        if np.array_equal(np.clip(x + ((seen.decay * (before - x)) >> k), -STATE_MAX, STATE_MAX), seen.membrane):
            return Cause("reset", f"a membrane that fired {name}, the definition sets it to 0")
    return None


def bias(seen: Seen, odd: Mask) -> Cause | None:
    """The same shift of the current at every image, step and position of a channel, or at one position."""
    found = bias_shift(seen.window, odd)
    if found is None:
        return None
    place, low, high = found
    off = f"{low:+d}" if low == high else f"{low:+d} to {high:+d}"
    return Cause("bias", f"the bias of {place} is off by {off} units")


def weight(seen: Seen, odd: Mask) -> Cause | None:
    """Changes of weights that give every current of the channel."""
    operation = seen.layer.operation
    if not isinstance(operation, (Conv, Dense)):
        return None
    changes = weight_changes(operation, seen.read[0], seen.window, odd)
    if not changes:
        return None
    (place, change), own = changes[0], operation.weight
    more = f", and {len(changes) - 1} more weights" if len(changes) > 1 else ""
    return Cause("weight", f"weight {place} is {int(own[place]) + change}, not {int(own[place])}{more}")


def tau(seen: Seen, odd: Mask, x: Int, k: int) -> Cause | None:
    """Some decay in 0..2^k-1 gives every value; says whether the table is another one, or which draws are taken."""
    x = np.clip(x, -STATE_MAX, STATE_MAX)
    low, high = tau_window(seen.membrane, seen.before, x, k)
    if (low > high).any():
        return None
    at = tuple(np.argwhere(odd)[0])
    near_by = f"A {low[at]}..{high[at]} instead of {np.broadcast_to(seen.decay, odd.shape)[at]}"
    if not isinstance(seen.layer.neuron, RandomTau):
        return Cause("tau", f"the decay differs in {odd.sum()} places: {near_by}")
    if entry := _table_entry(seen, low, high):
        return Cause("tau", entry)
    for name, decay in _shifted(seen.decay).items():
        valid = decay >= 0
        if ((low <= decay) & (decay <= high))[valid].all():
            return Cause("tau", f"it takes the draws of {name}")
    return Cause("tau", f"other draws in {odd.sum()} of {odd.size} places: {near_by}")


def _table_entry(seen: Seen, low: Int, high: Int) -> str | None:
    """Whether one table, other than the layer's, gives every value."""
    assert isinstance(seen.layer.neuron, RandomTau)
    least, most = np.zeros(256, np.int64), np.full(256, 2**12)
    np.maximum.at(least, seen.draws.ravel(), low.ravel())
    np.minimum.at(most, seen.draws.ravel(), high.ravel())
    if (least > most).any():
        return None
    own = seen.layer.neuron.table.astype(np.int64)
    wrong = np.flatnonzero((own < least) | (own > most))
    entry = int(wrong[0])
    return f"{len(wrong)} table entries differ, draw {entry} gives {least[entry]}..{most[entry]}, not {own[entry]}"


def _shifted(decay: Int) -> dict[str, Int]:
    """The decays as if drawn one place off; -1 where that place is outside the run."""
    flat = decay.reshape(*decay.shape[:2], -1)
    found = {}
    for axis, name in ((1, "step"), (2, "neuron"), (0, "image")):
        for by, which in ((1, "previous"), (-1, "next")):
            moved = np.roll(flat, by, axis)
            moved[(slice(None),) * axis + (0 if by == 1 else -1,)] = -1
            found[f"the {which} {name}"] = moved.reshape(decay.shape)
    return found


# --- other layers ----------------------------------------------------------------------------------------------------


def accumulate(seen: Seen) -> Cause:
    """The classifier: sums without leak."""
    odd = seen.found.output != seen.sums + seen.bias
    if not odd.any():
        return Cause("reset", "the sums over the steps do not add up")
    return bias(seen, odd) or weight(seen, odd) or Cause("unexplained", f"{odd.sum()} of {odd.size} sums differ")


def foreign(seen: Seen) -> Cause:
    """CUBA: the current is followed from what the layer read; only a bias, a tie or a threshold can be told apart."""
    neuron = seen.layer.neuron
    assert isinstance(neuron, Cuba)
    u, due = np.zeros_like(seen.sums[:, 0]), []
    for t in range(seen.network.steps):
        decays = (neuron.current_decay, neuron.voltage_decay, neuron.f)
        u, v, _ = cuba(u, seen.before[:, t], seen.sums[:, t], np.broadcast_to(seen.bias, u.shape), *decays)
        due.append(v)
    right = np.stack(due, 1)
    odd = seen.membrane != right
    if not odd.any():
        return spikes(seen)
    shift = bias_shift(Window(seen.membrane, seen.membrane, right, 0), odd)
    detail = f"{odd.sum()} of {odd.size} membranes do not follow from what the layer reads"
    return Cause("unexplained", detail) if shift is None else Cause("bias", f"the bias of {shift[0]} is off")


def wiring(seen: Seen) -> Cause:
    """Layers without a neuron."""
    odd = int((seen.found.output != seen.sums).sum())
    kind = type(seen.layer.operation).__name__
    return Cause("operation", f"{odd} of {seen.sums.size} values are not the {kind} of what the layer reads")


def permuted(expected: Trace, found: Trace) -> Cause | None:
    """The same values in another order of axes."""
    a, b = expected.output, found.output
    if found.membrane is not None and expected.membrane is not None:
        a, b = expected.membrane, found.membrane
    names = ("channel", "y", "x")
    for order in permutations(range(a.ndim - 2)):
        moved = a.transpose(0, 1, *(i + 2 for i in order))
        if order != tuple(range(a.ndim - 2)) and moved.size == b.size and np.array_equal(moved.reshape(b.shape), b):
            return Cause("shape", f"the values stand in the order ({', '.join(names[i] for i in order)})")
    return None


EXPLAIN: dict[type, Callable[[Seen], Cause]] = {
    RandomTau: lif,
    Lif: lif,
    Het: lif,
    Cuba: foreign,
    ReadOut: accumulate,
    type(None): wiring,
}


def explain(
    network: Network,
    images: np.ndarray,
    expected: Mapping[str, Trace],
    found: Mapping[str, Trace],
    layer: str,
    seed: int,
    first_image: int = 0,
) -> Cause:
    """Why the run `found` departs from the definition in the named layer; all sources of the layer must be traced."""
    index = next(i for i, one in enumerate(network.layers) if one.name == layer)
    shape = (len(images), network.steps, *network.shapes[index])
    for trace in (expected[layer], found[layer]):
        if trace.output.shape != shape:
            return Cause("shape", f"{trace.output.shape[2:]}, the network has {shape[2:]}")
    if cause := permuted(expected[layer], found[layer]):
        return cause
    sources = [found[network.layers[i].name].output for i in network.layers[index].inputs]
    if not sources:
        return Cause("operation", "the image itself is read wrongly")
    seen = Seen(network, index, sources, found[layer], seed, first_image)
    return EXPLAIN[type(network.layers[index].neuron)](seen)
