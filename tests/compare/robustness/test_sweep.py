"""Sweeps: what their files say is what is run, and what is plotted is what was found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from randhet.base.errors import FileError
from randhet.compare.robustness.curves import accuracy, similarity
from randhet.compare.robustness.evaluation import CLEAN, Trial
from randhet.compare.robustness.sweep import AXES, Sweep, read
from randhet.train.attacks.names import parse

CONFIGS = sorted((Path(__file__).parents[3] / "configs" / "sweeps").glob("*.toml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_shipped_sweeps_can_be_run(path: Path) -> None:
    sweep = read(path)
    for value in sweep.values:
        for name in (*sweep.attacks, *filter(None, [sweep.similarity])):
            assert parse(sweep.trial(name, value).attack).family


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_no_legend_shows_a_template(path: Path) -> None:
    from matplotlib.figure import Figure

    sweep, ax = read(path), Figure().subplots()
    point = {"stock": {"accuracy": 0.5, "interval": None}, "aware": {"accuracy": 0.5, "interval": None}}
    if sweep.attacks:
        accuracy(ax, sweep, {"net": {"curves": {attack: [point] * len(sweep.values) for attack in sweep.attacks}}})
    alike = {kind: {"mean": 0.5} for kind in ("gradient", "perturbation")}
    if sweep.similarity:
        similarity(ax, sweep, {"net": {"cosines": [alike] * len(sweep.values)}})
    labels = ax.get_legend_handles_labels()[1]
    assert len(labels) == 2 * (len(sweep.attacks) + bool(sweep.similarity))
    assert not [label for label in labels if set(label) & set("{}") or "pgd" in label]


def test_every_axis_is_shipped() -> None:
    assert {read(path).axis for path in CONFIGS} == set(AXES)


@pytest.mark.parametrize(
    ("axis", "value", "attack", "trial"),
    [
        ("n", 30, "pgd{n}", Trial("pgd30", 0.1)),
        ("m", 10, "apgd5x{m}", Trial("apgd5x10", 0.1)),
        ("eps", 0.25, "fgsm", Trial("fgsm", 0.25)),
        ("sigma", 0.5, "fgsm", Trial("fgsm", 0.1, (("sigma", 0.5),))),
        ("T", 6, "fgsm", Trial("fgsm", 0.1, (("steps", 6),))),
        ("segment", "second", "fgsm", Trial("fgsm", 0.1, (("random", "second"),))),
        ("segment", "none", "fgsm", Trial("fgsm", 0.1, (("neuron", "vanilla"),))),
        ("eps", 0.25, CLEAN, Trial(CLEAN, 0.0)),
    ],
)
def test_a_value_goes_where_it_belongs(axis: str, value: Any, attack: str, trial: Trial) -> None:
    assert Sweep("title", axis, (value,), (attack,), eps=0.1).trial(attack, value) == trial


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("axis = 3", "title is missing"),
        ('title = "a"\naxis = "n"\nvalues = [1]', "attacks or similarity"),
        ('title = "a"\naxis = "width"\nvalues = [1]\nattacks = ["fgsm"]', "axis 'width'"),
        ('title = "a"\naxis = "n"\nvalues = [1.5]\nattacks = ["fgsm"]', "values holds 1.5"),
        ('title = "a"\naxis = "n"\nvalues = 3\nattacks = ["fgsm"]', "must be a list"),
        ('title = "a"\naxis = "n"\nvalues = []\nattacks = ["fgsm"]', "needs values"),
        ('title = "a"\naxis = "n"\nvalues = [1]\nattack = ["fgsm"]', "no setting 'attack'"),
        ("title = ", "is not TOML"),
    ],
)
def test_a_wrong_file_is_named(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "sweep.toml").write_text(text)
    with pytest.raises(FileError, match=words):
        read(tmp_path / "sweep.toml")


def test_the_lines_of_a_plot_are_the_accuracies() -> None:
    from matplotlib.figure import Figure

    point = lambda value: {"accuracy": value, "interval": [value - 0.1, value + 0.1]}
    curve = [{"stock": point(0.5), "aware": point(0.4)}, {"stock": point(0.3), "aware": point(0.2)}]
    ax = Figure().subplots()
    accuracy(ax, Sweep("title", "eps", (2 / 255, 4 / 255), ("pgd2",)), {"net": {"curves": {"pgd2": curve}}})
    handles, labels = ax.get_legend_handles_labels()
    # the name of a single checkpoint stands above the plot
    assert labels == ["PGD-2, stock", "PGD-2, aware"]
    for handle, expected in zip(handles, ([50, 30], [40, 20])):
        line = handle.lines[0]
        assert line.get_xdata() == pytest.approx([2, 4]) and line.get_ydata() == pytest.approx(expected)
        bars = handle.lines[2][0].get_segments()
        assert bars[0][:, 1] == pytest.approx([expected[0] - 10, expected[0] + 10])
