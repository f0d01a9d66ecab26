"""Experiment files: every one in the project loads, what is wrong in one is said, the command line goes before it."""

from __future__ import annotations

from pathlib import Path

import pytest

from randhet.base.errors import FileError
from randhet.cli.commands.train import both
from randhet.train import configuration
from randhet.train.configuration import settings
from randhet.train.models import SEWResNet

ROOT = Path(__file__).parents[2]
TRAINING = [path for path in sorted((ROOT / "configs").rglob("*.toml")) if "[training]" in path.read_text()]


@pytest.mark.parametrize("path", TRAINING, ids=lambda path: "/".join(path.parts[-2:]))
def test_every_experiment_of_the_project_can_be_started(path: Path) -> None:
    model, training = settings("sew-small", **configuration.read(path))
    assert model.neuron and training.epochs


def test_the_table_has_every_neuron_objective_and_data_set() -> None:
    found = {path.stem for path in (ROOT / "configs" / "table1").glob("*.toml")}
    neurons, objectives = ("snn", "randhet", "randhet-forward"), ("at", "rat", "sr")
    assert found == {f"{d}-{n}-{o}" for d in ("cifar10", "cifar100") for n in neurons for o in objectives}


def test_a_row_of_the_table_has_the_paper_s_settings() -> None:
    model, training = settings("sew-small", **configuration.read(ROOT / "configs/table1/cifar10-randhet-at.toml"))
    assert (model.widths, model.blocks, model.steps, model.sigma, model.threshold) == (
        (128, 256, 512),
        (3, 3, 2),
        8,
        1,
        0.5,
    )
    assert (training.epochs, training.batch, training.lr, training.momentum) == (100, 64, 0.1, 0.9)
    assert (training.eps, training.attack_step, training.start, training.decay) == (4 / 255, 4 / 255, 0.1, 1e-4)
    assert (training.crop, training.flip, training.redraw) == (4, True, True)


def test_sew_resnet19_has_nineteen_convolutions() -> None:
    """Stem, two in each of eight blocks, and one at each of two shortcuts."""
    model = SEWResNet(settings("sew-resnet19", {}, {})[0], (0.5,) * 3, (0.5,) * 3)
    convolutions = [name for name, value in model.state_dict().items() if value.dim() == 4]
    assert len(convolutions) == 1 + 2 * 8 + 2


def test_the_command_line_goes_before_the_file(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text('[model]\nname = "sew-small"\nsteps = 6\n[training]\neps = "2/255"\nepochs = 7\n')
    model, training = both(file, None, {"steps": "3", "eps": "8/255"})
    assert (model.steps, training.epochs, training.eps, training.attack_step) == (3, 7, 8 / 255, 8 / 255)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[model\n", "is not TOML"),
        ("[models]\n", "table 'models' is not one of model, training"),
        ("[training]\nepoch = 3\n", "training has no setting 'epoch'"),
        ("[training]\nepochs = 2.5\n", "epochs is 2.5, it must be a whole number"),
        ("[training]\neps = '4/0'\n", "eps is '4/0', it must be a number"),
        ("[training]\nflip = 1\n", "flip is 1, it must be true or false"),
        ("[model]\nwidths = 3\n", "widths is 3, it must be a list"),
    ],
)
def test_what_is_wrong_in_a_file_is_said(text: str, words: str, tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text(text)
    with pytest.raises(FileError, match=words):
        configuration.read(file)


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="cannot be read: No such file"):
        configuration.read(tmp_path / "none.toml")
