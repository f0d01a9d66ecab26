"""Each rule of the representation refuses the network that breaks it, in one sentence with layer, value and limit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from randhet.base.errors import NetworkError
from randhet.fixed_point import network as ir
from randhet.fixed_point.check import check_images, faults
from randhet.fixed_point.network import Add, Conv, Dense, Flatten, Input, Layer, Network, SumPool

TOP = 2**23 - 1


def ints(value: int, *shape: int) -> np.ndarray:
    return np.full(shape, value, np.int32)


def byte(value: int, *shape: int) -> np.ndarray:
    return np.full(shape, value, np.int8)


def neuron(channels: int = 4, **fields: Any) -> ir.Lif:
    return replace(ir.Lif(ints(1000, channels), ints(0, channels), ir.Drawn()), **fields)


def drawn(**fields: Any) -> ir.Lif:
    return neuron(decay=ir.Drawn(**fields))


def cuba(channels: int = 4, **fields: Any) -> ir.Cuba:
    return ir.Cuba(ints(1000, channels), ints(0, channels), **fields)


LAYERS = (
    Layer("input", Input((1, 8, 8))),
    Layer("stem", Conv(byte(3, 4, 1, 3, 3), padding=(1, 1)), (0,), neuron()),
    Layer("branch", Conv(byte(-2, 4, 4, 3, 3), padding=(1, 1)), (1,), neuron()),
    Layer("sum", Add(), (1, 2)),
    Layer("pool", SumPool((4, 4), (4, 4)), (3,)),
    Layer("flat", Flatten(), (4,)),
    Layer("read", Dense(byte(1, 10, 16)), (5,), ir.ReadOut(ints(-7, 10))),
)
OPERATIONS = "Input, Conv, Dense, Add, And, Iand, Concat, SumPool, MaxPool, Spread, Flatten"
STEPS = 4
INPUT, STEM, BRANCH, SUM, POOL, FLAT, READ = range(7)
Layers = tuple[Layer, ...]


def changed(index: int, **fields: Any) -> Layers:
    return (*LAYERS[:index], replace(LAYERS[index], **fields), *LAYERS[index + 1 :])


def stem(neuron: ir.Neuron | None = LAYERS[1].neuron, **geometry: Any) -> Layers:
    """The stem with another neuron or another geometry."""
    return changed(STEM, neuron=neuron, operation=replace(LAYERS[STEM].operation, **geometry))  # type: ignore[type-var]


def chain(first: Input, *rest: tuple[ir.Operation, ir.Neuron | None]) -> Layers:
    """Each layer reads the one before."""
    layers = [Layer("input", first)]
    layers += [Layer(f"l{i}", operation, (i,), cell) for i, (operation, cell) in enumerate(rest)]
    return tuple(layers)


def test_the_sound_network_is_made() -> None:
    assert faults(LAYERS, STEPS) == []
    assert Network(LAYERS, STEPS).input is LAYERS[0].operation


class Faster(ir.Lif):
    """Derived from a known neuron: who knows what it does."""


class Wider(Conv):
    """Derived from a known operation."""


class Slower(ir.Constant):
    """Derived from a known decay."""


KINDS: list[tuple[Layers, str]] = [
    (
        changed(STEM, operation=Wider(byte(3, 4, 1, 3, 3), padding=(1, 1))),
        "layer stem: Wider is not one of " + OPERATIONS,
    ),
    (changed(SUM, operation=None), "layer sum: NoneType is not one of " + OPERATIONS),
    (stem(Faster(ints(9, 4), ints(0, 4))), "layer stem: Faster is not one of Lif, Cuba, ReadOut, Leaky"),
    (stem("Lif"), "layer stem: str is not one of Lif, Cuba, ReadOut, Leaky"),  # type: ignore[arg-type]
    (stem(neuron(decay=Slower(5))), "layer stem: Slower is not one of Constant, PerNeuron, Drawn"),
    (stem(neuron(decay=128)), "layer stem: int is not one of Constant, PerNeuron, Drawn"),
    (stem(neuron(decay=None)), "layer stem: NoneType is not one of Constant, PerNeuron, Drawn"),
]

STRUCTURE: list[tuple[Layers, str]] = [
    ((), "the first layer must be the input"),
    (changed(BRANCH, name="stem"), "layer name stem is used 2 times"),
    (changed(BRANCH, inputs=(2,)), "layer branch: reads layer 2, only layers 0 to 1 come before it"),
    (changed(BRANCH, inputs=(-1,)), "layer branch: reads layer -1, only layers 0 to 1 come before it"),
    (changed(BRANCH, inputs=(0, 1)), "layer branch: Conv reads 2 layers, the limits are 1 to 1"),
    (changed(SUM, inputs=(1,)), "layer sum: Add reads 1 layers, the limits are 2 to 16"),
    (changed(SUM, inputs=(1,) * 17), "layer sum: Add reads 17 layers, the limits are 2 to 16"),
    (changed(FLAT, inputs=()), "layer flat: Flatten reads 0 layers, the limits are 1 to 1"),
    ((*LAYERS, Layer("again", Input((1, 2, 2)))), "layer again: only the first layer may be an input"),
    (changed(SUM, neuron=neuron()), "layer sum: Add cannot have a neuron"),
    (changed(INPUT, neuron=neuron(1)), "layer input: Input cannot have a neuron"),
    *(
        (
            (*LAYERS, Layer("late", operation, inputs, cell)),
            "layer late: reads the read-out read, whose sums are 32 bit; only spikes and graded values may be read",
        )
        for operation, inputs, cell in (
            (Flatten(), (6,), None),
            (Add(), (5, 6), None),
            (Dense(byte(1, 4, 10)), (6,), neuron()),
            (Dense(byte(1, 2, 10)), (6,), ir.ReadOut(ints(0, 2))),
        )
    ),
]

SETTINGS: list[tuple[Layers, str]] = [
    (changed(INPUT, operation=Input((1, 0, 8))), "layer input: input shape (1, 0, 8) has an empty axis"),
    (changed(INPUT, operation=Input(())), "layer input: input shape () has an empty axis"),
    (changed(INPUT, operation=Input((1, 8, 8), 0)), "layer input: input has 0 bits, the limits are 1 to 24"),
    (changed(INPUT, operation=Input((1, 8, 8), 25)), "layer input: input has 25 bits, the limits are 1 to 24"),
    (stem(weight=byte(-128, 4, 1, 3, 3)), "layer stem: largest |weight| is 128, the limit is 127"),
    (stem(weight=np.full((4, 1, 3, 3), 128, np.int16)), "layer stem: largest |weight| is 128, the limit is 127"),
    (
        stem(cuba(), weight=np.full((4, 1, 3, 3), -129, np.int16)),
        "layer stem: largest |weight| is 129, the limit is 127",
    ),
    (
        stem(weight=np.ones((4, 1, 3, 3), np.float32)),
        "layer stem: weight is float32 of shape (4, 1, 3, 3), it must be integers with 4 non-empty axes",
    ),
    (
        stem(weight=byte(1, 4, 9)),
        "layer stem: weight is int8 of shape (4, 9), it must be integers with 4 non-empty axes",
    ),
    (
        changed(READ, operation=Dense(byte(1, 0, 16))),
        "layer read: weight is int8 of shape (0, 16), it must be integers with 2 non-empty axes",
    ),
    *(
        (stem(**geometry), "layer stem: stride, dilation and groups must be at least 1, padding at least 0")
        for geometry in ({"stride": (0, 1)}, {"dilation": (1, 0)}, {"groups": 0}, {"padding": (0, -1)})
    ),
    (
        changed(POOL, operation=SumPool((4, 0), (4, 4))),
        "layer pool: pool kernel (4, 0) and stride (4, 4) must be at least 1",
    ),
    (
        changed(POOL, operation=SumPool((4, 4), (0, 4))),
        "layer pool: pool kernel (4, 4) and stride (0, 4) must be at least 1",
    ),
]

SHAPES: list[tuple[Layers, str]] = [
    (stem(weight=byte(1, 4, 2, 3, 3)), "layer stem: conv takes 2 channels, its input has 1"),
    (
        changed(BRANCH, operation=Conv(byte(1, 4, 2, 3, 3), groups=2, padding=(1, 1)), inputs=(0,)),
        "layer branch: conv takes 4 channels, its input has 1",
    ),
    (
        changed(BRANCH, operation=Conv(byte(1, 3, 2, 3, 3), groups=2, padding=(1, 1))),
        "layer branch: conv has 3 output channels, not a multiple of its 2 groups",
    ),
    (
        stem(weight=byte(1, 4, 1, 11, 3)),
        "layer stem: conv kernel (11, 3) does not fit its input (1, 8, 8)",
    ),
    (
        (*LAYERS[:FLAT], replace(LAYERS[READ], inputs=(4,), operation=Dense(byte(1, 10, 15)))),
        "layer read: dense takes 15 values, its input has 16",
    ),
    (changed(SUM, inputs=(0, 1)), "layer sum: residual sum of different shapes (1, 8, 8), (4, 8, 8)"),
    (
        changed(POOL, operation=SumPool((9, 9), (1, 1))),
        "layer pool: sum pool kernel (9, 9) does not fit its input (4, 8, 8)",
    ),
    (
        changed(READ, operation=Conv(byte(1, 10, 16, 1, 1))),
        "layer read: conv reads (channel, y, x), its input has shape (16,)",
    ),
    (
        (*LAYERS, Layer("flat pool", SumPool((1, 1), (1, 1)), (5,))),
        "layer flat pool: sum pool reads (channel, y, x), its input has shape (16,)",
    ),
]

SIZES: list[tuple[Layers, str]] = [
    (chain(Input((1, 4097, 4096))), "layer input has 16781312 values, the limit is 16777216"),
    (
        chain(Input((1, 8, 8)), (Conv(byte(1, 1, 1, 3, 3), padding=(8187, 8187)), neuron(1))),
        "layer l0 has 268304400 values, the limit is 16777216",
    ),
    (
        chain(Input((1, 1200, 1200)), (Conv(byte(0, 1, 1, 800, 800)), neuron(1))),
        "layer l0: its windows have 102912640000 taps together, the limit is 67108864",
    ),
    (
        chain(Input((1, 1200, 1200), 1), (SumPool((800, 800), (1, 1)), None)),
        "layer l0: its windows have 102912640000 taps together, the limit is 67108864",
    ),
]

NEURONS: list[tuple[Layers, str]] = [
    (stem(neuron(threshold=ints(0, 4))), "layer stem: threshold lies in 0..0, the limits are 1 to 8388607"),
    (
        stem(neuron(threshold=ints(TOP + 1, 4))),
        "layer stem: threshold lies in 8388608..8388608, the limits are 1 to 8388607",
    ),
    (
        stem(neuron(threshold=ints(9, 3))),
        "layer stem: threshold is int32 of shape (3,), it must be integers of [(4,)]",
    ),
    (
        stem(neuron(threshold=np.full(4, 9.0))),
        "layer stem: threshold is float64 of shape (4,), it must be integers of [(4,)]",
    ),
    (
        stem(neuron(bias=ints(-TOP - 1, 4))),
        "layer stem: bias lies in -8388608..-8388608, the limits are -8388607 to 8388607",
    ),
    (
        stem(neuron(bias=ints(0, 8, 8))),
        "layer stem: bias is int32 of shape (8, 8), it must be integers of [(4,), (4, 8, 8)]",
    ),
    (stem(neuron(decay=ir.Constant(0), k=0)), "layer stem: k is 0, the limits are 1 to 12"),
    (stem(neuron(decay=ir.Constant(0), k=13)), "layer stem: k is 13, the limits are 1 to 12"),
    (stem(neuron(decay=ir.Constant(0), k=10**9)), "layer stem: k is 1000000000, the limits are 1 to 12"),
    (stem(neuron(f=-1)), "layer stem: f is -1, the limits are 0 to 16"),
    (stem(neuron(f=17)), "layer stem: f is 17, the limits are 0 to 16"),
    (stem(neuron(reset="half")), "layer stem: reset is 'half', it must be 'zero' or 'subtract'"),
    (
        stem(neuron(decay=ir.Constant(256))),
        "layer stem: constant decay mantissa is 256, the limits are 0 to 255",
    ),
    (stem(neuron(decay=ir.Constant(-1))), "layer stem: constant decay mantissa is -1, the limits are 0 to 255"),
    (
        stem(neuron(decay=ir.PerNeuron(ints(128, 4, 8, 8)), k=7)),
        "layer stem: perneuron decay mantissa lies in 128..128, the limits are 0 to 127",
    ),
    (
        stem(neuron(decay=ir.PerNeuron(ints(128, 4)))),
        "layer stem: perneuron decay mantissa is int32 of shape (4,), it must be integers of [(4, 8, 8)]",
    ),
    (
        stem(drawn(table=ints(256, 256))),
        "layer stem: drawn decay table lies in 256..256, the limits are 0 to 255",
    ),
    (
        stem(drawn(table=ints(1, 255))),
        "layer stem: drawn decay table is int32 of shape (255,), it must be integers of [(256,)]",
    ),
    (stem(drawn(sampling="never")), "layer stem: drawn decay sampling is 'never', it must be 'step' or 'forward'"),
    (
        stem(drawn(neurons_per_core=0)),
        "layer stem: drawn decay neurons per core is 0, the limits are 1 to 16777216",
    ),
    (
        stem(drawn(neurons_per_core=2**24 + 1)),
        "layer stem: drawn decay neurons per core is 16777217, the limits are 1 to 16777216",
    ),
    (stem(cuba(current_decay=-2)), "layer stem: current decay is -2, the limits are -1 to 4095"),
    (stem(cuba(current_decay=4096)), "layer stem: current decay is 4096, the limits are -1 to 4095"),
    (stem(cuba(voltage_decay=-1)), "layer stem: voltage decay is -1, the limits are 0 to 4096"),
    (stem(cuba(voltage_decay=4097)), "layer stem: voltage decay is 4097, the limits are 0 to 4096"),
    (
        stem(replace(cuba(), threshold=ints(0, 4))),
        "layer stem: threshold lies in 0..0, the limits are 1 to 8388607",
    ),
]

SUMS: list[tuple[Layers, str]] = [
    # 255 * 127 * 66313 = 2147546505
    (
        chain(Input((66313, 1, 1)), (Dense(byte(127, 1, 66313)), neuron(1))),
        "layer l0: a sum can reach 2147546505, the limit is 2147483647",
    ),
    # the same reached from below: -(2^15) * 127 * 517
    (
        chain(Input((517, 1, 1), 16, signed=True), (Dense(byte(127, 1, 517)), neuron(1))),
        "layer l0: a sum can reach 2151514112, the limit is 2147483647",
    ),
    # 4 * (16 * 32 + 2^29)
    (
        changed(READ, neuron=ir.ReadOut(np.full(10, 2**29, np.int64))),
        "layer read: a sum can reach 2147485696, the limit is 2147483647",
    ),
    # a pool of a pool: 64 * 64 * (2^24 - 1)
    (
        chain(Input((1, 64, 64), 24), (SumPool((64, 64), (64, 64)), None)),
        "layer l0: a sum can reach 68719472640, the limit is 2147483647",
    ),
    # sums of sums: 255 * 16^6
    (
        (
            Layer("input", Input((1, 1, 1))),
            *(Layer(f"s{i}", Add(), (i,) * 16) for i in range(6)),
        ),
        "layer s5: a sum can reach 4278190080, the limit is 2147483647",
    ),
    # 255 * 27 = 6885 from the stem's weights of 3; shifted by 12
    (stem(cuba(f=12)), "layer stem: a current a << f can reach 28200960, the limit is 16777216"),
]


BROKEN = [*KINDS, *STRUCTURE, *SETTINGS, *SHAPES, *SIZES, *NEURONS, *SUMS]


@pytest.mark.parametrize(("layers", "sentence"), BROKEN, ids=[sentence[:60] for _, sentence in BROKEN])
def test_a_broken_rule_is_said_in_one_sentence(layers: Layers, sentence: str) -> None:
    with pytest.raises(NetworkError) as caught:
        Network(layers, STEPS)
    assert str(caught.value) == sentence


@pytest.mark.parametrize("steps", [0, -1, 2**16 + 1])
def test_steps_have_limits(steps: int) -> None:
    with pytest.raises(NetworkError, match=rf"^steps is {steps}, the limits are 1 to 65536$"):
        Network(LAYERS[:1], steps)


def test_all_broken_rules_are_reported_together() -> None:
    wrong = stem(neuron(threshold=ints(0, 4), decay=ir.Drawn(neurons_per_core=0), f=17))
    assert len(faults(wrong, STEPS)) == 3
    assert len(faults(changed(SUM, name="stem", neuron=neuron()), 0)) == 3


@pytest.mark.parametrize(
    "make",
    [
        lambda: stem(cuba(f=4), weight=byte(-128, 4, 1, 3, 3)),
        lambda: stem(cuba(current_decay=-1, voltage_decay=4096)),
        lambda: stem(neuron(threshold=ints(TOP, 4), bias=ints(-TOP, 4, 8, 8), k=12, f=16, reset="subtract")),
        lambda: stem(neuron(decay=ir.PerNeuron(ints(4095, 4, 8, 8)), k=12)),
        lambda: changed(SUM, inputs=(1,) * 16),
        lambda: changed(INPUT, operation=Input((1, 8, 8), 24, signed=True)),
        lambda: changed(READ, neuron=ir.ReadOut(ints(2**29 - 16 * 16 * 2 - 1, 10))),
        # a current of exactly 2^24: -128 * 2 << 16
        lambda: chain(Input((2, 1, 1), 1), (Dense(byte(-128, 1, 2)), cuba(1, f=16))),
    ],
)
def test_what_lies_at_a_limit_is_accepted(make: Callable[[], Layers]) -> None:
    assert faults(make(), STEPS) == []


def test_nothing_of_a_bad_network_is_left() -> None:
    """`Network` is checked when it is made: also where it is made from another."""
    with pytest.raises(NetworkError, match="layer stem: f is 17"):
        replace(Network(LAYERS, STEPS), layers=stem(neuron(f=17)))


# --- images -----------------------------------------------------------------------------------------------------------

SIGNED = Input((1, 1, 2), 4, signed=True)
PIXELS = lambda *values: np.array([values], np.int16).reshape(1, 1, 1, 2)
IMAGES: list[tuple[Input, np.ndarray, int, str]] = [
    (SIGNED, PIXELS(-9, 0), 0, "pixels lie in -9..0, the limits are -8 to 7"),
    (SIGNED, PIXELS(0, 8), 0, "pixels lie in 0..8, the limits are -8 to 7"),
    (Input((1, 1, 2)), PIXELS(-1, 0), 0, "pixels lie in -1..0, the limits are 0 to 255"),
    (Input((1, 1, 2), 1), PIXELS(2, 0), 0, "pixels lie in 0..2, the limits are 0 to 1"),
    (
        Input((1, 2, 1)),
        PIXELS(0, 0),
        0,
        "images are int16 of shape (1, 1, 2), the network takes still images, integers of (1, 2, 1)",
    ),
    (
        Input((1, 1, 2)),
        np.zeros((1, 1, 1, 2)),
        0,
        "images are float64 of shape (1, 1, 2), the network takes still images, integers of (1, 1, 2)",
    ),
    (SIGNED, PIXELS(0, 0), -1, f"first_image is -1, images have numbers 0 to {2**62 - 1}"),
    (SIGNED, PIXELS(0, 0), 2**62, f"first_image is {2**62}, images have numbers 0 to {2**62 - 1}"),
    (SIGNED, PIXELS(0, 0).repeat(3, 0), 2**62 - 2, f"first_image is {2**62 - 2}, images have numbers 0 to {2**62 - 1}"),
]


@pytest.mark.parametrize(("operation", "images", "first", "sentence"), IMAGES, ids=[it[-1][:50] for it in IMAGES])
def test_wrong_images_are_refused(operation: Input, images: np.ndarray, first: int, sentence: str) -> None:
    with pytest.raises(NetworkError) as caught:
        check_images(operation, 1, images, first)
    assert str(caught.value) == sentence


def test_images_at_their_limits_are_accepted() -> None:
    check_images(SIGNED, 1, PIXELS(-8, 7), 2**62 - 1)
    check_images(SIGNED, 1, PIXELS(-8, 7).repeat(3, 0), 2**62 - 3)
    check_images(SIGNED, 1, PIXELS(0, 0)[:0], 0)
