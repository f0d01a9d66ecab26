"""Checkpoints: what is saved comes back, what is not a sound checkpoint is refused with a sentence."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from randhet.base.errors import FileError, RandhetError
from randhet.train.checkpoint import Checkpoint, build, load, random_init, save
from randhet.train.models import BASELINES, NEURONS, ModelSettings
from randhet.train.neurons import neurons

ROOT = Path(__file__).parents[2]
TINY = ModelSettings(1, 3, (4, 4), (2,), (1,), steps=2)


def sample(neuron: str = "randhet") -> Checkpoint:
    return random_init(replace(TINY, neuron=neuron), seed=1)  # type: ignore[arg-type]


@pytest.mark.parametrize("neuron", ["randhet", "randhet-forward", "het", "vanilla"])
def test_round_trip_gives_the_same_model(tmp_path: Path, neuron: str) -> None:
    path, before = tmp_path / "a.pt", sample(neuron)
    save(path, before)
    after = load(path)
    assert after.settings == before.settings and after.mean == before.mean and after.versions == before.versions
    images = torch.rand(3, 1, 4, 4)
    torch.manual_seed(0)
    expected = build(before)(images)
    torch.manual_seed(0)
    assert torch.equal(build(after)(images), expected)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.pt"]


def test_a_reset_is_kept_and_missing_in_older_files(tmp_path: Path) -> None:
    save(tmp_path / "a.pt", random_init(replace(TINY, reset="subtract")))
    assert {neuron.reset for neuron in neurons(build(load(tmp_path / "a.pt"))).values()} == {"subtract"}
    shipped = ROOT / "checkpoints" / "digits-randhet-at.pt"
    assert "reset" not in torch.load(shipped, weights_only=True)["settings"]
    assert {neuron.reset for neuron in neurons(build(load(shipped))).values()} == {"zero"}
    content = torch.load(tmp_path / "a.pt", weights_only=True)
    torch.save(content | {"settings": content["settings"] | {"reset": "soft"}}, tmp_path / "b.pt")
    with pytest.raises(FileError, match="damaged: reset 'soft' is not one of zero, subtract"):
        load(tmp_path / "b.pt")


class Malicious:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch harmed",)


def test_a_malicious_pickle_is_refused_and_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"format": Malicious()}, "evil.pt")
    Path("raw.pt").write_bytes(pickle.dumps(Malicious()))
    for name in ("evil.pt", "raw.pt"):
        with pytest.raises(FileError, match="not a checkpoint"):
            load(name)
    assert not Path("harmed").exists()


def test_missing_foreign_and_damaged_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="does not exist"):
        load(tmp_path / "nothing.pt")
    torch.save({"weights": torch.zeros(3)}, tmp_path / "foreign.pt")
    with pytest.raises(FileError, match="is not a randhet checkpoint"):
        load(tmp_path / "foreign.pt")
    save(tmp_path / "whole.pt", sample())
    whole = (tmp_path / "whole.pt").read_bytes()
    for size in (0, 1, 100, len(whole) // 2, len(whole) - 10):
        (tmp_path / "cut.pt").write_bytes(whole[:size])
        with pytest.raises(FileError):
            load(tmp_path / "cut.pt")


def test_nan_weights_are_refused_by_name(tmp_path: Path) -> None:
    broken = sample()
    state = {name: tensor.clone() for name, tensor in broken.state.items()}
    state["fc1.weight"][0, 0] = float("nan")
    save(tmp_path / "nan.pt", replace(broken, state=state))
    with pytest.raises(FileError, match=r"fc1\.weight contain NaN"):
        load(tmp_path / "nan.pt")


def test_weights_that_do_not_fit_the_settings_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "odd.pt", replace(sample(), settings=replace(TINY, widths=(4,))))
    with pytest.raises(FileError, match="is damaged"):
        load(tmp_path / "odd.pt")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"widths": (4, 8)}, "2 stage widths and 1 block counts"),
        ({"steps": 0}, "positive"),
        ({"neuron": "plain"}, "neuron 'plain'"),
        ({"connect": "xor"}, "connect function 'xor'"),
    ],
)
def test_wrong_model_settings_are_refused(change: dict[str, object], words: str) -> None:
    with pytest.raises(RandhetError, match=words):
        replace(TINY, **change)


def test_random_init_spikes_at_a_sane_rate() -> None:
    from randhet.train.neurons import recording

    model = build(random_init(ModelSettings(3, 10, (16, 16), (16, 32), (1, 1), steps=4), seed=0))
    with recording(model) as log, torch.no_grad():
        model(torch.rand(8, 3, 16, 16))
    rates = [float(spikes.mean()) for [(spikes, _)] in log.values()]
    assert all(0.08 < rate < 0.25 for rate in rates), rates


def test_random_init_of_a_network_of_recordings() -> None:
    settings = ModelSettings(2, 10, (8, 8), (4, 8), (1, 1), steps=3, sequence=True)
    assert build(random_init(settings))(torch.rand(2, 3, 2, 8, 8)).shape == (2, 10)


def test_settings_recorded_under_their_earlier_names_are_read_under_the_present_ones() -> None:
    """The shipped checkpoints recorded `rate` and `step`; fine-tuning starts from what they were trained with."""
    path = ROOT / "checkpoints" / "cifar10-randhet-at.pt"
    recorded, record = torch.load(path, weights_only=True)["record"], load(path).record
    assert (record["lr"], record["attack_step"]) == (recorded["rate"], recorded["step"]) == (1.0, 4 / 255)
    assert not {"rate", "step"} & set(record)


def test_reading_does_not_wait_for_the_compiler_of_torch(tmp_path: Path) -> None:
    """Random numbers for shapes alone import it, which takes longer than everything else that a small command does."""
    small = ModelSettings(1, 10, (8, 8), (3, 4), (1, 1), steps=1)
    for name in NEURONS:
        save(tmp_path / f"{name}.pt", random_init(replace(small, neuron=name)))
    for name in BASELINES:
        save(tmp_path / f"{name}.pt", random_init(replace(small, baseline=name)))
    code = (
        "import sys, pathlib; from randhet.train.checkpoint import build, load;"
        "kinds = [build(load(path)) for path in pathlib.Path(sys.argv[1]).glob('*.pt')];"
        "print(len(kinds), 'torch._dynamo' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True).stdout
    assert told.split() == [str(len({*NEURONS, *BASELINES})), "False"]
