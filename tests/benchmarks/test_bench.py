"""randhet bench on a tiny network: every contender in a process of its own, the table's arithmetic, faults as rows."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from randhet.benchmarks import contenders, scaling
from randhet.benchmarks.contenders import CONTENDERS, Contender
from randhet.benchmarks.networks import Activity, Case
from randhet.benchmarks.race import Times, race
from randhet.benchmarks.rows import rows, tau_cost
from randhet.cli.app import app

KEYS = {"name", "spike_rate", "threads", "batch", "ms_per_image", "ratio_to_torch_eager", "peak_mb"}


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["bench", *map(str, arguments)])


def test_one_run_one_table(tmp_path: Path) -> None:
    names = ["torch-eager", "engine", "add-only", "reference", "engine-constant"]
    made = call(
        "--size", "tiny", "--rates", "0.2", "--batch", 2, "--threads", 1, "--repeats", 2, "--json", "--out", tmp_path,
        "--contenders", ",".join(names),
    )  # fmt: skip
    assert made.exit_code == 0, made.stderr
    found = json.loads(made.stdout)
    assert [row["name"] for row in found["rows"]] == names
    for row in found["rows"]:
        assert row.keys() >= KEYS
        assert (row["spike_rate"], row["threads"], row["batch"]) == (0.2, 1, 2)
        assert row["repeats"] == (1 if row["name"] == "reference" else 2)
        assert 0 < row["ms_min"] <= row["ms_per_image"] <= row["ms_max"]
        assert row["images_per_second"] == pytest.approx(1000 / row["ms_per_image"])
        assert 5 < row["interpreter_mb"] < row["peak_mb"]
        assert row["note"] is None and not row["failed"]
    eager, engine, *_ = found["rows"]
    assert eager["ratio_to_torch_eager"] == 1
    assert engine["peak_mb"] < eager["peak_mb"]  # the engine's process never loads torch
    assert [cost["name"] for cost in found["tau_cost"]] == ["engine"]
    assert found["machine"]["versions"]["numpy"] == np.__version__
    assert json.loads((tmp_path / "bench.json").read_text()) == found
    assert (tmp_path / "table.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--size", "huge"], "size 'huge' is not one of full, small, tiny"),
        (["--rates", "ten"], "--rates 'ten' is not of the form RATE,RATE,..."),
        (["--rates", "1.5"], "--rates 1.5 must lie between 0 and 1"),
        (["--contenders", "norse"], "contender 'norse' is not one of torch-eager"),
    ],
)
def test_wrong_use_is_a_sentence(arguments: list[str], sentence: str) -> None:
    made = call(*arguments)
    assert made.exit_code == 2
    assert sentence in made.stderr and "Traceback" not in made.stderr


def test_a_missing_library_is_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contenders, "find_spec", lambda name: None)
    made = call("--size", "tiny", "--rates", "0.2", "--batch", 1, "--json", "--contenders", "snntorch")
    assert made.exit_code == 0
    (row,) = json.loads(made.stdout)["rows"]
    assert row["note"] == "snntorch is not installed: pip install 'randhet[peers]'"
    assert row["ms_per_image"] is None and row["ratio_to_torch_eager"] is None and row["peak_mb"] is None


def with_worker(monkeypatch: pytest.MonkeyPatch, script: str, **options: Any) -> None:
    """A contender called `odd` whose worker runs a script in place of `randhet.benchmarks.worker`."""
    monkeypatch.setitem(CONTENDERS, "odd", Contender("odd", "", lambda job, turn: None, **options))
    monkeypatch.setattr("randhet.benchmarks.race.COMMAND", (sys.executable, "-c", script))


def test_a_contender_that_fails_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with_worker(monkeypatch, "raise ValueError('out of luck')")
    times = race(["odd"], tmp_path, 1, 1, 2)["odd"]
    assert times.failed and times.missing == "it failed: ValueError: out of luck"


def test_a_contender_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    with_worker(
        monkeypatch, f"import os,time; open({str(pid)!r},'w').write(str(os.getpid())); time.sleep(600)", deadline=3
    )
    begin = time.monotonic()
    times = race(["odd"], tmp_path, 1, 1, 2)["odd"]
    assert times.failed and times.missing == "it took longer than 3 s and was ended"
    assert time.monotonic() - begin < 60
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


def test_rounds_are_interleaved(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Two workers that note when they run: first each loads, then they take turns."""
    log = tmp_path / "log"
    script = (
        "import json,sys; name=json.loads(sys.argv[1])['contender']\n"
        "while True:\n"
        f"    open({str(log)!r},'a').write(name+' ')\n"
        "    print(json.dumps({'seconds':1,'cpu':1,'peak_mb':1,'interpreter_mb':1}),flush=True)\n"
        "    if not sys.stdin.readline(): break\n"
    )
    with_worker(monkeypatch, script)
    monkeypatch.setitem(CONTENDERS, "even", Contender("even", "", lambda job, turn: None))
    found = race(["odd", "even"], tmp_path, 1, 1, 3)
    assert log.read_text().split() == ["odd", "even"] * 4
    assert [len(times.seconds) for times in found.values()] == [3, 3]  # the first, which loads, is not one of them


def test_the_arithmetic_of_the_rows() -> None:
    case = Case("full", batch=4)
    found = {
        "torch-eager": Times(9.0, [8.0, 4.0, 40.0], [1, 1, 1], 900.0, 30.0),
        "engine": Times(1.0, [1.0, 2.0, 4.0], [1, 1, 1], 300.0, 30.0),
        "engine-constant": Times(1.0, [1.0, 1.0, 2.0], [1, 1, 1], 300.0, 30.0),
        "reference": Times(9.0, [16.0], [1], 100.0, 30.0),
    }
    made = {row["name"]: row for row in rows(case, dict.fromkeys(("random", "constant"), Activity(0.1, 0.1, 0)), found)}
    assert made["engine"]["ms_per_image"] == 500 and made["engine"]["images_per_second"] == 2
    assert made["engine"]["ratio_to_torch_eager"] == 8  # of 8, 2 and 10 by round
    assert made["reference"]["ratio_to_torch_eager"] == 0.5  # 8 / 16: it had one round only
    (cost,) = tau_cost(case, found)
    assert (cost["cost"], cost["cost_min"], cost["cost_max"]) == (1, 0, 1)
    assert cost["cpu_cost"] == 0


def test_scaling_changes_one_thing_at_a_time() -> None:
    base = Case("small")
    for point in scaling.points(base):
        changed = {
            name
            for name in ("rate", "batch", "threads", "steps", "narrower")
            if getattr(point.case, name) != getattr(base, name)
        }
        assert changed <= {scaling.FIELDS[point.axis]}
    assert {point.axis for point in scaling.points(base)} == set(scaling.FIELDS)


def test_growth_is_the_exponent() -> None:
    points = [{"axis": "T", "value": value, "name": "engine", "ms_per_image": 3 * value**1.5} for value in (1, 2, 4, 8)]
    (growth,) = scaling.slopes(points)
    assert growth["exponent"] == pytest.approx(1.5)


@pytest.mark.lava
def test_lava_contenders(tmp_path: Path) -> None:
    made = call("--size", "tiny", "--rates", "0.2", "--batch", 1, "--json", "--contenders", "lava,lava-stock")
    assert made.exit_code == 0, made.stdout + made.stderr
    for row in json.loads(made.stdout)["rows"]:
        assert row["ms_per_image"] > 0 and row["note"] is None
        assert row["peak_mb"] > row["interpreter_mb"]
