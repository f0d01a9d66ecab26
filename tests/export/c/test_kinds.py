"""Sequences and the kinds that fewer networks have, as C: planted faults are noticed, calls may come in any order."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from shutil import which

import numpy as np
import pytest

from hardware_tests.random_networks import Run
from randhet.export.c import run as c
from randhet.export.c.write import files, save
from randhet.fixed_point import reference

sys.path.append(str(Path(__file__).parent))
import sanitized
from every_kind import READS, RECORDINGS

pytestmark = pytest.mark.skipif(c.compiler() is None, reason=str(c.missing()))


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("read", READS)
def test_read_outs_of_recordings_and_their_pieces(read: str, stream: bool) -> None:
    build = c.Build(c.compiler() or (), ("-O1", *sanitized.WARNINGS, *sanitized.SANITIZERS))
    assert sanitized.differs(Run(READS[read], RECORDINGS, 3, 5), build, stream) == ""


FAULTS = {
    "a late reset never comes": ("neuron->late != 0 && before", "neuron->late > 1 && before"),
    "a late reset at once": ("spike == 0 || neuron->late != 0 ? m", "spike == 0 ? m"),
    "no floor": ("return m < floor ? floor : m;", "return m;"),
    "one floor for all channels": ("floor += neuron->floor_step;", ""),
    "no recurrence": ("sums[i] += read[i];", "sums[i] = read[i];"),
    "spikes of the recording before": ("randhet_memory.values[i] = 0;", "randhet_memory.values[i] += 0;"),
    "padding is the largest of negative values": ("int32_t best = INT32_MIN", "int32_t best = 0"),
    "OR": ("first[i] != 0 && second[i] != 0", "first[i] != 0 || second[i] != 0"),
    "IAND of the other layer": ("first[i] == 0 && second[i] != 0", "first[i] != 0 && second[i] == 0"),
    "channels of branches mixed": ("place += concat->all;", "place += channels;"),
    "values not spread": ("place += spread->next;", "place += spread->channels;"),
    "the smallest is read": ("*sums = m > *sums", "*sums = m < *sums"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_noticed(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    right, wrong = FAULTS[fault]
    texts = files(READS["largest of Lif"])
    (name,) = [name for name, text in texts.items() if right in text]
    assert texts[name].count(right) == 1
    monkeypatch.setattr(c, "files", lambda network: texts | {name: texts[name].replace(right, wrong)})
    assert sanitized.differs(Run(READS["largest of Lif"], RECORDINGS, 3, 5), c.here()) != ""


def test_pieces_are_not_recordings() -> None:
    """Otherwise the tests of pieces would show nothing."""
    of = lambda stream: reference.run(READS["largest of Lif"], RECORDINGS, seed=3, stream=stream).sums.tolist()
    assert of(True) != of(False)


# --- programs ---------------------------------------------------------------------------------------------------------


def numbers(values: np.ndarray) -> bytes:
    return " ".join(map(str, values.ravel())).encode()


def lines(predictions: np.ndarray, sums: np.ndarray) -> list[str]:
    return [f"{best} {' '.join(map(str, row))}" for best, row in zip(predictions.tolist(), sums.tolist())]


def test_steps_recordings_and_pieces_in_any_order(tmp_path: Path) -> None:
    """Nothing shown, a recording, one broken off, the next, and two pieces without a reset; see calls.c."""
    chosen = READS["sum of Lif"]
    save(tmp_path, files(chosen))
    (tmp_path / "main.c").write_bytes(Path(__file__).with_name("calls.c").read_bytes())
    subprocess.run(
        [*(c.compiler() or ()), *c.STANDARD, *sanitized.WARNINGS, *sanitized.SANITIZERS, "-o", "calls", "main.c",
         "network.c", "randhet.c", "randhet_layers.c"],
        cwd=tmp_path, check=True, capture_output=True,
    )  # fmt: skip
    told = subprocess.run(["./calls"], input=numbers(RECORDINGS[:2]), cwd=tmp_path, check=True, capture_output=True)
    apart, pieces = (reference.run(chosen, RECORDINGS[:2], stream=stream) for stream in (False, True))
    first, second = lines(apart.predictions, apart.sums)
    expected = ["-1", first, "-1", second, *lines(pieces.predictions, pieces.sums)]
    assert told.stdout.decode().splitlines() == expected


@pytest.mark.skipif(which("make") is None, reason="make is not installed")
@pytest.mark.parametrize("sequence", [False, True])
@pytest.mark.parametrize("stream", [False, True])
def test_the_example_shows_recordings_images_and_pieces(sequence: bool, stream: bool, tmp_path: Path) -> None:
    """Seeded by the file; a network of images reads the first frames alone."""
    chosen = replace(READS["largest of drawn Lif with a floor"], seed=77)
    still = replace(chosen.layers[0], operation=replace(chosen.input, sequence=False))
    chosen = chosen if sequence else replace(chosen, layers=(still, *chosen.layers[1:]))
    images = RECORDINGS if sequence else RECORDINGS[:, 0]
    save(tmp_path, files(chosen))
    flags = ["CC=" + " ".join(c.compiler() or ()), "CFLAGS=-O1 -Werror"]
    subprocess.run(["make", "-s", *flags], cwd=tmp_path, check=True, capture_output=True)
    told = subprocess.run(
        ["./example", *(["--stream"] if stream else [])], input=numbers(images), cwd=tmp_path, check=True,
        capture_output=True,
    )  # fmt: skip
    expected = reference.run(chosen, images, stream=stream)
    assert told.stdout.decode().replace("class ", "").replace(", sums", "").splitlines() == lines(
        expected.predictions, expected.sums
    )
    refused = subprocess.run(["./example"], input=b"1 2", cwd=tmp_path, capture_output=True)
    assert (refused.returncode, refused.stdout) == (1, b"")
    assert refused.stderr.endswith(b"40 integers from -128 to 127\n")


def test_a_recording_that_ends_early_is_refused(tmp_path: Path) -> None:
    save(tmp_path, files(READS["last of Lif"]))
    command = [*(c.compiler() or ()), "-o", "example", "main.c", "network.c", "randhet.c", "randhet_layers.c"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    done = subprocess.run(["./example"], input=numbers(RECORDINGS[0, :3]), cwd=tmp_path, capture_output=True)
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr == b"a recording is frames, one a step, of 40 integers from -128 to 127\n"
    wrong = subprocess.run(["./example", "--steam"], cwd=tmp_path, capture_output=True)
    assert (wrong.returncode, wrong.stderr) == (1, b"the only argument is --stream\n")


def test_values_of_recurrent_layers_share_no_memory() -> None:
    """They stand first; of the others, layers that do not live at once share."""
    made = c.files(READS["last of Lif"])["network.h"]
    assert "#define RANDHET_RECURRENT 6 " in made and "#define RANDHET_FRAME 40 " in made
    assert ".weight = recurrent_weight_10, .in = 0, " in c.files(READS["last of Lif"])["network.c"]
