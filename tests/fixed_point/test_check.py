"""Each rule of the representation refuses the network that breaks it, by layer, value and limit, all at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from randhet.base.errors import NetworkError
from randhet.fixed_point.check import check, faults
from randhet.fixed_point.network import (
    Add,
    Conv,
    Dense,
    Drawn,
    Flatten,
    Input,
    Layer,
    Lif,
    Network,
    RandomTau,
    ReadOut,
    SumPool,
)
from randhet.fixed_point.shape import bounds, delays, peaks, shapes


def ints(value: int, count: int) -> np.ndarray:
    return np.full(count, value, np.int32)


def neuron(channels: int = 4) -> RandomTau:
    return Lif(ints(1000, channels), ints(0, channels), Drawn())


def network() -> Network:
    kernel = np.full((4, 4, 3, 3), -2, np.int8)
    return Network(
        (
            Layer("input", Input((1, 8, 8))),
            Layer("stem", Conv(np.full((4, 1, 3, 3), 3, np.int8), padding=(1, 1)), (0,), neuron()),
            Layer("branch", Conv(kernel, padding=(1, 1)), (1,), neuron()),
            Layer("sum", Add(), (1, 2)),
            Layer("pool", SumPool((4, 4), (4, 4)), (3,)),
            Layer("flat", Flatten(), (4,)),
            Layer("read", Dense(np.ones((10, 16), np.int8)), (5,), ReadOut(ints(-7, 10))),
        ),
        steps=4,
    )


def changed(index: int, **fields: object) -> Network:
    layers = list(network().layers)
    layers[index] = replace(layers[index], **fields)
    return replace(network(), layers=tuple(layers))


def test_a_sound_network_passes_and_its_numbers_are_as_by_hand() -> None:
    check(network())
    assert shapes(network()) == [(1, 8, 8), (4, 8, 8), (4, 8, 8), (4, 8, 8), (4, 2, 2), (16,), (10,)]
    assert peaks(network()) == [255, 1, 1, 2, 32, 32, 16 * 32 + 7]
    assert bounds(network()) == [0, 27 * 255, 36 * 2, 0, 0, 0, 16 * 32]
    assert delays(network()) == [0, 1, 2, 2, 2, 2, 3]


BROKEN: list[tuple[Callable[[], Network], str]] = [
    (lambda: replace(network(), steps=0), "steps is 0"),
    (lambda: replace(network(), layers=network().layers[1:]), "first layer must be the input"),
    (lambda: changed(2, name="stem"), "stem is used 2 times"),
    (lambda: changed(2, inputs=(2,)), "layer branch: reads layer 2"),
    (lambda: changed(3, inputs=(1,)), "layer sum: Add reads 1"),
    (lambda: changed(3, inputs=(0, 1)), "layer sum: residual sum of different shapes"),
    (lambda: changed(2, neuron=None), "layer branch: Conv needs a neuron"),
    (lambda: changed(3, neuron=neuron()), "layer sum: Add cannot have a neuron"),
    (
        lambda: changed(1, operation=Conv(np.full((4, 1, 3, 3), -128, np.int8))),
        r"layer stem: largest \|weight\| is 128",
    ),
    (lambda: changed(1, operation=Conv(np.ones((4, 1, 3, 3), np.float32))), "layer stem: weight is float32"),
    (lambda: changed(1, operation=Conv(np.ones((4, 2, 3, 3), np.int8))), "layer stem: conv takes 2 channels"),
    (lambda: changed(1, operation=Conv(np.ones((4, 1, 9, 9), np.int8))), "layer stem: conv kernel"),
    (lambda: changed(1, operation=Conv(np.ones((4, 1, 3, 3), np.int8), stride=(0, 1))), "at least 1"),
    (lambda: changed(1, neuron=replace(neuron(), threshold=ints(0, 4))), "layer stem: threshold lies in 0..0"),
    (lambda: changed(1, neuron=replace(neuron(), threshold=ints(2**23, 4))), "8388608"),
    (lambda: changed(1, neuron=replace(neuron(), bias=ints(2**23, 4))), "layer stem: bias lies in"),
    (lambda: changed(1, neuron=replace(neuron(), k=13)), "k is 13"),
    (lambda: changed(1, neuron=replace(neuron(), k=7)), "layer stem: table lies in"),
    (lambda: changed(1, neuron=replace(neuron(), neurons_per_core=0)), "neurons per core is 0"),
    (lambda: changed(1, neuron=replace(neuron(), sampling="never")), "sampling is 'never'"),
    (lambda: changed(4, operation=SumPool((9, 9), (1, 1))), "layer pool: sum pool kernel"),
    (lambda: changed(6, neuron=ReadOut(np.full(10, 2**30, np.int64))), "layer read: a sum can reach"),
]


@pytest.mark.parametrize(("make", "words"), BROKEN, ids=[words for _, words in BROKEN])
def test_a_broken_rule_is_named(make: Callable[[], Network], words: str) -> None:
    with pytest.raises(NetworkError, match=words):
        check(make())


def test_all_broken_rules_are_reported_together() -> None:
    broken = replace(changed(1, neuron=replace(neuron(), k=13, threshold=ints(0, 4), neurons_per_core=0)), steps=4)
    assert len(faults(broken)) == 3
