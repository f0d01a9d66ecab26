"""run and inspect on networks that lava-dl wrote: what their files leave out is asked for, flat inputs take images."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from command_line import call, parsed

from randhet.base.errors import RandhetError
from randhet.train.data.images import DataError, Images
from randhet.train.data.sources import load

T = 5
RNG = np.random.default_rng(4)
HIDDEN, OUT = (2 * RNG.integers(-30, 40, shape) for shape in ((16, 64), (10, 16)))
WEIGHT, BIAS, THRESHOLD, DECAY = 76, 20, 60, 300
NEURON = {"type": np.array([b"CUBA"]), "iDecay": 4096, "vDecay": DECAY, "vThMant": THRESHOLD, "refDelay": 1}


def foreign(path: Path, last: np.ndarray = OUT) -> Path:
    """A file as the bootstrap tutorial of lava-dl leaves one: a flat input, a hidden layer, an end without a neuron."""
    layers = [
        {"type": np.array([b"input"]), "shape": [64], "weight": float(WEIGHT), "bias": float(BIAS), "neuron": NEURON},
        {"type": np.array([b"dense"]), "shape": [16], "weight": HIDDEN.astype(np.float32), "neuron": NEURON},
        {"type": np.array([b"dense"]), "shape": [len(last)], "weight": last.astype(np.float32)},
    ]
    with h5py.File(path, "w") as file:
        for i, layer in enumerate(layers):
            for key, value in layer.items():
                for name, part in value.items() if isinstance(value, dict) else [("", value)]:
                    file[f"layer/{i}/{key}/{name}".rstrip("/")] = part
    return path


def classes(pixels: np.ndarray) -> list[int]:
    """What Lava's equations make of the file, in plain Python: the class of the highest voltage after T steps."""

    def fired(voltage: np.ndarray, current: np.ndarray) -> np.ndarray:
        voltage[:] = np.sign(voltage) * (np.abs(voltage) * (4096 - DECAY) >> 12) + (current << 6)
        spikes = voltage > THRESHOLD << 6
        voltage[spikes] = 0
        return spikes.astype(np.int64)

    found = []
    for image in pixels:
        drive = np.trunc(WEIGHT * (image.reshape(-1) / 255 * 2 - 1) + BIAS).astype(np.int64)
        first, second, end = np.zeros(64, np.int64), np.zeros(16, np.int64), np.zeros(10, np.int64)
        for _ in range(T):
            end += OUT @ fired(second, HIDDEN @ fired(first, drive)) << 6
        found.append(int(end.argmax()))
    return found


def test_run_gives_the_classes_of_the_highest_voltage(tmp_path: Path) -> None:
    file, images = foreign(tmp_path / "a.net"), load("digits").take(40)
    wanted = classes(images.pixels)
    assert len(set(wanted)) > 3
    called = call("run", file, "--steps", T, "--input", "-1,1", "--data", "digits", "--samples", 40, "--json")
    assert called.exit_code == 0, called.stderr
    assert json.loads(called.stdout)["predictions"] == wanted
    said = "images of (1, 8, 8) are given to the network's input of 64 values in the order (channel, y, x)"
    assert said in called.stderr


def test_what_the_file_leaves_out_is_asked_for(tmp_path: Path) -> None:
    file = foreign(tmp_path / "a.net")
    one = foreign(tmp_path / "one.net", OUT[:1])
    for arguments, said in (
        (("run", file), "does not say for how many steps (--steps) an image is shown"),
        (("inspect", file), "does not say for how many steps (--steps) an image is shown"),
        (("run", file, "--steps", T), "wants the currents 76 * value + 20: say the values of black and white (--input"),
        (("inspect", file, "--steps", T), "wants the currents 76 * value + 20"),
        (("run", file, "--steps", T, "--input", "0,1,2"), "--input is '0,1,2', it must be two numbers"),
        (("run", file, "--steps", T, "--input", "white"), "--input"),
        (("run", file, "--steps", T, "--input", "0,1", "--sequence"), f"the network takes ({T}, 64)"),
        (("run", one, "--steps", T, "--input", "0,1"), "has one output, which is a value and no class"),
    ):
        called = call(*arguments)
        assert called.exit_code == 2
        assert said in " ".join(called.stderr.split())
        assert called.stderr.count("\n") == 1


def test_grey_levels_may_be_the_currents(tmp_path: Path) -> None:
    """Digits reach 255 and the threshold is 60: what is sent is what drives the neurons, without weight and bias."""
    file, pixels = foreign(tmp_path / "a.net"), load("digits").take(3).pixels
    found = parsed(call("run", file, "--steps", 1, "--input", "currents", "--samples", 3, "--json"))
    assert found["spikes"]["input0.neuron"] == int((pixels > 60).sum())


def test_inspect_shows_a_network_of_lava_dl(tmp_path: Path) -> None:
    file = foreign(tmp_path / "a.net")
    called = call("inspect", file, "--steps", T, "--input", "-1,1", "--samples", 3, "--json")
    assert called.exit_code in (0, 1), called.stderr
    layers = {layer["layer"]: layer for layer in json.loads(called.stdout)["layers"]}
    assert list(layers) == ["input0", "input0.neuron", "dense1", "dense2"]
    assert layers["dense2"]["neuron"] == "ReadOut"


def test_images_fit_an_input_of_as_many_values() -> None:
    images = Images("a", np.arange(24, dtype=np.uint8).reshape(2, 2, 3, 2), np.zeros(2, np.int64), ("x",))
    assert images.as_input((2, 3, 2)) is images
    assert images.as_input((12,)).pixels.tolist() == [list(range(12)), list(range(12, 24))]
    for shape in ((13,), (3, 2, 2), (1, 12)):
        with pytest.raises(DataError, match=r"images of a are \(2, 3, 2\), the network takes"):
            images.as_input(shape)
    assert issubclass(DataError, RandhetError)
