"""`randhet export --c` and `randhet run --backend c`, as a user calls them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import call

from randhet.export.c import run as c
from randhet.export.c.write import files
from randhet.netx.read import read


def test_a_checkpoint_becomes_a_program_and_runs_as_one(tmp_path: Path) -> None:
    out, folder = tmp_path / "it.net", tmp_path / "firmware"
    found = call("export", "digits-randhet-at", "-o", out, "--c", folder, "--samples", 32, "--json")
    assert found.exit_code == 0, found.stderr
    assert json.loads(found.stdout)["files"] == {"c": str(folder)}
    written = {path.name: path.read_text() for path in folder.iterdir()}
    assert written == files(read(out))
    if c.missing():
        pytest.skip(str(c.missing()))
    results = [
        json.loads(call("run", out, "--backend", name, "--samples", 6, "--seed", 3, "--json").stdout)
        for name in ("c", "reference")
    ]
    for key in ("predictions", "spikes", "saturations"):
        assert results[0][key] == results[1][key]


def test_a_folder_cannot_take_the_place_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "it").write_text("kept")
    found = call("export", "digits-randhet-at", "-o", tmp_path / "it.net", "--c", tmp_path / "it", "--samples", 8)
    assert found.exit_code == 2
    assert "it is a file, give the name of a folder" in " ".join(found.stderr.split())
    assert (tmp_path / "it").read_text() == "kept"
