"""Files that are written whole or not at all, never over a device, never over what a command reads."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from randhet.base.errors import FileError
from randhet.base.interrupts import held

_inputs: set[Path] = set()


@contextmanager
def keeping(*paths: Path) -> Iterator[None]:
    """Refuse, within the block, to write any of these files: the inputs of a command."""
    new = {path.resolve() for path in paths} - _inputs
    _inputs.update(new)
    try:
        yield
    finally:
        _inputs.difference_update(new)


def destination(path: str | Path) -> Path:
    """The regular file that writing `path` makes or replaces, links followed.

    FileError where something that is no regular file has that name (a folder, a device, a pipe, a link to itself), or
    where it is an input of the command that writes it.
    """
    path = Path(path)
    end = path.resolve()  # a link stays, what it points to is written
    if end.is_symlink():  # Python 3.13 gives such a path back, earlier ones raise
        raise FileError(f"cannot write {path}: it is a link that leads back to itself, give the name of a regular file")
    if end.exists() and not end.is_file():
        kind = "a folder" if end.is_dir() else "a device or a pipe"
        raise FileError(f"cannot write {path}: it is {kind}, give the name of a regular file")
    if end in _inputs or any(end.exists() and kept.exists() and end.samefile(kept) for kept in _inputs):
        raise FileError(f"cannot write {path}: it is an input of this command, give another name")
    return end


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary name beside `path` to write to; renamed at the end, removed on any error. OSError is a FileError."""
    with replacing_all(path) as temporary:
        yield temporary


@contextmanager
def replacing_all(path: str | Path) -> Iterator[Path]:
    """The same for writers that leave more files beside the one they are given: all are renamed, `path` last."""
    try:
        end = destination(path)
        end.parent.mkdir(parents=True, exist_ok=True)
        # Ctrl-C while the folder is made or removed would leave it behind: it comes through for the writer alone
        with held() as ctrl_c, tempfile.TemporaryDirectory(dir=end.parent, prefix=f".{end.name}.") as folder:
            temporary = Path(folder) / end.name
            with ctrl_c.released():
                yield temporary
            written = sorted(Path(folder).iterdir(), key=lambda file: file == temporary)
            ends = [destination(end.parent / file.name) for file in written]
            for file, final in zip(written, ends):
                os.replace(file, final)
    except (OSError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "link" not in str(error).lower():
            raise
        raise FileError(f"cannot write {path}: {getattr(error, 'strerror', None) or error}") from None
