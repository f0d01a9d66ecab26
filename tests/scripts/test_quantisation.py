"""scripts/quantisation on a small network and digits: its rows are what the reference gives, kept and shown."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from randhet.compare.equivalence import Sample, mean_interval
from randhet.export.passes.quantise import PASSES
from randhet.export.pipeline import export_checkpoint, settings_for
from randhet.fixed_point import reference
from randhet.train import checkpoint as checkpoints
from randhet.train.checkpoint import Checkpoint, build, random_init
from randhet.train.data.sources import load
from randhet.train.evaluation import predict
from randhet.train.models import ModelSettings

SCRIPT = Path(__file__).parents[2] / "scripts" / "quantisation"
MODEL = ModelSettings(1, 10, (8, 8), (3, 4), (1, 1), steps=2)
SAMPLES, DRAWS, FEWER = 30, 3, 20


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, with a folder of its own for checkpoints, results, page and plot."""
    loader = SourceFileLoader("quantisation_script", str(SCRIPT))
    spec = spec_from_loader(loader.name, loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    for name, value in {"ROOT": tmp_path, "FEWER": FEWER}.items():
        monkeypatch.setattr(module, name, value)
    for name in ("RESULT", "PAGE", "PLOT"):
        monkeypatch.setattr(module, name, tmp_path / getattr(module, name).name)
    (tmp_path / "checkpoints").mkdir()
    save(module.shipped(module.PLAIN), 2)
    save(module.shipped(module.TUNED), 3)
    module.PAGE.write_text(f"before\n{module.BEGIN}\nold\n{module.END}\nafter\n", "utf-8")
    return module


def save(path: Path, seed: int) -> Checkpoint:
    made = replace(random_init(MODEL, seed=seed), data="digits", classes=tuple(map(str, range(10))))
    checkpoints.save(path, made)
    return made


def chosen(samples: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixels and labels of the test images that the script takes."""
    whole = load("digits")
    places = np.random.default_rng(0).permutation(len(whole.labels))[:samples]
    return whole.pixels[places], whole.labels[places]


def integer_answers(path: Path, bits: int, passes: tuple[str, ...], samples: int) -> np.ndarray:
    """Which answers (draws, samples) of the reference are right."""
    learnt = load("digits", "train").pixels
    calibration = learnt[np.random.default_rng(0).choice(len(learnt), 256, replace=False)]
    model = checkpoints.load(path)
    network = export_checkpoint(model, calibration, settings_for(model, weight_bits=bits, passes=passes)).network
    pixels, labels = chosen(samples)
    return np.stack([reference.run(network, pixels, seed=seed).predictions == labels for seed in range(DRAWS)])


def float_answers(path: Path) -> np.ndarray:
    pixels, labels = chosen(SAMPLES)
    model, right = build(checkpoints.load(path)), []
    for seed in range(DRAWS):
        torch.manual_seed(seed)
        right.append(predict(model, load("digits").__class__("some", pixels, labels, load("digits").classes)) == labels)
    return np.stack(right)


def test_rows_are_those_of_the_reference_and_the_float_model(script: ModuleType, tmp_path: Path) -> None:
    control = tmp_path / "control.pt"
    save(control, 4)
    script.measure("digits", SAMPLES, DRAWS, control)
    rows = json.loads(script.RESULT.read_text("utf-8"))["rows"]
    floats = float_answers(script.shipped(script.PLAIN))
    assert len(rows) == 1 + 1 + 1 + 8, "float, control, fine-tuned, four widths without and with passes"
    assert rows[f"{script.PLAIN} float"]["accuracy"] == pytest.approx(floats.mean())
    for bits, passes in ((4, ()), (3, PASSES)):
        row = rows[f"{script.PLAIN} {bits} bit" + (" passes" if passes else "")]
        right = integer_answers(script.shipped(script.PLAIN), bits, passes, FEWER)
        assert (row["images"], row["draws"]) == (FEWER, DRAWS)
        assert row["accuracy"] == pytest.approx(right.mean())
        assert row["loss"] == pytest.approx(floats[:, :FEWER].mean() - right.mean())
    tuned = integer_answers(script.shipped(script.TUNED), 4, (), SAMPLES)
    assert rows[f"{script.TUNED} 4 bit"]["accuracy"] == pytest.approx(tuned.mean())
    beside, tuned, row = float_answers(control)[:, :FEWER], tuned[:, :FEWER], rows[script.CONTROL]
    assert (row["images"], row["accuracy"]) == (FEWER, pytest.approx(beside.mean()))
    assert row["loss"] == pytest.approx(floats[:, :FEWER].mean() - beside.mean())
    assert row["tuned_loss"] == pytest.approx(beside.mean() - tuned.mean())
    low, high = row["tuned_interval"]
    differences = beside.mean(axis=0) - tuned.mean(axis=0)
    assert (low, high) == pytest.approx(mean_interval(differences), abs=1e-4)
    assert low <= differences.mean() <= high


def test_what_is_measured_is_kept_and_published(script: ModuleType) -> None:
    """A row of the result file is not measured again; table and plot show it."""
    kept = {
        "draws": 7,
        "images": 1234,
        "accuracy": 0.5,
        "interval": [0.4, 0.6],
        "loss": 0.01,
        "loss_interval": [0, 0.02],
    }
    told = {"versions": {"python": "3.x", "torch": "2.x"}, "rows": {f"{script.PLAIN} 4 bit": kept}}
    script.RESULT.write_text(json.dumps(told), "utf-8")
    script.measure("digits", SAMPLES, DRAWS)
    found = json.loads(script.RESULT.read_text("utf-8"))
    assert found["rows"][f"{script.PLAIN} 4 bit"] == kept and len(found["rows"]) == 10
    script.publish()
    page = script.PAGE.read_text("utf-8")
    assert (
        page.startswith(f"before\n{script.BEGIN}\n") and page.endswith(f"{script.END}\nafter\n") and "old" not in page
    )
    row = f"| `{script.PLAIN}` | 4 bit | 1,234 | 7 | 50.0 ± 10.0 | +1.00 (+0.00 to +2.00) |"
    assert row in page.splitlines()
    lines = [line for line in page.splitlines() if line.startswith("| `")]
    assert len(lines) == 10 and script.TUNED in lines[-1] and "float" in lines[0]
    assert "fine-tuned alike" not in page
    assert script.PLOT.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("images", [50, 400, 2000])
def test_the_interval_of_a_run_that_kept_a_summary_holds_the_one_of_its_differences(
    script: ModuleType, images: int
) -> None:
    """Differences of two networks of 3 repetitions: the widest is never narrower, and not a fifth wider."""
    rng = np.random.default_rng(images)
    for _ in range(4):
        rates = rng.beta(0.4, 0.3, (images, 1)).repeat(2, axis=1)
        differences = np.diff(rng.binomial(3, rates) / 3)[:, 0]
        sample = Sample.of(differences)
        low, high = script.widest(sample.mean, sample.interval(0.9), images, 3)
        inner_low, inner_high = mean_interval(differences)
        assert low <= inner_low + 1e-5 and inner_high <= high + 1e-5
        assert high - low <= 1.2 * (inner_high - inner_low)
