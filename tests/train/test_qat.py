"""Quantisation-aware training: forward with the weights of the exported integers, gradients for the float ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from killed import Killed, kill_at
from torch import Tensor, nn
from typer.testing import CliRunner

from randhet.base.errors import RandhetError
from randhet.cli.app import app
from randhet.export.passes.quantise import QuantSettings, weighted_nodes
from randhet.export.pipeline import export_checkpoint
from randhet.fixed_point import reference
from randhet.fixed_point.network import Conv, Dense
from randhet.train import checkpoint
from randhet.train.checkpoint import Checkpoint
from randhet.train.data.sources import load
from randhet.train.loop import TrainSettings, train
from randhet.train.models import ModelSettings
from randhet.train.qat import Rounding, weighted
from randhet.train.scales import Scales

MODEL = ModelSettings(1, 10, (8, 8), (4, 6), (1, 1), steps=2)
FLOAT = TrainSettings(epochs=1, batch=50, objective="plain")
QAT = TrainSettings(epochs=2, batch=50, qat_bits=4, objective="plain")


@pytest.fixture(scope="module")
def floats(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return train(MODEL, FLOAT, tmp_path_factory.mktemp("qat") / "float.pt", samples=150)


@pytest.mark.parametrize(("bits", "scales"), [(4, "channel"), (3, "layer"), (4, "power-of-two"), (8, "channel")])
def test_forward_has_the_float_meaning_of_the_exported_integers(
    floats: Checkpoint, bits: int, scales: Scales, tmp_path: Path
) -> None:
    """Trained, exported without a word about the training's clipping: q * s is the folded weight, to float32."""
    settings = TrainSettings(epochs=1, batch=50, qat_bits=bits, qat_scales=scales, objective="plain")
    done = train(MODEL, settings, tmp_path / "q.pt", start=floats, samples=100)
    made = export_checkpoint(done, load("digits", "train").pixels[:16], QuantSettings(bits, scales=scales))
    nodes = weighted_nodes(made.graph)
    for layer in made.network.layers:
        if isinstance(layer.operation, (Conv, Dense)):
            assert layer.scale is not None
            whole = layer.operation.weight
            scale = np.broadcast_to(layer.scale, len(whole)).reshape(-1, *[1] * (whole.ndim - 1))
            folded = nodes[layer.name].operation.weight  # type: ignore[union-attr]
            np.testing.assert_allclose(whole * scale, folded, rtol=1e-6, atol=1e-6 * scale.max())
            top = 2 ** (bits - 1) - 1
            assert (top // 2 if scales == "power-of-two" else top - 1) < np.abs(whole.astype(int)).max() <= top


def test_a_model_that_subtracts_its_threshold_is_tuned_and_exported(tmp_path: Path) -> None:
    """Weights are exact then, so that classes and logits of the integers differ from torch's by states' rounding."""
    begin = train(replace(MODEL, neuron="vanilla", reset="subtract"), FLOAT, tmp_path / "float.pt", samples=150)
    settings = replace(QAT, epochs=1, qat_bits=8)
    done = train(begin.settings, settings, tmp_path / "q.pt", start=checkpoint.load(tmp_path / "float.pt"), samples=150)
    pixels = load("digits", "test").pixels[:100]
    made = export_checkpoint(done, pixels, QuantSettings(k=12, f=10))
    assert {layer.lif.reset for layer in made.network.layers if layer.lif} == {"subtract"}
    assert made.calibration.saturations == 0
    result = reference.run(made.network, pixels)
    with torch.no_grad():
        logits = checkpoint.build(done)(torch.from_numpy(pixels) / 255).numpy()
    assert (result.predictions == logits.argmax(1)).mean() > 0.97
    assert made.network.layers[-1].scale is not None
    close = np.isclose(result.sums * made.network.layers[-1].scale / MODEL.steps, logits, atol=1e-4).all(axis=1)
    assert close.mean() > 0.8


def test_gradients_are_those_at_the_rounded_weights_and_move_the_float_ones() -> None:
    """f = w . x: the gradient is x whatever the weights; of f^2 it is 2 (q s . x) x, with q s the rounded weights."""
    layer = nn.Linear(3, 1, bias=False)
    layer.weight.data = torch.tensor([[0.7, -0.26, 0.04]])
    x = torch.tensor([1.0, 2.0, 3.0])
    rounding = Rounding.of(nn.Sequential(layer), 4, "channel")
    with rounding.applied():
        seen = layer.weight.detach().clone()
        layer(x).square().sum().backward()
    assert layer.weight.tolist() == [[pytest.approx(value) for value in (0.7, -0.26, 0.04)]]
    assert not torch.equal(seen, layer.weight)
    assert layer.weight.grad is not None
    torch.testing.assert_close(layer.weight.grad[0], 2 * (seen[0] @ x) * x)


def test_rounding_on_paper() -> None:
    """Weights 7, 3.4, -1.6 with M = 7: s = 1 and 7, 3, -2, unless a smaller scale errs less: it does not here."""
    layer = nn.Linear(3, 1, bias=False)
    layer.weight.data = torch.tensor([[7.0, 3.4, -1.6]])
    with Rounding.of(nn.Sequential(layer), 4, "layer").applied():
        assert layer.weight[0].tolist() == pytest.approx([7, 3, -2])


def test_a_channel_that_batch_norm_silences_is_left_alone() -> None:
    conv, norm = nn.Conv2d(1, 2, 1, bias=False), nn.BatchNorm2d(2)
    norm.weight.data[1] = 0
    before = conv.weight.detach().clone()
    with Rounding.of(nn.Sequential(conv, norm), 2, "channel").applied():
        assert torch.equal(conv.weight[1], before[1])
        assert conv.weight.isfinite().all()


def test_every_layer_is_found_with_what_export_folds_into_it(floats: Checkpoint) -> None:
    found = weighted(checkpoint.build(floats))
    assert len(found) == 7
    assert sum(it.norm is not None for it in found) == 6
    assert sum(it.image is not None for it in found) == 1


def states(one: Checkpoint, other: Checkpoint) -> list[tuple[Tensor, Tensor]]:
    return [(tensor, other.state[name]) for name, tensor in one.state.items()]


def test_resuming_equals_an_unbroken_run(floats: Checkpoint, tmp_path: Path) -> None:
    unbroken = train(MODEL, QAT, tmp_path / "unbroken.pt", start=floats, samples=100)

    with pytest.raises(Killed):
        train(MODEL, QAT, tmp_path / "broken.pt", start=floats, samples=100, report=kill_at(2, 1))
    with pytest.raises(RandhetError, match="starting weights differ"):
        train(MODEL, QAT, tmp_path / "broken.pt", samples=100, resume=True)
    resumed = train(MODEL, QAT, tmp_path / "broken.pt", start=floats, samples=100, resume=True)
    assert all(torch.equal(one, other) for one, other in states(unbroken, resumed))
    assert resumed.resume is None and resumed.record["qat_bits"] == 4
    assert resumed.record["began_with"] == checkpoint.weights_hash(floats.state)


def test_command_line(floats: Checkpoint, tmp_path: Path) -> None:
    """--from takes over model and recipe, export the bits; what cannot be combined is said."""
    start, out, net = (str(tmp_path / name) for name in ("float.pt", "q.pt", "q.net"))
    checkpoint.save(start, floats)
    run = lambda *words: CliRunner().invoke(app, words)
    made = run("train", "--from", start, "--qat-bits", "4", "--epochs", "1", "--samples", "100", "-o", out)
    assert made.exit_code == 0, made.output
    record = checkpoint.load(out).record
    assert (record["objective"], record["batch"], record["lr"]) == ("plain", 50, 0.01)
    assert run("export", out, "-o", net, "--samples", "16").exit_code == 0
    from randhet.netx.write import read

    peaks = [
        np.abs(it.operation.weight.astype(int)).max() for it in read(net).layers if hasattr(it.operation, "weight")
    ]
    assert peaks == [7] * 7
    for words, message in (
        (("--from", start, "--neuron", "vanilla"), "neuron cannot change"),
        (("--from", start, "--model", "sew-cifar"), "leave out --config and --model"),
        (("--from", start, "--qat-bits", "9"), "qat_bits is 9"),
        (("--from", start, "--qat-scales", "free"), "qat_scales 'free' is not one of"),
        (("--from", str(tmp_path / "none.pt")), "does not exist"),
    ):
        refused = run("train", *words, "-o", str(tmp_path / "no.pt"))
        assert refused.exit_code == 2 and message in refused.stderr.replace("\n", " "), refused.output
    assert not (tmp_path / "no.pt").exists()


def test_a_start_with_another_shape_is_refused(floats: Checkpoint, tmp_path: Path) -> None:
    other = checkpoint.random_init(ModelSettings(1, 3, (6, 6), (4,), (1,), steps=2))
    with pytest.raises(RandhetError, match="the checkpoint to start from"):
        train(other.settings, QAT, tmp_path / "no.pt", start=other, samples=50)
