"""Pieces in parallel: every result arrives whatever dies, and nothing finished is computed twice."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
import warnings
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import pytest
from distributed import LocalCluster
from pieces import crowd, dies_always, dies_first, fails, length, square, square_once, waits

from randhet.base import parallel
from randhet.base.errors import FileError, RandhetError
from randhet.base.parallel import read, run_all

PIECES = {f"piece {i}": (i,) for i in range(6)}
EXPECTED = {f"piece {i}": {"square": 100 + i * i} for i in range(6)}


def test_here_and_on_workers_alike() -> None:
    assert run_all(square, PIECES, workers=0, shared=100) == EXPECTED
    assert list(run_all(square, PIECES, workers=2, shared=100).items()) == list(EXPECTED.items())


def test_a_killed_worker_costs_no_result(tmp_path: Path) -> None:
    assert run_all(dies_first, PIECES, workers=1, shared=(100, str(tmp_path))) == EXPECTED
    assert (tmp_path / "killed").exists()


def test_on_a_cluster_that_runs_elsewhere_one_piece_at_a_time() -> None:
    """Torch's generator belongs to a process: two pieces that run in its threads would take each other's numbers."""
    with LocalCluster(n_workers=1, threads_per_worker=4, dashboard_address="127.0.0.1:0") as cluster:
        assert run_all(square, PIECES, scheduler=cluster.scheduler_address, shared=100) == EXPECTED
        assert set(run_all(crowd, PIECES, scheduler=cluster.scheduler_address).values()) == {1}


def test_a_scheduler_that_goes_is_one_sentence(tmp_path: Path) -> None:
    file, done = tmp_path / "results.jsonl", []
    cluster = LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0")
    ends: list[Thread] = []

    def end(count: int) -> None:
        done.append(count)
        if sum(done) == 2:
            ends.append(Thread(target=cluster.close))
            ends[0].start()

    with pytest.raises(RandhetError, match="the Dask scheduler at .* has gone: start it again"):
        run_all(waits, {str(i): (i,) for i in range(600)}, file, cluster.scheduler_address, progress=end)
    ends[0].join()
    assert len(read(file)) == sum(done) >= 2


def test_workers_of_another_version_are_refused() -> None:
    with pytest.raises(RandhetError, match="a worker has randhet .*, this program 0.0.1: install the same version"):
        parallel._alone("0.0.1", square, 1, 2)


def test_no_warning_of_large_data() -> None:
    """A data set is larger than what Dask expects to be sent."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert run_all(length, {"a": ()}, workers=1, shared=bytes(2**24)) == {"a": 2**24}


def test_finished_pieces_are_not_run_again(tmp_path: Path) -> None:
    file, seen = tmp_path / "results.jsonl", []
    shared = (100, str(tmp_path))
    some = {name: PIECES[name] for name in list(PIECES)[:3]}
    run_all(square_once, some, file, workers=0, shared=shared, identity={"seed": 1})
    with file.open("a") as cut:
        cut.write('{"piece": "piece 3", "resu')  # what a program killed while writing leaves
    found = run_all(square_once, PIECES, file, None, 0, seen.append, shared=shared, identity={"seed": 1})
    assert found == EXPECTED == read(file)
    assert seen == [3, 1, 1, 1]
    assert len(file.read_text().splitlines()) == 1 + len(PIECES)


def test_results_are_on_disk_while_later_pieces_run(tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    code = (
        "import time; from pathlib import Path; from randhet.base.parallel import run_all\n"
        "f = lambda shared, i: time.sleep(60 * (i == 2)) or {'square': 100 + i * i}\n"
        f"run_all(f, {{f'piece {{i}}': (i,) for i in range(6)}}, Path({str(file)!r}), workers=0)"
    )
    child = subprocess.Popen([sys.executable, "-c", code])
    try:
        while not (file.exists() and len(file.read_text().splitlines()) == 3):
            assert child.poll() is None
            time.sleep(0.02)
    finally:
        child.kill()
        child.wait()
    assert read(file) == {name: EXPECTED[name] for name in ("piece 0", "piece 1")}


def test_other_settings_need_another_file(tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    run_all(square, PIECES, file, workers=0, shared=100, identity={"seed": 1, "eps": (1, 2)})
    assert run_all(square, PIECES, file, workers=0, shared=0, identity={"seed": 1, "eps": (1, 2)}) == EXPECTED
    with pytest.raises(FileError, match=r"other settings \(eps\)"):
        run_all(square, PIECES, file, workers=0, shared=100, identity={"seed": 1, "eps": (1, 3)})


@pytest.mark.parametrize("text", ["not json\n", "[1]\n", json.dumps({"format": "other"}) + "\n", "{}\n"])
def test_foreign_files_are_refused_and_kept(text: str, tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    file.write_text(text)
    with pytest.raises(FileError, match="results.jsonl is not a file of results"):
        run_all(square, PIECES, file, workers=0, shared=100)
    assert file.read_text() == text


def test_errors_come_back_as_they_were_raised() -> None:
    with pytest.raises(RandhetError, match="piece 1 is wrong"):
        run_all(fails, {"a": (1,)}, workers=1)


def test_a_piece_that_ends_every_worker_is_named() -> None:
    with pytest.raises(RandhetError, match="piece 'a' ended every worker"):
        run_all(dies_always, {"a": (1,)}, workers=1)


def test_a_cluster_that_fails_to_end_hides_neither_results_nor_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = LocalCluster.close

    def fails_at_the_end(cluster: LocalCluster, timeout: float | None = None) -> None:
        ends(cluster, timeout)
        raise AssertionError("can only join a started process")

    monkeypatch.setattr(LocalCluster, "close", fails_at_the_end)
    assert run_all(square, PIECES, workers=1, shared=100) == EXPECTED
    with pytest.raises(RandhetError, match="piece 1 is wrong"):
        run_all(fails, {"a": (1,)}, workers=1)


def test_workers_without_the_project_are_told_apart_from_slow_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(square, "__module__", "nowhere.at_all")
    with pytest.raises(RandhetError, match="workers cannot import nowhere"):
        run_all(square, PIECES, workers=1)


def test_a_system_without_file_locks_runs_without_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "fcntl", None)
    assert run_all(square, PIECES, workers=0, shared=100) == EXPECTED
    with pytest.raises(RandhetError, match="this system has no file locks"):
        run_all(square, PIECES, tmp_path / "out.jsonl", workers=0, shared=100)
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize("missing", ["distributed", "dask"])
def test_without_dask_is_one_sentence_and_nothing_is_lost_here(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    for where in ({"workers": 2}, {"workers": None}, {"scheduler": "tcp://127.0.0.1:1"}):
        with pytest.raises(RandhetError, match=r"parallel evaluation needs Dask: pip install 'randhet\[attacks\]', or"):
            run_all(square, PIECES, shared=100, **where)
    assert run_all(square, PIECES, workers=0, shared=100) == EXPECTED


def test_the_end_of_dasks_patience_is_no_failure_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dask raises the TimeoutError of asyncio, which is another class than the built-in one on Python 3.10."""

    def late(*arguments: Any, **options: Any) -> None:
        raise asyncio.TimeoutError

    parallel._close(SimpleNamespace(close=late))  # type: ignore[arg-type]
    client: Any = SimpleNamespace(cluster=None, cancel=list, wait_for_workers=late)
    parallel._settle(client, [])
    monkeypatch.setattr("distributed.Client", late)
    with pytest.raises(RandhetError, match="no Dask scheduler with a worker at 'tcp://127.0.0.1:1': no answer"):
        run_all(square, PIECES, scheduler="tcp://127.0.0.1:1")


def test_no_scheduler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(parallel, "PATIENCE", 0.3)
    with pytest.raises(RandhetError, match="no Dask scheduler with a worker at 'tcp://127.0.0.1:1'"):
        run_all(square, PIECES, scheduler="tcp://127.0.0.1:1")
    (tmp_path / "file").touch()
    with pytest.raises(FileError, match="cannot write"):
        run_all(square, PIECES, tmp_path / "file" / "out.jsonl", workers=0, shared=1)
