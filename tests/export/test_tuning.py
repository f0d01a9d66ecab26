"""Modules of a user, of snnTorch, and graphs are trained further, and their integers are those of training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from killed import Killed, kill_at

from randhet.base.errors import RandhetError
from randhet.export.folds import of_module
from randhet.export.model import Model, of_graph, of_network
from randhet.export.model_files import Said, open_model
from randhet.export.passes.quantise import weighted_nodes
from randhet.export.pipeline import Exported, export, settings_for
from randhet.export.trace import trace
from randhet.export.tuning import Tuned
from randhet.fixed_point.network import Conv, Dense
from randhet.train import weights as weight_files
from randhet.train.data.sources import load
from randhet.train.loop import train_subject
from randhet.train.scales import Scales
from randhet.train.settings import TrainSettings
from randhet.train.weights import Weights

OF_SNNTORCH = ("stepwise", "matrix", "diagonal")
OWN = """
import torch
from torch import nn

from randhet.train.general import GeneralLIF
from randhet.train.layers import AvgPool2d, BatchNorm2d, Conv2d, Encode, Linear, MaxPool2d, MeanOverTime, Normalise
from randhet.train.neurons import LIF, RandomTauLIF


def seeded(*modules):
    torch.manual_seed(0)
    net = nn.Sequential(*modules)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            nn.init.uniform_(module.weight, -1.5, 1.5)
    return net


def net():
    torch.manual_seed(0)
    stem = (nn.Conv2d(1, 6, 3, padding="same"), nn.BatchNorm2d(6), Encode(3), RandomTauLIF(threshold=0.2))
    return seeded(*stem, nn.Flatten(-3), nn.Linear(6 * 64, 10), MeanOverTime())


def deep():
    '''Normalisation, an even kernel, a learned decay with a drive, pools, batch norm behind a neuron, no last bias.'''
    torch.manual_seed(0)
    stem = (Normalise([0.3], [0.4]), nn.Conv2d(1, 4, 2, padding="same"), nn.BatchNorm2d(4), Encode(3), LIF(0.6, 0.2))
    second = (AvgPool2d(2), BatchNorm2d(4), Conv2d(4, 8, 3, bias=False), GeneralLIF(0.7, 0.2, drive=1.0, learn=True))
    return seeded(*stem, *second, nn.Flatten(-3), Linear(32, 10, bias=False), MeanOverTime())


def pooled():
    torch.manual_seed(0)
    stem = (Encode(3), Conv2d(1, 6, 3), BatchNorm2d(6), MaxPool2d(2), LIF(0.6, 0.2))
    return seeded(*stem, nn.Flatten(-3), nn.Linear(54, 10), MeanOverTime())


def steps():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(2), nn.Linear(64, 12), LIF(0.6, 0.2), nn.Linear(12, 10))


def rows():
    torch.manual_seed(0)
    two = nn.Sequential(nn.Linear(64, 20), nn.Linear(20, 16))
    return nn.Sequential(nn.Flatten(), two, Encode(2), LIF(0.6, 0.2), nn.Linear(16, 10), MeanOverTime())


def twice():
    torch.manual_seed(0)
    shared = nn.Linear(64, 64)
    both = nn.Sequential(shared, LIF(0.6, 0.2), shared, LIF(0.6, 0.2))
    return nn.Sequential(nn.Flatten(), Encode(2), both, nn.Linear(64, 10), MeanOverTime())


def returning():
    torch.manual_seed(0)
    lif = GeneralLIF(0.6, 0.3, recurrent=nn.Linear(8, 8))
    return nn.Sequential(nn.Flatten(), Encode(3), nn.Linear(64, 8), lif, nn.Linear(8, 10), MeanOverTime())


def five():
    return nn.Sequential(nn.Flatten(), Encode(2), nn.Linear(64, 8), LIF(), nn.Linear(8, 5), MeanOverTime())


def frozen():
    net = five()
    net[4] = nn.Linear(8, 10)
    return net.requires_grad_(False)


def stepwise():
    import snntorch

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.fc1, self.lif1 = nn.Linear(64, 24), snntorch.Leaky(beta=0.8, threshold=0.5)
            self.fc2, self.lif2 = nn.Linear(24, 10), snntorch.Leaky(beta=0.9, learn_beta=True)

        def forward(self, x):
            mem1, mem2, spikes = self.lif1.init_leaky(), self.lif2.init_leaky(), []
            for step in range(4):
                spk1, mem1 = self.lif1(self.fc1(x.flatten(1)), mem1)
                spk2, mem2 = self.lif2(self.fc2(spk1), mem2)
                spikes.append(spk2)
            return torch.stack(spikes).sum(0)

    return Net()


def returned(**how):
    import snntorch

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.fc1, self.lif1 = nn.Linear(64, 24), snntorch.Leaky(beta=0.8, threshold=0.5)
            self.fc2, self.lif2 = nn.Linear(24, 10), snntorch.RLeaky(beta=0.9, threshold=0.5, **how)

        def forward(self, x):
            mem1, (spk2, mem2), spikes = self.lif1.reset_mem(), self.lif2.reset_mem(), []
            for step in range(4):
                spk1, mem1 = self.lif1(self.fc1(x.flatten(1)), mem1)
                spk2, mem2 = self.lif2(self.fc2(spk1), spk2, mem2)
                spikes.append(spk2)
            return torch.stack(spikes).sum(0)

    return Net()


def matrix():
    return returned(linear_features=10)


def diagonal():
    return returned(all_to_all=False, V=torch.linspace(-0.5, 0.5, 10))
"""
QAT = TrainSettings(epochs=1, batch=40, lr=0.05, objective="plain", qat_bits=4)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tuned") / "own_tuned.py"
    path.write_text(OWN)
    return path


def opened(file: Path, name: str, weights: Path | None = None, **said: Any) -> Model:
    if name in OF_SNNTORCH:
        pytest.importorskip("snntorch")
    return open_model(f"{file}:{name}", Said(weights=weights, **said))


def tuned(model: Model, out: Path, settings: TrainSettings = QAT, **how: Any) -> Weights:
    done = train_subject(lambda data: Tuned.begin(model, data, "digits"), settings, out, **({"samples": 120} | how))
    assert isinstance(done, Weights)
    return done


def whole_weights(made: Exported, names: list[str]) -> None:
    """Every integer times its scale is the folded float weight, and the widest channel of a layer reaches the limit."""
    nodes = weighted_nodes(made.graph)
    found = []
    for layer in made.network.layers:
        if isinstance(layer.operation, (Conv, Dense)) and not layer.name.endswith(".pooled") and layer.name in nodes:
            node = nodes[layer.name]
            if node.name not in names:
                continue
            assert layer.scale is not None
            whole = layer.operation.weight
            scale = np.broadcast_to(layer.scale, len(whole)).reshape(-1, *[1] * (whole.ndim - 1))
            np.testing.assert_allclose(
                whole * scale,
                node.operation.weight,
                rtol=1e-5,
                atol=1e-5 * scale.max(),  # type: ignore[union-attr]
            )
            assert np.abs(whole.astype(int)).max() == 7
            found.append(node.name)
    assert sorted(found) == sorted(names)


@pytest.mark.parametrize("scales", ["channel", "layer"])
@pytest.mark.parametrize(
    ("name", "layers", "steps"),
    [
        ("net", ["0", "5"], None),
        ("deep", ["1", "7", "10"], None),
        ("pooled", ["1", "6"], None),
        ("steps", ["1", "3"], 3),
    ],
)
def test_the_integers_of_export_are_those_of_training(
    name: str, layers: list[str], steps: int | None, scales: Scales, file: Path, tmp_path: Path
) -> None:
    model = opened(file, name, steps=steps)
    done = tuned(model, tmp_path / "own.pt", replace(QAT, qat_scales=scales))
    again = opened(file, name, tmp_path / "own.pt", steps=steps)
    assert (again.data, again.classes) == ("digits", load("digits").classes)
    assert again.source != model.source and done.record["began_with"] == model.source
    assert settings_for(again).weight_bits == 4 and settings_for(again).scales == scales
    whole_weights(export(again, load("digits", "train").pixels[:16], settings_for(again)), layers)


def test_a_module_of_snntorch_is_trained_through_its_counterpart(file: Path, tmp_path: Path) -> None:
    model = opened(file, "stepwise")
    done = tuned(model, tmp_path / "own.pt")
    before = model.make.module().state_dict()  # type: ignore[attr-defined]
    moved = {name for name, tensor in done.state.items() if not torch.equal(tensor, before[name])}
    assert moved == {"fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"}
    again = opened(file, "stepwise", tmp_path / "own.pt")
    whole_weights(export(again, load("digits", "train").pixels[:16], settings_for(again)), ["fc1", "fc2"])


@pytest.mark.parametrize(
    ("name", "trained"), [("matrix", {"lif2.recurrent.weight", "lif2.recurrent.bias"}), ("diagonal", set())]
)
def test_weights_on_own_spikes_are_trained_without_bits(
    name: str, trained: set[str], file: Path, tmp_path: Path
) -> None:
    """Where a matrix is what the module has; one number a neuron stays as it is."""
    model = opened(file, name)
    with pytest.raises(RandhetError, match="lif2 has weights on its own spikes, which share a scale"):
        tuned(model, tmp_path / "own.pt")
    done = tuned(model, tmp_path / "own.pt", replace(QAT, qat_bits=0))
    before = model.make.module().state_dict()  # type: ignore[attr-defined]
    moved = {key for key, tensor in done.state.items() if not torch.equal(tensor, before[key])}
    assert moved == {"fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"} | trained
    network = export(opened(file, name, tmp_path / "own.pt"), load("digits", "train").pixels[:16]).network
    assert network.layers[-2].recurrent is not None or network.layers[-1].recurrent is not None


def test_training_learns_and_the_exported_integers_know_it(file: Path, tmp_path: Path) -> None:
    """Four epochs of a flat network of deterministic neurons: far above the tenth that a guess gets right."""
    from randhet.fixed_point.engine import run

    model = opened(file, "steps", steps=3)
    done = tuned(model, tmp_path / "own.pt", replace(QAT, epochs=4, lr=0.1), samples=None)
    assert done.record["accuracy"] > 0.5
    again, test = opened(file, "steps", tmp_path / "own.pt", steps=3), load("digits")
    network = export(again, load("digits", "train").pixels[:64], settings_for(again)).network
    assert abs((run(network, test.pixels).predictions == test.labels).mean() - done.record["accuracy"]) < 0.03


@pytest.mark.parametrize(("name", "steps"), [("net", None), ("steps", 3), ("stepwise", None)])
def test_an_average_is_resumed_under_the_names_of_the_model(
    file: Path, tmp_path: Path, name: str, steps: int | None
) -> None:
    """What is trained may be a counterpart, or hold the model, with names of its own."""
    settings, model = replace(QAT, qat_bits=0, epochs=2, ema=0.9), opened(file, name, steps=steps)
    unbroken = tuned(model, tmp_path / "unbroken.pt", settings)
    with pytest.raises(Killed):
        tuned(model, tmp_path / "broken.pt", settings, report=kill_at(2, 1))
    resumed = tuned(model, tmp_path / "broken.pt", settings, resume=True)
    assert all(torch.equal(tensor, resumed.state[name]) for name, tensor in unbroken.state.items())
    plain = tuned(model, tmp_path / "plain.pt", replace(settings, ema=0.0))
    assert any(not torch.equal(tensor, plain.state[name]) for name, tensor in unbroken.state.items())


def test_resuming_equals_an_unbroken_run(file: Path, tmp_path: Path) -> None:
    settings, model = replace(QAT, epochs=2), opened(file, "net")
    unbroken = tuned(model, tmp_path / "unbroken.pt", settings)

    with pytest.raises(Killed):
        tuned(model, tmp_path / "broken.pt", settings, report=kill_at(2, 1))
    assert weight_files.load(tmp_path / "broken.pt").resume
    resumed = tuned(model, tmp_path / "broken.pt", settings, resume=True)
    assert unbroken.state.keys() == resumed.state.keys() and resumed.resume is None
    assert all(torch.equal(tensor, resumed.state[name]) for name, tensor in unbroken.state.items())
    with pytest.raises(RandhetError, match=r"cannot resume .*: model, starting weights differ"):
        tuned(opened(file, "pooled"), tmp_path / "broken.pt", settings, resume=True)


def test_the_best_state_under_attack_is_kept(file: Path, tmp_path: Path) -> None:
    tuned(opened(file, "net"), tmp_path / "own.pt", replace(QAT, objective="at", validate=20))
    assert weight_files.load(tmp_path / "own-best.pt").record["robust"] >= 0


@pytest.mark.parametrize("batch_norm", [False, True])
def test_weights_are_multiplied_as_export_does(batch_norm: bool, file: Path) -> None:
    """w * g is what folding makes of w, for random weights, also after batch norm has moved."""
    module = opened(file, "deep").make((1, 8, 8))
    found = of_module(module, (1, 8, 8))
    if batch_norm:
        module.train()(torch.rand(20, 1, 8, 8, generator=torch.Generator().manual_seed(3)))
    from randhet.export.passes import fold

    graph = fold(trace(module, (1, 8, 8)))
    for layer in found:
        wanted = graph.node(layer.name).operation.weight  # type: ignore[union-attr]
        own = (layer.layer.weight.double() * layer.fold).detach().numpy()
        inner = tuple(slice(wanted.shape[axis] - own.shape[axis], None) for axis in range(own.ndim))
        np.testing.assert_allclose(own, wanted[inner], rtol=1e-12)


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("rows", {}, "1.0 has no neuron behind it and becomes one layer with the next"),
    ("twice", {}, "is a layer that is called more than once"),
    ("returning", {}, "has weights on its own spikes, which share a scale with those of their layer"),
    ("five", {"qat_bits": 0}, r"gives \(1, 5\) for one image of digits, which has 10 classes"),
    ("frozen", {"qat_bits": 0}, "has no weights that its output has a gradient by"),
    ("net", {"short_epochs": 1}, "short_epochs is 1, only checkpoints"),
]


@pytest.mark.parametrize(("name", "changes", "words"), REFUSED, ids=[entry[0] for entry in REFUSED])
def test_what_cannot_be_trained_is_refused(
    name: str, changes: dict[str, Any], words: str, file: Path, tmp_path: Path
) -> None:
    with pytest.raises(RandhetError, match=words) as caught:
        tuned(opened(file, name), tmp_path / "no.pt", replace(QAT, **changes))
    assert ";" not in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "no.pt").exists()


def test_without_bits_any_module_is_trained(file: Path, tmp_path: Path) -> None:
    """Layers in a row, layers that are called twice, and weights on own spikes too."""
    for name in ("rows", "twice", "returning"):
        assert tuned(opened(file, name), tmp_path / f"{name}.pt", replace(QAT, qat_bits=0)).record["epoch"] == 1


def test_integers_are_not_trained(file: Path, tmp_path: Path) -> None:
    network = export(opened(file, "steps", steps=3), load("digits", "train").pixels[:16]).network
    with pytest.raises(RandhetError, match="it holds integers and no float weights that could be trained"):
        tuned(of_network(network, "it"), tmp_path / "no.pt")


# --- graphs -----------------------------------------------------------------------------------------------------------


def drawn(file: Path) -> Model:
    return of_graph(trace(opened(file, "deep").make((1, 8, 8)), (1, 8, 8)))


def test_a_graph_is_trained_and_takes_its_weights(file: Path, tmp_path: Path) -> None:
    """Weights and biases of layers move, all else stays as the graph says it."""
    from randhet.export.float_model import FloatModel
    from randhet.export.python_file import with_weights

    model = drawn(file)
    assert model.graph is not None
    done = tuned(model, tmp_path / "graph.pt")
    before = FloatModel(model.graph).state_dict()
    moved = {name for name, tensor in done.state.items() if not torch.equal(tensor, before[name])}
    assert moved == {f"{layer}.{kind}" for layer in (1, 7, 10) for kind in ("weight", "bias")}
    again = replace(of_graph(with_weights(model.graph, done.state, tmp_path / "graph.pt")), trained=done.record)
    made = export(again, load("digits", "train").pixels[:16], settings_for(again))
    whole_weights(made, ["1", "7", "10"])


def test_what_is_not_trained_is_not_pulled_either(file: Path, tmp_path: Path) -> None:
    """RAT pulls weights towards orthogonal rows; those on own spikes stay, so that the graph takes the others."""
    from randhet.export.python_file import with_weights

    graph = trace(opened(file, "returning").make((1, 8, 8)), (1, 8, 8))
    done = tuned(of_graph(graph), tmp_path / "rat.pt", replace(QAT, objective="rat", qat_bits=0))
    again = with_weights(graph, done.state, tmp_path / "rat.pt")
    before, after = (one.node("2").operation.weight for one in (graph, again))  # type: ignore[union-attr]
    assert not np.array_equal(before, after)


def test_weights_that_change_more_than_layers_are_refused(file: Path, tmp_path: Path) -> None:
    """Of a file for a graph only weights and biases of its layers count: another gain of a batch norm would be lost."""
    from randhet.export.float_model import FloatModel
    from randhet.export.python_file import with_weights

    graph = drawn(file).graph
    assert graph is not None
    state = FloatModel(graph).state_dict()
    state["6.gain"] = state["6.gain"] + 1
    with pytest.raises(RandhetError, match=r"weights 6.gain in .* are not those of the graph"):
        with_weights(graph, state, tmp_path / "graph.pt")
