"""The first divergence against a brute-force search in logical order."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from randhet.fixed_point.diagnosis.divergence import compared, first
from randhet.fixed_point.result import Trace

SHAPES = {"a": (2, 2, 1), "b": (3,), "c": (2, 2, 1)}
IMAGES, STEPS = 3, 2


def traces() -> dict[str, Trace]:
    rng = np.random.default_rng(0)
    made = {}
    for name, shape in SHAPES.items():
        size = (IMAGES, STEPS, *shape)
        membrane = None if name == "c" else rng.integers(-9, 9, size)
        made[name] = Trace(rng.integers(0, 2, size), membrane)
    return made


def brute_force(a: dict[str, Trace], b: dict[str, Trace]) -> tuple[object, ...] | None:
    """Walk in the order in which a mistake spreads: image, step, layer, membrane before output, neuron."""
    for image, step, name in product(range(IMAGES), range(STEPS), SHAPES):
        for quantity in ("membrane", "output"):
            one, other = getattr(a[name], quantity), getattr(b[name], quantity)
            if one is None:
                continue
            for neuron in np.ndindex(*SHAPES[name]):
                at = (image, step, *neuron)
                if one[at] != other[at]:
                    return (image, step, name, neuron, quantity, one[at], other[at])
    return None


SPOTS = st.tuples(st.sampled_from("abc"), st.booleans(), st.integers(0, 2), st.integers(0, 1), st.integers(0, 3))


@given(st.lists(SPOTS, max_size=5))
def test_first_equals_brute_force(spots: list[tuple[str, bool, int, int, int]]) -> None:
    a, b = traces(), traces()
    for name, in_membrane, image, step, neuron in spots:
        where = b[name].membrane if in_membrane and b[name].membrane is not None else b[name].output
        assert where is not None
        where[image, step].flat[neuron % where[image, step].size] += 1
    found, expected = first(a, b, SHAPES), brute_force(a, b)
    if expected is None:
        assert found is None
        return
    assert found is not None
    place = (found.image, found.step, found.layer, found.neuron, found.quantity, found.expected, found.found)
    assert place == expected


def test_image_number_is_the_logical_one() -> None:
    a, b = traces(), traces()
    b["b"].output[1, 1, 2] += 5
    found = first(a, b, SHAPES, first_image=40)
    assert found is not None
    assert (found.image, found.expected + 5) == (41, found.found)


def test_what_was_not_traced_is_never_taken_for_equal() -> None:
    a, b = traces(), traces()
    with pytest.raises(KeyError):
        first(a, {name: b[name] for name in "ab"}, SHAPES)
    with pytest.raises(ValueError, match="layer a"):
        first(a, b | {"a": Trace(b["a"].output, None)}, SHAPES)
    with pytest.raises(ValueError, match="layer b"):
        first(a, b | {"b": Trace(b["b"].output[:1], b["b"].membrane)}, SHAPES)


def test_compared_counts_every_value() -> None:
    assert compared(traces()) == {"outputs": 6 * (4 + 3 + 4), "membranes": 6 * (4 + 3)}
