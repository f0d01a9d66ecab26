"""Wheel, source archive, editable install and a zip of the tree: each complete, each tried outside the tree.

The interpreters that they are installed for have every library of this one but Lava, and no randhet.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("setuptools", "77", reason="builds need the current setuptools")
ROOT = Path(__file__).resolve().parents[2]
LEFT_OUT = (".*", "__pycache__", "*.egg-info", "build", "dist", "demo", "site", "runs", "docs", "tests", "fuzz")
"""What a copy of the tree need not hold: it is not shipped."""
SHIPPED = {"digits-events-randhet-at", "digits-randhet-at", "digits-randhet-quiet", "digits-vanilla-at"}


def python(*arguments: object, cwd: Path, by: Path | str = sys.executable) -> str:
    """Run an interpreter in a folder; its standard output."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [str(by), *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return done.stdout


def pip(*arguments: object, cwd: Path) -> None:
    """Run this interpreter's pip, which asks no index."""
    python("-m", "pip", *arguments, "--no-index", "--no-deps", "--no-build-isolation", "--quiet", cwd=cwd)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tree: builds leave files behind."""
    copy = tmp_path_factory.mktemp("copy") / "tree"
    shutil.copytree(ROOT, copy, symlinks=True, ignore=shutil.ignore_patterns(*LEFT_OUT))
    return copy


@pytest.fixture(scope="module")
def wheel(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip("wheel", tree, "--wheel-dir", folder, cwd=folder)
    (found,) = folder.glob("randhet-*.whl")
    return found


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Links to every installed library but Lava, randhet, and what makes editable installs visible."""
    folder = tmp_path_factory.mktemp("libraries")
    for base in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        for path in Path(base).iterdir():
            if not path.name.startswith(("lava", "randhet", "__editable__")) and path.suffix != ".pth":
                (folder / path.name).symlink_to(path)
    return folder


@pytest.fixture
def empty(libraries: Path, tmp_path: Path) -> Path:
    """The interpreter of a new environment that sees those libraries."""
    python("-m", "venv", "--without-pip", tmp_path / "venv", cwd=tmp_path)
    made = tmp_path / "venv" / "bin" / "python"
    site = python("-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path, by=made).strip()
    (Path(site) / "libraries.pth").write_text(f"{libraries}\n")
    return made


def install(what: Path, by: Path, *options: str) -> None:
    """Install for another interpreter, which has no pip."""
    python(
        "-m", "pip", "--python", by, "install", *options, what,
        "--no-index", "--no-deps", "--no-build-isolation", "--quiet", cwd=by.parent,
    )  # fmt: skip


def members(archive: Path) -> dict[str, bytes]:
    """Name and content of everything in a wheel but its own list, which names the archive's order."""
    with zipfile.ZipFile(archive) as file:
        return {name: file.read(name) for name in file.namelist() if not name.endswith("RECORD")}


def test_the_wheel_holds_every_file_of_the_package(wheel: Path) -> None:
    """Code and data of every room, the shipped checkpoints, and nothing else of the tree."""
    names = {name for name in members(wheel) if ".dist-info/" not in name}
    expected = {"randhet/__init__.py", "randhet/__main__.py", "randhet/py.typed"}
    expected |= {f"randhet/checkpoints/{name}.pt" for name in SHIPPED}
    for room in (path.name for path in (ROOT / "randhet").iterdir() if path.is_symlink()):
        for path in (ROOT / room).rglob("*"):
            if path.suffix in (".py", ".toml", ".html", ".c", ".h") or path.name == "Makefile":
                expected.add(f"randhet/{path.relative_to(ROOT).as_posix()}")
    assert names == expected


def test_the_source_archive_gives_the_same_wheel(tree: Path, wheel: Path, tmp_path: Path) -> None:
    pytest.importorskip("build")
    python("-m", "build", "--sdist", "--no-isolation", "--outdir", tmp_path, tree, cwd=tmp_path)
    (archive,) = tmp_path.glob("randhet-*.tar.gz")
    pip("wheel", archive, "--wheel-dir", tmp_path, cwd=tmp_path)
    (made,) = tmp_path.glob("*.whl")
    assert members(made) == members(wheel)


def test_a_zip_of_the_tree_gives_the_same_wheel(tree: Path, wheel: Path, tmp_path: Path) -> None:
    """As code hosts make it: one folder above, links as small files that hold their target."""
    with zipfile.ZipFile(tmp_path / "main.zip", "w") as archive:
        for path in sorted(tree.rglob("*")):
            name = Path("randhet-main") / path.relative_to(tree)
            if path.is_symlink():
                archive.writestr(str(name), os.readlink(path))
            elif path.is_file():
                archive.write(path, name)
    pip("wheel", tmp_path / "main.zip", "--wheel-dir", tmp_path, cwd=tmp_path)
    (made,) = tmp_path.glob("*.whl")
    assert members(made) == members(wheel)


def examined(by: Path, cwd: Path) -> tuple[Path, str, str]:
    """What `randhet doctor` says of Lava there, after which a shipped checkpoint is read: file of the package, data."""
    command = by.parent / "randhet"
    parts = {part["name"]: part for part in json.loads(python("doctor", "--json", cwd=cwd, by=command))["parts"]}
    assert parts["Lava"]["missing"] == "Lava is not installed"
    code = "import randhet as r; print(r.__file__, r.__version__, r.load_checkpoint('digits-vanilla-at').data)"
    file, version, data = python("-c", code, cwd=cwd, by=by).split()
    return Path(file), version, data


def test_the_wheel_works_in_an_empty_environment(wheel: Path, empty: Path, tmp_path: Path) -> None:
    """Without Lava, in a folder of its own; `.ci/run` runs the whole demo in such an environment."""
    install(wheel, empty)
    file, *rest = examined(empty, tmp_path)
    assert file.is_relative_to(tmp_path / "venv") and rest == ["0.2.0", "digits"]


def test_an_editable_install_finds_rooms_and_checkpoints(tree: Path, empty: Path, tmp_path: Path) -> None:
    install(tree, empty, "--editable")
    file, *rest = examined(empty, tmp_path)
    assert file == tree / "randhet" / "__init__.py" and rest == ["0.2.0", "digits"]
    where = python("-c", "import randhet.train.models as m; print(m.__file__)", cwd=tmp_path, by=empty).strip()
    assert Path(where).resolve() == tree / "train" / "models.py"
