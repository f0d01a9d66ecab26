"""Both engines on recordings: spans and streams, late resets, floors, leaky read-outs, recurrence; memory that is flat.

What is worked out by hand, or follows from the definition without it: pieces of a recording are the recording.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from equality import assert_equal

from randhet.base.errors import RandhetError
from randhet.fixed_point import add_only, engine, reference
from randhet.fixed_point import network as ir
from randhet.fixed_point.engine import walk
from randhet.fixed_point.network import Layer, Network
from randhet.fixed_point.result import Result

Engine = Callable[..., Result]
ENGINES = {"engine": engine.run, "add-only": add_only.run}
NEVER = 2**23 - 1


@pytest.fixture(params=ENGINES)
def run(request: pytest.FixtureRequest) -> Engine:
    return ENGINES[request.param]


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


def one(neuron: ir.Neuron, steps: int, recurrent: np.ndarray | None = None) -> Network:
    """One neuron that reads a recording of one value, with the weight 1."""
    dense = ir.Dense(np.ones((1, 1), np.int8), recurrent)
    return Network(
        (Layer("input", ir.Input((1,), 16, signed=True, sequence=True)), Layer("it", dense, (0,), neuron)), steps
    )


def traced(run: Engine, network: Network, values: list[int]) -> tuple[list[int], list[int], Result]:
    """Membrane potentials and outputs of one recording."""
    result = run(network, np.array(values, np.int32)[None, :, None], probes=["it"], threads=1)
    trace = result.traces["it"]
    assert trace.membrane is not None
    return trace.membrane.ravel().tolist(), trace.output.ravel().tolist(), result


# --- by hand ----------------------------------------------------------------------------------------------------------
# tau = 1/2, f = 0: m <- (m + x) / 2, rounded down


@pytest.mark.parametrize(
    ("reset", "late", "membranes", "spikes"),
    [
        # 40 > 30: after it 0, or 10; then (0 + 40) / 2 and (20 + 80) / 2, or (10 + 40) / 2 and (25 + 80) / 2
        ("zero", 0, [40, 20, 50, 20], [1, 0, 1, 0]),
        ("subtract", 0, [40, 25, 52, 31], [1, 0, 1, 1]),
        # the full 40 decays: (40 + 40) / 2, and then the spike acts
        ("zero", 1, [40, 0, 40, 0], [1, 0, 1, 0]),
        ("subtract", 1, [40, 10, 45, 12], [1, 0, 1, 0]),
    ],
)
def test_what_a_spike_does_and_when(
    run: Engine, reset: ir.Reset, late: int, membranes: list[int], spikes: list[int]
) -> None:
    neuron = ir.Lif(ints(30), ints(0), ir.Constant(128), f=0, reset=reset, reset_delay=late)
    assert traced(run, one(neuron, 4), [80, 40, 80, 40])[:2] == (membranes, spikes)


def test_a_late_reset_that_leaves_24_bits_is_counted(run: Engine) -> None:
    """A = 0: m = x. The threshold is taken from the lowest x there is."""
    neuron = ir.Lif(ints(1), ints(0), ir.Constant(0), f=9, reset="subtract", reset_delay=1)
    membranes, spikes, result = traced(run, one(neuron, 2), [1, -(2**14)])
    assert (membranes, spikes) == ([512, -NEVER], [1, 0])
    # x = -2^23 leaves 24 bits, and so does x - 1 once it is cut off
    assert result.saturations == 2


@pytest.mark.parametrize(("floor", "membranes"), [(-10, [-10, 5, -10]), (0, [0, 10, 0])])
def test_a_floor_holds_before_the_next_step(run: Engine, floor: int, membranes: list[int]) -> None:
    neuron = ir.Lif(ints(1000), ints(0), ir.Constant(128), f=0, floor=ints(floor))
    assert traced(run, one(neuron, 3), [-40, 20, -60])[0] == membranes


@pytest.mark.parametrize(("read", "value"), [("sum", 40 - 5 + 12), ("last", 12), ("max", 40)])
def test_what_is_read_of_a_leaky_read_out(run: Engine, read: ir.Read, value: int) -> None:
    """(0 + 80) / 2 = 40, (40 - 50) / 2 = -5, (-5 + 30) / 2 = 12 rounded down; nothing fires or is reset."""
    neuron = ir.Leaky(ir.Lif(ints(NEVER), ints(0), ir.Constant(128), f=0), read)
    membranes, outputs, result = traced(run, one(neuron, 3), [80, -50, 30])
    assert membranes == outputs == [40, -5, 12]
    assert result.sums.tolist() == [[value]] and not result.spikes


def test_the_largest_value_is_read_over_spans(run: Engine) -> None:
    """It lies in the first of two spans, the last one in the second."""
    make = lambda read: one(ir.Leaky(ir.Lif(ints(NEVER), ints(0), ir.Constant(0), f=0), read), 40)
    values = [-7] * 5 + [9] + [-7] * 33 + [-3]
    for read, value in (("max", 9), ("last", -3), ("sum", sum(values))):
        assert traced(run, make(read), values)[2].sums.tolist() == [[value]]


def test_own_spikes_come_back_at_the_next_step(run: Engine) -> None:
    """A = 0: m = x = a. A spike adds -100 to what is read at the step after."""
    neuron = ir.Lif(ints(10), ints(0), ir.Constant(0), f=0)
    membranes, spikes, _ = traced(run, one(neuron, 4, np.array([[-100]], np.int8)), [50, 50, 120, 120])
    assert (membranes, spikes) == ([50, -50, 120, 20], [1, 0, 1, 1])


def test_an_own_spike_is_one_behind_an_input_of_one_signed_bit(run: Engine) -> None:
    """Values of one signed bit are 0 and -1: the layer's spikes, 1, need another bit beside them."""
    network = Network(
        (
            Layer("input", ir.Input((1,), 1, signed=True, sequence=True)),
            Layer(
                "it",
                ir.Dense(np.array([[3]], np.int8), np.array([[7]], np.int8)),
                (0,),
                ir.Lif(ints(1), ints(2), ir.Constant(0), f=0),
            ),
        ),
        4,
    )
    # 2, then 7 + 2, 7 - 3 + 2, 7 + 2
    assert traced(run, network, [0, 0, -1, 0])[0] == [2, 9, 6, 9]


# --- wide layers ------------------------------------------------------------------------------------------------------


def network(steps: int, width: int = 70, **fields: Any) -> Network:
    """A pool, gates, a concatenation, a recurrent layer of drawn decays and one of CUBA neurons, a leaky read-out."""
    rng = np.random.default_rng(9)
    weights = lambda *shape: rng.integers(-65, 66, shape).astype(np.int8)
    full = lambda value, count: np.full(count, value, np.int32)
    drawn = lambda sampling, size: ir.Drawn(sampling=sampling, neurons_per_core=size)
    lif = lambda count, decay, **more: ir.Lif(full(9000, count), full(900, count), decay, **more)
    conv = lambda into: ir.Conv(weights(width, into, 3, 3), padding=(1, 1))
    layers = (
        Layer("input", ir.Input((2, 6, 6), 4, sequence=True)),
        Layer("a", conv(2), (0,), lif(width, drawn("step", 100), reset="subtract", reset_delay=1)),
        Layer("b", conv(2), (0,), lif(width, ir.Constant(200), floor=full(-4000, width))),
        Layer("gate", ir.Iand(), (1, 2)),
        Layer("pool", ir.MaxPool((3, 3), (2, 2), (1, 1)), (3,)),
        Layer("both", ir.Concat(), (4, 4)),
        Layer("dense", ir.Dense(weights(width, 2 * width * 9), weights(width, width)), (5,),
              lif(width, drawn("forward", 33), **fields)),
        Layer("cuba", ir.Dense(weights(width, width), weights(width, width)), (6,),
              ir.Cuba(full(40000, width), full(100, width), 900, 300)),
        Layer("read", ir.Dense(weights(5, width)), (7,),
              ir.Leaky(ir.Lif(full(NEVER, 5), full(0, 5), drawn("step", 2)))),
    )  # fmt: skip
    return Network(layers, steps)


def recordings(network: Network, count: int) -> np.ndarray:
    values = np.random.default_rng(3).random((count, network.steps, *network.input.shape))
    return (15 * values**6).astype(np.uint8)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("batch", [1, 4])
def test_long_recordings_equal_the_reference(run: Engine, threads: int, batch: int) -> None:
    """In spans of a length that divides nothing, from the first span to the last."""
    long, images = network(17), recordings(network(17), 3)
    options: dict[str, Any] = {"seed": 5, "first_image": 11, "probes": ["a", "dense", "cuba", "read"]}
    expected = reference.run(long, images, **options)
    assert min(expected.spikes.values()) > 0
    with patch.object(walk, "LONGEST", 4):
        assert_equal(run(long, images, **options, batch=batch, threads=threads), expected)


def test_recurrent_layers_of_several_tiles_equal_the_reference(run: Engine) -> None:
    wide = network(4, width=640)
    images = recordings(wide, 2)
    expected = reference.run(wide, images, seed=5, probes=["dense", "cuba"])
    assert 0 < expected.spikes["dense"] < 2 * 4 * 640
    assert_equal(run(wide, images, seed=5, probes=["dense", "cuba"], threads=2), expected)


def test_pieces_of_a_stream_are_the_whole_recording(run: Engine) -> None:
    """Draws included: step t of piece i of T steps has the number i*T + t, as in one recording that is as long."""
    whole, pieces = network(12), network(3)
    recording, probes = recordings(whole, 1), [layer.name for layer in whole.layers]
    long = run(whole, recording, seed=5, probes=probes)
    parts = run(pieces, recording.reshape(4, 3, *recording.shape[2:]), seed=5, probes=probes, stream=True)
    # decays that last an image are other ones in every piece
    for name in ("a", "b", "gate", "pool", "both"):
        assert np.array_equal(parts.traces[name].output.ravel(), long.traces[name].output.ravel())
    a, b = (result.traces["a"].membrane for result in (parts, long))
    assert a is not None and b is not None and np.array_equal(a.ravel(), b.ravel())


def test_a_stream_equals_the_reference_and_begins_at_rest_each_time(run: Engine) -> None:
    pieces = network(5)
    images, options = recordings(pieces, 4), {"seed": 5, "stream": True, "probes": ["dense", "cuba", "read"]}
    expected = reference.run(pieces, images, **options)
    for _ in range(2):
        assert_equal(run(pieces, images, **options, threads=2), expected)
    with pytest.raises(AssertionError):
        assert_equal(run(pieces, images, **(options | {"stream": False})), expected)


def test_memory_does_not_grow_with_the_number_of_steps(run: Engine) -> None:
    """The peak grows by what is counted per step, and by far less than one layer's spikes of the further steps."""
    peaks, width, (short, far) = [], 48, (walk.LONGEST, 10 * walk.LONGEST)
    for steps in (short, far):
        images = recordings(network(steps, width), 2)
        run(network(steps, width), images[:1], seed=5, threads=1)
        tracemalloc.start()
        run(network(steps, width), images, seed=5, threads=1)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    spikes_of_a = 2 * (far - short) * width * 36
    assert peaks[1] - peaks[0] < spikes_of_a / 4


def test_held_images_are_still_run_for_many_steps(run: Engine) -> None:
    """The sums of a still image are made once per span and stay the same."""
    still = replace(network(70).layers[0], operation=ir.Input((2, 6, 6), 4))
    long = Network((still, *network(70).layers[1:]), 70)
    images = recordings(network(1), 2)[:, 0]
    expected = reference.run(long, images, seed=5, probes=["a", "read"])
    assert_equal(run(long, images, seed=5, probes=["a", "read"], threads=2), expected)


@pytest.mark.parametrize(("threads", "batch"), [(0, 1), (1, 0)])
def test_no_threads_and_no_batch_are_refused(run: Engine, threads: int, batch: int) -> None:
    with pytest.raises(RandhetError, match=f"threads {threads} and batch {batch} must be at least 1"):
        run(network(1), recordings(network(1), 1), threads=threads, batch=batch)
