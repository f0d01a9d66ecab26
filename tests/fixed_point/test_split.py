"""A run in ranges of images is the run of one program: the same integers, whatever the ranges, draws and backend."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest
from equality import assert_equal

from randhet.base.errors import NetworkError, RandhetError
from randhet.base.parallel import read
from randhet.base.split import Split
from randhet.fixed_point.backends import BACKENDS, runner
from randhet.fixed_point.layers import Drawn
from randhet.fixed_point.network import Conv, Dense, Flatten, GeneratorKind, Input, Layer, Lif, Network, ReadOut
from randhet.fixed_point.split import Job, run

COUNT, SEED = 7, 11
BACKENDS_HERE = [name for name in BACKENDS if name != "lava"]


def network(sampling: str = "step", generator: GeneratorKind = "register", recordings: bool = False) -> Network:
    """A convolution and a dense layer, both stochastic, and a read-out."""
    rng = np.random.default_rng(3)
    weights = lambda *shape: rng.integers(-90, 91, shape).astype(np.int8)
    neuron = lambda channels, threshold: Lif(
        np.full(channels, threshold, np.int32), np.zeros(channels, np.int32), Drawn(sampling=sampling)
    )
    layers = (
        Layer("input", Input((2, 4, 3), sequence=recordings)),
        Layer("conv", Conv(weights(5, 2, 3, 3), padding=(1, 1)), (0,), neuron(5, 400_000), np.ones(1)),
        Layer("flat", Flatten(), (1,)),
        Layer("dense", Dense(weights(9, 60)), (2,), neuron(9, 3_000), np.ones(1)),
        Layer("out", Dense(weights(3, 9)), (3,), ReadOut(np.zeros(3, np.int32)), np.ones(1)),
    )
    return Network(layers, steps=3, generator=generator)


def images(recordings: bool = False) -> np.ndarray:
    shape = (COUNT, 3, 2, 4, 3) if recordings else (COUNT, 2, 4, 3)
    return np.random.default_rng(4).integers(0, 256, shape).astype(np.uint8)


@pytest.mark.parametrize("recordings", [False, True], ids=["images", "recordings"])
@pytest.mark.parametrize("sampling", ["step", "forward"])
@pytest.mark.parametrize("generator", ["register", "chacha"])
@pytest.mark.parametrize("backend", BACKENDS_HERE)
def test_ranges_give_what_one_run_gives(
    backend: str, generator: GeneratorKind, sampling: str, recordings: bool
) -> None:
    net, pixels = network(sampling, generator, recordings), images(recordings)
    if reason := BACKENDS[backend].missing() or BACKENDS[backend].refuses(net):
        pytest.skip(reason)
    whole = runner(backend)(net, pixels, seed=SEED, first_image=0, probes=())
    told: list[int] = []
    found, other = run(Job(net, pixels, backend), [SEED, SEED + 1], Split(images=3), told.append)
    assert_equal(found, whole)
    assert found.operations == whole.operations
    assert not np.array_equal(other.sums, whole.sums), "the seed must matter for this test to say anything"
    assert sum(told) == 2 * 3


def test_a_range_that_draws_as_the_first_images_do_would_be_seen() -> None:
    net, pixels = network(), images()
    whole = runner("reference")(net, pixels, seed=SEED, first_image=0, probes=())
    again = runner("reference")(net, pixels[3:], seed=SEED, first_image=0, probes=())
    assert not np.array_equal(whole.sums[3:], again.sums)


def test_a_killed_worker_costs_no_result(tmp_path: Path) -> None:
    """A worker is killed after the first piece; its pieces run elsewhere, and what is done is not done again."""
    distributed = pytest.importorskip("distributed")
    net, pixels, file = network(), images(), tmp_path / "results.jsonl"
    whole = runner("engine")(net, pixels, seed=SEED, first_image=0, probes=())
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0", silence_logs=50
    ) as cluster:
        victims = [worker.pid for worker in cluster.workers.values()][:1]

        def kill(count: int) -> None:
            if count and victims:
                os.kill(victims.pop(), signal.SIGKILL)

        split = Split(scheduler=cluster.scheduler_address, images=1, out=file)
        (found,) = run(Job(net, pixels, "engine", threads=1), [SEED], split, kill)
    assert not victims
    assert_equal(found, whole)
    assert len(read(file)) == COUNT


def test_what_cannot_be_split_is_refused() -> None:
    with pytest.raises(RandhetError, match="images is 0, a piece has at least 1"):
        Split(images=0)
    with pytest.raises(NetworkError):
        run(Job(network(), images()[:, :1], "reference"), [SEED], Split())
    assert Split(images=250).ranges(601, 100) == [(0, 300), (300, 600), (600, 601)]
