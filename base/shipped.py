"""Trained networks that come along, by name: `checkpoints/` lies beside the rooms, in the tree and in the wheel."""

from __future__ import annotations

from pathlib import Path

from randhet.base.errors import FileError

FOLDER = Path(__file__).resolve().parent.parent / "checkpoints"
SUFFIX = ".pt"


def names() -> list[str]:
    """List the checkpoints that are here; an installed package carries the small ones, a clone all."""
    return sorted(path.stem for path in FOLDER.glob(f"*{SUFFIX}"))


def checkpoint(path: str | Path) -> Path:
    """Return the file of a checkpoint: `path` where that is a file, else the shipped checkpoint of this name.

    FileError names the shipped ones where there is neither.
    """
    path = Path(path)
    if path.is_file():
        return path
    # a name has neither folder nor suffix; anything else is meant as a file
    if len(path.parts) == 1 and path.name in names():
        return FOLDER / f"{path.name}{SUFFIX}"
    raise FileError(
        f"checkpoint {path} does not exist, and is none of those that come along: {', '.join(names()) or 'none'}; "
        "larger ones lie in the folder checkpoints/ of the repository and are given by their path"
    )
