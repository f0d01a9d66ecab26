"""What is written down about fuzzing: the page says what was counted, and nothing is counted twice or lost."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

pytest.importorskip("nir")
pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from fuzz import record
from fuzz.targets import BINARY, CORPUS, TARGETS

ROOT = Path(__file__).parents[2]
COUNTS = json.loads((ROOT / "fuzz" / "counts.json").read_text())


def test_the_page_has_the_counts() -> None:
    page = (ROOT / "docs" / "security.md").read_text("utf-8")
    cells = re.findall(r"\| ([\w-]+) \| ([\d,]+) (?=\|)", page)
    assert {name: int(number.replace(",", "")) for name, number in cells} == COUNTS
    totals = re.search(r"([\d.]+) million, of which ([\d,]+) are on binary formats", page)
    assert totals is not None
    assert float(totals[1]) == pytest.approx(sum(COUNTS.values()) / 1e6, abs=0.05)
    assert int(totals[2].replace(",", "")) == sum(COUNTS[name] for name in BINARY)


def test_every_reader_is_counted_and_has_a_corpus() -> None:
    assert COUNTS.keys() == TARGETS.keys() == {path.name for path in CORPUS.iterdir()}


def test_the_corpus_is_small_and_names_no_place() -> None:
    contents = [path.read_bytes() for path in CORPUS.glob("*/*")]
    assert len(contents) > 100 and sum(map(len, contents)) < 1_500_000
    assert not [content for content in contents if re.search(rb"/(tmp|home|work|root|dev)/", content)]


def test_counts_are_added_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "COUNTS", tmp_path / "counts.json")
    record.COUNTS.write_text('{"net": 5, "idx": 7}')
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "counts.json").write_text('{"net": 3, "image": 2}')
    assert record.add([folder]) == {"idx": 7, "image": 2, "net": 8}
    assert record.add([folder]) == {"idx": 7, "net": 5}
