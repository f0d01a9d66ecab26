"""A folder of images whose class folders have another order than in training, or other names."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import call, parsed
from PIL import Image

from randhet.netx import write as netx
from randhet.train.data.sources import load

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """digits-randhet-at with the names of its digits in words, so that sorted folders have another order."""
    from dataclasses import replace

    folder = tmp_path_factory.mktemp("net")
    made = call("export", "digits-randhet-at", "-o", folder / "a.net", "--seed", 1)
    assert made.exit_code == 0, made.stderr
    netx.write(folder / "words.net", replace(netx.read(folder / "a.net"), classes=WORDS))
    return folder / "words.net"


def images(root: Path, names: tuple[str, ...], count: int = 60) -> Path:
    test = load("digits", "test")
    for name in names:
        (root / "train" / name).mkdir(parents=True)
        (root / "test" / name).mkdir(parents=True)
    for i in range(count):
        Image.fromarray(test.pixels[i, 0]).save(root / "test" / names[test.labels[i]] / f"{i}.png")
    return root


def test_sorted_folders_are_matched_by_name(network: Path, tmp_path: Path) -> None:
    """By number they would be wrong for nine of ten classes: eight, five, four, ..., zero."""
    found = parsed(call("run", network, "--backend", "engine", "--data", images(tmp_path / "d", WORDS), "--json"))
    assert found["accuracy"] > 0.9


def test_other_names_are_refused(network: Path, tmp_path: Path) -> None:
    folder = images(tmp_path / "d", tuple(f"class{i}" for i in range(10)), 3)
    result = call("run", network, "--backend", "engine", "--data", folder)
    assert result.exit_code == 2
    assert "has the class 'class0', the network has zero, one" in " ".join(result.stderr.split())
