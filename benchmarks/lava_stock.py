"""Lava's own Conv process: seconds per step of single layers, each in a run of its own with random spikes as input."""

from __future__ import annotations

import time
from collections import Counter

import numpy as np

from randhet.benchmarks.process import family_cpu
from randhet.fixed_point.network import Conv, Network, Shape
from randhet.lava_runtime.loading import load

STEPS = 2
RATE = 0.2
Kind = tuple[tuple[int, ...], tuple[int, int], tuple[int, int], Shape, int]
"""Weight shape (out, in, ky, kx), stride and padding (y, x), input shape (C, Y, X), bits of its messages."""


def kinds(network: Network) -> Counter[Kind]:
    """The distinct convolutions of a network and how often each occurs; bits 0 where messages are plain spikes."""
    shape, top = network.shapes, [span.peak for span in network.ranges]
    counts: Counter[Kind] = Counter()
    for layer in network.layers:
        operation = layer.operation
        if isinstance(operation, Conv):
            source = layer.inputs[0]
            bits = 0 if top[source] == 1 else int(top[source]).bit_length()
            counts[operation.weight.shape, operation.stride, operation.padding, shape[source], bits] += 1
    return counts


def seconds_per_image(network: Network) -> tuple[float, float]:
    """Sum over the convolutions of T times the seconds of a step (clock, processor), one image at a time."""
    each = [(network.steps * count, *seconds_per_step(kind)) for kind, count in kinds(network).items()]
    return sum(n * seconds for n, seconds, _ in each), sum(n * cpu for n, _, cpu in each)


def seconds_per_step(kind: Kind, steps: int = STEPS) -> tuple[float, float]:
    """Return the seconds (clock, processor) of a step of one Conv, after a first one."""
    load()
    from lava.magma.core.run_conditions import RunSteps
    from lava.magma.core.run_configs import Loihi2SimCfg
    from lava.proc.conv.process import Conv as StockConv
    from lava.proc.io.sink import RingBuffer as Sink
    from lava.proc.io.source import RingBuffer as Source

    (out, channels, ky, kx), stride, padding, (_, y, x), bits = kind
    rng = np.random.default_rng(0)
    # Lava's axes are (x, y, channel)
    weight = rng.integers(-127, 128, (out, kx, ky, channels))
    spikes = (rng.random((x, y, channels, steps + 1)) < RATE).astype(np.int32)
    conv = StockConv(
        weight=weight, input_shape=(x, y, channels), stride=stride[::-1], padding=padding[::-1], num_message_bits=bits
    )
    source = Source(data=spikes)
    sink = Sink(shape=conv.a_out.shape, buffer=steps + 1)
    source.s_out.connect(conv.s_in)
    conv.a_out.connect(sink.a_in)
    configuration = Loihi2SimCfg(select_tag="fixed_pt")
    try:
        conv.run(condition=RunSteps(num_steps=1), run_cfg=configuration)
        begin, spent = time.perf_counter(), family_cpu()
        conv.run(condition=RunSteps(num_steps=steps), run_cfg=configuration)
        return (time.perf_counter() - begin) / steps, (family_cpu() - spent) / steps
    finally:
        conv.stop()
