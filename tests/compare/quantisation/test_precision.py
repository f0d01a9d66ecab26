"""The sweep over number formats: what a point costs by hand, the same file after a kill, a plot, refusals."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from randhet.base.errors import RandhetError
from randhet.cli.app import app
from randhet.compare.quantisation.precision import Grid, Point, memory, pareto
from randhet.compare.quantisation.precision_plot import figure
from randhet.export.passes.quantise import PASSES, QuantSettings
from randhet.export.pipeline import export_checkpoint
from randhet.fixed_point import reference
from randhet.fixed_point.chips import chip, energy
from randhet.fixed_point.chips.mapping import map_network
from randhet.train import checkpoint
from randhet.train.checkpoint import Checkpoint, random_init
from randhet.train.data.sources import load
from randhet.train.models import ModelSettings

MODEL = ModelSettings(1, 10, (8, 8), (3, 4), (1, 1), steps=2)
OPTIONS = ("--bits", "8,3", "--tau-bits", "8", "--fractions", "6", "--scales", "channel,power-of-two")
FEW = ("--samples", "20", "--draws", "3", "--calibration", "8", "--seed", "1", "--threads", "1")


@pytest.fixture(scope="module")
def model() -> Checkpoint:
    return replace(random_init(MODEL, seed=2), data="digits", classes=tuple(map(str, range(10))))


@pytest.fixture(scope="module")
def file(model: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("sweep") / "model.pt"
    checkpoint.save(path, model)
    return str(path)


@pytest.fixture(scope="module")
def unbroken(file: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unbroken")
    made = CliRunner().invoke(app, ["sweep", file, *OPTIONS, *FEW, "--out", str(folder), "--json"])
    assert made.exit_code == 0, made.output
    assert json.loads(made.stdout) == json.loads((folder / "sweep.json").read_text())
    return folder


def test_points_are_what_export_and_the_reference_give(unbroken: Path, model: Checkpoint) -> None:
    found = json.loads((unbroken / "sweep.json").read_text())
    images, seen = load("digits").take(20), load("digits", "train").take(8)
    assert len(found["points"]) == 4 and found["samples"] == 20 and found["draws"] == 3
    for row in found["points"]:
        settings = QuantSettings(row["weight_bits"], 6, scales=row["scales"], passes=PASSES)
        network = export_checkpoint(model, seen.pixels, settings).network
        runs = [reference.run(network, images.pixels, seed=seed) for seed in (1, 2, 3)]
        right = [float((run.predictions == images.labels).mean()) for run in runs]
        assert row["accuracies"] == right and row["accuracy"] == pytest.approx(np.mean(right))
        estimate = energy.estimate(network, map_network(network, chip.load("loihi2")), images.pixels, runs[0])
        assert row["energy"] == pytest.approx(estimate.energy)
        assert row["spikes"] == sum(runs[0].spikes.values()) / 20


def test_a_sweep_resumed_after_a_kill_leaves_the_same_file(unbroken: Path, file: str, tmp_path: Path) -> None:
    words = ["sweep", file, *OPTIONS, *FEW, "--out", str(tmp_path)]
    child = subprocess.Popen([sys.executable, "-m", "randhet", *words], stderr=subprocess.DEVNULL)
    lines = tmp_path / "sweep.jsonl"
    while not (lines.exists() and lines.read_text().count("\n") >= 2):
        assert child.poll() is None
        time.sleep(0.01)
    child.kill()
    child.wait()
    assert lines.read_text().count("\n") < 6
    assert CliRunner().invoke(app, words).exit_code == 0
    assert lines.read_bytes() == (unbroken / "sweep.jsonl").read_bytes()
    assert (tmp_path / "sweep.json").read_bytes() == (unbroken / "sweep.json").read_bytes()


def test_more_values_cost_only_the_new_points(unbroken: Path, file: str, tmp_path: Path) -> None:
    """The old lines stay as they were; another seed would need another folder."""
    before = (unbroken / "sweep.jsonl").read_text()
    (tmp_path / "sweep.jsonl").write_text(before)
    words = ["sweep", file, *OPTIONS, *FEW, "--out", str(tmp_path)]
    assert CliRunner().invoke(app, [*words, "--plain"]).exit_code == 0
    after = (tmp_path / "sweep.jsonl").read_text()
    assert after.startswith(before) and after.count("\n") == before.count("\n") + 4
    refused = CliRunner().invoke(app, [*words, "--seed", "2"])
    assert refused.exit_code == 2 and "other settings (seed)" in refused.stderr


def test_the_plot_is_a_picture(unbroken: Path) -> None:
    picture = np.asarray(Image.open(unbroken / "sweep.png").convert("RGB"))
    assert picture.shape[0] > 400 and len(np.unique(picture.reshape(-1, 3), axis=0)) > 50


def test_plot_and_table_say_that_energy_knows_no_width(unbroken: Path, file: str) -> None:
    memory_panel, energy_panel = figure(json.loads((unbroken / "sweep.json").read_text())).axes[:2]
    assert "no figures by weight width are published" in energy_panel.get_title()
    assert "energy" not in memory_panel.get_title() + memory_panel.get_xlabel()
    made = CliRunner().invoke(app, ["sweep", file, *OPTIONS, *FEW, "--bits", "8", "--scales", "channel"])
    assert "no figures by weight width are published" in " ".join(made.stdout.split())


def test_memory_by_hand(model: Checkpoint) -> None:
    """27 + 81 + 81 + 108 + 144 + 12 + 40 weights; a threshold and a bias per channel, the stem's bias per place."""
    network = export_checkpoint(model, load("digits", "train").take(4).pixels).network
    weights = 27 + 81 + 81 + 108 + 144 + 12 + 40
    constants = 3 + 3 * 64 + 2 * (3 + 3) + 3 * (4 + 4) + 10
    assert memory(network, 4) == -(-(4 * weights + 24 * constants) // 8)


def test_pareto_by_hand() -> None:
    pairs = [(1, 0.5), (2, 0.9), (2, 0.8), (3, 0.9), (0.5, 0.1), (4, 0.95), (4, 0.95)]
    assert pareto(pairs) == [True, True, False, False, True, True, True]


def test_points_of_a_grid() -> None:
    points = Grid((4, 4, 8), (8,), (6,), ("layer",), plain=True).points()
    assert points == [Point(4, 8, 6, "layer", PASSES), Point(4, 8, 6, "layer", ()), *points[2:]] and len(points) == 4
    assert len(Grid().points()) == 4 * 2 * 2 * 3
    with pytest.raises(RandhetError, match="at least one value"):
        Grid(scales=()).points()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--bits", "4,x"), "--bits '4,x' is not a list"),
        (("--bits", "9"), "weight_bits is 9"),
        (("--scales", "free"), "scales is 'free'"),
        (("--chip", "abacus"), "no chip is called abacus"),
        (("--data", "nowhere"), "nowhere"),
    ],
)
def test_refusals_leave_nothing(words: tuple[str, ...], message: str, file: str, tmp_path: Path) -> None:
    refused = CliRunner().invoke(app, ["sweep", file, *words, "--out", str(tmp_path / "new")])
    assert refused.exit_code == 2 and message in refused.stderr.replace("\n", " ")
    assert not (tmp_path / "new").exists()


def test_a_format_that_fits_no_network_is_said_and_the_others_run(file: str) -> None:
    """Fraction bits that round a threshold to 0."""
    made = CliRunner().invoke(
        app, ["sweep", file, *FEW, "--bits", "2,8", "--fractions", "0", "--tau-bits", "8", "--json"]
    )
    rows = json.loads(made.stdout)["points"]
    assert made.exit_code == 0 and any("rounds to 0" in row.get("error", "") for row in rows)
    assert any("accuracy" in row for row in rows)
