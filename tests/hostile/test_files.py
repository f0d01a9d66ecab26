"""Files from anyone: what is hostile, damaged or far larger than it looks is refused soon, cheaply, in one sentence."""

# ruff: noqa: E402  (what needs torch, ONNX and NIR is imported after it is known to be there)
from __future__ import annotations

import gzip
import io
import os
import struct
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from damage import bomb, cheaply, grown, lying
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("nir")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
torch = pytest.importorskip("torch")

from typer.testing import CliRunner

from fuzz.changes import IMPOSSIBLE
from fuzz.files import network
from fuzz.targets import CORPUS, TARGETS
from randhet.base.errors import FileError
from randhet.cli.app import app
from randhet.export.onnx import integer_graph as onnx_integer
from randhet.export.onnx import meta as onnx_meta
from randhet.export.onnx import run as onnx_run
from randhet.train import checkpoint, configuration
from randhet.train.data import decode, idx
from randhet.train.data.images import DataError
from randhet.train.models import ModelSettings, SEWResNet

FOUND = Path(__file__).parent / "found"


# --- whatever the bytes are -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("found", sorted(FOUND.iterdir()), ids=lambda found: found.name)
def test_what_fuzzing_found_is_refused(found: Path, tmp_path: Path) -> None:
    """Files are named READER--what was wrong; each one once ended in something other than a refusal."""
    target = TARGETS[found.name.split("--")[0]]
    with cheaply():
        assert target(found.read_bytes(), tmp_path) is False


@st.composite
def damaged(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    """A valid file cut short, with bytes changed, taken out or repeated; or anything at all."""
    content = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(0, len(content) - 1)))
        how = draw(st.sampled_from(["flip", "set", "cut", "drop", "repeat", "insert"]))
        if how in ("flip", "set") and content:
            content[place] = (
                content[place] ^ 1 << draw(st.integers(0, 7)) if how == "flip" else draw(st.integers(0, 255))
            )
        elif how == "cut":
            del content[place:]
        elif how == "drop":
            del content[place : place + draw(st.integers(1, 64))]
        elif how == "repeat":
            content[place:place] = content[place : place + draw(st.integers(1, 64))]
        else:
            content[place:place] = draw(st.binary(max_size=16))
    return bytes(content)


@pytest.mark.parametrize("name", TARGETS)
def test_damaged_files_are_read_or_refused(name: str, tmp_path: Path) -> None:
    """`Target` raises where anything but a RandhetError comes out."""
    target = TARGETS[name]
    for package in target.needs:
        pytest.importorskip(package)
    seeds = target.seeds()

    @settings(max_examples=target.examples, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(st.data())
    def run(data: st.DataObject) -> None:
        if target.change is None:
            target(data.draw(damaged(seeds)), tmp_path)
            return
        choose = lambda low, high: data.draw(st.integers(low, high))
        try:
            changed = target.change(data.draw(st.sampled_from(seeds)), choose)
        except IMPOSSIBLE:
            return  # a change that the format itself does not allow
        target(changed, tmp_path)

    run()


@pytest.mark.parametrize("name", [name for name in TARGETS if name != "annotations"])
def test_what_the_damage_starts_from_is_accepted(name: str, tmp_path: Path) -> None:
    """Otherwise all of it would be refused for one and the same reason."""
    for package in TARGETS[name].needs:
        pytest.importorskip(package)
    assert all(TARGETS[name](seed, tmp_path) for seed in TARGETS[name].seeds())


@pytest.mark.parametrize("name", TARGETS)
def test_the_corpus_of_the_fuzzer_is_read_or_refused(name: str, tmp_path: Path) -> None:
    """Every way through our own code that fuzzing has found, at every run of the tests, without the fuzzer."""
    for package in TARGETS[name].needs:
        pytest.importorskip(package)
    inputs = [path.read_bytes() for path in sorted((CORPUS / name).iterdir())]
    contents = [content for data in inputs if (content := TARGETS[name].content(data)) is not None]
    said = [TARGETS[name](content, tmp_path) for content in contents]
    assert False in said, "none is refused: what these inputs were made for is no longer what they are"


# --- checkpoints ------------------------------------------------------------------------------------------------------

TINY = ModelSettings(1, 2, (2, 2), (1,), (1,), steps=1)


def saved(path: Path, made: ModelSettings, state: dict[str, torch.Tensor]) -> Path:
    checkpoint.save(path, checkpoint.Checkpoint(made, state, (0.5,), (0.25,)))
    return path


def test_weights_larger_than_the_file(tmp_path: Path) -> None:
    """One number seen as 40,000 x 40,000 by a stride of 0; torch stores the one number."""
    with torch.device("meta"):
        wanted = SEWResNet(replace(TINY, widths=(40_000,)), (0.5,), (0.25,)).state_dict()
    one = torch.zeros(1)
    state = {name: one.expand(tensor.shape) if tensor.ndim else one[0] for name, tensor in wanted.items()}
    path = saved(tmp_path / "a.pt", replace(TINY, widths=(40_000,)), state)
    assert path.stat().st_size < 100_000
    with cheaply(), pytest.raises(FileError, match="the file has"):
        checkpoint.load(path)


@pytest.mark.parametrize("changed", [{"blocks": (10**9,)}, {"widths": (10**6,)}, {"image_size": (10**9, 10**9)}])
def test_settings_of_a_giant_are_refused_before_it_is_built(changed: dict[str, Any], tmp_path: Path) -> None:
    neuron = {"neuron": "het"} if "image_size" in changed else {}
    state = SEWResNet(TINY, (0.5,), (0.25,)).state_dict()
    with cheaply(), pytest.raises(FileError, match="damaged"):
        checkpoint.load(saved(tmp_path / "a.pt", replace(TINY, **changed, **neuron), state))


def test_a_compressed_checkpoint_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.pt", TINY, SEWResNet(TINY, (0.5,), (0.25,)).state_dict())
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(tmp_path / "b.pt", "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, bytes(2**24) if name.endswith("/data/0") else old.read(name))
    with cheaply(), pytest.raises(FileError, match="it is compressed"):
        checkpoint.load(tmp_path / "b.pt")


class Runs:
    """A pickle that would run a program."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, ("touch harmed",)


@pytest.mark.parametrize("place", ["settings", "state", "record", "resume"])
def test_no_pickle_is_executed(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor wherever else in a checkpoint it sits."""
    monkeypatch.chdir(tmp_path)
    saved(tmp_path / "a.pt", TINY, SEWResNet(TINY, (0.5,), (0.25,)).state_dict())
    content = torch.load("a.pt", weights_only=True) | {place: Runs()}
    torch.save(content, "evil.pt")
    with pytest.raises(FileError, match="not a checkpoint that can be read safely"):
        checkpoint.load("evil.pt")
    assert not Path("harmed").exists()


# --- the rest ---------------------------------------------------------------------------------------------------------


def test_idx_files_unpack_no_further_than_they_say(tmp_path: Path) -> None:
    path = tmp_path / "a-idx1-ubyte.gz"
    path.write_bytes(gzip.compress(struct.pack(">HBBI", 0, 8, 1, 3) + bytes(2**28)))
    with cheaply(), pytest.raises(DataError, match="holds more bytes of data, its header says 3"):
        idx.read_idx(path)
    path.write_bytes(gzip.compress(struct.pack(">HBB2I", 0, 8, 2, 2**15, 2**15) + bytes(9)))
    with cheaply(), pytest.raises(DataError, match=f"holds 9 bytes of data, its header says {2**30}"):
        idx.read_idx(path)
    path.write_bytes(gzip.compress(struct.pack(">HBB3I", 0, 8, 3, 2**20, 2**20, 2**20)))
    with cheaply(), pytest.raises(DataError, match="at most 8 axes"):
        idx.read_idx(path)


def test_images_that_are_bombs_or_programs(tmp_path: Path) -> None:
    """A PNG of 60,000 x 2,000 black pixels in 15 kB; PostScript by the name of a PNG."""
    from PIL import Image

    stream = io.BytesIO()
    Image.new("1", (60_000, 2_000)).save(stream, "PNG")
    (tmp_path / "a.png").write_bytes(stream.getvalue())
    warned = pytest.warns(Image.DecompressionBombWarning)
    with warned, cheaply(), pytest.raises(DataError, match="has 60000x2000 pixels, the limit is"):
        decode.decoded(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    with pytest.raises(DataError, match="cannot identify"):  # not: cannot find Ghostscript
        decode.decoded(tmp_path / "b.png")


@pytest.mark.parametrize("text", ["a = " + "[" * 5000, "a = " + "1" * 5000, "a = \xff"])
def test_toml_that_is_deep_or_long(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_bytes(text.encode("latin-1"))
    with pytest.raises(FileError, match="is not TOML"):
        configuration.read(tmp_path / "a.toml")


def test_onnx_files_may_compute_but_nothing_else(tmp_path: Path) -> None:
    """Other operators, other people's files beside or above it, a description that lies."""
    model = onnx_integer.model(replace(network(), seed=1))
    cases = {"operators Loop": model, "keeps data in ../secret": model, "its description is damaged": model}
    changed = {said: onnx.ModelProto.FromString(it.SerializeToString()) for said, it in cases.items()}
    changed["operators Loop"].graph.node[0].op_type = "Loop"
    tensor = changed["keeps data in ../secret"].graph.initializer[0]
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../secret")
    for entry in changed["its description is damaged"].metadata_props:
        entry.value = "[1, 2]" if entry.key == "randhet.input" else entry.value
    for said, made in changed.items():
        (tmp_path / "a.onnx").write_bytes(made.SerializeToString())
        with pytest.raises(FileError, match=said):
            onnx_run.load(tmp_path / "a.onnx")
    assert onnx_meta.load_metadata(model)["randhet.kind"] == "integer"


def test_a_message_is_one_line_that_no_terminal_obeys() -> None:
    assert str(FileError("layer a\nb\x1b[2J\x07 é")) == "layer a b\\x1b[2J\\x07 é"


def test_the_command_line_says_one_sentence_and_status_2(tmp_path: Path) -> None:
    net = grown("net", tmp_path / "a.net", bomb("layer/1/weight"))
    nir_file = grown("nir", tmp_path / "a.nir", lying("node/nodes/conv/weight"))
    torch.save({"format": Runs()}, tmp_path / "a.pt")
    commands = (("run", net), ("inspect", net), ("import-nir", nir_file), ("export", tmp_path / "a.pt"))
    for command in commands:
        result = CliRunner().invoke(app, [*map(str, command)])
        assert result.exit_code == 2, command
        assert result.stderr.startswith("randhet: ") and result.stderr.count("\n") == 1
