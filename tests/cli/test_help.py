"""Help texts list names from the tables that do the work, and the command reference says the same."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from randhet.cli.app import app
from randhet.cli.listed import LISTS, filled
from randhet.fixed_point.backends import BACKENDS, Backend
from randhet.train.published import Published

GROUP: Any = typer.main.get_command(app)
RAW = {
    (name, parameter.name): parameter.help or ""
    for name, command in GROUP.commands.items()
    for parameter in command.params
    if hasattr(parameter, "help")
}
"""Help texts as they are written, by command and parameter."""
NAMES = {
    ("run", "backend"): "backends",
    ("inspect", "backend"): "backends",
    ("compare", "backends"): "backends",
    ("inspect", "chip"): "chips",
    ("sweep", "chip"): "chips",
    ("compare", "attacks"): "attacks",
    ("import-nir", "tool"): "tools",
    ("export", "passes"): "passes",
    ("export", "scales"): "scales",
    ("export", "random_init"): "models",
    ("sweep", "scales"): "scales",
    ("bench", "size"): "sizes",
    ("bench", "contenders"): "contenders",
    ("train", "data"): "data",
    ("train", "model"): "models",
    ("train", "neuron"): "neurons",
    ("train", "objective"): "objectives",
    ("train", "connect"): "connections",
    ("train", "random"): "segments",
    ("train", "train_sigma"): "trained",
    ("train", "precision"): "precisions",
    ("train", "qat_scales"): "scales",
}
"""Options whose values are names of a table."""


def test_what_runs_without_workers_is_said() -> None:
    alone, all_cores = "[default: (none beside this program)", "[default: (as --threads says, else one per core)"
    for command, default in {"run": alone, "compare": alone, "attack": all_cores, "sweep": all_cores}.items():
        option = help_of(command).rsplit("--workers", 1)[1]
        assert default in option[:300], command


def help_of(command: str) -> str:
    """The help page of a command, without frames and line breaks."""
    shown = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"})
    assert shown.exit_code == 0, shown.output
    return re.sub(r"[\s│]+", " ", shown.output)


@pytest.mark.parametrize(
    ("option", "table"), NAMES.items(), ids=lambda part: part if isinstance(part, str) else "-".join(part)
)
def test_an_option_of_names_lists_its_table_and_types_none_by_hand(option: tuple[str, str], table: str) -> None:
    raw = RAW[option]
    assert f"{{{table}}}" in raw
    written = set(re.findall(r"[\w-]+", raw.replace(f"{{{table}}}", "")))
    assert len(written & set(LISTS[table]())) <= 1, raw  # one of them may be explained
    assert ", ".join(LISTS[table]()) in help_of(option[0])


def test_attack_lists_every_family() -> None:
    assert f"Attacks are {', '.join(LISTS['attacks']())}; N is the number of steps." in help_of("attack")


def test_a_new_backend_is_in_the_help_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BACKENDS, "abacus", Backend("nowhere", "run", "beads"))
    assert filled(RAW["run", "backend"]).endswith("c, abacus.")  # type: ignore[union-attr]


def test_an_unknown_list_raises() -> None:
    with pytest.raises(KeyError):
        filled("one of {colours}")


def test_no_braces_are_left_on_any_page() -> None:
    for command in GROUP.commands:
        assert not re.search(r"\{[a-z_]+\}", help_of(command)), command  # {CKPT} is an argument that must be given
    assert not re.search(r"\{[a-z_]+\}", (Path(__file__).parents[2] / "docs" / "commands.md").read_text())


@pytest.mark.parametrize("command", ["export", "attack", "compare"])
def test_defaults_of_published_state_dicts_are_those_that_are_used(command: str) -> None:
    used, shown = Published(), help_of(command)
    mean, deviation = (",".join(f"{value:.4f}" for value in values) for values in (used.mean, used.std))
    for value in (used.steps, used.sampling, used.connect, mean, deviation):
        assert f"[default: ({value})]" in shown
