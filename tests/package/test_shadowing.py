"""Nothing in the folder that a user works in is imported, whatever its files are called; children included."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from randhet.base.child import environment

ROOT = Path(__file__).resolve().parents[2]
ROOMS = [path.name for path in (ROOT / "randhet").iterdir() if path.is_symlink()]
LIBRARIES = ["torch", "numpy", "numba", "h5py", "scipy", "lava", "distributed", "typer", "rich", "matplotlib"]
STANDARD = ["json", "random", "signal", "socket", "struct", "tempfile", "queue", "select", "logging", "sitecustomize"]
OWN = [*ROOMS, "hardware_tests", "checkpoints", "events"]
EARLY = STANDARD if sys.version_info >= (3, 11) else []
"""Python 3.10 cannot keep the current folder out of the first imports of the interpreters that Dask starts."""


def fill(folder: Path, names: Sequence[str]) -> Path:
    """Files that raise when they are imported, and leave a trace where that is caught."""
    trace = str(folder / "imported")
    for name in names:
        code = f"open({trace!r}, 'a').write('{name} ')\nraise RuntimeError('{name}.py is the user own')\n"
        (folder / f"{name}.py").write_text(code)
    return folder


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A folder of a user with a file for every name."""
    (tmp_path / "work").mkdir()
    return fill(tmp_path / "work", [*OWN, *LIBRARIES, *EARLY])


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shipped network, exported."""
    from command_line import call

    file = tmp_path_factory.mktemp("network") / "model.net"
    assert call("export", "digits-randhet-at", "-o", file, "--samples", 16, "--seed", 1).exit_code == 0
    return file


def started(command: Sequence[object], folder: Path, status: tuple[int, ...] = (0,)) -> str:
    """Run a program in the folder as a user does; its output. Nothing there was imported."""
    settings = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    settings["PYTHONPATH"] = str(ROOT)
    done = subprocess.run(
        [sys.executable, *map(str, command)], cwd=folder, env=settings, capture_output=True, text=True, timeout=280
    )
    assert done.returncode in status, done.stderr[-3000:]
    assert not (folder / "imported").exists(), (folder / "imported").read_text()
    return done.stdout


def randhet(*arguments: object, folder: Path, status: tuple[int, ...] = (0,)) -> dict[str, object]:
    """The `randhet` command as pip installs it: a script outside the folder; its JSON."""
    script = folder.parent / "bin" / "randhet"
    script.parent.mkdir()
    script.write_text("from randhet.cli.app import main\nif __name__ == '__main__':\n    main()\n")
    return dict(json.loads(started([script, *arguments, "--json"], folder, status)))


def test_the_files_would_raise(here: Path) -> None:
    """The trap works: a script in the folder that imports one of them fails and leaves its trace."""
    (here / "own.py").write_text("import export")
    settings = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    done = subprocess.run([sys.executable, "own.py"], cwd=here, env=settings, capture_output=True, text=True)
    assert "export.py is the user own" in done.stderr and (here / "imported").read_text() == "export "


def test_the_demo(here: Path) -> None:
    """Its status may be 1: four images are too few for float and integers to have the same accuracy."""
    from randhet.fixed_point.backends import available

    found = randhet("demo", "--samples", 4, "--draws", 1, "--epochs", 1, folder=here, status=(0, 1))
    backends = found["backends"]
    assert isinstance(backends, dict) and backends.keys() >= set(available()) - {"reference"}
    assert all(backend["identical"] for backend in backends.values())


@pytest.mark.lava
def test_a_run_on_lava(here: Path, network: Path) -> None:
    assert randhet("run", network, "--backend", "lava", "--samples", 2, folder=here)["samples"] == 2


def test_an_attack_with_workers(here: Path) -> None:
    pytest.importorskip("distributed")
    options = ("--attacks", "fgsm", "--samples", 4, "--batch", 2, "--draws", 1, "--redraws", 1, "--threads", 2)
    assert randhet("attack", "digits-vanilla-at", *options, folder=here)["samples"] == 4


def test_a_sweep_with_workers(here: Path) -> None:
    pytest.importorskip("distributed")
    options = ("--bits", "8", "--tau-bits", "8", "--fractions", "6", "--scales", "channel,layer", "--samples", 4)
    found = randhet("sweep", "digits-vanilla-at", *options, "--draws", 1, "--threads", 2, folder=here)
    assert isinstance(found["points"], list) and len(found["points"]) == 2


def test_a_benchmark(here: Path) -> None:
    options = ("--size", "tiny", "--rates", "0.2", "--batch", 1, "--repeats", 1, "--contenders", "torch-eager,add-only")
    rows = randhet("bench", *options, folder=here)["rows"]
    assert isinstance(rows, list) and [row["failed"] for row in rows] == [False, False]


def test_python_m_randhet(here: Path, network: Path) -> None:
    """Python itself puts the current folder first; the program takes it out before it imports anything else."""
    fill(here, STANDARD)
    command = ["-m", "randhet", "run", network, "--backend", "add-only", "--samples", 2, "--json"]
    assert json.loads(started(command, here))["samples"] == 2


@pytest.mark.lava
def test_a_users_own_train_that_uses_the_library(here: Path, network: Path) -> None:
    """Names of Python and of libraries are left out here: a script's own folder comes first by Python's rule."""
    for name in (*LIBRARIES, *STANDARD):
        (here / f"{name}.py").unlink(missing_ok=True)
    (here / "train.py").write_text(
        "import randhet\n"
        "if __name__ == '__main__':\n"
        f"    network, images = randhet.read({str(network)!r}), randhet.load_data('digits').take(2)\n"
        "    result = randhet.backend('lava')(network, images.pixels, seed=1, first_image=0, probes=())\n"
        "    print(randhet.run(network, images.pixels, seed=1).predictions.tolist() == result.predictions.tolist())\n"
    )
    assert started(["train.py"], here) == "True\n"


def test_workers_of_a_users_program(here: Path, tmp_path: Path) -> None:
    """The program lies elsewhere, so its workers have no reason to look here."""
    pytest.importorskip("distributed")
    (tmp_path / "program.py").write_text(
        "import operator\n"
        "from randhet.base.parallel import run_all\n"
        "if __name__ == '__main__':\n"
        "    print(run_all(operator.add, {'a': (1,)}, workers=1, shared=2))\n"
    )
    assert started([tmp_path / "program.py"], here) == "{'a': 3}\n"


def test_a_childs_environment_searches_no_current_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", f":relative{os.pathsep}{os.pathsep}/absolute")
    paths = environment("/first")["PYTHONPATH"].split(os.pathsep)
    assert paths[:3] == ["/first", str(Path.cwd() / "relative"), "/absolute"] and all(map(os.path.isabs, paths))
    assert environment()["PYTHONSAFEPATH"] == "1"
