"""Sequences, pieces of recordings, recurrence, leaky read-outs on Lava: against the reference and by hand."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
from equality import assert_equal

from randhet.base.errors import NetworkError
from randhet.fixed_point import reference
from randhet.fixed_point.integer import STATE_MAX
from randhet.fixed_point.network import (
    Concat,
    Cuba,
    Dense,
    Drawn,
    Input,
    Layer,
    Leaky,
    Lif,
    Network,
    Neuron,
    PerNeuron,
    ReadOut,
    SumPool,
)
from randhet.lava_runtime.runner import run

pytestmark = pytest.mark.lava
RNG = np.random.default_rng(11)
STEPS = 5


def ints(value: int, *shape: int) -> np.ndarray:
    return np.full(shape, value, np.int32)


def dense(out: int, into: int) -> np.ndarray:
    return RNG.integers(-99, 100, (out, into)).astype(np.int8)


def moving(last: Neuron | None = None) -> Network:
    """Frames into recurrent layers of every decay and dynamics, one behind a concatenation with the frames."""
    drawn = Lif(ints(2000, 7), ints(40, 7), Drawn(neurons_per_core=3))
    held = Lif(ints(3000, 6), ints(0, 6), Drawn(sampling="forward"), reset="subtract")
    own = Lif(ints(900, 6), ints(9, 6), PerNeuron(RNG.integers(0, 256, 6).astype(np.uint16)))
    cuba = Cuba(ints(4000, 5), ints(17, 5), current_decay=700, voltage_decay=300, f=3)
    layers = (
        Layer("input", Input((6,), bits=4, signed=True, sequence=True)),
        Layer("drawn", Dense(dense(7, 6), dense(7, 7)), (0,), drawn),
        Layer("held", Dense(dense(6, 7), dense(6, 6)), (1,), held),
        Layer("both", Concat(), (0, 2)),
        Layer("own", Dense(dense(6, 12), dense(6, 6)), (3,), own),
        Layer("cuba", Dense(dense(5, 6), dense(5, 5)), (4,), cuba),
        Layer("read", Dense(dense(3, 5)), (5,), last or ReadOut(ints(5, 3))),
    )
    return Network(layers, STEPS)


def recordings(network: Network, count: int) -> np.ndarray:
    return RNG.integers(-8, 8, (count, network.steps, *network.input.shape)).astype(np.int16)


@pytest.mark.parametrize("batch", [1, 3])
def test_sequences_and_recurrence_equal_the_reference(batch: int) -> None:
    """Four recordings: what a layer spiked in one must not reach the next, in any lane."""
    network = moving()
    images, probes = recordings(network, 4), [layer.name for layer in network.layers]
    expected = reference.run(network, images, seed=2, first_image=9, probes=probes)
    assert all(0 < count < expected.traces[name].output.size for name, count in expected.spikes.items())
    assert_equal(run(network, images, seed=2, first_image=9, probes=probes, batch=batch), expected)


@pytest.mark.parametrize("read", ["sum", "last", "max"])
def test_pieces_of_a_recording_carry_on(read: str) -> None:
    """States and recurrent spikes go on, what is read begins anew; a batch is no more than a wish then."""
    inner = Lif(ints(STATE_MAX, 3), ints(-7, 3), Drawn())
    network = moving(Leaky(inner, read))  # type: ignore[arg-type]
    images, probes = recordings(network, 3), [layer.name for layer in network.layers]
    expected = reference.run(network, images, seed=2, probes=probes, stream=True)
    assert_equal(run(network, images, seed=2, probes=probes, batch=2, stream=True), expected)
    apart = reference.run(network, images, seed=2, probes=probes)
    assert not np.array_equal(apart.sums, expected.sums)


def test_a_sum_read_out_begins_anew_with_each_piece() -> None:
    network = moving()
    images, probes = recordings(network, 2), ["read"]
    expected = reference.run(network, images, seed=2, probes=probes, stream=True)
    assert_equal(run(network, images, seed=2, probes=probes, stream=True), expected)


def counter() -> Network:
    """One neuron with weight 10 for its input and -3 for its own spike, f = 0, no decay at all: m = x."""
    neuron = Lif(ints(4, 1), ints(0, 1), PerNeuron(np.zeros(1, np.uint16)), f=0)
    weight, own = np.array([[10]], np.int8), np.array([[-3]], np.int8)
    return Network((Layer("input", Input((1,), sequence=True)), Layer("n", Dense(weight, own), (0,), neuron)), 4)


def test_recurrence_by_hand() -> None:
    """Frames 1, 1, 0, 0: m is 10, 10 - 3, then -3 (its spike of the step before), then 0."""
    trace = run(counter(), np.array([[[1], [1], [0], [0]]], np.uint8), probes=["n"]).traces["n"]
    assert trace.membrane is not None
    assert trace.membrane.ravel().tolist() == [10, 7, -3, 0]
    assert trace.output.ravel().tolist() == [1, 1, 0, 0]


@pytest.mark.parametrize("read", ["sum", "last", "max"])
@pytest.mark.parametrize("kind", ["drawn", "cuba"])
def test_leaky_read_outs_that_saturate(read: str, kind: str) -> None:
    top = ints(STATE_MAX, 3)
    inner = Lif(top, ints(2**22, 3), Drawn(), f=12) if kind == "drawn" else Cuba(top, ints(2**22, 3), 100, 50)
    layer = Layer("read", Dense(dense(3, 4)), (0,), Leaky(inner, read))  # type: ignore[arg-type]
    network = Network((Layer("input", Input((4,))), layer), 6)
    images = RNG.integers(0, 256, (3, 4)).astype(np.uint8)
    expected = reference.run(network, images, seed=5, probes=["read"])
    assert expected.saturations > 0 and expected.spikes == {}
    assert_equal(run(network, images, seed=5, probes=["read"], batch=2), expected)
    assert_equal(run(network, images, seed=5), reference.run(network, images, seed=5))


def test_leaky_read_outs_have_no_floating_point_model() -> None:
    layer = Layer("read", Dense(dense(3, 4)), (0,), Leaky(Lif(ints(STATE_MAX, 3), ints(0, 3))))
    with pytest.raises(NetworkError, match="layer read: leaky read-outs have no floating-point model"):
        run(Network((Layer("input", Input((4,))), layer), 2), np.zeros((1, 4), np.uint8), model="floating_pt")


def test_a_recording_of_another_length_is_refused_before_anything_starts() -> None:
    network = moving()
    with pytest.raises(NetworkError, match="the network takes recordings of T frames"):
        run(network, recordings(network, 1)[:, 1:])


def test_recordings_on_disk_are_read_frame_by_frame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """52 MB of recordings: from the first to the last, the process that reads them grows by less than a tenth of it."""
    # a folder of its own for the run; the path of a socket in it may not be long
    home = Path(tempfile.mkdtemp(prefix="rh-"))
    monkeypatch.setattr(tempfile, "tempdir", str(home))
    images = np.lib.format.open_memmap(tmp_path / "images.npy", "w+", np.uint8, (16, 50, 1, 256, 256))
    images[:] = RNG.integers(0, 256, (16, 50, 1, 1, 1))
    layers = (
        Layer("input", Input((1, 256, 256), sequence=True)),
        Layer("pool", SumPool((256, 256), (256, 256)), (0,)),
        Layer("read", Dense(np.array([[1], [-1]], np.int8)), (1,), ReadOut(ints(0, 2))),
    )
    held: list[int] = []

    def look(done: int) -> None:
        processes = next(home.glob("randhet-*/processes.json"))
        held.extend(resident(json.loads(processes.read_text())["input"]))

    found = run(Network(layers, 50), images, seed=0, progress=look)
    home.rmdir()
    assert len(held) > 3 and max(held) - held[0] < images.nbytes / 10
    expected = 65_536 * images[:, :, 0, 0, 0].astype(np.int64).sum(axis=1)
    assert np.array_equal(found.sums, np.stack([expected, -expected], 1))


def resident(number: int) -> list[int]:
    """Bytes that a process holds in memory; none once it has ended, as the reading one does before the last images."""
    try:
        lines = Path(f"/proc/{number}/status").read_text().split("\n")
    except OSError:
        return []
    return [1024 * int(line.split()[1]) for line in lines if line.startswith("VmRSS")]
