"""State dicts of the paper's script in every command: read alike everywhere, as the network was exported."""

from __future__ import annotations

import json
from dataclasses import replace
from math import log
from pathlib import Path

import pytest
import torch
from command_line import call, parsed
from torch import Tensor

from randhet.fixed_point import network as ir
from randhet.netx import write as netx
from randhet.train import checkpoint as checkpoints
from randhet.train.data.sources import load
from randhet.train.models import ModelSettings
from randhet.train.neurons import neurons

MODEL = ModelSettings(1, 10, (8, 8), (3, 4), (1, 1), steps=3)
OPTIONS = ("--time-steps", 3, "--mean", "0.3", "--std", "0.4")
FEW = ("--data", "digits", "--samples", 16)


def script_s(model: ModelSettings = MODEL, w: float | None = 0.0) -> dict[str, Tensor]:
    """The entries that the released script would have written for a network of random weights."""
    made = checkpoints.random_init(model, images=load("digits", "train").pixels[:64])
    network = checkpoints.build(made)
    state = {name: value for name, value in made.state.items() if not name.endswith(".w")}
    for name, neuron in neurons(network).items():
        state[f"{name}.threshold"] = torch.tensor(float(neuron.threshold))
        state[f"{name}.act_fun.alpha"] = torch.tensor(2.0)
        if model.neuron.startswith("randhet"):
            state[f"{name}.sigma"] = torch.tensor(1.0)
        if w is not None:
            state[f"{name}.w"] = torch.tensor(w)
    return state


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published")
    torch.save(script_s(), folder / "a.pt")
    made = call("export", folder / "a.pt", "-o", folder / "a.net", *OPTIONS, *FEW)
    assert made.exit_code == 0, made.stderr
    assert (
        "read as 3; sampling, as step; the normalisation, as mean 0.3 and std 0.4; the connection, as ADD"
        in " ".join(made.stderr.split())
    )
    return folder


def test_the_network_says_how_the_file_was_read(files: Path) -> None:
    read_as = json.loads(netx.read(files / "a.net").metadata["published"])
    assert (read_as["steps"], read_as["mean"], read_as["std"], read_as["connect"]) == (3, [0.3], [0.4], "add")


@pytest.mark.parametrize("command", ["compare", "budget"])
def test_commands_read_it_as_it_was_exported(command: str, files: Path) -> None:
    """Version 0.1 took T = 8 and another normalisation, and named a wrong weight as the cause."""
    few = ("--draws", 2, *(("--backends", "engine") if command == "compare" else ("--calibration", 16)))
    found = call(command, files / "a.pt", files / "a.net", *FEW, *few, "--json")
    assert found.exit_code in (0, 1), found.stderr
    result = json.loads(found.stdout)
    if command == "compare":
        assert result["same_tau_agreement"] > 0.9
        assert result["backends"]["engine"]["identical"]


def test_an_option_that_contradicts_the_network_is_refused(files: Path) -> None:
    result = call("compare", files / "a.pt", files / "a.net", *FEW, "--time-steps", 5)
    assert result.exit_code == 2
    assert "steps is 5, the network was exported with 3" in " ".join(result.stderr.split())


def test_sweep_takes_the_options(files: Path) -> None:
    grid = ("--bits", "8", "--tau-bits", "8", "--fractions", "6", "--scales", "channel", "--threads", 1)
    found = parsed(call("sweep", files / "a.pt", *OPTIONS, *FEW, *grid, "--calibration", 8, "--draws", 2, "--json"))
    assert found["samples"] == 16


@pytest.mark.parametrize("command", ["compare", "budget", "attack"])
def test_a_network_of_another_model_is_refused(command: str, files: Path) -> None:
    """Published weights that differ, and a checkpoint of randhet of as many steps."""
    torch.save({name: value + 1 if name == "fc1.bias" else value for name, value in script_s().items()}, files / "b.pt")
    checkpoints.save(files / "c.pt", checkpoints.random_init(MODEL, seed=5))
    for model in (files / "b.pt", files / "c.pt"):
        pair = (model, "--net", files / "a.net") if command == "attack" else (model, files / "a.net")
        options = OPTIONS if command == "attack" and model.name == "b.pt" else ()
        more = ("--attacks", "fgsm", "--draws", 1, "--redraws", 1, "--threads", 1) if command == "attack" else ()
        refused = call(command, *pair, *FEW, *options, *more)
        assert refused.exit_code == 2, refused.stdout
        assert f"the network was exported from other weights than those of {model}" in " ".join(refused.stderr.split())


def test_it_is_trained_further_to_a_checkpoint(files: Path) -> None:
    """Its own normalisation and steps stay; the size of the images is that of the data."""
    once = ("--epochs", 1, "--samples", 40, "--objective", "plain", "--qat-bits", 4)
    done = call("train", "--from", files / "a.pt", *OPTIONS, "--data", "digits", *once, "-o", files / "tuned.pt")
    assert done.exit_code == 0, done.stderr
    tuned = checkpoints.load(files / "tuned.pt")
    assert (tuned.settings.steps, tuned.settings.image_size, tuned.mean, tuned.data) == (3, (8, 8), (0.3,), "digits")
    assert call("export", files / "tuned.pt", "-o", files / "tuned.net", "--samples", 16).exit_code == 0
    assert json.loads(netx.read(files / "tuned.net").metadata["quantisation"])["weight_bits"] == 4


def test_options_of_a_published_file_are_refused_for_a_checkpoint(files: Path) -> None:
    result = call("export", "digits-randhet-at", "-o", files / "x.net", "--time-steps", 5)
    assert result.exit_code == 2
    assert "is a checkpoint of randhet train, which says its own steps" in " ".join(result.stderr.split())


def logits(path: Path, *, published: object = None) -> Tensor:
    model = checkpoints.build(checkpoints.load(path, published))  # type: ignore[arg-type]
    images = torch.from_numpy(load("digits", "test").pixels[:8]).float() / 255
    with torch.no_grad():
        return torch.as_tensor(model(images))


@pytest.mark.parametrize("shape", ["state_dict", "model", "net", "module", "both", "no counters", "normalize"])
def test_what_scripts_wrap_around_it_is_taken_off(shape: str, tmp_path: Path) -> None:
    from randhet.train.published import Published

    state = script_s(ModelSettings(1, 10, (8, 8), (3, 4), (1, 1), steps=3, neuron="vanilla"))
    chosen = Published(3, mean=(0.3,), std=(0.4,), image_size=(8, 8))
    torch.save(state, tmp_path / "plain.pt")
    parallel = {f"module.{name}": value for name, value in state.items()}
    content = {
        "state_dict": {"state_dict": state, "epoch": 3},
        "model": {"model": state},
        "net": {"net": state, "acc": 0.5},
        "module": parallel,
        "both": {"state_dict": parallel},
        "no counters": {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")},
        "normalize": state | {"normalize.mean": torch.tensor([0.3]), "normalize.std": torch.tensor([0.4])},
    }[shape]
    torch.save(content, tmp_path / "wrapped.pt")
    given = Published(3, image_size=(8, 8)) if shape == "normalize" else chosen
    assert torch.equal(
        logits(tmp_path / "wrapped.pt", published=given), logits(tmp_path / "plain.pt", published=chosen)
    )


def test_a_trained_tau_per_layer_is_a_parametric_lif(tmp_path: Path) -> None:
    """m += (x - m)*sigmoid(w); version 0.1 took one half whatever w was."""
    from randhet.train.published import Published

    vanilla = ModelSettings(1, 10, (8, 8), (3, 4), (1, 1), steps=3, neuron="vanilla")
    torch.save(script_s(vanilla, log(4)), tmp_path / "a.pt")
    checkpoint = checkpoints.load(tmp_path / "a.pt", Published(3, mean=(0.3,), std=(0.4,), image_size=(8, 8)))
    assert checkpoint.settings.decays == pytest.approx((0.2,) * checkpoint.settings.layers)
    made = call("export", tmp_path / "a.pt", "-o", tmp_path / "a.net", *OPTIONS, *FEW)
    assert made.exit_code == 0, made.stderr
    decays = {layer.neuron.decay.mantissa for layer in netx.read(tmp_path / "a.net").layers if layer.spikes}  # type: ignore[union-attr]
    assert decays == {51}  # 0.2 * 256


def test_what_must_be_taken_out_is_named(tmp_path: Path) -> None:
    torch.save(script_s() | {"ema.weight": torch.zeros(3)}, tmp_path / "a.pt")
    result = call("export", tmp_path / "a.pt", "-o", tmp_path / "a.net", *OPTIONS, *FEW)
    assert result.exit_code == 2
    assert "entry ema.weight of the state dict is not of this network: remove it" in " ".join(result.stderr.split())


@pytest.mark.parametrize(("connect", "operation"), [("and", ir.And), ("iand", ir.Iand)])
def test_its_connect_function_is_the_one_that_was_given(connect: str, operation: type, tmp_path: Path) -> None:
    """A state dict cannot say it; its class scores are those of the model that was trained with it."""
    torch.save(script_s(replace(MODEL, connect=connect)), tmp_path / "a.pt")  # type: ignore[arg-type]
    made = call("export", tmp_path / "a.pt", "-o", tmp_path / "a.net", *OPTIONS, "--connect", connect, *FEW)
    assert made.exit_code == 0, made.stderr
    gates = [layer for layer in netx.read(tmp_path / "a.net").layers if layer.name.endswith(".gate")]
    assert [type(layer.operation) for layer in gates] == [operation] * 2
    compared = call("compare", tmp_path / "a.pt", tmp_path / "a.net", "--draws", 2, "--backends", "engine", *FEW)
    assert compared.exit_code == 0, compared.stderr
