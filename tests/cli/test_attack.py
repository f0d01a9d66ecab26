"""randhet attack as a user meets it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from command_line import call, parsed
from PIL import Image

from randhet.train import checkpoint as checkpoints
from randhet.train.data.sources import load
from randhet.train.models import ModelSettings

MODEL = ModelSettings(1, 10, (8, 8), (3, 4), (1, 1), steps=2)
SMALL = ("--samples", 12, "--draws", 3, "--redraws", 2, "--threads", 1, "--batch", 6)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("files") / "model.pt"
    checkpoints.save(path, checkpoints.random_init(MODEL, images=load("digits", "train").pixels[:64]))
    return path


def test_results_are_taken_up_again(model: Path, tmp_path: Path) -> None:
    """The second call finds all but the new attack in the file, and says of the old ones the same."""
    file = tmp_path / "results.jsonl"
    one = parsed(call("attack", model, "--attacks", "fgsm,pgd2", *SMALL, "--out", file, "--json"))
    assert one["eps"] == 8 / 255 and one["samples"] == 12 and one["checkpoint"] == "model.pt"
    lines = file.read_text().splitlines()
    assert len(lines) == 1 + 3 * 2
    call("attack", model, "--attacks", "fgsm,pgd2,mifgsm2", *SMALL, "--out", file, "--similarity", "pgd2")
    again = file.read_text().splitlines()
    assert again[: len(lines)] == lines and len(again) == len(lines) + 2 + 2
    both = parsed(call("attack", model, "--attacks", "fgsm,pgd2", *SMALL, "--out", file, "--json"))
    assert both == one and file.read_text().splitlines() == again


def test_the_table_names_every_reading(model: Path) -> None:
    said = call("attack", model, "--attacks", "fgsm,pgd2@mean", "--eps", "0.1", "--similarity", "pgd2", *SMALL).stdout
    for part in ("fgsm", "pgd2@mean", "stock", "aware", "minimum robust accuracy", "two gradients", "perturbations"):
        assert part in said


def test_a_sweep_leaves_results_and_a_plot(model: Path, tmp_path: Path) -> None:
    config = tmp_path / "sweep.toml"
    config.write_text(
        'title = "eps"\naxis = "eps"\nvalues = ["2/255", "8/255"]\nattacks = ["pgd2"]\nsimilarity = "pgd2"'
    )
    beside = tmp_path / "beside.pt"
    beside.write_bytes(model.read_bytes())
    folder = tmp_path / "out"
    result = call("attack", model, "--sweep", config, "--beside", beside, "--out", folder, *SMALL)
    assert result.exit_code == 0, result.stderr
    assert sorted(it.name for it in folder.iterdir()) == ["beside.jsonl", "model.jsonl", "sweep.json", "sweep.png"]
    found = json.loads((folder / "sweep.json").read_text())
    assert found["sweep"]["values"] == [2 / 255, 8 / 255]
    assert found["checkpoints"]["model"] == found["checkpoints"]["beside"]  # same weights, same seed
    assert [len(curve) for curve in found["checkpoints"]["model"]["curves"].values()] == [2, 2]
    assert Image.open(folder / "sweep.png").size > (600, 300)


def test_the_deployed_network_is_attacked_with_and_without_its_seed(model: Path, tmp_path: Path) -> None:
    net = tmp_path / "model.net"
    call("export", model, "-o", net)
    found = parsed(call("attack", model, "--attacks", "pgd2@mean,sa-pgd2+assg", "--net", net, *SMALL, "--json"))
    lowest = {(it["attacker"], it["judge"]): it["attack"] for it in found["deployed"]["mra"]}
    assert ("deployed network", "fixed point") in lowest
    assert ("seed and position", "fixed point, replayed draws") in lowest
    assert all(name.startswith("sa-pgd2+assg") for name in lowest.values())
    refused = call("attack", model, "--attacks", "square5", "--net", net, *SMALL)
    assert refused.exit_code == 2 and "none of the attacks can be made on a deployed network" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--attacks", "pgd"), "needs its number of steps"),
        (("--attacks", "deepfool5"), "'deepfool5' is not one of fgsm"),
        (("--attacks", "fgsm3"), "fgsm takes no steps"),
        (("--attacks", "pgd5-d0.5"), "pgd takes no decay"),
        (("--attacks", "aax3"), "aa takes no draws"),
        (("--attacks", "pgd-t5"), "'pgd-t5' is not one of"),
        (("--attacks", "pgd0"), "start at 1"),
        (("--attacks", ","), "no attack was named"),
        (("--eps", "much"), "eps is 'much'"),
        (("--eps", "2"), "eps is 2.0"),
        (("--samples", 100000), "100000 samples"),
        (("--sweep", "nothing.toml", "--out", "x"), "nothing.toml"),
        (("--sweep", "nothing.toml"), "needs --out"),
        (("--beside", "a.pt"), "belongs to --sweep"),
        (("--std", "1,1"), "as many means"),
        (("--sampling", "often"), "sampling 'often'"),
    ],
)
def test_mistakes_are_one_sentence(
    model: Path, arguments: tuple[object, ...], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = call("attack", model, *arguments)
    assert result.exit_code == 2 and words in result.stderr and result.stdout == ""
    assert len(result.stderr.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_published_state_dict_is_attacked_and_exported_as_it_is(tmp_path: Path) -> None:
    """Made from a model of ours by the published names; its size is the images'."""
    settings = ModelSettings(1, 10, (8, 8), (3, 4), (1, 1), steps=2, neuron="vanilla")
    ours = checkpoints.random_init(settings, images=load("digits", "train").pixels[:16])
    state = dict(ours.state)
    for name in (
        "node1",
        "layer1.0.node1",
        "layer1.0.node2",
        "layer2.0.node1",
        "layer2.0.node2",
        "layer2.0.downsample_sn",
    ):
        state |= {f"{name}.threshold": torch.tensor(0.5), f"{name}.w": torch.tensor(0.0)}
        state |= {f"{name}.act_fun.alpha": torch.tensor(2.0)}
    torch.save(state, tmp_path / "published.pt")
    checkpoints.save(tmp_path / "ours.pt", ours)
    options = ("--data", "digits", "--time-steps", 2, "--mean", "0.5", "--std", "0.25")
    found = parsed(call("attack", tmp_path / "published.pt", *options, "--attacks", "pgd2", *SMALL, "--json"))
    same = parsed(call("attack", tmp_path / "ours.pt", "--data", "digits", "--attacks", "pgd2", *SMALL, "--json"))
    assert found["readings"] == same["readings"]
    made = call("export", tmp_path / "published.pt", "-o", tmp_path / "a.net", *options, "--samples", 8)
    assert made.exit_code == 0, made.stderr
    unfit = call("attack", tmp_path / "published.pt", "--data", "digits")
    assert unfit.exit_code == 2 and "1 channels, the normalisation has 3" in unfit.stderr
