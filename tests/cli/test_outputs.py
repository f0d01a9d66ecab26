"""No command writes over what it reads, over a device or a pipe; each says so before it does any work."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from command_line import call

INPUTS = {"a.pt", "a.net", "a.nir", "a.toml", "b.pt"}
COMMANDS = {
    "export": ("export", "a.pt", "-o", "OUT"),
    "export --onnx": ("export", "a.pt", "--onnx", "OUT"),
    "export --nir": ("export", "a.pt", "--nir", "OUT"),
    "train --from": ("train", "--from", "a.pt", "-o", "OUT"),
    "train --config": ("train", "--config", "a.toml", "-o", "OUT"),
    "attack": ("attack", "a.pt", "--out", "OUT"),
    "attack --beside": ("attack", "a.pt", "--beside", "b.pt", "--sweep", "a.toml", "--out", "OUT"),
    "import-nir": ("import-nir", "a.nir", "-o", "OUT"),
    "inspect": ("inspect", "a.net", "--plot", "OUT"),
    "compare": ("compare", "a.pt", "a.net", "--report", "OUT"),
    "sweep": ("sweep", "a.pt", "--out", "OUT"),
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in INPUTS:
        (tmp_path / name).write_text(name)
    (tmp_path / "link").symlink_to("a.pt")
    os.mkfifo(tmp_path / "pipe")
    return tmp_path


@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
def test_no_input_is_written(words: tuple[str, ...], folder: Path) -> None:
    for name in {word for word in words if word in INPUTS}:
        result = call(*(name if word == "OUT" else word for word in words))
        assert result.exit_code == 2
        assert f"cannot write {name}: it is an input of this command" in " ".join(result.stderr.split())
    assert {name: (folder / name).read_text() for name in INPUTS} == {name: name for name in INPUTS}


@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
@pytest.mark.parametrize("out", ["pipe", "/dev/null"])
def test_no_device_and_no_pipe_is_replaced(words: tuple[str, ...], out: str, folder: Path) -> None:
    result = call(*(out if word == "OUT" else word for word in words))
    assert result.exit_code == 2
    assert f"cannot write {out}: it is a device or a pipe" in " ".join(result.stderr.split())
    assert stat.S_ISFIFO(os.stat(folder / "pipe").st_mode)
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_a_link_to_an_input_is_the_input(folder: Path) -> None:
    result = call("export", "a.pt", "-o", "link")
    assert result.exit_code == 2
    assert "cannot write link: it is an input" in " ".join(result.stderr.split())
    assert (folder / "link").is_symlink()


@pytest.mark.parametrize("option", ["-o", "--onnx", "--onnx-float", "--nir"])
def test_a_link_stays_a_link_for_every_format(option: str, folder: Path) -> None:
    (folder / "target").write_text("old")
    (folder / "out").symlink_to("target")
    result = call("export", "digits-vanilla-at", "--samples", 8, option, "out")
    assert result.exit_code == 0, result.stderr
    assert (folder / "out").is_symlink()
    assert (folder / "target").read_bytes() != b"old"
