"""Weights of a module that someone else defines: a state dict, bare or wrapped, or written by this project."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from randhet.base.errors import FileError
from randhet.base.files import replacing
from randhet.train.checkpoint import finite, held, unpacked, versions
from randhet.train.published import unwrapped

FORMAT = "randhet-weights-1"


@dataclass(frozen=True, eq=False)
class Weights:
    """A state dict, with what its training recorded where this project trained it; `resume` only the loop needs."""

    path: Path
    state: Mapping[str, Tensor]
    data: str = ""
    classes: tuple[str, ...] = ()
    record: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=lambda: versions())
    resume: Mapping[str, Any] | None = None


def save(weights: Weights) -> None:
    """Write to its path, whole or not at all."""
    names = [name for name in Weights.__dataclass_fields__ if name != "path"]
    content = {name: getattr(weights, name) for name in names} | {"format": FORMAT, "state": dict(weights.state)}
    whole = BytesIO()
    torch.save(content, whole)
    with replacing(weights.path) as temporary:
        temporary.write_bytes(whole.getbuffer())


def load(path: str | Path) -> Weights:
    """Read weights without running code; FileError where the file is missing, damaged, hostile, or holds NaN."""
    path = Path(path)
    if not path.is_file():
        raise FileError(f"weights {path} do not exist")
    try:
        unpacked(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileError:
        raise
    except Exception as error:  # torch raises many kinds for a damaged file; every one means the same to the user
        reason = (str(error).strip() or type(error).__name__).split("\n")[0][:100]
        raise FileError(f"{path} does not hold weights that can be read safely ({reason})") from None
    return _checked(path, content)


def _checked(path: Path, content: Any) -> Weights:
    ours = isinstance(content, dict) and content.get("format") == FORMAT
    state = content.get("state") if ours else unwrapped(content)
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()) or not state:
        raise FileError(f"{path} does not hold a state dict: save model.state_dict() with torch.save")
    try:
        held(state, path.stat().st_size)
        finite(path, state)
        return Weights(path, state, **_recorded(content)) if ours else Weights(path, state)
    except (AttributeError, LookupError, TypeError, ValueError, RuntimeError) as error:
        raise FileError(f"weights {path} are damaged: {(str(error).splitlines() or ['?'])[0][:100]}") from None


def _recorded(content: Mapping[str, Any]) -> dict[str, Any]:
    names = ("data", "record", "versions", "resume")
    return {name: content[name] for name in names} | {"classes": tuple(map(str, content["classes"]))}
