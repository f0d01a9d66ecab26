"""Folders of recordings on the command line: frames are made as a network's were, by every command."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

from typer.testing import CliRunner

from fuzz.recordings import Rows, columns, nmnist, some
from randhet.cli.app import app
from randhet.train import checkpoint
from randhet.train.data.sources import load
from randhet.train.loop import fit
from randhet.train.models import ModelSettings


def folder(root: Path, write: Callable[[Path, Rows], Any], suffix: str, names: tuple[str, str]) -> Path:
    for split in names:
        for label in (0, 1, 10):
            (root / split / str(label)).mkdir(parents=True)
            for i in range(2):
                write(root / split / str(label) / f"{i}{suffix}", some(60, label + 20 * i))
    return root


def frames(file: Path, events: Rows) -> None:
    np.savez(file, **columns(events))


KINDS = {
    "N-MNIST": (nmnist, ".bin", ("Train", "Test"), ""),
    "DVS128 Gesture, cut": (frames, ".npz", ("train", "test"), ",size=34x34"),
}


def called(*arguments: object) -> Any:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout) if "--json" in arguments else None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.timeout(120)
def test_every_command_makes_the_frames_of_training(kind: str, tmp_path: Path) -> None:
    write, suffix, names, size = KINDS[kind]
    trained, other = (folder(tmp_path / name, write, suffix, names) for name in ("a", "b"))
    data = load(f"{trained},frames=3,by=count{size}", "train")
    assert data.frame == (2, 34, 34) and data.classes == ("0", "1", "10")
    settings = fit(ModelSettings(2, 3, (34, 34), (2,), (1,)), data)
    made = checkpoint.random_init(settings, images=data.pixels)
    path, net = tmp_path / "a.pt", tmp_path / "a.net"
    named = checkpoint.Checkpoint(
        settings, made.state, made.mean, made.std, f"{trained},frames=3,by=count{size}", data.classes
    )
    checkpoint.save(path, named)
    called("export", path, "-o", net, "--data", other)
    for backend in ("reference", "engine"):
        found = called("run", net, "--data", other, "--backend", backend, "--seed", 1, "--json")
        assert found["samples"] == 6
    common = ("--data", other, "--samples", 4, "--draws", 2, "--threads", 1, "--json")
    assert called("compare", path, net, "--backends", "engine", *common)["backends"]["engine"]["identical"]
    attacks = called("attack", path, "--attacks", "sda4,retime4", "--eps", "1/255", *common)
    assert {"sda4", "retime4"} <= set(attacks["attacks"])
