"""Files of lava-dl read here, and files of ours read by lava-dl, against lava-dl's own network on stock Lava."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import h5py
import numpy as np
import pytest

from randhet.base.errors import FileError
from randhet.fixed_point import add_only, engine, reference
from randhet.fixed_point.backends import runner
from randhet.fixed_point.network import Conv, Cuba, Dense, Flatten, Input, Layer, Leaky, Network, ReadOut
from randhet.lava_runtime.runner import run as lava
from randhet.netx import delays
from randhet.netx.lava_dl import Shown, currents, load_network, read_foreign
from randhet.netx.write import read, write

pytestmark = pytest.mark.lava
PROGRAMS = Path(__file__).parent / "lava_dl"
STEPS = 6
RNG = np.random.default_rng(3)


def program(name: str, directory: Path) -> None:
    done = subprocess.run([sys.executable, PROGRAMS / name, directory], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr


@dataclass(frozen=True)
class Case:
    """A network that both sides run: file, input shape where the file has none, message bits, layers without delay.

    sequence: recordings of `steps` frames, spikes of the given share. count: how many; stock Lava keeps what is under
    way in delays and recurrent synapses when it resets its neurons, so that there one recording is compared.
    """

    name: str
    file: str
    shape: tuple[int, ...]
    bits: int = 0
    told: bool = True
    delayed: bool = True
    levels: tuple[float, float] | Literal["currents"] | None = None
    steps: int = STEPS
    sequence: bool = False
    count: int = 2
    share: float = 0.5

    @property
    def shown(self) -> Shown:
        shape = self.shape if self.told else None
        return Shown(self.steps, max(1, self.bits), shape=shape, levels=self.levels, sequence=self.sequence)

    def images(self) -> np.ndarray:
        """Images or recordings of spikes, or of graded values."""
        rng, shape = np.random.default_rng(1), (self.steps, *self.shape) if self.sequence else self.shape
        if self.bits:
            return rng.integers(0, 2**self.bits, (self.count, *shape)).astype(np.uint8)
        return (rng.random((self.count, *shape)) < self.share).astype(np.uint8)


CASES = [
    Case("plain", "plain.net", (2, 6, 5)),
    Case("graded", "plain.net", (2, 6, 5), bits=8),
    Case("biased", "biased.net", (4, 7, 6)),
    Case("currents", "currents.net", (6,), bits=8, told=False, delayed=False, levels="currents"),
    Case("extreme", "extreme.net", (2, 6, 5)),
    Case("summed", "summed.net", (1, 4, 5), bits=8, told=False, delayed=False, levels=(-1.0, 1.0)),
    Case("voltage", "voltage.net", (2, 6, 5), bits=8),
]
MOVING = [
    Case("recurrent", "recurrent.net", (9,), steps=20, sequence=True, count=1),
    Case("delayed", "delayed.net", (9,), steps=20, sequence=True, count=1),
    Case("synapses", "synapses.net", (9,), steps=75, sequence=True, count=1),
    Case("oxford", "oxford.net", (200,), steps=40, sequence=True, share=0.1),
    Case("pilot", "pilot.net", (3, 17, 20), 8, told=False, delayed=False, levels=(0.0, 1.0), steps=9, sequence=True),
    Case("saccades", "saccades.net", (2, 34, 34), steps=12, sequence=True, share=0.1),
    Case("leaking", "leaking.net", (2, 6, 5), bits=8),
    Case("bounded", "bounded.net", (2, 6, 5), bits=8),
    Case("drifting", "drifting.net", (2, 6, 5), bits=8),
    Case("wrapped", "wrapped.net", (1, 4, 5), 8, told=False, delayed=False, levels=(-1.0, 1.0), steps=80),
    Case("saturated", "saturated.net", (2, 6, 5), bits=8),
]
"""Sequences, recurrence, delays of outputs and of synapses; ends that leak, cannot spike, drift, wrap, saturate."""
OWN = Case("own", "own.net", (2, 6, 5), bits=8, told=False)


def put(file: h5py.File, key: str, value: object) -> None:
    del file[key]
    file[key] = value


def extreme(file: h5py.File) -> None:
    """The ends of what lava-dl writes: weights -256 and 254, one sign only, decays 0 and 4096, largest threshold."""
    weight = 2 * RNG.integers(-128, 128, (4, 2, 3, 3))
    weight.flat[:2] = -256, 254
    put(file, "layer/0/weight", weight.astype(np.float32))
    put(file, "layer/0/neuron/type", np.array([b"LOIHI"]))
    put(file, "layer/0/neuron/iDecay", 4096)
    put(file, "layer/0/neuron/vThMant", 300)
    put(file, "layer/1/weight", RNG.integers(0, 128, file["layer/1/weight"].shape).astype(np.float32))
    put(file, "layer/1/neuron/vDecay", 4096)
    put(file, "layer/3/weight", RNG.integers(-127, 0, file["layer/3/weight"].shape).astype(np.float32))
    put(file, "layer/4/weight", RNG.integers(-127, 128, file["layer/4/weight"].shape).astype(np.float32))
    file["layer/3/bias"] = np.array([-4096, 4095, 4095, 4000, 3000, 2000, 1000], np.float32)
    put(file, "layer/3/neuron/iDecay", 0)


def voltage(file: h5py.File) -> None:
    """An end like PilotNet's: a neuron that keeps its voltage, with the largest threshold; weights down to -256."""
    weight = 2 * RNG.integers(-128, 128, file["layer/4/weight"].shape)
    weight.flat[:2] = -256, 254
    put(file, "layer/4/weight", weight.astype(np.float32))
    put(file, "layer/3/neuron/vThMant", 8)
    put(file, "layer/4/neuron/iDecay", 4096)
    put(file, "layer/4/neuron/vDecay", 0)
    put(file, "layer/4/neuron/vThMant", (1 << 17) - 1)
    file["layer/4/bias"] = np.zeros(1, np.float32)


def synapses(file: h5py.File) -> None:
    """A delay of its own for each synapse, up to more than the largest there is."""
    late = RNG.integers(0, 12, (8, 9))
    late[RNG.random((8, 9)) < 0.3] = 0
    late.flat[:4] = 61, 62, 63, 200
    put(file, "layer/0/delay", late)


def leaking(file: h5py.File) -> None:
    """An end that never spikes and leaks."""
    voltage(file)
    put(file, "layer/4/neuron/iDecay", 3000)
    put(file, "layer/4/neuron/vDecay", 300)


def bounded(file: h5py.File) -> None:
    """An end whose voltage, 7 * (1 + 2 + .. + 6) << 6 at most, does not reach its threshold of 256 << 6."""
    put(file, "layer/4/weight", np.array([[1] * 7, [1, -1, 1, 0, -1, 1, 1], [-1, 0, 1, 1, -1, 0, -1]], np.float32))


def drifting(file: h5py.File) -> None:
    """An end that sums, with a bias."""
    voltage(file)
    put(file, "layer/4/bias", np.array([-30, 1, 40], np.float32))


def wrapped(file: h5py.File) -> None:
    """An end that keeps its current, which passes 24 bits: up to 9 * 250 << 6 a step, behind neurons easily driven."""
    put(file, "layer/2/weight", np.array([[127]] * 8 + [[1]], np.float32) * np.ones((9, 20), np.float32))
    put(file, "layer/2/neuron/vThMant", 60)
    put(file, "layer/3/weight", np.full((5, 9), 250, np.float32) * np.array([[1], [-1], [1], [-1], [1]], np.float32))


def saturated(file: h5py.File) -> None:
    """An end that sums with biases, the largest of which fill 24 bits in four steps."""
    voltage(file)
    put(file, "layer/4/neuron/vThMant", (1 << 18) - 1)
    put(file, "layer/4/bias", np.array([32_767, 1, -32_768], np.float32))


def ours() -> Network:
    """A chain that stock NetX has words for, with every decay, bias and sign."""

    def cuba(channels: int, mantissa: int, current: int, voltage: int) -> Cuba:
        bias = (RNG.integers(-20, 60, channels) * 64).astype(np.int32)
        return Cuba(np.full(channels, mantissa * 64, np.int32), bias, current, voltage)

    def weight(*shape: int) -> np.ndarray:
        return RNG.integers(-127, 128, shape).astype(np.int8)

    layers = (
        Layer("input", Input((2, 6, 5))),
        Layer("first", Conv(weight(4, 1, 3, 3), (1, 2), (1, 0), (1, 1), 2), (0,), cuba(4, 30_000, 3000, 900)),
        Layer("second", Conv(weight(3, 4, 2, 1)), (1,), cuba(3, 120, 1000, 0)),
        Layer("flat", Flatten(), (2,)),
        Layer("hidden", Dense(weight(8, 30)), (3,), cuba(8, 150, 4095, 300)),
        Layer("last", Dense(np.abs(weight(4, 8))), (4,), cuba(4, 200, 500, 500)),
    )
    return Network(layers, STEPS)


def wordless() -> Network:
    """The same chain with a threshold per channel, which stock NetX cannot say."""
    start, first, *rest = ours().layers
    neuron = Cuba(np.arange(64, 320, 64, dtype=np.int32), np.zeros(4, np.int32), 0, 0)
    return Network((start, replace(first, neuron=neuron), *rest), STEPS)


def looped() -> Network:
    """The same chain with recurrent weights, which stock NetX does not look for."""
    *start, hidden, last = ours().layers
    dense = hidden.operation
    assert isinstance(dense, Dense)
    return Network((*start, replace(hidden, operation=Dense(dense.weight, dense.weight[:, :8])), last), STEPS)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with lava-dl's files, ours, and what stock Lava makes of each case."""
    folder = tmp_path_factory.mktemp("lava_dl")
    program("make.py", folder)
    sources = {synapses: "delayed", wrapped: "summed"}
    for change in (extreme, voltage, leaking, bounded, drifting, saturated, synapses, wrapped):
        shutil.copy(folder / f"{sources.get(change, 'plain')}.net", folder / f"{change.__name__}.net")
        with h5py.File(folder / f"{change.__name__}.net", "r+") as file:
            change(file)
    write(folder / "own.net", ours())
    write(folder / "wordless.net", wordless())
    write(folder / "looped.net", looped())
    cases = []
    for case in (*CASES, *MOVING, OWN):
        np.save(folder / f"{case.name}.npy", case.images())
        cases.append(
            {
                "name": case.name,
                "file": str(folder / case.file),
                "steps": case.steps,
                "sequence": case.sequence,
                "bits": case.bits,
                "shape": case.shape if case.told else None,
                "delayed": case.delayed,
                "levels": case.levels if isinstance(case.levels, tuple) else None,
            }
        )
    (folder / "cases.json").write_text(json.dumps(cases))
    program("stock.py", folder)
    return folder


def assert_stock(network: Network, case: Case, home: Path, backend: Callable[..., object]) -> int:
    """Spikes and voltages of every layer, image and step are stock's; returns how many spikes there were."""
    # spikes that are held back are no layer of stock's
    names = [layer.name for layer in network.layers if layer.neuron and not layer.name.endswith(".delay")]
    result = backend(network, currents(network, case.images()), probes=names)
    traces = result.traces  # type: ignore[attr-defined]
    stock, spikes = np.load(home / f"{case.name}.npz"), 0
    assert len(stock.files) == 2 * len(names)
    for i, name in enumerate(names):
        trace = traces[name]
        layer = next(layer for layer in network.layers if layer.name == name)
        if isinstance(layer.neuron, ReadOut):
            assert not stock[f"spikes{i}"].any()
            at_the_end = stock[f"voltages{i}"][:, -1].reshape(len(result.sums), -1)
            assert np.array_equal(result.sums * layer.scale, at_the_end)
            assert np.array_equal(result.predictions, at_the_end.argmax(axis=1))
            assert len(set(at_the_end.ravel().tolist())) > 4
            continue
        if isinstance(layer.neuron, Leaky):
            assert not stock[f"spikes{i}"].any() and layer.neuron.read == "last"
            assert np.array_equal(trace.output, stock[f"voltages{i}"].reshape(trace.output.shape))
            assert np.array_equal(result.sums, trace.output[:, -1]) and len(np.unique(trace.output)) > 4
            continue
        assert np.array_equal(trace.output, stock[f"spikes{i}"].reshape(trace.output.shape)), name
        # Stock's voltage is read after the reset, ours is traced before it
        left = np.where(trace.output > 0, 0, trace.membrane)
        assert np.array_equal(left, stock[f"voltages{i}"].reshape(left.shape)), name
        assert left.any()
        spikes += int(trace.output.sum())
    return spikes


ENGINES = {"reference": reference.run, "engine": engine.run, "add-only": add_only.run}
# A Lava run starts processes, so two cases stand for all
RUNS = [*((case, name) for case in CASES for name in ENGINES), *((case, "lava") for case in CASES[3:])]


@pytest.mark.parametrize(("case", "name"), RUNS, ids=[f"{case.name}-{name}" for case, name in RUNS])
def test_a_file_of_lava_dl_gives_stocks_spikes_and_voltages(case: Case, name: str, home: Path) -> None:
    network = read_foreign(home / case.file, case.shown)
    assert assert_stock(network, case, home, ENGINES.get(name, lava)) > 10


@pytest.mark.parametrize("name", ["reference", "lava"])
@pytest.mark.parametrize("case", MOVING, ids=lambda case: case.name)
def test_recordings_recurrence_delays_and_leaking_ends_are_stocks(case: Case, name: str, home: Path) -> None:
    network = read_foreign(home / case.file, case.shown)
    assert assert_stock(network, case, home, ENGINES.get(name, lava)) > 10


def test_ends_that_are_no_plain_sum_become_leaky_read_outs(home: Path) -> None:
    """In units of their scale and f, which is how reports turn them into floats, they are stock's voltages."""
    ends = ("pilot", "leaking", "bounded", "drifting", "wrapped", "saturated")
    for case in MOVING:
        last = read_foreign(home / case.file, case.shown).layers[-1]
        assert isinstance(last.neuron, Leaky) == (case.name in ends), case.name
        if isinstance(last.neuron, Leaky):
            assert last.scale is not None and last.scale * 2.0**-last.neuron.f == 1


def test_ends_that_saturate_are_counted(home: Path) -> None:
    case = next(case for case in MOVING if case.name == "saturated")
    network = read_foreign(home / case.file, case.shown)
    assert reference.run(network, currents(network, case.images())).saturations > 0


def test_our_file_gives_the_same_spikes_and_voltages_in_lava_dl(home: Path) -> None:
    assert assert_stock(read(home / "own.net"), OWN, home, reference.run) > 10


def test_what_was_read_can_be_written_and_read(home: Path, tmp_path: Path) -> None:
    case = CASES[4]
    write(tmp_path / "a.net", read_foreign(home / case.file, case.shown))
    assert_stock(read(tmp_path / "a.net"), case, home, engine.run)


def test_a_layer_stock_has_no_words_for_is_refused_there(home: Path) -> None:
    """A threshold per channel, recurrent weights: lava-dl must fail rather than run something else."""
    assert "vThMant" in (home / "wordless.txt").read_text()
    assert "vThMant" in (home / "looped.txt").read_text()
    assert read(home / "looped.net").layers[4].recurrent is not None
    assert len(np.unique(read(home / "wordless.net").layers[1].neuron.threshold)) == 4  # type: ignore[union-attr]


REFUSED = {
    "pooled": "layer/1/type is 'pool', which lava-dl itself does not run on Lava: a convolution with a stride",
    "resonate": "layer/0/weight is complex",
    "sigma_delta": "layer/0/neuron/type is 'SDNN', known in files of lava-dl are CUBA, LOIHI",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_expressed_is_refused_by_name(name: str, home: Path) -> None:
    with pytest.raises(FileError, match=REFUSED[name]):
        read_foreign(home / f"{name}.net", Shown(4, shape=(2, 6, 6) if name == "pooled" else (6,)))


ALTERED: list[tuple[str, Callable[[h5py.File], None], str]] = [
    (
        "recurrent",
        lambda file: put(file, "layer/1/type", [b"average"]),
        "layer/1/type is 'average', which lava-dl itself",
    ),
    (
        "recurrent",
        lambda file: put(file, "layer/1/type", [b"lstm"]),
        "known in files of lava-dl are input, conv, flatten",
    ),
    ("recurrent", lambda file: file.__setitem__("layer/0/delay", np.ones(8)), "delays of recurrent layers"),
    ("recurrent", lambda file: put(file, "layer/0/weight_rec", np.ones(63)), "has 63 entries, 8 neurons need 64"),
    ("recurrent", lambda file: file.__delitem__("layer/0/weight_rec"), "layer/0/weight_rec is missing"),
    ("delayed", lambda file: put(file, "layer/0/delay", -np.ones(8)), "delay is -1 steps, it must be at least 0"),
    ("delayed", lambda file: put(file, "layer/0/delay", np.ones(7)), r"delay has the shape \(7,\), 8 outputs of 9"),
    ("delayed", lambda file: put(file, "layer/0/delay", np.ones((9, 8))), r"delay has the shape \(9, 8\), 8 outputs"),
    ("delayed", lambda file: file.__setitem__("layer/1/delay", 3), "delay needs .* limit is 20"),
    (
        "delayed",
        lambda file: put(file, "layer/1/weight", np.minimum(np.arange(40) - 64, 0).reshape(5, 8)),
        "layer/1/weight has no positive entry and -64 as its least, .* set it to -63",
    ),
]


@pytest.mark.parametrize(("name", "change", "words"), ALTERED, ids=[words for _, _, words in ALTERED])
def test_what_stock_does_not_run_or_runs_otherwise_is_refused(
    name: str,
    change: Callable[[h5py.File], None],
    words: str,
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if "limit is 20" in words:
        monkeypatch.setattr(delays, "MAX_LINE", 20)
    shutil.copy(home / f"{name}.net", tmp_path / "a.net")
    with h5py.File(tmp_path / "a.net", "r+") as file:
        change(file)
    with pytest.raises(FileError, match=words):
        read_foreign(tmp_path / "a.net", Shown(4, shape=(9,)))


def test_only_spikes_are_delayed(home: Path) -> None:
    with pytest.raises(FileError, match="delay is not zero: only spikes are delayed, and the layer reads graded"):
        read_foreign(home / "delayed.net", Shown(4, bits=8, shape=(9,)))


DAMAGE: list[tuple[Callable[[h5py.File], None], str]] = [
    (lambda file: put(file, "layer/0/neuron/type", np.array([b"RF_PHASE"])), "neuron/type is 'RF_PHASE'"),
    (lambda file: put(file, "layer/0/neuron/refDelay", 2), "refDelay is 2, only 1 is supported"),
    (lambda file: put(file, "layer/0/neuron/gradedSpike", True), "gradedSpike is 1, only 0 is supported"),
    (lambda file: put(file, "layer/0/weight", np.full((4, 2, 3, 3), 129.0)), "weight lies in 129..129"),
    (lambda file: put(file, "layer/0/weight", np.full((4, 2, 3, 3), np.nan)), "weight contains NaN"),
    (lambda file: put(file, "layer/0/shape", np.array([4, 6, 6])), r"shape says \(4, 6, 6\), the layers before"),
    (lambda file: put(file, "layer/3/shape", np.array([8])), "weight has 630 entries, which is no multiple of 8"),
    (lambda file: file.__setitem__("layer/0/bias", np.full(4, 40_000.0)), "bias lies in 40000..40000"),
    (lambda file: file.__delitem__("layer/1/neuron"), "layer/1/neuron is missing"),
    (lambda file: put(file, "layer/1/neuron/vThMant", 0), "threshold lies in 0..0"),
]


@pytest.mark.parametrize(("damage", "words"), DAMAGE, ids=[words for _, words in DAMAGE])
def test_damage_is_named(damage: Callable[[h5py.File], None], words: str, home: Path, tmp_path: Path) -> None:
    shutil.copy(home / "plain.net", tmp_path / "a.net")
    with h5py.File(tmp_path / "a.net", "r+") as file:
        damage(file)
    with pytest.raises(FileError, match=words):
        read_foreign(tmp_path / "a.net", CASES[0].shown)


def passed(file: h5py.File) -> None:
    """3 channels that sum 7 * 254 << 6 a step pass (2^17 - 1) << 6 at the 74th, where stock Lava spikes."""
    voltage(file)
    put(file, "layer/4/weight", np.full((3, 7), 254, np.float32))


NO_READ_OUT: list[tuple[str, Callable[[h5py.File], None], int, str]] = [
    (
        "plain",
        lambda file: put(file, "layer/1/neuron/vThMant", 1 << 17),
        6,
        "layer conv1 can never spike, so that nothing reaches the layers behind it",
    ),
    ("plain", passed, 74, "layer dense4 is an integrator by its threshold of 131071 << 6, which its voltage can pass"),
]
"""File, change, T, message."""


@pytest.mark.parametrize(("name", "damage", "steps", "words"), NO_READ_OUT, ids=[entry[3] for entry in NO_READ_OUT])
def test_a_layer_that_never_spikes_is_no_class_0(
    name: str, damage: Callable[[h5py.File], None], steps: int, words: str, home: Path, tmp_path: Path
) -> None:
    """A layer in the middle, and an end whose threshold its voltage may pass after all, are refused in one sentence."""
    shutil.copy(home / f"{name}.net", tmp_path / "a.net")
    with h5py.File(tmp_path / "a.net", "r+") as file:
        damage(file)
    levels = (-1.0, 1.0) if name == "summed" else None
    shown = Shown(steps, shape=None if levels else (2, 6, 5), levels=levels)
    with pytest.raises(FileError, match=words) as caught:
        read_foreign(tmp_path / "a.net", shown)
    assert ";" not in str(caught.value) and "\n" not in str(caught.value)


def test_the_largest_sum_that_fits_is_read_out_as_a_sum(home: Path, tmp_path: Path) -> None:
    """9 spikes * 100 << 6 a step, and 145 * 57,600 <= 2^23 - 1 < 146 * 57,600: beyond, the voltage saturates."""
    shutil.copy(home / "summed.net", tmp_path / "a.net")
    with h5py.File(tmp_path / "a.net", "r+") as file:
        put(file, "layer/3/weight", np.full((5, 9), 100))
    ends = [
        read_foreign(tmp_path / "a.net", Shown(steps, levels=(-1.0, 1.0))).layers[-1].neuron for steps in (145, 146)
    ]
    assert isinstance(ends[0], ReadOut) and isinstance(ends[1], Leaky)


@pytest.mark.parametrize("name", ["reference", "engine", "add-only", "onnx"])
def test_a_read_out_takes_the_lowest_weight_of_lava_dl(name: str) -> None:
    """-128, which quantisation here does not use: 5 steps of -128 * (1 + 2 + 3 + 255)."""
    if name == "onnx":
        pytest.importorskip("onnxruntime")
    read_out = Layer("last", Dense(np.full((2, 4), -128, np.int8)), (0,), ReadOut(np.zeros(2, np.int32)))
    result = runner(name)(Network((Layer("input", Input((4,))), read_out), 5), np.array([[1, 2, 3, 255]], np.uint8))
    assert result.sums.tolist() == [[-167_040, -167_040]]


def test_a_last_layer_that_can_spike_stays_as_it_is(home: Path) -> None:
    """One that needs several steps, too: v = 7 * 127 * (1 + .. + t) passes 256 at the first."""
    neuron = read_foreign(home / "plain.net", CASES[0].shown).layers[-1].neuron
    assert isinstance(neuron, Cuba)


def test_the_weight_of_an_input_layer_is_asked_for(home: Path, tmp_path: Path) -> None:
    """The file says 76 * value + 48; left out, every current would be another."""
    with pytest.raises(FileError, match=r"wants the currents 76 \* value \+ 48: say the values of black and white"):
        read_foreign(home / "summed.net", Shown(6, bits=8))
    network = read_foreign(home / "summed.net", Shown(6, levels=(0, 255)))
    pixels = np.array([[[[0, 1, 2, 255]]]], np.uint8)
    assert currents(network, pixels).tolist() == [[[[48, 124, 200, 76 * 255 + 48]]]]
    assert (network.input.bits, network.input.signed) == (15, False)
    network = read_foreign(home / "summed.net", Shown(6, levels=(-1, 1)))
    # 76 * (2/255 - 1) + 48 = -27.4 and 76 * (254/255 - 1) + 48 = 47.7, truncated toward zero
    assert currents(network, np.array([[[[0, 1, 127, 255]]]], np.uint8)).tolist() == [[[[-28, -27, 47, 124]]]]
    write(tmp_path / "a.net", network)
    assert np.array_equal(currents(read(tmp_path / "a.net"), pixels), currents(network, pixels))
    given = read_foreign(home / "summed.net", Shown(6, bits=8, levels="currents"))
    assert (given.input.bits, currents(given, pixels).tolist()) == (8, pixels.tolist())


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("weight", np.array([1.5]), r"weight is \[1.5\], it must be one whole number"),
        ("bias", np.array([1, 2]), r"bias is \[1, 2\], it must be one whole number"),
        ("weight", np.array([1e9]), r"makes currents beyond 2\^23 of values 0..255"),
    ],
)
def test_input_currents_that_are_no_whole_numbers_are_refused(
    key: str, value: np.ndarray, words: str, home: Path, tmp_path: Path
) -> None:
    shutil.copy(home / "summed.net", tmp_path / "a.net")
    with h5py.File(tmp_path / "a.net", "r+") as file:
        put(file, f"layer/0/{key}", value)
    with pytest.raises(FileError, match=words):
        read_foreign(tmp_path / "a.net", Shown(6, levels=(0, 255)))


@pytest.mark.parametrize("text", ["no", "[1, 2]", "{}", str([1.5] * 256), str([2**23] * 256), str([2**70] * 256)])
def test_a_damaged_table_of_currents_is_refused(text: str) -> None:
    network = replace(ours(), metadata={"currents": text})
    with pytest.raises(FileError, match="table of input currents is damaged"):
        currents(network, np.zeros((1, 2, 6, 5), np.uint8))


def test_values_need_input_neurons(home: Path) -> None:
    with pytest.raises(FileError, match="has no neurons, so that its input has no weight and bias"):
        read_foreign(home / "plain.net", Shown(6, shape=(2, 6, 5), levels=(0, 1)))


def test_a_file_without_weight_has_lava_dls_own(home: Path, tmp_path: Path) -> None:
    """`netx.hdf5.Network` takes 64 then, and no bias."""
    shutil.copy(home / "summed.net", tmp_path / "a.net")
    with h5py.File(tmp_path / "a.net", "r+") as file:
        del file["layer/0/weight"], file["layer/0/bias"]
    with pytest.raises(FileError, match=r"wants the currents 64 \* value \+ 0"):
        read_foreign(tmp_path / "a.net", Shown(6, bits=8))


def test_sums_that_lava_would_clamp_are_refused(home: Path) -> None:
    """Lava clamps a synaptic sum to 24 bits; the network's own limit on CUBA currents lies below."""
    with pytest.raises(FileError, match=r"layer conv0: a current a << f can reach [0-9]+, the limit is 16777216"):
        read_foreign(home / "plain.net", Shown(4, bits=16, shape=(2, 6, 5)))


def test_what_the_file_does_not_say_is_asked_for(home: Path) -> None:
    with pytest.raises(FileError, match="does not say for how many steps"):
        load_network(home / "plain.net")
    with pytest.raises(FileError, match="the shape of the input must be given"):
        load_network(home / "plain.net", Shown(4))
    assert load_network(home / "own.net").steps == STEPS
    assert load_network(home / "currents.net", Shown(4, bits=8, levels="currents")).input.shape == (6,)
