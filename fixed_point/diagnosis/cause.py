"""Why a run departs from the definition: hypotheses tried against every value of the layer where it first does.

Each step of a neuron follows from what it reads and its own last membrane. Both are taken from the run in question, so
that a fault shows where it is made and not where it spreads to. A hypothesis is believed only if it gives every value
of the layer, those that are right included, integer by integer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from randhet.base.kinds import assert_never
from randhet.fixed_point.diagnosis.fit import Mask, bias_shift, start_window, tau_window, weight_changes
from randhet.fixed_point.diagnosis.named import Cause
from randhet.fixed_point.diagnosis.resets import recurrence, reset
from randhet.fixed_point.diagnosis.seen import ANY, Seen, SeenCuba, SeenLif, SeenReadOut, SeenSpiking
from randhet.fixed_point.diagnosis.steps import current_order, discretisation
from randhet.fixed_point.diagnosis.wiring import permuted, wiring
from randhet.fixed_point.integer import STATE_MAX, Int
from randhet.fixed_point.network import (
    Cuba,
    Dense,
    Leaky,
    Lif,
    Network,
    ReadOut,
    Spiking,
)
from randhet.fixed_point.result import Trace

Known = tuple[Network, int, list[Int], Trace, int, int]
"""What is known of a layer of a run, in the order of the fields of `Seen`."""


# --- hypotheses for neurons with a leak: the step that the network asks for, with one thing changed -------------------


def lif(layer_run: SeenLif) -> Cause:
    """Try the hypotheses for a LIF neuron, the most specific first."""
    odd = layer_run.membrane != layer_run.due
    if not odd.any():
        return spikes(layer_run)
    tries = (saturation, rounding, reset, recurrence, discretisation, threshold, bias, weight, tau)
    return next((cause for attempt in tries if (cause := attempt(layer_run, odd))), near(layer_run, odd))


def cuba(layer_run: SeenCuba) -> Cause:
    """Try what can be distinguished in a CUBA neuron: threshold, tie, reset, order of its equations and bias."""
    odd = layer_run.membrane != layer_run.due
    if not odd.any():
        return spikes(layer_run)
    tries = (reset, recurrence, current_order, bias)
    return next((cause for attempt in tries if (cause := attempt(layer_run, odd))), unexplained(odd))


def unexplained(odd: Mask) -> Cause:
    """Say how much no hypothesis explains."""
    return Cause("unexplained", f"{odd.sum()} of {odd.size} membranes do not follow from what the layer reads")


def spikes(layer_run: SeenSpiking) -> Cause:
    """Explain spikes of membranes that are right: a tie, or another threshold."""
    odd = (layer_run.found.output != 0) != (layer_run.membrane > layer_run.threshold)
    if not odd.any():
        return Cause("operation", "the spikes sent are not 0 and 1")
    if np.array_equal(odd, odd & (layer_run.membrane == np.broadcast_to(layer_run.threshold, odd.shape))):
        return Cause("tie", f"{odd.sum()} membranes equal to the threshold, where the definition requires more than it")
    channel = int(np.flatnonzero(odd.any(axis=_all_but_channels(odd)))[0])
    low, high = (int(side[channel]) for side in fired_at(layer_run))
    own = int(layer_run.threshold.ravel()[channel])
    if low < high:
        return Cause("threshold", f"channel {channel} fires as with a threshold of {low}..{high - 1}, not {own}")
    return Cause("unexplained", f"channel {channel}: no threshold gives these spikes from these membranes")


def _all_but_channels(values: Int | Mask) -> tuple[int, ...]:
    return tuple(axis for axis in range(values.ndim) if axis != 2)


def fired_at(layer_run: SeenSpiking) -> tuple[Int, Int]:
    """Return each channel's largest membrane potential without a spike, and its smallest with one."""
    fired, axes = layer_run.found.output != 0, _all_but_channels(layer_run.membrane)
    low = np.where(fired, -STATE_MAX, layer_run.membrane).max(axis=axes)
    return low, np.where(fired, layer_run.membrane, STATE_MAX).min(axis=axes)


def wrapped(value: Int) -> Int:
    """Wrap to 24 bits, two's complement."""
    return (value + 2**23) % 2**24 - 2**23


def cut(bits: int, value: Int) -> Int:
    """Saturate at +-(2^bits - 1)."""
    return np.clip(value, 1 - 2**bits, 2**bits - 1)


LIMITS: dict[str, Callable[[Int], Int]] = {
    "left as they are": lambda value: value,
    "wrapped": wrapped,
    **{f"cut off at {2**bits - 1}": partial(cut, bits) for bits in range(7, 32)},
}


def saturation(layer_run: SeenLif, odd: Mask) -> Cause | None:
    """Try another limit than 24 bits for x and m, or residuals only where the definition has to cut something off."""
    for name, limited in LIMITS.items():
        x = limited(layer_run.unlimited)
        moved = x + ((layer_run.decay * (layer_run.before - x)) >> layer_run.neuron.k)
        if np.array_equal(layer_run.settled(moved, limited), layer_run.membrane):
            return Cause("saturation", f"states are {name}, the definition cuts them off at {STATE_MAX}")
    beyond = (np.abs(layer_run.unlimited) > STATE_MAX) | (np.abs(layer_run.exact >> layer_run.neuron.k) > STATE_MAX)
    if not (odd & ~beyond).any():
        return Cause("saturation", f"{odd.sum()} values differ, all where a state beyond {STATE_MAX} must be cut off")
    return None


ROUNDINGS: dict[str, Callable[[Int, int], Int]] = {
    "to nearest, halves up": lambda value, k: (value + (1 << k >> 1)) >> k,
    "to nearest, halves even": lambda value, k: np.rint(value / 2.0**k).astype(np.int64),
    "up": lambda value, k: -(-value >> k),
    "toward zero": lambda value, k: np.sign(value) * (np.abs(value) >> k),
}


def rounding(layer_run: SeenLif, odd: Mask) -> Cause | None:
    """Try another rounding than the floor, of the whole step or of the leak alone."""
    k, x = layer_run.neuron.k, layer_run.current
    for name, rounded in ROUNDINGS.items():
        for value in (rounded(layer_run.exact, k), x + rounded(layer_run.decay * (layer_run.before - x), k)):
            if np.array_equal(layer_run.settled(value), layer_run.membrane):
                return Cause("rounding", f"the leak is rounded {name}, the definition takes the floor")
    return None


def near(layer_run: SeenLif, odd: Mask) -> Cause:
    """Describe what is left: unsystematic, within a unit of the exact value or not."""
    distance = np.abs(layer_run.leaked - layer_run.exact / 2.0**layer_run.neuron.k)[odd].max()
    if distance < 1:
        return Cause("rounding", f"{odd.sum()} membranes within {distance:.2f} units of the exact value")
    return unexplained(odd)


def threshold(layer_run: SeenLif, odd: Mask) -> Cause | None:
    """Try another threshold of a channel, which spikes show and, where it is subtracted, the steps after them too."""
    if layer_run.way.kind != "subtract":
        return None
    left, fired = layer_run.membrane[:, :-1], layer_run.found.output[:, :-1] != 0
    low, high = _taken(layer_run)
    edge = ~fired | layer_run.hidden[:, 1:]
    axes, (silent, firing) = _all_but_channels(left), fired_at(layer_run)
    least = np.maximum(np.where(edge, -ANY, low).max(axis=axes), silent)
    most = np.minimum(np.where(edge, ANY, high).min(axis=axes), firing - 1)
    wrong, after = odd.any(axis=axes), np.zeros_like(odd)
    after[:, 1:] = fired
    if (odd & ~after).any() or (least > most)[wrong].any():
        return None
    channel = int(np.flatnonzero(wrong)[0])
    own, span = int(layer_run.threshold.ravel()[channel]), f"{least[channel]}..{most[channel]}"
    return Cause("threshold", f"channel {channel} fires and is reset as with a threshold of {span}, not {own}")


def _taken(layer_run: SeenLif) -> tuple[Int, Int]:
    """Least and largest that a spike of the step before can have taken away, at every step but the first."""
    x, decay, k = layer_run.current[:, 1:], layer_run.decay[:, 1:], layer_run.neuron.k
    if layer_run.way.late:
        taken = x + ((decay * (layer_run.before[:, 1:] - x)) >> k) - layer_run.membrane[:, 1:]
        return taken, taken
    low, high = start_window(layer_run.membrane[:, 1:], x, decay, k)
    left = layer_run.membrane[:, :-1]
    return left - high, left - low


def bias(layer_run: SeenLif | SeenCuba | SeenReadOut, odd: Mask) -> Cause | None:
    """Try the same shift of the current at every image, step and position of a channel, or at one position."""
    shift = bias_shift(layer_run.window, odd)
    if shift is None:
        return None
    where, low, high = shift
    off = f"{low:+d}" if low == high else f"{low:+d} to {high:+d}"
    return Cause("bias", f"the bias of {where} is off by {off} units")


def weight(layer_run: SeenLif | SeenReadOut, odd: Mask) -> Cause | None:
    """Try changes of weights that give every current of the channel."""
    operation = layer_run.layer.weighted
    if operation is None:
        return None
    read = layer_run.read[0]
    if isinstance(operation, Dense) and operation.recurrent is not None:
        # its own spikes stand behind what it reads
        flat = read.reshape(*read.shape[:2], -1)
        read = np.concatenate([flat, layer_run.sent_before], axis=2)
        operation = Dense(np.hstack([operation.weight, operation.recurrent]))
    changes = weight_changes(operation, read, layer_run.window, odd)
    if not changes:
        return None
    (index, change), own = changes[0], operation.weight
    more = f", and {len(changes) - 1} more weights" if len(changes) > 1 else ""
    what = f"{_weight(layer_run, index)} is {int(own[index]) + change}, not {int(own[index])}"
    return Cause("weight", what + more)


def _weight(layer_run: SeenLif | SeenReadOut, index: tuple[int, ...]) -> str:
    """Name a weight; those behind the ones that read other layers are recurrent."""
    assert layer_run.layer.weighted is not None
    inputs = layer_run.layer.weighted.weight.shape[1]
    if layer_run.layer.recurrent is None or index[1] < inputs:
        return f"weight {index}"
    return f"recurrent weight {(index[0], index[1] - inputs)}"


def tau(layer_run: SeenLif, odd: Mask) -> Cause | None:
    """Try other decays in 0..2^k-1; say whether the table is another one, or which draws are taken."""
    low, high = tau_window(layer_run.leaked, layer_run.before, layer_run.current, layer_run.neuron.k)
    unknown = layer_run.hidden & (np.abs(layer_run.membrane) < STATE_MAX)
    low, high = np.where(unknown, 0, low), np.where(unknown, (1 << layer_run.neuron.k) - 1, high)
    if (low > high).any():
        return None
    index = tuple(np.argwhere(odd)[0])
    near_by = f"A {low[index]}..{high[index]} instead of {layer_run.decay[index]}"
    if layer_run.neuron.drawn is None:
        return Cause("tau", f"the decay differs in {odd.sum()} places: {near_by}")
    if entry := _table_entry(layer_run, layer_run.neuron.drawn.table.astype(np.int64), low, high):
        return Cause("tau", entry)
    for name, decay in _shifted(layer_run.decay).items():
        valid = decay >= 0
        if ((low <= decay) & (decay <= high))[valid].all():
            return Cause("tau", f"it takes the draws of {name}")
    return Cause("tau", f"other draws in {odd.sum()} of {odd.size} places: {near_by}")


def _table_entry(layer_run: SeenLif, own: Int, low: Int, high: Int) -> str | None:
    """Describe the one table, other than the layer's, that gives every value; None where there is none."""
    least, most = np.zeros(256, np.int64), np.full(256, 2**12)
    np.maximum.at(least, layer_run.draws.ravel(), low.ravel())
    np.minimum.at(most, layer_run.draws.ravel(), high.ravel())
    if (least > most).any():
        return None
    wrong = np.flatnonzero((own < least) | (own > most))
    entry = int(wrong[0])
    return f"{len(wrong)} table entries differ, draw {entry} gives {least[entry]}..{most[entry]}, not {own[entry]}"


def _shifted(decay: Int) -> dict[str, Int]:
    """List the decays as if drawn one place off; -1 where that place is outside the run."""
    flat = decay.reshape(*decay.shape[:2], -1)
    shifted = {}
    for axis, name in ((1, "step"), (2, "neuron"), (0, "image")):
        for by, which in ((1, "previous"), (-1, "next")):
            moved = np.roll(flat, by, axis)
            moved[(slice(None),) * axis + (0 if by == 1 else -1,)] = -1
            shifted[f"the {which} {name}"] = moved.reshape(decay.shape)
    return shifted


# --- other layers ----------------------------------------------------------------------------------------------------


def read_out(layer_run: SeenReadOut) -> Cause:
    """Try the hypotheses for sums without leak."""
    odd = layer_run.found.output != layer_run.due
    if not odd.any():
        return Cause("reset", "the sums over the steps do not add up")
    return (
        bias(layer_run, odd) or weight(layer_run, odd) or Cause("unexplained", f"{odd.sum()} of {odd.size} sums differ")
    )


def leaky(layer_run: SeenLif | SeenCuba, sent: Int) -> Cause:
    """Try the hypotheses for a leaky read-out: that it only sums, that it fires, or those of its dynamics."""
    if not np.array_equal(sent, layer_run.membrane):
        return Cause("read-out", "what is sent is not the membrane potential")
    plain = (layer_run.sums << layer_run.neuron.f) + layer_run.bias
    for words, values in {"a sum without leak": plain.cumsum(axis=1), "the current of each step": plain}.items():
        if np.array_equal(values, layer_run.membrane):
            return Cause("read-out", f"the values are {words}, not a membrane potential that leaks")
    return lif(layer_run) if isinstance(layer_run, SeenLif) else cuba(layer_run)


def explain(
    network: Network,
    images: np.ndarray,
    expected: Mapping[str, Trace],
    observed: Mapping[str, Trace],
    layer: str,
    seed: int,
    first_image: int = 0,
) -> Cause:
    """Explain why the run `observed` departs from the definition in a layer, whose sources must all be traced."""
    index = next(i for i, candidate in enumerate(network.layers) if candidate.name == layer)
    shape = (len(images), network.steps, *network.shapes[index])
    for trace in (expected[layer], observed[layer]):
        if trace.output.shape != shape:
            return Cause("shape", f"{trace.output.shape[2:]}, the network has {shape[2:]}")
    if cause := permuted(expected[layer], observed[layer]):
        return cause
    sources = [observed[network.layers[i].name].output for i in network.layers[index].inputs]
    if not sources:
        return Cause("operation", "the image itself is read wrongly")
    known: Known = (network, index, sources, observed[layer], seed, first_image)
    neuron = network.layers[index].neuron
    match neuron:
        case Lif():
            return lif(SeenLif(*known, neuron))
        case Cuba():
            return cuba(SeenCuba(*known, neuron))
        case ReadOut():
            return read_out(SeenReadOut(*known, neuron))
        case Leaky():
            return leaky(_silent(known, neuron.dynamics), observed[layer].output)
        case None:
            return wiring(Seen(*known))
        case _:
            assert_never(neuron)


def _silent(known: Known, dynamics: Spiking) -> SeenLif | SeenCuba:
    """A leaky read-out seen as the neuron that it is, which never fires."""
    network, index, sources, found, seed, first_image = known
    silent = Trace(np.zeros_like(found.output), found.membrane)
    match dynamics:
        case Lif():
            return SeenLif(network, index, sources, silent, seed, first_image, dynamics)
        case Cuba():
            return SeenCuba(network, index, sources, silent, seed, first_image, dynamics)
        case _:
            assert_never(dynamics)
