"""Lava against the reference, integer by integer; Lava's own CUBA neuron; and what happens when a run goes wrong."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fixed_point import reference
from fixed_point.errors import FileError, NetworkError
from fixed_point.network import (
    Accumulate,
    Add,
    Conv,
    Cuba,
    Dense,
    Flatten,
    Het,
    Input,
    Layer,
    Lif,
    Network,
    Neuron,
    RandomTau,
    SumPool,
)
from fixed_point.result import Result
from lava_runtime.runner import LavaRunError, run

pytestmark = pytest.mark.lava
RNG = np.random.default_rng(7)


def ints(value: int, *shape: int) -> np.ndarray:
    return np.full(shape, value, np.int32)


def conv(out: int, into: int, kernel: int = 3, **geometry: object) -> Conv:
    weight = RNG.integers(-60, 61, (out, into, kernel, kernel)).astype(np.int8)
    return Conv(weight, **geometry)  # type: ignore[arg-type]


def random_tau(channels: int, threshold: int = 4000, **fields: object) -> RandomTau:
    return RandomTau(ints(threshold, channels), ints(50, channels), neurons_per_core=37, **fields)  # type: ignore[arg-type]


def everything() -> Network:
    """Every operation and every neuron but CUBA; branches of depth 0, 1 and 2 meet in sums of two and of three."""
    same = {"padding": (1, 1)}
    het = Het(ints(3000, 6), ints(0, 6), RNG.integers(0, 256, (6, 5, 4)).astype(np.uint16))
    bias_map = RandomTau(ints(90_000, 6), RNG.integers(-9000, 9000, (6, 9, 7)).astype(np.int32))
    layers = (
        Layer("input", Input((2, 9, 7))),
        Layer("stem", conv(6, 2, **same), (0,), bias_map),
        Layer("a", conv(6, 3, groups=2, **same), (1,), random_tau(6, sampling="forward")),
        Layer("b", conv(6, 6, **same), (2,), Lif(ints(4000, 6), ints(0, 6))),
        Layer("sum", Add(), (1, 3)),
        Layer("down", conv(6, 6, stride=(2, 2), **same), (4,), het),
        Layer("skip", conv(6, 6, 1, stride=(2, 2)), (4,), random_tau(6, 2000)),
        Layer("deep", conv(6, 6, dilation=(2, 1), padding=(2, 1)), (5,), random_tau(6)),
        Layer("sum3", Add(), (5, 6, 7)),
        Layer("pool", SumPool((2, 2), (2, 2)), (8,)),
        Layer("flat", Flatten(), (9,)),
        Layer("hidden", Dense(RNG.integers(-99, 99, (11, 24)).astype(np.int8)), (10,), random_tau(11)),
        Layer("read", Dense(RNG.integers(-99, 99, (4, 11)).astype(np.int8)), (11,), Accumulate(ints(5, 4))),
    )
    return Network(layers, steps=5)


def pixels(network: Network, count: int) -> np.ndarray:
    operation = network.layers[0].operation
    assert isinstance(operation, Input)
    return RNG.integers(0, 2**operation.bits, (count, *operation.shape)).astype(np.uint8)


def assert_equal(one: Result, other: Result) -> None:
    assert np.array_equal(one.sums, other.sums)
    assert np.array_equal(one.predictions, other.predictions)
    assert one.spikes == other.spikes
    assert one.saturations == other.saturations
    assert one.traces.keys() == other.traces.keys()
    for name, trace in other.traces.items():
        assert np.array_equal(one.traces[name].output, trace.output), name
        if trace.membrane is not None:
            membrane = one.traces[name].membrane
            assert membrane is not None
            assert np.array_equal(membrane, trace.membrane), name


def test_every_layer_and_neuron_equals_the_reference() -> None:
    network = everything()
    images, probes = pixels(network, 4), [layer.name for layer in network.layers]
    expected = reference.run(network, images, seed=11, first_image=3, probes=probes)
    assert expected.spikes["deep"] > 0 and len(np.unique(expected.sums)) > 4
    seen: list[int] = []
    found = run(network, images, seed=11, first_image=3, probes=probes, progress=seen.append)
    assert_equal(found, expected)
    assert sum(seen) == 4


def test_a_run_from_a_file_without_probes(tmp_path: Path) -> None:
    from export.netx import write

    network = everything()
    write(tmp_path / "a.net", network)
    images = pixels(network, 2)
    assert_equal(run(tmp_path / "a.net", images, seed=1), reference.run(network, images, seed=1))


def single(neuron: Neuron, steps: int = 12) -> Network:
    weight = RNG.integers(-127, 128, (6, 4)).astype(np.int8)
    return Network((Layer("input", Input((4, 1, 1))), Layer("neuron", Dense(weight), (0,), neuron)), steps)


def test_saturation_is_equal_and_counted() -> None:
    network = single(Lif(ints(2**22, 6), ints(-(2**23) + 1, 6), f=12))
    images = pixels(network, 2)
    expected = reference.run(network, images, probes=["neuron"])
    assert expected.saturations > 0
    assert_equal(run(network, images, probes=["neuron"]), expected)


def test_cuba_equals_lavas_own_neuron() -> None:
    """The same sums into Lava's bit-accurate LIF, stepped directly: currents, voltages and spikes."""
    from lava.proc.lif.models import PyLifModelBitAcc

    network = single(Cuba(ints(300 << 6, 6), ints(17 << 6, 6), current_decay=700, voltage_decay=300))
    images = pixels(network, 1)
    dense = network.layers[1].operation
    assert isinstance(dense, Dense)
    total = dense.weight.astype(np.int32) @ images[0].reshape(-1).astype(np.int32)
    peer = PyLifModelBitAcc({})
    peer.u, peer.v = np.zeros(6, np.int32), np.zeros(6, np.int32)
    peer.du, peer.dv, peer.vth = 700, 300, np.int32(300)
    peer.bias_mant, peer.bias_exp = np.full(6, 17, np.int16), np.full(6, 6, np.int16)
    peer.scale_bias()
    peer.scale_threshold()
    spikes, voltages = [], []
    for _ in range(network.steps):
        peer.subthr_dynamics(total)
        voltages.append(peer.v.copy())
        spikes.append(peer.spiking_activation())
        peer.reset_voltage(spikes[-1])
    for result in (reference.run(network, images, probes=["neuron"]), run(network, images, probes=["neuron"])):
        trace = result.traces["neuron"]
        assert trace.membrane is not None
        assert np.array_equal(trace.membrane[0], np.stack(voltages))
        assert np.array_equal(trace.output[0], np.stack(spikes))
    assert np.stack(spikes).any() and not np.stack(spikes).all()


def test_floating_point_follows_the_fixed_point() -> None:
    """Same draws: float membranes stay within the floor's error, at most one unit per step, until a spike differs."""
    network = single(random_tau(6, 2**22))
    images = pixels(network, 3)
    fixed = reference.run(network, images, seed=4, probes=["neuron"]).traces["neuron"].membrane
    real = run(network, images, seed=4, probes=["neuron"], model="floating_pt").traces["neuron"].membrane
    assert fixed is not None and real is not None and real.dtype == np.float64
    assert np.abs(fixed - real).max() < network.steps
    assert np.abs(fixed - real).max() > 0


def test_wrong_use_is_refused_before_anything_starts(tmp_path: Path) -> None:
    network = everything()
    with pytest.raises(NetworkError, match="images are"):
        run(network, np.zeros((1, 3, 9, 7), np.uint8))
    with pytest.raises(NetworkError, match="no layer is called nothing"):
        run(network, pixels(network, 1), probes=["nothing"])
    with pytest.raises(NetworkError, match="at least one image"):
        run(network, pixels(network, 0))
    with pytest.raises(NetworkError, match="CUBA neurons have no floating-point model"):
        run(single(Cuba(ints(1, 6), ints(0, 6), 0, 0)), np.zeros((1, 4, 1, 1), np.uint8), model="floating_pt")
    with pytest.raises(FileError, match="does not exist"):
        run(tmp_path / "no.net", pixels(network, 1))
    with pytest.raises(NetworkError, match="steps is 0"):
        run(replace(network, steps=0), pixels(network, 1))


# --- faults -------------------------------------------------------------------------------------------------------


def drivers() -> list[int]:
    """Processes of any run."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if b"lava_runtime.driver" in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def segments() -> list[str]:
    return [entry.name for entry in Path("/dev/shm").glob("rh*")]


def wait_for(condition: object, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and not condition():  # type: ignore[operator]
        time.sleep(0.05)
    assert condition()  # type: ignore[operator]


def assert_nothing_left() -> None:
    wait_for(lambda: not drivers(), 5)
    assert not segments()


def long_network() -> Network:
    return replace(everything(), steps=2000)


def test_a_killed_process_ends_the_run_within_ten_seconds() -> None:
    killed: list[float] = []

    def kill() -> None:
        wait_for(lambda: len(drivers()) > 14, 60)
        time.sleep(1.0)
        # the runtime service and the memory manager come first and last; a middle one is a layer
        os.kill(sorted(drivers())[8], signal.SIGKILL)
        killed.append(time.monotonic())

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(LavaRunError, match="ended unexpectedly"):
        run(long_network(), pixels(long_network(), 20), seed=0)
    killer.join()
    assert time.monotonic() - killed[0] < 10
    assert_nothing_left()


@pytest.mark.parametrize("phase", ["setup", "advance"])
def test_an_exception_in_a_model_names_its_layer(phase: str, tmp_path: Path) -> None:
    """A sitecustomize that plants the exception in the child makes a real process fail, in the phase asked for."""
    plant = (
        "import lava_runtime.processes.models as models\n"
        f"kept = models.LifModel.{phase}\n"
        "def planted(self):\n"
        "    if self.params['name'] == 'down':\n"
        "        raise ValueError('planted fault')\n"
        "    kept(self)\n"
        f"models.LifModel.{phase} = planted\n"
    )
    script = tmp_path / "planted.py"
    script.write_text(
        f"import sys; sys.path.insert(0, {str(Path(__file__).resolve().parents[2])!r})\n{plant}"
        "from pathlib import Path\nfrom lava_runtime.driver import main\nmain(Path(sys.argv[1]))\n"
    )
    kept = subprocess.Popen

    def start(command: list[str], **options: object) -> object:
        return kept([sys.executable, str(script), command[-1]], **options)  # type: ignore[call-overload]

    begin = time.monotonic()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lava_runtime.runner.subprocess.Popen", start)
        with pytest.raises(LavaRunError, match="Lava run failed in down: ValueError: planted fault"):
            run(everything(), pixels(everything(), 2), seed=0)
    assert time.monotonic() - begin < 30
    assert not segments()


def test_a_run_that_stands_still_is_ended() -> None:
    frozen: list[int] = []

    def freeze() -> None:
        wait_for(lambda: len(drivers()) > 14, 60)
        frozen.append(sorted(drivers())[8])
        os.kill(frozen[0], signal.SIGSTOP)

    freezer = threading.Thread(target=freeze)
    freezer.start()
    with pytest.raises(LavaRunError, match="stood still for 8 s"):
        run(long_network(), pixels(long_network(), 20), seed=0, stall=8)
    freezer.join()
    assert_nothing_left()


def test_ctrl_c_leaves_no_process_and_no_shared_memory(tmp_path: Path) -> None:
    from export.netx import write

    write(tmp_path / "a.net", long_network())
    np.save(tmp_path / "p.npy", pixels(long_network(), 20))
    code = (
        "import numpy as np; from lava_runtime.runner import run\n"
        f"run({str(tmp_path / 'a.net')!r}, np.load({str(tmp_path / 'p.npy')!r}), seed=0)\n"
    )
    home = Path(__file__).resolve().parents[2]
    child = subprocess.Popen([sys.executable, "-c", code], cwd=home, stderr=subprocess.PIPE)
    wait_for(lambda: len(drivers()) > 14, 60)
    time.sleep(1)
    child.send_signal(signal.SIGINT)
    _, message = child.communicate(timeout=10)
    assert b"KeyboardInterrupt" in message
    assert_nothing_left()
