"""Every case on every target: integers equal to those of `oracle`, which counts in Python's own integers."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from hardware_tests import oracle
from hardware_tests.cases import CASES, Case
from hardware_tests.targets import Observed, Target


@cache
def expected(name: str) -> oracle.Expected:
    case = CASES[name]()
    return oracle.run(case.network, case.images.tolist(), case.seed, case.first_image)


def differences(case: Case, observed: Observed, right: oracle.Expected) -> list[str]:
    """Where a target differs, one sentence per layer: the first odd value, image, step and neuron."""
    pairs = [(f"{name} output", values, right.outputs[name]) for name, values in observed.outputs.items()]
    pairs += [(f"{name} membrane", values, right.membranes[name]) for name, values in observed.membranes.items()]
    said = [text for what, values, wanted in pairs if (text := first_odd(what, values, np.array(wanted)))]
    if observed.saturations is not None and observed.saturations != right.saturations:
        said.append(f"{observed.saturations} saturations, {right.saturations} expected")
    if observed.predictions is not None and (answers := predictions(case, right)) != observed.predictions.tolist():
        said.append(f"predictions {observed.predictions.tolist()}, {answers} expected")
    return said


def first_odd(what: str, values: np.ndarray, wanted: np.ndarray) -> str | None:
    if values.shape != wanted.shape:
        return f"{what} has shape {values.shape}, {wanted.shape} expected"
    odd = np.argwhere(values != wanted)
    if not len(odd):
        return None
    index = tuple(odd[0])
    where = "image {}, step {}, neuron {}".format(*index)
    return f"{what}: {len(odd)} of {values.size} differ, first at {where}: {values[index]}, {wanted[index]} expected"


def predictions(case: Case, right: oracle.Expected) -> list[int]:
    """The class with the largest sum over the steps, the lowest of equals."""
    last = right.outputs[case.network.layers[-1].name]
    sums = [oracle.read(case.network.layers[-1].neuron, steps) for steps in last]
    return [row.index(max(row)) for row in sums]


def test_integers_are_equal(case_name: str, target_name: str, chosen: Target) -> None:
    case = CASES[case_name]()
    if reason := chosen.refuses(case.network):
        pytest.skip(f"{target_name} cannot run this case: {reason}")
    assert differences(case, chosen.observe(case), expected(case_name)) == []
