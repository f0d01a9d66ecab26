"""Commands whose ranges of images run on a Dask cluster say what they say in one program, but for the time it took."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import call, parsed

from randhet.base.errors import RandhetError
from randhet.compare.quantisation import precision
from randhet.compare.robustness import deployed_split
from randhet.compare.robustness.deployed import attack_deployed
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
    at_once = parsed(call(*split))
    assert timeless(at_once) == timeless(whole)
    assert at_once["seconds"] > 0
    assert at_once["images_per_second"] == pytest.approx(2 * 13 / at_once["seconds"])
    first = parsed(call(*arguments[:-3], "--json"))  # one repetition: that of the seed itself
    assert whole["predictions"][0] == first["predictions"] and whole["accuracies"][0] == first["accuracy"]
    assert whole["predictions"][0] != whole["predictions"][1]
    lines = out.read_text().splitlines(keepends=True)
    assert len(lines) == 1 + 2 * 3 * members
    out.write_text("".join(lines[:3]))
    # the rest is computed here, and the file says what is done
    continued = parsed(call(*arguments, "--out", out, "--images-per-task", 5))
    assert timeless(continued) == timeless(whole)
    assert [continued[name] for name in sorted(TIMES)] == [None, None]  # the time of a part says nothing of the whole
    shown = call(*arguments[:-1], "--out", out, "--images-per-task", 5)
    assert "not measured, results of an earlier run are among these" in shown.stdout
    assert len(out.read_text().splitlines()) == 1 + 2 * 3 * members
    other = call(*arguments[:5], 4, "--seed", 4, "--out", out)
    assert other.exit_code == 2 and "other settings (images, seed)" in other.stderr


def test_processes_of_this_machine(files: Path) -> None:
    arguments = ("run", files / "model.net", "--samples", 5, "--seed", 3, "--json")
    whole = timeless(parsed(call(*arguments)))
    assert timeless(parsed(call(*arguments, "--workers", 1, "--images-per-task", 3))) == whole


def test_compare(cluster: str, files: Path, tmp_path: Path) -> None:
    """130 images are two batches of the float model; chunks of 40 are four pieces of traces."""
    pytest.importorskip("onnxruntime")
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


@pytest.mark.parametrize("net", ["model", "two"])
def test_attacks_on_integers_continue(net: str, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the second of two ranges failed only that one is attacked, and the numbers are those of an unbroken run."""
    few = ("--samples", 6, "--draws", 2, "--redraws", 2, "--batch", 4, "--json", "--workers", 0)
    arguments = ("attack", files / "model.pt", *few, "--net", files / f"{net}.net")
    whole = parsed(call(*arguments, "--attacks", "pgd2"))
    attacked: list[int] = []

    def attack(*given: Any, first: int) -> Any:
        attacked.append(first)
        if attacked == [0, 4]:
            raise RandhetError("the second range failed")
        return attack_deployed(*given, first=first)

    monkeypatch.setattr(deployed_split, "attack_deployed", attack)
    kept = (*arguments, "--attacks", "pgd2", "--out", tmp_path / "a.jsonl")
    assert call(*kept).exit_code == 2
    assert parsed(call(*kept)) == whole
    assert attacked == [0, 4, 4]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a-integers.jsonl", "a.jsonl"]
    call(*arguments, "--attacks", "fgsm", "--out", tmp_path / "a.jsonl")
    assert attacked == [0, 4, 4, 0, 4]
    sigmas = ("--member-sigmas", "0.5,2") if net == "two" else ()
    other = tmp_path / "other.net"
    parsed(call("export", files / "model.pt", *sigmas, "-o", other, "--samples", 16, "--bits", 6, "--json"))
    refused = call(*arguments[:-1], other, *kept[-4:])
    assert refused.exit_code == 2 and "a-integers.jsonl were made with other settings (network)" in refused.stderr


def test_robustness_in_a_comparison_continues(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deployed_split, "BATCH", 4)
    few = ("--samples", 6, "--draws", 2, "--backends", "engine", "--robustness", "--attacks", "fgsm", "--json")
    arguments = ("compare", files / "model.pt", files / "model.net", *few)
    whole = call(*arguments)
    kept = (*arguments, "--workers", 1, "--out", tmp_path)
    first = call(*kept)
    assert timeless(json.loads(first.stdout))["robustness"] == timeless(json.loads(whole.stdout))["robustness"]
    content = (tmp_path / "attacks.jsonl").read_bytes()
    assert len(content.splitlines()) == 1 + 2
    again = call(*kept)
    assert json.loads(again.stdout)["robustness"] == json.loads(first.stdout)["robustness"]
    assert (tmp_path / "attacks.jsonl").read_bytes() == content


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
    ("options", "threads"),
    [
        (("--threads", 1), 1),
        (("--threads", 3), None),  # three processes
        (("--workers", 0, "--threads", 3), 3),
        (("--workers", 2, "--threads", 3), 3),
        ((), None),
    ],
)
def test_threads_of_a_sweep(
    options: tuple[Any, ...], threads: int | None, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sweep(*arguments: Any) -> None:
        raise RandhetError(f"threads: {arguments[-1].threads}")

    monkeypatch.setattr(precision, "sweep", sweep)
    monkeypatch.setattr("torch.set_num_threads", lambda count: None)
    told = call("sweep", files / "model.pt", *options)
    assert told.exit_code == 2 and f"threads: {threads}\n" in told.stderr


@pytest.mark.parametrize(
    ("samples", "options", "threads"),
    [
        (6, ("--threads", 1), 1),
        (6, ("--workers", 0), None),
        (4, ("--workers", 2, "--threads", 3), 3),  # a single range runs in the program
        (6, ("--workers", 2, "--threads", 3), 3),
        (6, ("--threads", 3), 1),  # three processes
        (6, ("--workers", 2), 1),
    ],
)
def test_threads_of_attacks_on_integers(
    samples: int, options: tuple[Any, ...], threads: int | None, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def attack(work: Any, *others: Any) -> None:
        raise RandhetError(f"threads: {work.threads}")

    monkeypatch.setattr(deployed_split, "attack_in_ranges", attack)
    monkeypatch.setattr("randhet.cli.commands.attack._attacks", lambda *arguments: {})
    monkeypatch.setattr("torch.set_num_threads", lambda count: None)
    few = ("--samples", samples, "--batch", 4, "--net", files / "model.net")
    told = call("attack", files / "model.pt", *few, *options)
    assert told.exit_code == 2 and f"threads: {threads}\n" in told.stderr


def test_a_deterministic_run_is_kept_without_a_seed(tmp_path: Path) -> None:
    layers = (
        Layer("input", Input((1, 8, 8))),
        Layer("flat", Flatten(), (0,)),
        Layer("out", Dense(np.ones((10, 64), np.int8)), (1,), ReadOut(np.zeros(10, np.int32)), np.ones(1)),
    )
    net, out = tmp_path / "plain.net", tmp_path / "run.jsonl"
    write(net, Network(layers, steps=2))
    arguments = ("run", net, "--data", "digits", "--samples", 4, "--images-per-task", 2, "--json")
    kept = parsed(call(*arguments, "--out", out))
    assert len(out.read_text().splitlines()) == 1 + 2
    assert timeless(kept) == timeless(parsed(call(*arguments)))


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
