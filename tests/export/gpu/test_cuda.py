"""The Triton kernels give the reference's integers, in the interpreter; what cannot run is refused in a sentence."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from math import prod
from typing import Any

import numpy as np
import pytest
from command_line import call
from equality import assert_equal

from hardware_tests.agreement import observe
from hardware_tests.cases import CASES
from hardware_tests.random_networks import Run, numbered
from hardware_tests.test_conformance import differences, expected
from randhet.base.errors import RandhetError
from randhet.fixed_point import network as ir
from randhet.fixed_point import reference
from randhet.fixed_point.backends import BACKENDS, Runner
from randhet.fixed_point.network import Range


def cost(run: Run) -> int:
    """Steps of all layers with weights, which take the interpreter's time."""
    return run.network.steps * sum(1 for layer in run.network.layers if layer.weighted)


@cache
def chosen() -> list[Run]:
    """A hundred numbered networks that are quick to interpret."""
    return [run for run in map(numbered, range(260)) if cost(run) <= 5][:100]


def same(cuda: Runner, run: Run, **options: Any) -> None:
    """Both give the same integers for every layer."""
    given: dict[str, Any] = {"seed": run.seed, "first_image": run.first_image, "probes": run.names, **options}
    wanted = reference.run(run.network, run.images, **given)
    assert_equal(cuda(run.network, run.images, **given), wanted)


@pytest.mark.parametrize("part", range(4))
def test_random_networks(cuda: Runner, part: int) -> None:
    assert len(chosen()) == 100
    for run in chosen()[part::4]:
        same(cuda, run)


def test_the_random_networks_hold_every_kind() -> None:
    """Among those that are run here: every operation, neuron, decay, reset and sampling."""
    layers = [layer for run in chosen() for layer in run.network.layers]
    operations = {type(layer.operation) for layer in layers}
    assert operations == set(ir.Operation.__args__)
    assert {type(layer.neuron) for layer in layers} >= {ir.Lif, ir.Cuba, ir.ReadOut, ir.Leaky}
    lifs = [layer.lif for layer in layers if layer.lif]
    assert {(lif.reset, lif.reset_delay) for lif in lifs} == {(r, d) for r in ("zero", "subtract") for d in (0, 1)}
    assert {lif.drawn.sampling for lif in lifs if lif.drawn} == {"step", "forward"}
    assert any(lif.floored for lif in lifs) and any(layer.recurrent is not None for layer in layers)


SLOW = {"a-whole-small-network", "sequence-of-frames-of-1-bits-in-a-whole-network"}
"""Cases that take the interpreter seconds; random networks hold what they hold."""


@pytest.mark.parametrize("part", range(4))
def test_conformance_cases(cuda: Runner, part: int) -> None:
    """Against the oracle in Python's integers."""
    for name in sorted(set(CASES) - SLOW)[part::4]:
        case = CASES[name]()
        run = Run(case.network, case.images, case.seed, case.first_image)
        found = cuda(case.network, case.images, seed=case.seed, first_image=case.first_image, probes=run.names)
        assert differences(case, observe(run, found), expected(name)) == [], name


# --- generators, batches, streams -------------------------------------------------------------------------------------


def drawing(sampling: Any, shape: ir.Shape, per_core: int = 7, recurrent: bool = False, steps: int = 3) -> ir.Network:
    """An input, a layer whose decays are drawn, and a read-out."""
    rng, size = np.random.default_rng(4), prod(shape)
    neuron = ir.Lif(
        rng.integers(500, 4000, shape[0]).astype(np.int32),
        rng.integers(-900, 900, shape).astype(np.int32),
        ir.Drawn(sampling=sampling, neurons_per_core=per_core),
    )
    weight = lambda *size: rng.integers(-9, 10, size).astype(np.int8)
    operation = ir.Dense(weight(size, 6), weight(size, size)) if recurrent else ir.Conv(weight(shape[0], 2, 2, 2))
    source = (6, 1, 1) if recurrent else (2, shape[1] + 1, shape[2] + 1)
    last = ir.Layer("last", ir.Dense(weight(4, size)), (1,), ir.ReadOut(rng.integers(-9, 9, 4).astype(np.int32)))
    return ir.Network(
        (ir.Layer("in", ir.Input(source, 4, sequence=True)), ir.Layer("it", operation, (0,), neuron), last), steps
    )


def recordings(network: ir.Network, count: int) -> np.ndarray:
    return np.random.default_rng(9).integers(0, 16, (count, *network.image_shape)).astype(np.uint8)


@pytest.mark.parametrize("generator", ["register", "chacha"])
@pytest.mark.parametrize("sampling", ["step", "forward"])
@pytest.mark.parametrize("recurrent", [False, True])
def test_generators_over_batches_and_streams(cuda: Runner, generator: Any, sampling: str, recurrent: bool) -> None:
    """Rounds pass 64 bits of the cipher's count; cores of 7 end inside channels; a stream carries its state on."""
    network = drawing(sampling, (10,) if recurrent else (3, 2, 3), recurrent=recurrent)
    run = Run(replace(network, generator=generator), recordings(network, 2), 5, 2**62 - 10)
    same(cuda, run, batch=1)
    same(cuda, run, stream=True)


@pytest.mark.parametrize("per_core", [1, 18, 1024])
def test_cores_of_any_size(cuda: Runner, per_core: int) -> None:
    network = drawing("step", (3, 2, 3), per_core)
    same(cuda, Run(network, recordings(network, 2), 2**64 - 1, 3))


def test_long_recordings_are_taken_in_spans(cuda: Runner) -> None:
    """More steps than a span holds: potentials, registers and draws go on where a span ends."""
    for generator in ("register", "chacha"):
        network = replace(drawing("step", (2, 1, 2), steps=35), generator=generator)
        same(cuda, Run(network, recordings(network, 1), 1, 1))


# --- sums -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("bits", "signed"), [(1, False), (7, False), (8, True), (8, False), (16, True), (20, True)])
@pytest.mark.parametrize("weight", [-128, 127])
def test_wide_values_are_spent_byte_by_byte(cuda: Runner, bits: int, signed: bool, weight: int) -> None:
    """Values at both ends, against sums in Python's integers; a convolution with borders, groups and several blocks."""
    rng, low, high = (
        np.random.default_rng(bits),
        *((-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)),
    )
    weights = rng.choice([weight, 1, 0], (4, 1, 3, 3)).astype(np.int8)
    conv = ir.Conv(weights, (1, 2), (1, 2), (1, 1), 2)
    network = ir.Network((ir.Layer("in", ir.Input((2, 9, 8), bits, signed)), ir.Layer("sums", conv, (0,))), 1)
    images = rng.choice([low, high, low // 2, 1], (2, 2, 9, 8)).astype(np.int32)
    found = cuda(network, images, seed=0, first_image=0, probes=["sums"]).traces["sums"].output
    padded = np.pad(images.astype(object), ((0, 0), (0, 0), (1, 1), (2, 2)))
    for image, o, y, x in ((0, 0, 0, 0), (0, 3, 8, 4), (1, 1, 4, 2), (1, 2, 8, 0)):
        window = padded[image, o // 2, y : y + 3, 2 * x : 2 * x + 3]
        assert found[image, 0, o, y, x] == int((window * weights[o, 0].astype(object)).sum())
    assert np.array_equal(found, reference.run(network, images, probes=["sums"]).traces["sums"].output)


def test_long_sums_are_made_of_chunks(cuda: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """An accumulator takes 2^16 terms; here it takes 64."""
    from triton.language import constexpr

    from randhet.export.gpu import sums

    monkeypatch.setattr(sums, "CHUNK", constexpr(64))
    weights = np.random.default_rng(1).integers(-127, 128, (3, 150)).astype(np.int8)
    layers = (ir.Layer("in", ir.Input((150,), 16)), ir.Layer("sums", ir.Dense(weights), (0,)))
    images = np.random.default_rng(2).integers(0, 2**16, (2, 150)).astype(np.uint16)
    same(cuda, Run(ir.Network(layers, 2), images, 0, 0))


def test_digits_of_a_range(cuda: Runner) -> None:
    """One digit holds -128..127, two hold -128*257..127*257, four hold all 32 bits."""
    from randhet.export.gpu.sums import limbs_of

    ranges = [Range(0, 1), Range(-128, 127), Range(0, 128), Range(-128 * 257, 127 * 257), Range(0, 127 * 257 + 1)]
    assert [limbs_of(span) for span in ranges] == [1, 1, 2, 2, 3]
    assert limbs_of(Range(-(2**31), 2**31 - 1)) == 4


# --- the command, and what is refused ---------------------------------------------------------------------------------


def test_what_is_missing_is_said_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr("randhet.base.triton.installed", lambda: "3.7.0")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    reason = "torch sees no CUDA device; TRITON_INTERPRET=1 runs the same kernels slowly without one"
    assert BACKENDS["cuda"].missing() == reason
    done = call("run", "none.net", "--backend", "cuda")
    assert done.exit_code == 2 and f"backend cuda cannot run here: {reason}" in " ".join(done.stderr.split())
    monkeypatch.setattr("randhet.base.triton.installed", lambda: "2.3.1")
    assert str(BACKENDS["cuda"].missing()).startswith("triton 2.3.1 is installed, the kernels need 3.7 or later")
    monkeypatch.setattr("randhet.base.triton.installed", lambda: None)
    assert BACKENDS["cuda"].missing() == "triton is not installed: pip install 'randhet[gpu]'"


def test_a_batch_below_one_is_refused(cuda: Runner) -> None:
    network = drawing("step", (3, 2, 3))
    with pytest.raises(RandhetError, match="batch 0 must be at least 1"):
        cuda(network, recordings(network, 1), seed=1, first_image=0, probes=(), batch=0)  # type: ignore[call-arg]


def test_no_images_are_an_empty_result(cuda: Runner) -> None:
    network = drawing("step", (3, 2, 3))
    assert cuda(network, recordings(network, 0), seed=1, first_image=0, probes=()).sums.shape == (0, 4)
