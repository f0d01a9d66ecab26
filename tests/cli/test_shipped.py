"""What the project promises, on the networks it ships and real images: accuracy, equality, agreement; and the demo."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from randhet.cli.app import app
from randhet.compare.study import Comparison, StudySettings, compare
from randhet.export.pipeline import export_checkpoint
from randhet.fixed_point.backends import available
from randhet.fixed_point.reference import master_seed
from randhet.netx import write as netx
from randhet.train import checkpoint as checkpoints
from randhet.train.data.sources import load

CHECKPOINTS = Path(__file__).parents[2] / "checkpoints"
IMAGES = 200


def silent(name: str, total: int) -> Callable[[int], None]:
    return lambda count: None


@pytest.fixture(scope="module", params=["digits-randhet-at", "digits-vanilla-at"])
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """A shipped checkpoint, exported to a file, compared on 200 held-out images on every backend there is."""
    checkpoint = checkpoints.load(CHECKPOINTS / f"{request.param}.pt")
    path = tmp_path_factory.mktemp("shipped") / "network.net"
    netx.write(path, export_checkpoint(checkpoint, load("digits", "train").pixels[:128]).network)
    return compare(checkpoint, netx.read(path), load("digits").take(IMAGES), StudySettings(draws=5), silent)


def test_float_accuracy(found: Comparison) -> None:
    assert found.floats.mean >= 0.95


def test_fixed_point_loses_less_than_a_point(found: Comparison) -> None:
    assert abs(found.difference.value) <= 0.01


def test_predictions_agree_under_the_same_taus(found: Comparison) -> None:
    assert found.agreement >= 0.97


def test_no_state_leaves_24_bits(found: Comparison) -> None:
    assert found.tracing.saturations == 0


def test_every_backend_gives_the_reference_s_integers(found: Comparison) -> None:
    assert set(found.tracing.backends) == set(available()) - {"reference"}
    assert {name: it.divergence for name, it in found.tracing.backends.items() if not it.identical} == {}
    neurons = sum(layer.neurons for layer in found.layers) + 10
    assert all(it.membranes == IMAGES * found.steps * neurons for it in found.tracing.backends.values())


@pytest.mark.lava
def test_lava_is_among_them(found: Comparison) -> None:
    assert "lava" in found.tracing.backends


def test_demo_leaves_its_four_files(tmp_path: Path) -> None:
    arguments = ["demo", "--out", str(tmp_path), "--epochs", "1", "--samples", "4", "--draws", "2", "--json"]
    result = CliRunner().invoke(app, arguments)
    found = json.loads(result.stdout)
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "checkpoint.pt",
        "compare.json",
        "network.net",
        "report.html",
    ]
    assert result.exit_code == (1 if found["failures"] else 0), "one epoch is too few to promise more"
    assert all(backend["identical"] for backend in found["backends"].values())
    network, checkpoint = netx.read(tmp_path / "network.net"), checkpoints.load(tmp_path / "checkpoint.pt")
    assert network.metadata["source"] == checkpoints.weights_hash(checkpoint.state)
    assert network.seed is None
    assert master_seed(network, None) != master_seed(network, None)
