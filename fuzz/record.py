"""Add what came of fuzzing to the project: python fuzz/record.py FOLDER ... adds each counts.json to fuzz/counts.json.

The counts go into the table of docs/security.md too. Of the inputs in FOLDER/new the smallest that between them reach
all lines of our own code that all of them reach become fuzz/corpus/READER/*, beside those there. Each FOLDER's counts
are added once: it keeps them as counts-added.json.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import tempfile
import threading
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from types import FrameType
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from fuzz.targets import BINARY, CORPUS, TARGETS, Target  # noqa: E402

COUNTS, PAGE = HERE / "counts.json", HERE.parent / "docs" / "security.md"
ROOMS = tuple(str(HERE.parent / room) for room in ("randhet", "base", "fixed_point", "netx", "train", "export"))
NATIVE = re.compile(rb"/(dev|tmp|home|work|root|usr|proc|var)/")
"""The fuzzer tries strings that it sees compared, paths of the machine it runs on among them."""
LARGEST = 30_000

Reached = set[tuple[Any, ...]]


def table(counts: dict[str, int]) -> str:
    """The page's table: readers of binary formats first, most executions first."""
    rows = sorted(counts, key=lambda name: (name not in BINARY, -counts[name]))
    lines = ["| reader | executions | reader | executions |", "| --- | --- | --- | --- |"]
    for left, right in zip(rows[::2], [*rows[1::2], ""]):
        lines.append(f"| {left} | {counts[left]:,} | {right} | {f'{counts[right]:,}' if right else ''} |")
    return "\n".join(lines)


def written(page: str, counts: dict[str, int]) -> str:
    """The page with these counts in the place of its own."""
    binary = sum(counts.get(name, 0) for name in BINARY)
    totals = f"{sum(counts.values()) / 1e6:.1f} million, of which {binary:,} are on binary formats"
    page = re.sub(r"[\d.]+ million, of which [\d,]+ are on binary formats", totals, page)
    return re.sub(r"\| reader \| executions \|.*?(?=\n\n)", lambda _: table(counts), page, flags=re.DOTALL)


def add(folders: Iterable[Path]) -> dict[str, int]:
    """fuzz/counts.json with the counts of these folders."""
    total = Counter[str](json.loads(COUNTS.read_text()))
    for folder in folders:
        if (counts := folder / "counts.json").exists():
            total.update(json.loads(counts.read_text()))
            counts.rename(folder / "counts-added.json")
    return dict(sorted(total.items()))


def inputs(folder: Path) -> dict[str, list[bytes]]:
    """Inputs by reader, without the first byte, which chose it."""
    places = json.loads((folder / "readers.json").read_text())
    contents = defaultdict(list)
    for path in (folder / "new").iterdir():
        data = path.read_bytes()
        if 1 < len(data) <= LARGEST and not NATIVE.search(data):
            contents[places[data[0] % len(places)]].append(data[1:])
    return contents


def reached(target: Target, data: bytes, scratch: Path) -> Reached:
    """Steps from line to line of our own code on the way of an input."""
    steps: Reached = set()

    def follow(frame: FrameType, event: str, argument: Any) -> Any:
        if not frame.f_code.co_filename.startswith(ROOMS):
            return None
        last = frame.f_lineno

        def line(frame: FrameType, event: str, argument: Any) -> Any:
            nonlocal last
            steps.add((frame.f_code.co_filename, last, frame.f_lineno))
            last = frame.f_lineno
            return line

        return line

    content = target.content(data)
    if content is None:
        return steps
    sys.settrace(follow)
    threading.settrace(follow)
    try:
        target(content, scratch)
    finally:
        sys.settrace(None)
    return steps


def chosen(target: Target, candidates: list[bytes], scratch: Path) -> list[bytes]:
    """Smallest first, those that reach something new."""
    known: Reached = set()
    kept = []
    for data in sorted(set(candidates), key=lambda data: (len(data), data)):
        steps = reached(target, data, scratch)
        if steps - known:
            known |= steps
            kept.append(data)
    return kept


def cut_short(target: Target) -> list[bytes]:
    """Halves of the valid files, which the fuzzer need not find."""
    return [] if target.change else [seed[: len(seed) // 2] for seed in target.seeds()]


def main(folders: list[Path]) -> None:
    counts = add(folders)
    COUNTS.write_text(json.dumps(counts, indent=1) + "\n")
    PAGE.write_text(written(PAGE.read_text("utf-8"), counts), "utf-8")
    runs = [inputs(folder) for folder in folders]
    with tempfile.TemporaryDirectory() as scratch:
        for name, target in TARGETS.items():
            corpus = CORPUS / name
            old = [path.read_bytes() for path in corpus.glob("*")] + cut_short(target)
            kept = chosen(target, [*old, *(data for run in runs for data in run.get(name, []))], Path(scratch))
            for path in corpus.glob("*"):
                path.unlink()
            corpus.mkdir(parents=True, exist_ok=True)
            for data in kept:
                (corpus / hashlib.sha256(data).hexdigest()[:12]).write_bytes(data)
            print(f"{name}: {len(kept)} inputs of {sum(map(len, kept))} bytes")


if __name__ == "__main__":
    main([Path(argument) for argument in sys.argv[1:]])
