"""Pieces of work in parallel with Dask: on worker processes of this machine or a cluster, finished ones kept in a file.

The file is JSON lines: a header with what all pieces share, then one line per finished piece, flushed as it arrives. A
worker that dies costs the piece it was on, which runs again elsewhere; a program that dies costs the unfinished pieces.
"""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from importlib.util import find_spec
from io import FileIO
from logging import CRITICAL
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from randhet.base.child import safe_children
from randhet.base.errors import FileError, RandhetError
from randhet.base.files import destination
from randhet.base.memory import variables

if TYPE_CHECKING:
    from distributed import Client, Future, LocalCluster

FORMAT = "randhet-results-1"
PATIENCE = 10
"""Seconds that a scheduler has to answer."""
LATE = (TimeoutError, asyncio.TimeoutError)
"""What Dask raises after that: one class from Python 3.11 on, before it two."""
Progress = Callable[[int], None]


def run_all(
    function: Callable[..., Any],
    pieces: Mapping[str, tuple[Any, ...]],
    out: Path | None = None,
    scheduler: str | None = None,
    workers: int | None = None,
    progress: Progress = lambda count: None,
    *,
    shared: Any = None,
    identity: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """function(shared, *arguments) of every piece, by name; results must survive JSON.

    workers: processes on this machine, None for one per core, 0 to run here without Dask. scheduler: address of a
    running Dask scheduler instead. out: results found there are not computed again, provided it was written with the
    same `identity`, what else decides a result. progress gets the number of pieces done, those found first.
    """
    done = read(out, identity) if out is not None and out.exists() else {}
    results = {name: done[name] for name in pieces if name in done}
    progress(len(results))
    waiting = {name: arguments for name, arguments in pieces.items() if name not in results}
    if waiting:
        with ExitStack() as stack:
            keep = stack.enter_context(_appending(out, identity)) if out is not None else None
            for name, result in _results(function, waiting, scheduler, workers, shared):
                results[name] = json.loads(json.dumps(result))
                if keep is not None:
                    _write(keep, {"piece": name, "result": result})
                progress(1)
    return {name: results[name] for name in pieces}


def read(path: Path, identity: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Results by piece of a file; FileError where it is not one, or was written with another identity.

    A last line cut short by a killed program is dropped.
    """
    try:
        lines = path.read_text().splitlines(keepends=True)
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(f"results {path} cannot be read: {error}") from None
    whole = [line for line in lines if line.endswith("\n")]
    if not whole:
        return {}
    try:
        header, *entries = map(json.loads, whole)
        if header["format"] != FORMAT or not isinstance(header["identity"], dict):
            raise KeyError("format")
        results = {entry["piece"]: entry["result"] for entry in entries}
    except (ValueError, KeyError, TypeError, RecursionError):
        raise FileError(f"{path} is not a file of results ({FORMAT})") from None
    if identity is not None and (differing := _differing(header["identity"], identity)):
        raise FileError(f"results {path} were made with other settings ({differing}): give another file")
    return results


def _differing(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    new = json.loads(json.dumps(new))
    return ", ".join(sorted(name for name in {*old, *new} if old.get(name) != new.get(name)))


@contextmanager
def _appending(path: Path, identity: Mapping[str, Any] | None) -> Iterator[FileIO]:
    """The file, open at the end of its last whole line, with its header; without a buffer that close would write."""
    lock = _lock()
    try:
        path = destination(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("ab+", buffering=0)
    except OSError as error:
        raise FileError(f"cannot write {path}: {error.strerror or error}") from None
    with file:
        try:
            lock(file)
        except OSError:
            raise FileError(
                f"results {path} are being written by another run: wait for it, or give another file"
            ) from None
        file.seek(0)
        text = file.readall()
        file.truncate(text.rfind(b"\n") + 1)
        if b"\n" not in text:
            _write(file, {"format": FORMAT, "identity": dict(identity or {})})
        yield file


def _lock() -> Callable[[FileIO], None]:
    """Return what locks a file against other runs, OSError where one has it; gone with the process, however it ends."""
    try:
        import fcntl
    except ImportError:
        raise RandhetError("results cannot be kept in a file here: this system has no file locks (fcntl)") from None
    return lambda file: fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _write(file: FileIO, content: Mapping[str, Any]) -> None:
    """A line; FileError where it cannot be written whole."""
    line = (json.dumps(content) + "\n").encode()
    try:
        while line:
            line = line[file.write(line) :]
    except OSError as error:
        raise FileError(f"cannot write {file.name}: {error.strerror or error}") from None


def _results(
    function: Callable[..., Any],
    pieces: Mapping[str, tuple[Any, ...]],
    scheduler: str | None,
    workers: int | None,
    shared: Any,
) -> Iterator[tuple[str, Any]]:
    """(name, result) in the order in which they come in."""
    if workers == 0 and scheduler is None:
        yield from ((name, function(shared, *arguments)) for name, arguments in pieces.items())
        return
    try:
        from dask import config
        from distributed import KilledWorker, as_completed
    except ImportError:
        raise RandhetError("parallel evaluation needs Dask: pip install 'randhet[attacks]', or --workers 0") from None
    # whole data sets are sent, which Dask would warn of
    with (
        config.set({"distributed.admin.large-graph-warning-threshold": "1TB"}),
        _client(scheduler, min(workers or os.cpu_count() or 1, len(pieces))) as client,
    ):
        _check_import(client, function.__module__)
        # as the result of a task it is made again when the workers that held it die; scattered data would be gone
        common = client.submit(_itself, shared, pure=False)
        call = partial(client.submit, _alone, _version(), function, common, pure=False)
        futures = {call(*arguments): name for name, arguments in pieces.items()}
        for future in as_completed(list(futures)):
            try:
                yield futures[future], future.result()
            except KilledWorker:
                _settle(client, list(futures))
                raise RandhetError(
                    f"piece {futures[future]!r} ended every worker it ran on: use fewer images per piece"
                ) from None
            except CancelledError:
                raise RandhetError(
                    f"the Dask scheduler at {client.scheduler.address} has gone: start it again and run this again"
                ) from None


_ONE = Lock()
"""Held by the piece that runs in this process."""


def _alone(version: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """Run a piece on a worker, after the one that runs there: workers of several threads share torch's generator."""
    if version != _version():
        raise RandhetError(f"a worker has randhet {_version()}, this program {version}: install the same version")
    with _ONE:
        return function(*arguments)


def _version() -> str:
    import randhet

    return randhet.__version__


def _check_import(client: Client, module: str) -> None:
    """Dask itself would wait for ever on workers that cannot read what they are sent."""
    room = module.split(".")[0]
    if room != "__main__" and client.submit(find_spec, room, pure=False).result() is None:
        raise RandhetError(f"the workers cannot import {room}: install randhet, the same version, where they run")


def _settle(client: Client, futures: list[Future]) -> None:
    """Stop the other pieces and wait for the worker that Dask starts again: closed in between, Dask fails itself."""
    workers = len(client.cluster.workers) if client.cluster else 0
    client.cancel(futures)
    with suppress(*LATE):
        client.wait_for_workers(workers, timeout=PATIENCE)


def _itself(value: Any) -> Any:
    return value


@contextmanager
def _client(scheduler: str | None, workers: int) -> Iterator[Client]:
    """A client of the scheduler at this address, or of a cluster of processes here that ends with the block."""
    import dask
    from distributed import Client, LocalCluster
    from distributed.utils import silence_logging_cmgr

    with ExitStack() as stack:
        if scheduler is None:
            scratch = stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
            stack.enter_context(safe_children())
            # Dask lets workers give memory back whenever 64 KiB are free, and tensors would fault in every page
            settings = {f"distributed.nanny.pre-spawn-environ.{name}": text for name, text in variables().items()}
            stack.enter_context(dask.config.set(settings))
            cluster = LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                memory_limit=0,
                dashboard_address="127.0.0.1:0",  # no port that another program may have, none open to others
                worker_dashboard_address="127.0.0.1:0",
                local_directory=scratch,
                silence_logs=CRITICAL,
            )
            stack.callback(_close, cluster)
            yield stack.enter_context(Client(cluster))
            return
        # what a lost connection means is said in one sentence
        stack.enter_context(silence_logging_cmgr(CRITICAL))
        try:
            client = stack.enter_context(Client(scheduler, timeout=PATIENCE))
            client.wait_for_workers(1, timeout=PATIENCE)
        except (OSError, *LATE, ValueError) as error:
            raise RandhetError(
                f"no Dask scheduler with a worker at {scheduler!r}: {(str(error) or 'no answer').splitlines()[0]}"
            ) from None
        yield client


def _close(cluster: LocalCluster) -> None:
    """End the workers, whatever ends the block; no failure of Dask's to end one may hide that reason or the results."""
    with suppress(AssertionError, OSError, *LATE):
        cluster.close()
