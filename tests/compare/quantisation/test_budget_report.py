"""randhet budget: planted costs are found where they were planted, the recommendation can be exported as it stands."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from randhet.base.errors import RandhetError
from randhet.cli.app import app
from randhet.compare.quantisation.budget import PARTS
from randhet.compare.quantisation.budget_report import settings_of
from randhet.export.passes.quantise import QuantSettings
from randhet.export.pipeline import export_checkpoint
from randhet.netx.write import read, write
from randhet.train import checkpoint
from randhet.train.checkpoint import Checkpoint, random_init
from randhet.train.data.sources import load
from randhet.train.models import ModelSettings

MODEL = ModelSettings(1, 10, (8, 8), (3, 4), (1, 1), steps=2)
FEW = ("--samples", "16", "--draws", "2", "--calibration", "8")
PIXELS = load("digits", "train").take(8).pixels


def saved(model: Checkpoint, settings: QuantSettings, folder: Path) -> tuple[str, str]:
    model = replace(model, data="digits", classes=tuple(map(str, range(10))))
    checkpoint.save(folder / "model.pt", model)
    write(folder / "model.net", export_checkpoint(model, PIXELS, settings).network)
    return str(folder / "model.pt"), str(folder / "model.net")


def found(files: tuple[str, str], *words: str) -> dict:  # type: ignore[type-arg]
    made = CliRunner().invoke(app, ["budget", *files, *FEW, *words, "--json"])
    assert made.exit_code == 0, made.output
    return dict(json.loads(made.stdout))


def test_coarse_draws_cost_what_they_cost_and_weights_nothing(tmp_path: Path) -> None:
    """Weights that are integers times a scale lose nothing by rounding; one random bit per draw loses much."""
    model = random_init(MODEL, seed=2)
    state = {name: exact(name, tensor) for name, tensor in model.state.items()}
    it = found(saved(replace(model, state=state), QuantSettings(tau_bits=1, f=12), tmp_path))
    assert it["alone"]["weights"]["odd_spikes"] < 1e-3
    assert it["alone"]["random bits"]["odd_spikes"] > 0.02
    assert it["all_but"]["random bits"]["odd_spikes"] < it["together"]["odd_spikes"] / 3
    assert set(it["alone"]) == set(it["all_but"]) == set(PARTS)


def exact(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """Weights on a grid of 127 steps per output channel, the largest of each on its end; everything else as it is."""
    if "conv" not in name and "downsample.0" not in name and "fc1.weight" not in name:
        return tensor
    flat = tensor.flatten(1)
    step = (flat.abs().max() if "fc1" in name else flat.abs().amax(1, keepdim=True)) / 127
    return ((flat / step).round() * step).reshape(tensor.shape)


def test_the_recommendation_is_exported_as_it_stands(tmp_path: Path) -> None:
    files = saved(random_init(MODEL, seed=2), QuantSettings(), tmp_path)
    it = found(files)["recommendation"]
    new = str(tmp_path / "small.net")
    made = CliRunner().invoke(app, ["export", files[0], "-o", new, "--samples", "8", *shlex.split(it["options"])])
    assert made.exit_code == 0, made.output
    network = read(new)
    weights = 0
    for layer in network.layers:
        if (bits := it["layer_bits"].get(layer.name)) is not None:
            weights += layer.operation.weight.size * bits  # type: ignore[union-attr]
            assert np.abs(layer.operation.weight.astype(int)).max() <= 2 ** (bits - 1) - 1  # type: ignore[union-attr]
    assert it["bytes_after"] == weights / 8 and 0 < it["saved"] < 1
    assert settings_of(network).tau_bits == it["tau_bits"]


def test_tables_say_every_part(tmp_path: Path) -> None:
    files = saved(random_init(replace(MODEL, neuron="vanilla"), seed=2), QuantSettings(4), tmp_path)
    made = CliRunner().invoke(app, ["budget", *files, *FEW])
    assert made.exit_code == 0, made.output
    assert all(f"all but {part}" in made.stdout for part in PARTS)
    assert "randhet export MODEL --tau-bits" in made.stdout


def test_refusals(tmp_path: Path) -> None:
    files = saved(random_init(MODEL, seed=2), QuantSettings(), tmp_path)
    checkpoint.save(tmp_path / "other.pt", replace(random_init(MODEL, seed=3), data="digits"))
    refused = CliRunner().invoke(app, ["budget", str(tmp_path / "other.pt"), files[1], *FEW])
    assert refused.exit_code == 2 and "exported from other weights" in refused.stderr
    network = read(files[1])
    with pytest.raises(RandhetError, match="does not say how it was quantised"):
        settings_of(replace(network, metadata={}))
    assert settings_of(network) == QuantSettings()
