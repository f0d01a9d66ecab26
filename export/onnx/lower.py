"""Each neuron of the integer network as ONNX operators on integer types.

A floor shift is a division of a number made non-negative by an offset.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from randhet.base.kinds import assert_never
from randhet.export.onnx.graph import Scope
from randhet.export.onnx.operations import Wire
from randhet.fixed_point import network as ir
from randhet.fixed_point.integer import DECAY_BITS, STATE_MAX
from randhet.fixed_point.reference import per_channel

UNITY = 1 << DECAY_BITS


@dataclass(frozen=True)
class State:
    """What a layer keeps from step to step: its name in the body of the graph, type, and the offset added to it."""

    name: str
    kind: type[np.generic]
    offset: int = 0


@dataclass(frozen=True)
class Moved:
    """A membrane potential before its threshold, stored with the offset of its state, and flags of clipped values.

    reset: what a spike does to it; late: at the next step, which `moved` has then added.
    """

    state: State
    membrane: str
    clipped: tuple[str, ...] = ()
    reset: ir.Reset = "zero"
    late: bool = False


@dataclass(frozen=True)
class Fired:
    """What a neuron did in a step: output (a spike is bool, else int32), membrane before its reset, clipped values.

    membrane is stored with `offset` added, "" where there is none. clipped: flags (bool) of values that saturated; none
    where the bound on the sums rules saturation out.
    """

    output: str
    membrane: str
    offset: int = 0
    clipped: tuple[str, ...] = ()


@dataclass(frozen=True)
class Step:
    """One layer's place in a step: its sums, its drawn decays A ("" where none are drawn), and how states are kept.

    state(word, kind, offset): a state of the layer's shape, 0 at first. keep(state, value): its next value. running:
    the sum of a value over the steps, "" where nobody asks for it.
    """

    body: Scope
    sums: Wire
    drawn: str
    state: Callable[[str, type[np.generic], int], State]
    keep: Callable[[State, str], None]
    running: Callable[[str], str]


def fire(neuron: ir.Neuron, step: Step) -> Fired:
    """Add one step of a layer's neurons to the body."""
    match neuron:
        case ir.Lif() | ir.Cuba():
            return _spike(neuron, step, moved(neuron, step))
        case ir.ReadOut():
            return _read_out(neuron, step)
        case ir.Leaky():
            return _leaky(step, moved(neuron.dynamics, step))
        case _:
            assert_never(neuron)


def moved(neuron: ir.Spiking, step: Step) -> Moved:
    """Add the membrane potential of this step to the body."""
    match neuron:
        case ir.Lif():
            return _lif(neuron, step)
        case ir.Cuba():
            return _cuba(neuron, step)
        case _:
            assert_never(neuron)


def _lif(neuron: ir.Lif, step: Step) -> Moved:
    """With X = x + o, M = m + o, both in 0..2o: M' = (2^k X + A (M - X)) >> k, a division of a non-negative number.

    x is one end of a convex combination and a reset moves m toward 0, so |m| <= max|x| and m never saturates; a late
    subtraction goes at most a threshold below. int32 where the bounds allow it.
    """
    body, k = step.body, neuron.k
    raw = (step.sums.span.peak << neuron.f) + int(np.abs(neuron.bias.astype(np.int64)).max())
    late = bool(neuron.reset_delay) and neuron.reset == "subtract"
    reach = raw + (int(neuron.threshold.max()) if late else 0)
    offset = min(reach, STATE_MAX)
    x, clipped = _current(step, neuron, raw, offset)
    state = step.state("state", np.int32, offset)
    kind = np.int32 if offset << k + 1 < 2**31 else np.int64
    terms = [_decays(neuron.decay, step), body.op("Sub", state.name, x), x]
    decays, difference, end = terms if kind is np.int32 else [body.cast(term, kind) for term in terms]
    summed = body.op("Add", body.op("Mul", end, kind(1 << k)), body.op("Mul", decays, difference))
    membrane = body.op("Div", summed, kind(1 << k))
    membrane = membrane if kind is np.int32 else body.cast(membrane, np.int32)
    if neuron.reset_delay:
        membrane, below = _reset_late(neuron, step, state, membrane, reach > STATE_MAX)
        clipped += below
    if neuron.floored:
        floor = per_channel(neuron.floor, step.sums.shape) + offset
        membrane = body.op("Max", membrane, floor.astype(np.int32))
    return Moved(state, membrane, clipped, neuron.reset, bool(neuron.reset_delay))


def _decays(decay: ir.Decay, step: Step) -> str:
    """The decays A of this step, int32, to be broadcast against (images, *shape)."""
    match decay:
        case ir.Constant():
            return step.body.constant(np.int32(decay.mantissa))
        case ir.PerNeuron():
            return step.body.constant(decay.mantissa.astype(np.int32))
        case ir.Drawn():
            return step.drawn
        case _:
            assert_never(decay)


def _current(step: Step, neuron: ir.Lif, raw: int, offset: int) -> tuple[str, tuple[str, ...]]:
    """sat24((a << f) + b) + offset in int32, and where it was clipped.

    Sums that saturate whatever the bias are cut first, so that nothing overflows.
    """
    body, sums, limit = step.body, step.sums.name, (1 << 25 >> neuron.f) + 1
    if raw + offset >= 2**31:
        sums = body.op("Clip", sums, np.int32(-limit), np.int32(limit))
    bias = (per_channel(neuron.bias, step.sums.shape) + offset).astype(np.int32)
    x = body.op("Add", body.op("Mul", sums, np.int32(1 << neuron.f)), bias)
    if raw <= STATE_MAX:
        return x, ()
    bounded = body.op("Clip", x, np.int32(offset - STATE_MAX), np.int32(offset + STATE_MAX))
    return bounded, (body.op("Not", body.op("Equal", x, bounded)),)


def _reset_late(
    neuron: ir.Lif, step: Step, state: State, membrane: str, saturates: bool
) -> tuple[str, tuple[str, ...]]:
    """The reset of the spike of the step before, whose full m the state holds; and where m fell below 24 bits.

    saturates: whether it can; then the offset is 2^23 - 1, so that the lowest value is stored as 0.
    """
    body, theta = step.body, per_channel(neuron.threshold, step.sums.shape)
    spiked = body.op("Greater", state.name, (theta + state.offset).astype(np.int32))
    lower = body.op("Where", spiked, _reset_to(step, membrane, theta, state, neuron.reset), membrane)
    if not saturates:
        return lower, ()
    return body.op("Max", lower, np.int32(0)), (body.op("Less", lower, np.int32(0)),)


def _reset_to(step: Step, membrane: str, theta: np.ndarray, state: State, reset: ir.Reset) -> str | np.ndarray:
    """What a spike leaves of the membrane potential: 0, or m - theta."""
    match reset:
        case "zero":
            return np.array(state.offset, state.kind)
        case "subtract":
            return step.body.op("Sub", membrane, theta.astype(state.kind))
        case _:
            assert_never(reset)


def _spike(neuron: ir.Spiking, step: Step, now: Moved) -> Fired:
    """Spike where m > theta (strict); a reset at once follows."""
    state, theta = now.state, per_channel(neuron.threshold, step.sums.shape)
    spike = step.body.op("Greater", now.membrane, (theta + state.offset).astype(state.kind))
    after = now.membrane
    if not now.late:
        after = step.body.op("Where", spike, _reset_to(step, after, theta, state, now.reset), after)
    step.keep(state, after)
    return Fired(spike, now.membrane, state.offset, now.clipped)


def _cuba(neuron: ir.Cuba, step: Step) -> Moved:
    """`integer.cuba`, all int64. Where, not Clip and Sign: onnxruntime 1.23.2 gets those wrong beyond 32 bits."""
    body, half = step.body, np.int64(STATE_MAX + 1)
    current, voltage = step.state("current", np.int64, 0), step.state("state", np.int64, 0)
    spread = body.op("Mul", body.cast(step.sums.name, np.int64), np.int64(1 << neuron.f))
    u = body.op("Add", _keep(body, current.name, UNITY - neuron.current_decay - 1), spread)
    low = body.op("Where", body.op("LessOrEqual", u, -half), body.op("Add", u, 2 * half), u)
    u = body.op("Where", body.op("Greater", u, half), body.op("Sub", u, 2 * half), low)
    step.keep(current, u)
    v = body.op("Add", _keep(body, voltage.name, UNITY - neuron.voltage_decay), u)
    v = body.op("Add", v, per_channel(neuron.bias, step.sums.shape))
    high, low = body.op("Greater", v, np.int64(STATE_MAX)), body.op("Less", v, np.int64(-STATE_MAX))
    membrane = body.op("Where", high, np.int64(STATE_MAX), body.op("Where", low, np.int64(-STATE_MAX), v))
    return Moved(voltage, membrane, (body.op("Or", high, low),))


def _keep(scope: Scope, state: str, fraction: int) -> str:
    """sign(v) * ((|v| * fraction) >> 12)."""
    kept = scope.op("Div", scope.op("Mul", scope.op("Abs", state), np.int64(fraction)), np.int64(UNITY))
    return scope.op("Where", scope.op("Less", state, np.int64(0)), scope.op("Neg", kept), kept)


def _read_out(neuron: ir.ReadOut, step: Step) -> Fired:
    bias = per_channel(neuron.bias, step.sums.shape).astype(np.int32)
    added = step.body.op("Add", step.sums.name, bias)
    return Fired(added, step.running(added))


def _leaky(step: Step, now: Moved) -> Fired:
    """A leaky read-out sends its membrane potential, which passes no threshold."""
    step.keep(now.state, now.membrane)
    output = step.body.cast(now.membrane, np.int32)
    if now.state.offset:
        output = step.body.op("Sub", output, np.int32(now.state.offset))
    return Fired(output, now.membrane, now.state.offset, now.clipped)
