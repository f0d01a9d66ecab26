"""Commands whose ranges of images run on a Dask cluster say what they say in one program, but for the time it took."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import call, parsed

from randhet.fixed_point.network import Dense, Flatten, Input, Layer, Network, ReadOut
from randhet.netx.write import write
from randhet.train import checkpoint as checkpoints
from randhet.train.data.sources import load
from randhet.train.models import ModelSettings

distributed = pytest.importorskip("distributed")

MODEL = ModelSettings(1, 10, (8, 8), (3, 4), (1, 1), steps=2)
TIMES = {"seconds", "images_per_second"}


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """Address of a scheduler with one worker of two threads."""
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=2, dashboard_address="127.0.0.1:0", silence_logs=50
    ) as made:
        yield made.scheduler_address


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("split")
    images = load("digits", "train").pixels[:64]
    checkpoints.save(folder / "model.pt", checkpoints.random_init(MODEL, images=images, seed=3))
    parsed(call("export", folder / "model.pt", "-o", folder / "model.net", "--samples", 16, "--json"))
    ensemble = ("--member-sigmas", "0.5,2", "-o", folder / "two.net")
    parsed(call("export", folder / "model.pt", *ensemble, "--samples", 16, "--json"))
    return folder


def timeless(content: Any) -> Any:
    """The same without times."""
    if isinstance(content, dict):
        return {name: timeless(value) for name, value in content.items() if name not in TIMES}
    return [timeless(value) for value in content] if isinstance(content, list) else content


@pytest.mark.parametrize(("backend", "net", "members"), [("engine", "model", 1), ("add-only", "two", 2)])
def test_run(backend: str, net: str, members: int, cluster: str, files: Path, tmp_path: Path) -> None:
    out = tmp_path / "run.jsonl"
    arguments = (
        "run",
        files / f"{net}.net",
        "--backend",
        backend,
        "--samples",
        13,
        "--seed",
        3,
        "--draws",
        2,
        "--json",
    )
    whole = parsed(call(*arguments))
    split = (*arguments, "--scheduler", cluster, "--images-per-task", 5, "--out", out)
    assert timeless(parsed(call(*split))) == timeless(whole)
    first = parsed(call(*arguments[:-3], "--json"))  # one repetition: that of the seed itself
    assert whole["predictions"][0] == first["predictions"] and whole["accuracies"][0] == first["accuracy"]
    assert whole["predictions"][0] != whole["predictions"][1]
    lines = out.read_text().splitlines(keepends=True)
    assert len(lines) == 1 + 2 * 3 * members
    out.write_text("".join(lines[:3]))
    # the rest is computed here, and the file says what is done
    assert timeless(parsed(call(*arguments, "--out", out, "--images-per-task", 5))) == timeless(whole)
    assert len(out.read_text().splitlines()) == 1 + 2 * 3 * members
    other = call(*arguments[:5], 4, "--seed", 4, "--out", out)
    assert other.exit_code == 2 and "other settings (images, seed)" in other.stderr


def test_processes_of_this_machine(files: Path) -> None:
    arguments = ("run", files / "model.net", "--samples", 5, "--seed", 3, "--json")
    whole = timeless(parsed(call(*arguments)))
    assert timeless(parsed(call(*arguments, "--workers", 1, "--images-per-task", 3))) == whole


def test_compare(cluster: str, files: Path, tmp_path: Path) -> None:
    """130 images are two batches of the float model; chunks of 40 are four pieces of traces."""
    few = ("--samples", 130, "--draws", 2, "--backends", "engine,onnx", "--images-per-task", 40, "--json")
    arguments = ("compare", files / "model.pt", files / "model.net", *few)
    whole = call(*arguments, "--out", tmp_path / "whole")
    split = call(*arguments, "--scheduler", cluster, "--out", tmp_path)
    assert split.exit_code == whole.exit_code, split.stderr
    assert timeless(json.loads(split.stdout)) == timeless(json.loads(whole.stdout))
    pieces = [json.loads(line)["piece"] for line in (tmp_path / "compare.jsonl").read_text().splitlines()[1:]]
    kinds = [sum(name.startswith(kind) for name in pieces) for kind in ("float", "fixed", "traces")]
    assert kinds == [2 * 2, 2 * 4, 4]
    fewer = json.loads(
        call(*arguments[:-5], "--backends", "engine", *few[-3:], "--workers", 1, "--out", tmp_path).stdout
    )
    assert list(fewer["backends"]) == ["engine"]
    assert len((tmp_path / "compare.jsonl").read_text().splitlines()) == 1 + len(pieces) + 4


@pytest.mark.parametrize("net", ["model", "two"])
def test_attack(net: str, cluster: str, files: Path) -> None:
    few = ("--samples", 6, "--draws", 2, "--redraws", 2, "--batch", 4, "--attacks", "pgd2", "--json")
    few = (*few, "--net", files / f"{net}.net")
    whole = parsed(call("attack", files / "model.pt", *few, "--workers", 0))
    assert parsed(call("attack", files / "model.pt", *few, "--scheduler", cluster)) == whole


def test_sweep(cluster: str, files: Path) -> None:
    """Energies are means of those of the pieces, so that other pieces may round the last bits in another way."""
    formats = ("--bits", "8,4", "--tau-bits", "8", "--fractions", "6", "--scales", "channel", "--calibration", 8)
    few = ("sweep", files / "model.pt", *formats, "--samples", 130, "--draws", 2, "--json")
    pieces = (*few, "--images-per-task", 100)
    cut = parsed(call(*pieces, "--workers", 0))
    assert parsed(call(*pieces, "--scheduler", cluster)) == cut
    whole = parsed(call(*few, "--workers", 0))
    energies = [[row.pop("energy") for row in found["points"]] for found in (cut, whole)]
    assert energies[0] == pytest.approx(energies[1], rel=1e-12)
    assert cut == whole


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--scheduler", "tcp://127.0.0.1:1", "--workers", 2), "--scheduler and --workers are both given"),
        (("--out", "a.jsonl"), "--out continues a run, which needs the same draws: give --seed too"),
        (("--seed", 2**64 - 1, "--draws", 2), f"seed is {2**64 - 1}, the limit is 2^64 - 2 for 2 draws"),
    ],
)
def test_refusals(options: tuple[Any, ...], words: str, files: Path) -> None:
    refused = call("run", files / "model.net", "--samples", 2, *options)
    assert refused.exit_code == 2 and words in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1


def test_a_stream_is_not_split(tmp_path: Path) -> None:
    layers = (
        Layer("input", Input((1, 8, 8), sequence=True)),
        Layer("flat", Flatten(), (0,)),
        Layer("out", Dense(np.ones((10, 64), np.int8)), (1,), ReadOut(np.zeros(10, np.int32)), np.ones(1)),
    )
    write(tmp_path / "recordings.net", Network(layers, steps=2))
    for options in (
        ("--workers", 2),
        ("--scheduler", "tcp://127.0.0.1:1"),
        ("--seed", 1, "--out", tmp_path / "a.jsonl"),
    ):
        refused = call("run", tmp_path / "recordings.net", "--stream", *options)
        assert refused.exit_code == 2
        assert "--stream cannot be split, each piece continues the one before" in refused.stderr
