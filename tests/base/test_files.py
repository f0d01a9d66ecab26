"""Files are whole or absent, and errors are sentences."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from randhet.base.errors import FileError
from randhet.base.files import keeping, replacing, replacing_all


def test_the_new_file_replaces_the_old_one_at_the_end(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "a.txt"
    with replacing(target) as temporary:
        temporary.write_text("new")
        assert not target.exists()
    assert target.read_text() == "new"
    assert os.listdir(target.parent) == ["a.txt"]
    plain = tmp_path / "plain"
    plain.touch()
    assert stat.S_IMODE(target.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")

    def fail() -> None:
        with replacing(target) as temporary:
            temporary.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FileError, match="cannot write .*a.txt"), replacing(tmp_path / "file" / "a.txt"):
        pass


def written(path: Path, text: str = "new") -> None:
    with replacing(path) as temporary:
        temporary.write_text(text)


def test_a_link_stays_and_what_it_points_to_is_written(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "folder" / "link"
    target.write_text("old")
    link.parent.mkdir()
    link.symlink_to(target)
    written(link)
    assert link.is_symlink()
    assert target.read_text() == "new"
    dangling = tmp_path / "dangling"
    dangling.symlink_to(tmp_path / "later")
    written(dangling)
    assert dangling.is_symlink()
    assert (tmp_path / "later").read_text() == "new"


def test_what_is_no_regular_file_is_refused_and_stays(tmp_path: Path) -> None:
    """A rename as root would replace even a device such as /dev/null by a file."""
    pipe, folder, loop = tmp_path / "pipe", tmp_path / "folder", tmp_path / "loop"
    os.mkfifo(pipe)
    folder.mkdir()
    loop.symlink_to(loop)
    device = tmp_path / "null"
    device.symlink_to("/dev/null")
    for path, kind in ((pipe, "pipe"), (folder, "folder"), (device, "device"), (Path("/dev/null"), "device")):
        with pytest.raises(FileError, match=kind):
            written(path)
    with pytest.raises(FileError, match="cannot write"):
        written(loop)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)
    assert sorted(os.listdir(tmp_path)) == ["folder", "loop", "null", "pipe"]


def test_an_input_is_never_written_under_any_of_its_names(tmp_path: Path) -> None:
    source, link, hard = (tmp_path / name for name in ("source", "link", "hard"))
    source.write_text("old")
    link.symlink_to(source)
    os.link(source, hard)
    with keeping(source):
        for path in (source, link, hard, tmp_path / "x" / ".." / "source"):
            with pytest.raises(FileError, match="input of this command"):
                written(path)
    assert source.read_text() == "old"
    written(source)
    assert source.read_text() == "new"


def test_several_files_appear_together_and_an_error_leaves_none(tmp_path: Path) -> None:
    with replacing_all(tmp_path / "a") as temporary:
        temporary.write_text("a")
        temporary.with_name("a.data").write_text("data")
    assert sorted(os.listdir(tmp_path)) == ["a", "a.data"]
    (tmp_path / "b.data").mkdir()

    def both() -> None:
        with replacing_all(tmp_path / "b") as temporary:
            temporary.write_text("b")
            temporary.with_name("b.data").write_text("data")

    with pytest.raises(FileError, match=r"b\.data.*folder"):
        both()
    assert sorted(os.listdir(tmp_path)) == ["a", "a.data", "b.data"]
